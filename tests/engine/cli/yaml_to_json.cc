// yaml_to_json FILE: prints a YAML file as JSON, for tests that change configurations: every JSON text is
// YAML again.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "rules/json.h"
#include "rules/problems.h"
#include "rules/yaml.h"

namespace {

using logbell::rules::Json;
namespace yaml = logbell::rules::yaml;

Json to_json(const yaml::Node& node) {
  switch (node.kind) {
    case yaml::Node::Kind::kNull:
      return nullptr;
    case yaml::Node::Kind::kScalar:
      return node.scalar;
    case yaml::Node::Kind::kSequence: {
      Json out = Json::Array{};
      for (const yaml::Node& item : node.items)
        out.push(to_json(item));
      return out;
    }
    case yaml::Node::Kind::kMap: {
      Json out = Json::Object{};
      for (const yaml::Entry& entry : node.entries)
        out.set(entry.key, to_json(entry.value));
      return out;
    }
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  std::ifstream in(argv[1], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  logbell::rules::Problems problems;
  const auto root = yaml::parse(argv[1], text, problems);
  for (const auto& problem : problems.sorted())
    std::fprintf(stderr, "%s\n", problem.format().c_str());
  if (!root || problems.has_errors()) return 1;
  std::fputs((to_json(*root).dump(1) + "\n").c_str(), stdout);
  return 0;
}
