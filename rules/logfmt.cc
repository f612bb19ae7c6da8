#include "rules/logfmt.h"

#include <string>
#include <utility>

namespace logbell::rules {

void read_logfmt(std::string_view line, std::vector<JsonLineReader::Field>& out) {
  out.clear();
  std::size_t at = 0;
  while (at < line.size()) {
    while (at < line.size() && (line[at] == ' ' || line[at] == '\t'))
      ++at;
    const std::size_t from = at;
    while (at < line.size() && line[at] != '=' && line[at] != ' ' && line[at] != '\t')
      ++at;
    if (at == from) {
      ++at;  // a "=" without a key
      continue;
    }
    JsonLineReader::Field field;
    field.name = line.substr(from, at - from);
    if (at >= line.size() || line[at] != '=') {
      field.value = "true";
    } else if (++at < line.size() && line[at] == '"') {
      for (++at; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\' && at + 1 < line.size()) {
          ++at;
          field.value += line[at] == 'n' ? '\n' : line[at] == 't' ? '\t' : line[at];
        } else {
          field.value += line[at];
        }
      }
      ++at;
    } else {
      const std::size_t start = at;
      while (at < line.size() && line[at] != ' ' && line[at] != '\t')
        ++at;
      field.value = line.substr(start, at - start);
    }
    out.push_back(std::move(field));
  }
}

}  // namespace logbell::rules
