#include "rules/json_schema.h"

#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "rules/result.h"

namespace logbell::rules {
namespace {

using Kind = Shape::Kind;

Json type(std::string_view name) {
  Json out;
  out.set("type", name);
  return out;
}

Json reference(std::string_view name) {
  Json out;
  out.set("$ref", fmt::format("#/$defs/{}", name));
  return out;
}

// Any of these; one alone is itself.
Json any_of(std::vector<Json> list) {
  if (list.size() == 1) return std::move(list.front());
  Json out;
  out.set("anyOf",
          Json(Json::Array(std::make_move_iterator(list.begin()), std::make_move_iterator(list.end()))));
  return out;
}

class Writer {
 public:
  explicit Writer(const SchemaOptions& options) : options_(options) {}

  Json write(const KeyTable& root) {
    add(root);
    for (std::size_t i = 0; i < open_.size(); ++i)
      defs_.set(open_[i]->name, table(*open_[i]));
    add_kinds();
    Json out;
    out.set("$schema", "https://json-schema.org/draft/2020-12/schema").set("title", options_.title);
    out.set("$ref", fmt::format("#/$defs/{}", root.name));
    return out.set("$defs", std::move(defs_));
  }

 private:
  void add(const KeyTable& table) {
    if (known_.insert(table.name).second) open_.push_back(&table);
    for (const KeyTable* other : open_)
      LOGBELL_CHECK(other == &table || other->name != table.name);
  }

  // An editor shows what is said of the key, not of its kind: these have comments only.
  void add_kinds() {
    Json text;
    text.set("$comment", "One text; a number or true and false are read as they are written.");
    text.set("type", Json(Json::Array{"string", "number", "boolean"}));
    defs_.set("text", std::move(text));
    Json duration;
    duration.set("$comment", "A duration, as in 250ms, 30s, 5m, 1h30m, 2d.");
    // Largest unit first, each once; at least one of them.
    duration.set("type", "string")
        .set("pattern",
             "^(0|(?=[0-9])([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$");
    Json zero;
    zero.set("const", 0);
    defs_.set("duration", any_of(with_variable({std::move(duration), std::move(zero)})));
    Json boolean;
    boolean.set("enum", Json(Json::Array{true, false, "true", "false"}));
    defs_.set("boolean", any_of(with_variable({std::move(boolean)})));
    if (!options_.variables) return;
    Json variable;
    variable.set("$comment", "A variable of the environment: ${NAME}, ${NAME:-default} or ${NAME:?why}.");
    defs_.set("variable", variable.set("type", "string").set("pattern", "\\$\\{"));
  }

  std::vector<Json> with_variable(std::vector<Json> list) const {
    if (options_.variables) list.push_back(reference("variable"));
    return list;
  }

  static Json word_list(const std::vector<std::string_view>& words) {
    Json list = Json::Array{};
    for (const std::string_view word : words)
      list.push(word);
    Json out;
    return out.set("enum", std::move(list));
  }

  Json shapes(const std::vector<Shape>& list) {
    std::vector<Json> out;
    out.reserve(list.size());
    for (const Shape& one : list)
      out.push_back(shape(one));
    return any_of(std::move(out));
  }

  Json shape(const Shape& shape) {
    switch (shape.kind) {
      case Kind::kText:
        return reference("text");
      case Kind::kTexts: {
        Json one = shape.words.empty() ? reference("text") : any_of(with_variable({word_list(shape.words)}));
        Json list = type("array");
        list.set("items", one).set("minItems", 1);
        return any_of({std::move(one), std::move(list)});
      }
      case Kind::kBoolean:
        return reference("boolean");
      case Kind::kDuration:
        return reference("duration");
      case Kind::kInteger: {
        Json number = type("integer");
        number.set("minimum", shape.least).set("maximum", shape.most);
        Json digits = type("string");
        digits.set("pattern", "^-?[0-9]+$");
        return any_of(with_variable({std::move(number), std::move(digits)}));
      }
      case Kind::kNumber: {
        Json digits = type("string");
        digits.set("pattern", "^-?[0-9.]+([eE][-+]?[0-9]+)?$");
        return any_of(with_variable({type("number"), std::move(digits)}));
      }
      case Kind::kBytes: {
        Json number = type("integer");
        number.set("minimum", shape.least).set("maximum", shape.most);
        Json unit = type("string");
        unit.set("pattern", "^[0-9]+(B|KiB|MiB)?$");
        return any_of(with_variable({std::move(number), std::move(unit)}));
      }
      case Kind::kWord:
        return any_of(with_variable({word_list(shape.words)}));
      case Kind::kMap:
        add(shape.table());
        return reference(shape.table().name);
      case Kind::kMapOf: {
        Json out = type("object");
        return out.set("additionalProperties", shapes(shape.of));
      }
      case Kind::kList: {
        Json out = type("array");
        return out.set("items", shapes(shape.of));
      }
    }
    return {};
  }

  Json table(const KeyTable& table) {
    Json out;
    out.set("description", table.says);
    out.set("type", table.may_be_empty ? Json(Json::Array{"object", "null"}) : Json("object"));
    Json properties = Json::Object{};
    Json required = Json::Array{};
    for (const Key& key : table.keys) {
      Json value;
      value.set("description", key.normally.empty() ? std::string(key.says)
                                                    : fmt::format("{} Default: {}.", key.says, key.normally));
      const Json kinds = shapes(key.shapes);
      for (const auto& [name, part] : kinds.object())
        value.set(name, part);
      properties.set(key.name, std::move(value));
      if (key.required) required.push(key.name);
    }
    out.set("properties", std::move(properties));
    if (!table.more_keys.empty()) {
      Json more;
      more.set(table.more_keys, shapes(table.more_shapes));
      out.set("patternProperties", std::move(more));
    }
    out.set("additionalProperties", false);
    if (!required.array().empty()) out.set("required", std::move(required));
    if (!table.needs.empty()) {
      Json all = Json::Array{};
      for (const std::vector<std::string_view>& group : table.needs) {
        std::vector<Json> any;
        for (const std::string_view key : group) {
          Json one;
          any.push_back(one.set("required", Json(Json::Array{key})));
        }
        all.push(any_of(std::move(any)));
      }
      out.set("allOf", std::move(all));
    }
    return out;
  }

  const SchemaOptions options_;
  Json defs_ = Json::Object{};
  std::set<std::string_view> known_;
  std::vector<const KeyTable*> open_;  // in the order found
};

}  // namespace

Json json_schema(const KeyTable& root, const SchemaOptions& options) {
  return Writer(options).write(root);
}

}  // namespace logbell::rules
