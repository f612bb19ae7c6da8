// Reads the tree as text and holds it to the house's rules: which room may include which, one door a library,
// who may ask the time, and that no file is forgotten by the build.
#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch.hpp>

#include "engine/io/fault.h"

namespace {

namespace fs = std::filesystem;

struct SourceFile {
  std::string path;  // from the repository's root, with /
  std::string text;
  std::string code;  // the text with comments and string literals blanked: what the compiler acts upon
};

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// `text` with comments and literals replaced by spaces, line breaks kept; what an #include names is kept.
/// Scanned by hand: std::regex recurses for each character and a long literal would end on the stack's guard
/// page.
std::string code_of(const std::string& text) {
  std::string out = text;
  const auto blank = [&](std::size_t from, std::size_t to) {
    for (; from < to; ++from) {
      if (out[from] != '\n') out[from] = ' ';
    }
    return to;
  };
  const auto upto = [&](std::string_view end, std::size_t from) {
    const std::size_t at = text.find(end, from);
    return at == std::string::npos ? text.size() : at + end.size();
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text.compare(i, 2, "//") == 0) {
      i = blank(i, std::min(text.find('\n', i), text.size()));
    } else if (text.compare(i, 2, "/*") == 0) {
      i = blank(i, upto("*/", i + 2));
    } else if (text[i] == '#') {
      std::size_t word = i + 1;
      while (word < text.size() && text[word] == ' ')
        ++word;
      i = text.compare(word, 7, "include") == 0 ? upto("\n", i) : i + 1;
    } else if (text.compare(i, 2, "R\"") == 0) {
      const std::size_t open = std::min(text.find('(', i), text.size());
      i = blank(i, upto(")" + text.substr(i + 2, open - i - 2) + "\"", open));
    } else if (text[i] == '"' ||
               (text[i] == '\'' && (i == 0 || std::isalnum(static_cast<unsigned char>(text[i - 1])) == 0))) {
      std::size_t end = i + 1;  // a ' after a digit separates thousands and opens nothing
      while (end < text.size() && text[end] != text[i] && text[end] != '\n')
        end += text[end] == '\\' ? 2U : 1U;
      i = blank(i, std::min(end + 1, text.size()));
    } else {
      ++i;
    }
  }
  return out;
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool ends_with(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

std::vector<SourceFile> tree() {
  const fs::path root = LOGBELL_SOURCE_DIR;
  std::vector<SourceFile> files;
  for (const char* room : {"rules", "sinks", "engine", "tests"}) {
    for (auto it = fs::recursive_directory_iterator(root / room); it != fs::recursive_directory_iterator();
         ++it) {
      if (it->is_directory() && it->path().filename() == "node_modules") it.disable_recursion_pending();
      const std::string extension = it->path().extension().string();
      if (!it->is_regular_file() || (extension != ".cc" && extension != ".h")) continue;
      std::string text = read(it->path());
      std::string code = code_of(text);
      files.push_back({fs::relative(it->path(), root).generic_string(), std::move(text), std::move(code)});
    }
  }
  REQUIRE(files.size() > 50);  // a wrong root would let every test below pass over nothing
  return files;
}

std::vector<std::string> includes(const SourceFile& file) {
  static const std::regex kInclude(R"re(#[ \t]*include[ \t]*[<"]([^>"]+)[>"])re");
  std::vector<std::string> names;
  for (std::sregex_iterator it(file.code.begin(), file.code.end(), kInclude), end; it != end; ++it) {
    names.push_back((*it)[1]);
  }
  return names;
}

bool is_test(const SourceFile& file) {
  return starts_with(file.path, "tests/");
}

std::vector<std::string> where(const std::string& pattern, const std::vector<std::string>& allowed,
                               bool tests_too) {
  const std::regex forbidden(pattern);
  std::vector<std::string> found;
  for (const SourceFile& file : tree()) {
    if (is_test(file) && !tests_too) continue;
    const bool may = std::any_of(allowed.begin(), allowed.end(),
                                 [&](const std::string& prefix) { return starts_with(file.path, prefix); });
    if (!may && std::regex_search(file.code, forbidden)) found.push_back(file.path);
  }
  return found;
}

const std::vector<std::string> kNowhere;

}  // namespace

TEST_CASE("tidy: comments and literals are not code", "[tidy]") {
  CHECK(code_of("a; // std::cout\nb") == "a;             \nb");
  CHECK(code_of("/* x\ny */z") == "    \n    z");
  CHECK(code_of(R"re(f("clock::now()", '"', g))re").find("now") == std::string::npos);
  CHECK(code_of("R\"x(a)\" b)x\" sleep_for").find("sleep_for") != std::string::npos);
  CHECK(code_of("#include \"rules/time.h\"\n") == "#include \"rules/time.h\"\n");
}

TEST_CASE("tidy: rooms include one way", "[tidy]") {
  struct Room {
    std::string_view name;
    std::vector<std::string_view> sees;
  };
  // The first prefix that fits is a file's room.
  const std::vector<Room> rooms = {
      {"rules/", {"rules/"}},
      {"sinks/", {"sinks/", "rules/"}},
      {"engine/core/", {"engine/core/", "rules/"}},
      {"engine/io/", {"engine/io/", "engine/core/", "sinks/", "rules/"}},
      {"engine/run/", {"engine/run/", "engine/io/", "engine/core/", "sinks/", "rules/"}},
      {"engine/cli/", {"engine/", "sinks/", "rules/"}},
  };
  const std::array<std::string_view, 4> ours = {"rules/", "sinks/", "engine/", "tests/"};
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (is_test(file)) continue;
    const auto room = std::find_if(rooms.begin(), rooms.end(),
                                   [&](const Room& r) { return starts_with(file.path, r.name); });
    if (room == rooms.end()) {
      wrong.push_back(file.path + " is in no room");
      continue;
    }
    for (const std::string& name : includes(file)) {
      const bool is_ours =
          std::any_of(ours.begin(), ours.end(), [&](std::string_view o) { return starts_with(name, o); });
      const bool may = std::any_of(room->sees.begin(), room->sees.end(),
                                   [&](std::string_view s) { return starts_with(name, s); });
      if (is_ours && !may && name != "engine/version.h") wrong.push_back(file.path + " includes " + name);
    }
  }
  CHECK(wrong == kNowhere);
}

TEST_CASE("tidy: each library has one door", "[tidy]") {
  struct Door {
    std::string_view library;
    std::vector<std::string_view> files;
  };
  const std::vector<Door> doors = {
      {"re2/", {"rules/regex.cc"}},
      {"yaml-cpp/", {"rules/yaml.cc"}},
      {"nlohmann/", {"rules/json.cc"}},
      {"simdjson", {"rules/json.cc"}},
      {"date/", {"rules/timestamp.cc", "rules/time_interval.cc"}},
      {"curl/", {"sinks/http.cc"}},
      {"openssl/", {"sinks/sign.cc"}},
      {"sqlite3", {"engine/io/store.cc"}},
      {"systemd/", {"engine/io/journal_source.cc"}},
      {"zlib", {"engine/io/unpack.cc"}},
      {"zstd", {"engine/io/unpack.cc"}},
      {"microhttpd", {"engine/io/http_server.cc"}},
      {"prometheus/", {"engine/run/metrics.cc"}},
      {"CLI/", {"engine/cli/main.cc"}},
  };
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (is_test(file)) continue;
    for (const std::string& name : includes(file)) {
      for (const Door& door : doors) {
        if (!starts_with(name, door.library)) continue;
        if (std::find(door.files.begin(), door.files.end(), file.path) == door.files.end())
          wrong.push_back(file.path + " includes " + name);
      }
    }
  }
  CHECK(wrong == kNowhere);
}

TEST_CASE("tidy: nobody sleeps", "[tidy]") {
  CHECK(where(R"(\b(sleep_for|sleep_until|usleep|nanosleep)\b|\bsleep\s*\()", {}, true) == kNowhere);
}

TEST_CASE("tidy: only the clock asks the time", "[tidy]") {
  CHECK(where(R"(clock::now\b|\b(clock_gettime|gettimeofday)\b|\btime\s*\(\s*(nullptr|NULL|0|&))",
              {"engine/run/clock.cc"}, false) == kNowhere);
}

TEST_CASE("tidy: every fault point of the table is passed somewhere, under one name", "[tidy]") {
  // Breaks too; one may stand in several places.
  const std::regex passed(R"re(LOGBELL_(?:FAULT|BROKEN)\("([^"]+)"\))re");
  std::vector<std::string> in_code;
  for (const SourceFile& file : tree()) {
    if (is_test(file)) continue;
    for (std::sregex_iterator it(file.text.begin(), file.text.end(), passed), end; it != end; ++it)
      in_code.push_back((*it)[1]);
  }
  std::vector<std::string> in_table;
  for (const std::string_view name : logbell::engine::kBreaks) {
    in_table.emplace_back(name);
    const auto again = std::find(in_code.begin(), in_code.end(), name);
    if (again != in_code.end()) in_code.erase(std::remove(again + 1, in_code.end(), name), in_code.end());
  }
  for (const logbell::engine::FaultPoint& point : logbell::engine::kFaultPoints)
    in_table.emplace_back(point.name);
  std::sort(in_code.begin(), in_code.end());
  std::sort(in_table.begin(), in_table.end());
  CHECK(in_code == in_table);
}

TEST_CASE("tidy: every fault has its row, and what proves it carries its number and is run by it", "[tidy]") {
  const fs::path root = LOGBELL_SOURCE_DIR;
  const auto numbers = [](const std::string& text, const std::regex& what) {
    std::set<int> found;
    for (std::sregex_iterator it(text.begin(), text.end(), what), end; it != end; ++it)
      found.insert(std::stoi((*it)[1]));
    return found;
  };
  const std::regex tag(R"(\[F(\d+)\])");
  const std::regex entry(R"(\bF(\d+)\b)");
  std::vector<std::string> wrong;

  // A room's entries and the tags of its cases: `ctest -R F31` would pass over a case whose number is not
  // listed.
  std::map<std::string, std::set<int>> tagged;  // directory -> numbers
  std::map<std::string, std::string> texts;     // a file's stem -> text of all that are called so
  for (const SourceFile& file : tree()) {
    if (!is_test(file) || !ends_with(file.path, "_test.cc")) continue;
    const fs::path path = file.path;
    texts[path.stem()] += file.text;
    if (path.stem() != "tidy_test") tagged[path.parent_path()].merge(numbers(file.text, tag));
  }
  for (const auto& [room, cases] : tagged) {
    if (numbers(read(root / room / "CMakeLists.txt"), entry) != cases)
      wrong.push_back(room + "/CMakeLists.txt names others than its cases do");
  }

  int last = 0;
  std::istringstream readme(read(root / "tests/README.md"));
  const std::regex row(R"(^\| F(\d+) \|.*\|(.*)\|$)");
  const std::regex test(R"((e2e/)?(\w+_test)(\.py)?)");
  for (std::string line; std::getline(readme, line);) {
    std::smatch parts;
    if (!std::regex_match(line, parts, row)) continue;
    const std::string fault = "F" + parts[1].str();
    if (std::stoi(parts[1]) != ++last) wrong.push_back(fault + " does not stand in its place");
    const std::string names = parts[2];
    for (std::sregex_iterator it(names.begin(), names.end(), test), end; it != end; ++it) {
      const std::string name = (*it)[2];
      if ((*it)[1].matched || (*it)[3].matched) {
        if (!fs::exists(root / "tests/e2e" / (name + ".py")))
          wrong.push_back(std::string(fault).append(": there is no e2e/").append(name));
      } else if (texts[name].find("[" + fault + "]") == std::string::npos) {
        wrong.push_back(std::string(fault).append(" is no tag of a case of ").append(name));
      }
    }
  }
  CHECK(last == 56);
  CHECK(wrong == kNowhere);
}

TEST_CASE("tidy: only the commands and the console write to the terminal", "[tidy]") {
  CHECK(where(R"(\bstd::cout\b|\bputs\s*\(|\bstd::printf\b|fmt::print\s*\(\s*stdout)",
              {"engine/cli/", "sinks/console.cc"}, false) == kNowhere);
}

TEST_CASE("tidy: every source file is listed by name in its CMakeLists.txt", "[tidy]") {
  const fs::path root = LOGBELL_SOURCE_DIR;
  std::vector<std::string> unlisted;
  for (const SourceFile& file : tree()) {
    if (!ends_with(file.path, ".cc")) continue;
    fs::path room = (root / file.path).parent_path();
    while (!fs::exists(room / "CMakeLists.txt"))
      room = room.parent_path();
    const std::regex comment("#[^\n]*");
    const std::string list = std::regex_replace(read(room / "CMakeLists.txt"), comment, "");
    const std::string name = fs::relative(root / file.path, room).generic_string();
    const auto edge = [&](std::size_t i) {
      return i >= list.size() || std::string_view(" \t\r\n()\";/{}").find(list[i]) != std::string_view::npos;
    };
    // As a word of its own: `test.cc` also stands in `backtest.cc`.
    std::size_t at = list.find(name);
    while (at != std::string::npos && ((at > 0 && !edge(at - 1)) || !edge(at + name.size())))
      at = list.find(name, at + 1);
    if (at == std::string::npos) {
      // a fuzzer or a benchmark may be listed by its stem in a loop
      const std::string stem = name.substr(0, name.size() - 3);
      if (list.find(stem) == std::string::npos || list.find("foreach") == std::string::npos)
        unlisted.push_back(file.path);
    }
  }
  CHECK(unlisted == kNowhere);
}

TEST_CASE("tidy: every header begins by saying what it is, and is included once", "[tidy]") {
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (!ends_with(file.path, ".h")) continue;
    if (!starts_with(file.text, "// ")) wrong.push_back(file.path + " does not begin with a comment");
    if (file.text.find("#pragma once") == std::string::npos)
      wrong.push_back(file.path + " has no #pragma once");
  }
  CHECK(wrong == kNowhere);
}

TEST_CASE("tidy: a suppressed finding says which and why, and nothing is left to do", "[tidy]") {
  const std::regex suppression(R"(//\s*NOLINT(?!END)(?:NEXTLINE|BEGIN)?(?:\(([a-z0-9.,-]+)\))?(: \S)?)");
  const std::regex later(R"(\b(TODO|FIXME|XXX)\b)");
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (file.path == "tests/tidy_test.cc") continue;  // it names what it looks for
    std::set<std::string> named;
    std::set<std::string> explained;  // in a column of equal ones the first says why
    for (std::sregex_iterator it(file.text.begin(), file.text.end(), suppression), end; it != end; ++it) {
      named.insert((*it)[1]);
      if ((*it)[1].matched && (*it)[2].matched) explained.insert((*it)[1]);
    }
    for (const std::string& check : named) {
      if (explained.count(check) == 0)
        wrong.push_back(file.path + ": NOLINT(" + check + ") without a check or a reason");
    }
    if (std::regex_search(file.text, later)) wrong.push_back(file.path + " leaves something to do");
  }
  CHECK(wrong == kNowhere);
}

// The cells of a table's row, without the blanks around them.
std::vector<std::string> cells(const std::string& row) {
  std::vector<std::string> found;
  for (std::size_t at = 1; at < row.size();) {
    const std::size_t end = std::min(row.find('|', at), row.size());
    const std::size_t first = row.find_first_not_of(' ', at);
    const std::size_t last = row.find_last_not_of(' ', end - 1);
    found.push_back(first < end ? row.substr(first, last - first + 1) : std::string());
    at = end + 1;
  }
  return found;
}

std::vector<std::string> quoted(const std::string& text) {
  static const std::regex kQuoted("`([^`]+)`");
  std::vector<std::string> names;
  for (std::sregex_iterator it(text.begin(), text.end(), kQuoted), end; it != end; ++it)
    names.push_back((*it)[1]);
  return names;
}

TEST_CASE("tidy: every bound has its row, with a counter that exists and a test that exists", "[tidy]") {
  const fs::path root = LOGBELL_SOURCE_DIR;
  const std::string readme = read(root / "engine/README.md");
  const std::size_t begin = readme.find("\n## Bounds\n");
  REQUIRE(begin != std::string::npos);
  const std::string section = readme.substr(begin, readme.find("\n## ", begin + 1) - begin);
  const std::vector<std::string> names = quoted(section);
  const std::set<std::string> written(names.begin(), names.end());
  const std::string metrics = read(root / "engine/run/metrics.cc");
  std::vector<std::string> wrong;

  static const std::regex kBound(R"(constexpr[^;={}()]*[ &](kMax\w+)\s*[={])");
  static const std::regex kConstant(R"(\b(k[A-Z]\w+))");
  std::set<std::string> constants;
  std::size_t bounds = 0;
  for (const SourceFile& file : tree()) {
    if (is_test(file)) continue;
    for (std::sregex_iterator it(file.code.begin(), file.code.end(), kConstant), end; it != end; ++it)
      constants.insert((*it)[1]);
    for (std::sregex_iterator it(file.code.begin(), file.code.end(), kBound), end; it != end;
         ++it, ++bounds) {
      if (written.count((*it)[1]) == 0)
        wrong.push_back(file.path + ": " + (*it)[1].str() + " is not in engine/README.md");
    }
  }
  CHECK(bounds > 100);
  for (const std::string& name : written) {
    if (name.size() > 1 && name[0] == 'k' && std::isupper(static_cast<unsigned char>(name[1])) != 0 &&
        name.find(' ') == std::string::npos && name != "kMax…" && constants.count(name) == 0)
      wrong.push_back(name + " stands in engine/README.md and nowhere else");
    if (starts_with(name, "logbell_") && metrics.find("Family{\"" + name + "\"") == std::string::npos)
      wrong.push_back(name + " is no metric");
  }

  std::size_t rows = 0;
  bool of_bounds = false;  // the table of memory has another form
  for (std::size_t at = 0; at < section.size();) {
    const std::size_t end = std::min(section.find('\n', at), section.size());
    const std::string line = section.substr(at, end - at);
    at = end + 1;
    if (!starts_with(line, "|")) of_bounds = false;
    if (starts_with(line, "| Bound |")) of_bounds = true;
    if (!of_bounds || !starts_with(line, "| ") || starts_with(line, "| Bound |")) continue;
    ++rows;
    const std::vector<std::string> cell = cells(line);
    if (cell.size() != 6) {
      wrong.push_back("not six cells: " + line);
      continue;
    }
    const std::vector<std::string> counters = quoted(cell[4]);
    if (counters.empty() && cell[4] != "the answer itself") wrong.push_back(cell[0] + " has no counter");
    const std::vector<std::string> test = quoted(cell[5]);
    if (test.size() != 1) {
      wrong.push_back(cell[0] + " has no test");
      continue;
    }
    const std::string title = cell[5].substr(test[0].size() + 3);
    std::string text = read(root / "tests" / (test[0] + ".cc"));
    if (text.empty()) text = read(root / "tests" / (test[0] + ".py"));
    if (text.find(title) == std::string::npos)
      wrong.push_back(cell[0] + ": no \"" + title + "\" in " + test[0]);
  }
  CHECK(rows > 30);
  CHECK(wrong == kNowhere);
}
