#include "rules/alert.h"

#include "rules/template.h"

namespace logbell::rules {
namespace {

constexpr std::string_view kStates[] = {"inactive", "pending", "firing", "resolved"};

Json line_to_json(const std::optional<SampleLine>& line) {
  Json json;
  if (line) json.set("at", to_unix_ms(line->at)).set("text", line->text);
  return json;
}

std::optional<SampleLine> line_from_json(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  return SampleLine{from_stored_ms(json["at"].integer()), std::string(json["text"].string())};
}

}  // namespace

std::string_view to_string(AlertState state) {
  return kStates[static_cast<std::size_t>(state)];
}

std::string_view Alert::annotation(std::string_view key) const {
  for (const auto& [written, content] : annotations) {
    if (written == key) return content;
  }
  return {};
}

Json to_json(const Alert& alert) {
  Json annotations{Json::Object{}};
  for (const auto& [name, value] : alert.annotations)
    annotations.set(name, value);
  Json top{Json::Array{}};
  for (const auto& [label, values] : alert.top_values) {
    Json list{Json::Array{}};
    for (const auto& [value, count] : values)
      list.push(Json(Json::Array{Json(value), Json(count)}));
    top.push(Json(Json::Array{Json(label), std::move(list)}));
  }
  Json json;
  json.set("labels", to_json(alert.labels)).set("annotations", std::move(annotations));
  json.set("state", to_string(alert.state));
  // As text: JSON has no infinity, and a ratio over nothing is one.
  json.set("value", format_number(alert.value));
  json.set("active_at", to_unix_ms(alert.active_at)).set("fired_at", to_unix_ms(alert.fired_at));
  json.set("resolved_at", alert.resolved_at ? Json(to_unix_ms(*alert.resolved_at)) : Json());
  json.set("expr", alert.expr);
  json.set("first_line", line_to_json(alert.first_line)).set("last_line", line_to_json(alert.last_line));
  json.set("top_values", std::move(top)).set("built_in", alert.built_in);
  json.set("resolve_reason", alert.resolve_reason);
  if (alert.rule != 0) json.set("rule", format_fingerprint(alert.rule));
  return json;
}

Result<Alert> alert_from_json(const Json& json) {
  if (!json.is_object() || !json["labels"].is_object()) {
    return fail(ErrorCode::kCorrupt, "read alert: not an object with labels");
  }
  Alert alert;
  alert.labels = labels_from_json(json["labels"]);
  for (const auto& [name, value] : json["annotations"].object()) {
    alert.annotations.emplace_back(name, std::string(value.string()));
  }
  bool known = false;
  for (std::size_t i = 0; i < std::size(kStates); ++i) {
    if (json["state"].string() != kStates[i]) continue;
    alert.state = static_cast<AlertState>(i);
    known = true;
  }
  if (!known) {
    return fail(ErrorCode::kCorrupt,
                "read alert: unknown state \"" + std::string(json["state"].string()) + "\"");
  }
  alert.value = parse_number(json["value"].string());
  alert.active_at = from_stored_ms(json["active_at"].integer());
  alert.fired_at = from_stored_ms(json["fired_at"].integer());
  if (!json["resolved_at"].is_null()) alert.resolved_at = from_stored_ms(json["resolved_at"].integer());
  alert.expr = json["expr"].string();
  alert.first_line = line_from_json(json["first_line"]);
  alert.last_line = line_from_json(json["last_line"]);
  for (const Json& entry : json["top_values"].array()) {
    std::vector<std::pair<std::string, std::uint64_t>> values;
    for (const Json& value : entry.at(1).array()) {
      values.emplace_back(std::string(value.at(0).string()),
                          static_cast<std::uint64_t>(value.at(1).integer()));
    }
    alert.top_values.emplace_back(std::string(entry.at(0).string()), std::move(values));
  }
  alert.built_in = json["built_in"].boolean();
  alert.resolve_reason = json["resolve_reason"].string();
  alert.rule = parse_fingerprint(json["rule"].string());
  return alert;
}

}  // namespace logbell::rules
