// The tree of templates: which lines are one kind, what stays of a template however general it becomes, and
// that it comes back from the store as it was.
#include "engine/core/template_tree.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "rules/line_shape.h"
#include "tests/engine/core/store_rows.h"

using namespace logbell;
using engine::StoredEntry;
using engine::TemplateTree;
using rules::from_unix_ms;
using rules::kLongAgo;
using rules::Timestamp;
using tests::save;
using tests::StoreRows;

namespace {

std::uint64_t id_of(TemplateTree& tree, std::string_view line) {
  const auto id = tree.add(rules::line_shape(line), from_unix_ms(1), kLongAgo);
  REQUIRE(id);
  return *id;
}

// Which of the lines are of one kind: a letter each.
std::string kinds_of(const std::vector<std::string>& lines) {
  TemplateTree tree;
  std::vector<std::uint64_t> seen;
  std::string out;
  for (const std::string& line : lines) {
    const std::uint64_t id = id_of(tree, line);
    const auto known = std::find(seen.begin(), seen.end(), id);
    out += static_cast<char>('a' + (known - seen.begin()));
    if (known == seen.end()) seen.push_back(id);
  }
  return out;
}

std::string letters(std::size_t n) {
  std::string out;
  for (; n > 0 || out.empty(); n /= 26)
    out += static_cast<char>('a' + n % 26);
  return out;
}

// --- a plain reading: every template is compared with every line

struct PlainTemplate {
  std::uint64_t id = 0;
  std::string label;
  std::string head;
  std::vector<std::string> words;
  std::string first;  // "": any
  std::int64_t newest = 0;
};

struct PlainLine {
  std::string head;
  std::vector<std::string> words;
  std::string shape() const {
    std::string out = head;
    for (const std::string& word : words)
      out += (out.empty() ? "" : " ") + word;
    return out;
  }
};

class Plain {
 public:
  std::uint64_t add(const PlainLine& line, std::int64_t at, std::int64_t forgotten) {
    PlainTemplate* best = nullptr;
    double most = 0;
    for (PlainTemplate& one : templates_) {
      if (one.head != line.head || one.words.size() != line.words.size() || one.newest <= forgotten) continue;
      if (!one.first.empty() && one.first != line.words.front()) continue;
      double equal = 0;
      double all = 0;
      for (std::size_t i = 0; i < line.words.size(); ++i) {
        if (one.words[i] == "<*>" && line.words[i] == "<*>") continue;
        all += 1;
        equal += one.words[i] == line.words[i] ? 1 : 0;
      }
      const double alike = all == 0 ? 1 : equal / all;
      if (alike > 0.5 && alike > most) best = &one, most = alike;
    }
    if (best == nullptr) {
      std::vector<std::string> firsts;
      for (const PlainTemplate& one : templates_) {
        if (one.head == line.head && one.words.size() == line.words.size() && !one.first.empty())
          firsts.push_back(one.first);
      }
      std::sort(firsts.begin(), firsts.end());
      firsts.erase(std::unique(firsts.begin(), firsts.end()), firsts.end());
      const bool known = std::binary_search(firsts.begin(), firsts.end(), line.words.front());
      const bool any =
          line.words.front() == "k=<*>" || (!known && firsts.size() >= TemplateTree::kMostFirstWords);
      templates_.push_back({next_++, line.shape(), line.head, line.words, any ? "" : line.words.front(), at});
      return templates_.back().id;
    }
    for (std::size_t i = 0; i < line.words.size(); ++i) {
      if (best->words[i] != line.words[i]) best->words[i] = "differ";
    }
    best->newest = std::max(best->newest, at);
    return best->id;
  }
  void forget(std::int64_t until) {
    std::erase_if(templates_, [&](const PlainTemplate& one) { return one.newest <= until; });
  }
  const std::vector<PlainTemplate>& templates() const { return templates_; }

 private:
  std::vector<PlainTemplate> templates_;
  std::uint64_t next_ = 1;
};

// What some programs write: a few statements, whose places take words that vary.
class Programs {
 public:
  explicit Programs(std::uint64_t seed) : random_(seed) {
    names_ = pick(3) == 0 ? 250 : 5;
    for (int i = 0; i < 25; ++i) {
      PlainLine statement;
      static const std::vector<std::string> kHeads{"", "ERROR", "WARN com.acme.Api"};
      statement.head = kHeads[pick(3)];
      for (std::size_t n = 1 + pick(6); n > 0; --n) {
        const bool was_variable = !statement.words.empty() && statement.words.back() == "<*>";
        const std::size_t what = pick(6);
        // A message does not begin with what is variable alone, and never has two of them in a row.
        const bool is_first = statement.words.empty();
        statement.words.push_back(what == 0 && !was_variable ? (is_first ? "k=<*>" : "<*>")
                                  : what == 1                ? "?"
                                                             : "w" + letters(pick(12)));
      }
      statements_.push_back(std::move(statement));
    }
  }
  PlainLine next() {
    PlainLine line = statements_[pick(statements_.size())];
    for (std::string& word : line.words) {
      if (word == "?") word = "n" + letters(pick(names_));
    }
    return line;
  }
  std::size_t pick(std::size_t below) { return random_() % below; }

 private:
  std::mt19937_64 random_;
  std::size_t names_ = 0;
  std::vector<PlainLine> statements_;
};

}  // namespace

TEST_CASE("template tree: lines of one statement are one kind, others are not", "[core][templates]") {
  const struct {
    const char* why;
    std::vector<std::string> lines;
    const char* kinds;
  } rows[] = {
      {"numbers, times and ids differ",
       {"2026-05-01T10:00:00Z ERROR order 17 failed", "2026-05-02T10:00:00Z ERROR order 18 failed"},
       "aa"},
      {"a name in the middle differs",
       {"ERROR user ann was not found", "ERROR user bob was not found"},
       "aa"},
      {"so does the first word, here in a quarter", {"ann has no key", "bob has no key"}, "ab"},
      {"two words of four are too few", {"payment gateway refused it", "payment gateway timed out"}, "ab"},
      {"and of what stands before them nothing counts",
       {"ERROR com.acme.Orders - connection lost", "ERROR com.acme.Orders - connection reset"},
       "ab"},
      {"another number of words", {"ERROR order 17 failed", "ERROR order 17 has failed"}, "ab"},
      {"another level", {"WARN no more room left", "ERROR no more room left"}, "ab"},
      {"another logger", {"com.acme.A: no more room left", "com.acme.B: no more room left"}, "ab"},
      {"what is variable in both says nothing of how alike they are",
       {"order 17 of 3 failed in 2ms", "order 17 of 3 ended in 2ms", "order 17 by 3 went in 2ms"},
       "aab"},
      {"what was variable may be a name",
       {"stored order 17 in queue 5", "stored order 17 in queue mail"},
       "aa"},
      {"only what is variable", {"17", "18"}, "aa"},
      {"only a level", {"ERROR", "ERROR 17", "WARN"}, "aab"},
      {"of equally alike ones the oldest",
       {"lost the first of many parts", "lost a second out many parts", "lost the second of many parts"},
       "aba"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(kinds_of(row.lines) == row.kinds);
  }
}

TEST_CASE("template tree: a template keeps its id and its label, however general it becomes",
          "[core][templates]") {
  TemplateTree tree;
  const std::uint64_t id = id_of(tree, "ERROR user ann was not found in table orders");
  CHECK(tree.common(id) == "ERROR user ann was not found in table orders");
  CHECK(id_of(tree, "ERROR user bob was not found in table orders") == id);
  CHECK(tree.common(id) == "ERROR user <*> was not found in table orders");
  CHECK(id_of(tree, "ERROR user bob was not seen in table mails") == id);
  CHECK(tree.common(id) == "ERROR user <*> was not <*> in table <*>");
  CHECK(tree.label(id) == "ERROR user ann was not found in table orders");
  // The first line finds it again.
  CHECK(id_of(tree, "ERROR user ann was not found in table orders") == id);
  CHECK(tree.size() == 1);
}

TEST_CASE("template tree: there is a bound, and room again once some are forgotten", "[core][templates]") {
  TemplateTree tree;
  for (std::size_t i = 0; i < TemplateTree::kMaxTemplates; ++i)
    REQUIRE(tree.add("x" + letters(i) + " y" + letters(i), from_unix_ms(1), kLongAgo));
  CHECK_FALSE(tree.add("one more", from_unix_ms(1), kLongAgo));
  CHECK(tree.size() == TemplateTree::kMaxTemplates);
  // One that is known is known.
  CHECK(tree.add("xb yb", from_unix_ms(1), kLongAgo) == 2U);
  tree.forget({1, 2, 7}, from_unix_ms(0));
  CHECK(tree.size() == TemplateTree::kMaxTemplates);
  tree.forget({1, 2, 7}, from_unix_ms(1));
  CHECK(tree.size() == 3);
  CHECK(tree.add("one more", from_unix_ms(1), kLongAgo) == TemplateTree::kMaxTemplates + 1);
  CHECK(tree.add("xb yb", from_unix_ms(1), kLongAgo) == 2U);
  // What is forgotten is new when it comes again.
  CHECK(tree.add("xc yc", from_unix_ms(1), kLongAgo) == TemplateTree::kMaxTemplates + 2);
}

TEST_CASE("template tree: of very many first words the further ones are one wildcard", "[core][templates]") {
  TemplateTree tree;
  const auto line = [](std::size_t i) { return "n" + letters(i) + " has come in"; };
  for (std::size_t i = 0; i < TemplateTree::kMostFirstWords; ++i)
    CHECK(id_of(tree, line(i)) == i + 1);
  for (std::size_t i = TemplateTree::kMostFirstWords; i < 1000; ++i)
    CHECK(id_of(tree, line(i)) == TemplateTree::kMostFirstWords + 1);
  CHECK(tree.common(TemplateTree::kMostFirstWords + 1) == "<*> has come in");
  // Its own is more alike than the wildcard.
  CHECK(id_of(tree, line(3)) == 4);
}

TEST_CASE("template tree: one that nothing came of for long is as if it were forgotten",
          "[core][templates]") {
  TemplateTree tree;
  CHECK(tree.add("order failed", from_unix_ms(1'000), kLongAgo) == 1U);
  CHECK(tree.add("order failed", from_unix_ms(5'000), from_unix_ms(999)) == 1U);
  CHECK(tree.add("order failed", from_unix_ms(3'000), from_unix_ms(4'999)) == 1U);
  CHECK(tree.add("order failed", from_unix_ms(9'000), from_unix_ms(5'000)) == 2U);
  CHECK(tree.label(1) == tree.label(2));
}

TEST_CASE("template tree: 300 random logs are told apart as a plain reading does, over restarts",
          "[core][templates]") {
  constexpr std::uint64_t kLines = 500;  // of a log, and no more templates than lines
  std::size_t general = 0;
  std::size_t most = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Programs programs(seed);
    TemplateTree tree;
    Plain plain;
    StoreRows store;
    std::int64_t now = 0;
    std::int64_t forgotten = -1;
    for (std::uint64_t i = 0; i < kLines; ++i) {
      now += 10;
      const PlainLine line = programs.next();
      const std::string shape = line.shape();
      const std::uint64_t wanted = plain.add(line, now, forgotten);
      const auto got = tree.add(shape, from_unix_ms(now), from_unix_ms(forgotten));
      INFO("seed " << seed << ", line " << i << ": " << shape);
      REQUIRE(got);
      // Ids are given anew after what was last is forgotten and read back: templates are compared by their
      // labels.
      const auto of_id = std::find_if(plain.templates().begin(), plain.templates().end(),
                                      [&](const PlainTemplate& one) { return one.id == wanted; });
      REQUIRE(tree.label(*got) == of_id->label);
      std::string common = of_id->head;
      for (const std::string& word : of_id->words)
        common += (common.empty() ? "" : " ") + (word == "differ" ? "<*>" : word);
      REQUIRE(tree.common(*got) == common);
      general += common != of_id->label ? 1 : 0;
      if (programs.pick(40) == 0) {
        forgotten = now - 900;
        plain.forget(forgotten);
        tree.forget({}, from_unix_ms(forgotten));
        REQUIRE(tree.size() == plain.templates().size());
      }
      most = std::max(most, tree.size());
      if (programs.pick(3) == 0) save(tree, "t/", store);
      if (programs.pick(60) == 0) {
        save(tree, "t/", store);
        TemplateTree again;
        for (const auto& [key, value] : store)
          REQUIRE(again.restore("t/", {key, value}));
        // Of some it was stored, of others who kept their lines knows it.
        REQUIRE(again.newest() <= tree.newest());
        for (std::uint64_t id = 1; id <= kLines; ++id) {
          if (!again.has(id)) continue;
          for (const PlainTemplate& one : plain.templates()) {
            if (again.label(id) == one.label) again.came(id, from_unix_ms(one.newest));
          }
        }
        tree = std::move(again);
      }
    }
  }
  // What never becomes general, or never has a wildcard in the tree, would agree with anything.
  CHECK(general > 5'000);
  CHECK(most > TemplateTree::kMostFirstWords);
}

TEST_CASE("template tree: of the store only what it wrote is believed, and what it cannot use is erased",
          "[core][templates]") {
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"t/1", "rubbish"},
           {"t/1", R"({"shape":""})"},
           {"t/01", R"({"shape":"a b"})"},
           {"t/0", R"({"shape":"a b"})"},
           {"t/18446744073709551615", R"({"shape":"a b"})"},
           {"t/", R"({"shape":"a b"})"},
           {"t/1", R"({"shape":")" + std::string(rules::kShapeBytes + 1, 'x') + "\"}"},
           {"u/1", R"({"shape":"a b"})"}}) {
    INFO(key << " " << value);
    TemplateTree tree;
    CHECK_FALSE(tree.restore("t/", {key, value}));
    CHECK(tree.size() == 0);
    std::vector<StoredEntry> entries;
    tree.save("t/", entries);
    // What is not under a number of ours is left alone.
    CHECK(entries.size() == (key == "t/1" ? 1 : 0));
  }
  TemplateTree tree;
  // Places that it has not.
  CHECK(tree.restore("t/", {"t/3", R"({"shape":"a b c","differ":[-1,0,1,9]})"}));
  CHECK(tree.common(3) == "a <*> c");
  std::vector<StoredEntry> entries;
  tree.erase_stored("t/", entries);
  REQUIRE(entries.size() == 1);
  CHECK(entries.front().key == "t/3");
  CHECK_FALSE(entries.front().value);
}
