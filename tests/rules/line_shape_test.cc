// Line shapes: what differs between two lines of one statement is gone, and what says which statement it was
// is there.
#include "rules/line_shape.h"

#include <algorithm>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/keyed_function.h"
#include "rules/pattern.h"

using namespace logbell::rules;

TEST_CASE("line shape: what is variable is taken out", "[rules][line_shape]") {
  const struct {
    const char* why;
    const char* line;
    const char* shape;
  } rows[] = {
      {"the time at its beginning says nothing", "2026-05-01T10:00:00Z ERROR order 17 failed",
       "ERROR order <*> failed"},
      {"numbers, addresses, ids", "ERROR no route to 10.0.0.7:5672 for 6f1c8f5e-3b1f-4a5e-9d61-0d8d5c1f7a10",
       "ERROR no route to <*> for <*>"},
      {"what is quoted", "user \"Ann Smith\" is unknown", "user <*> is unknown"},
      {"paths and durations", "wrote /var/lib/orders/17.json in 12ms", "wrote <*> in <*>"},
      {"several in a row are one, with what stands around them", "took 17 [3] - (4 5) steps",
       "took <*> steps"},
      {"within a word", "retry=3 order=abc of queue orders-7d4b9", "retry=<*> order=abc of queue <*>"},
      {"blanks are one", "a  b\t c ", "a b c"},
      {"of a stack trace the first line", "ERROR OutOfMemoryError\n\tat com.acme.A.run(A.java:17)",
       "ERROR OutOfMemoryError"},
      {"of Python's the error that ended it",
       "Traceback (most recent call last):\n  File \"a.py\", line 3, in f\n    x[17]\nKeyError: 17\n\nDuring "
       "handling:\n\n"
       "Traceback (most recent call last):\n  File \"a.py\", line 9, in g\n    f()\nOrderError: order 17 is "
       "lost\nfor ever",
       "OrderError: order <*> is lost"},
      {"unless something stands above it",
       "ERROR in job 3\nTraceback (most recent call last):\n  File \"a.py\"\nKeyError: 17",
       "ERROR in job <*>"},
      {"nothing but what is variable", "17 18", "<*>"},
      {"nothing at all", "", "<*>"},
      {"dashes", "ERROR - no such queue", "ERROR - no such queue"},
      {"no secret", "ERROR login password=hunter2secret refused", "ERROR login password=[redacted] refused"},
      {"names in other letters stay", "Benutzer Ünsal fehlt", "Benutzer Ünsal fehlt"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(line_shape(row.line) == row.shape);
  }
}

TEST_CASE("line shape: it is bounded, and what is cut stays apart as a label", "[rules][line_shape]") {
  std::string line = "ERROR";
  for (std::size_t i = 0; i < 3 * kMostShapeWords; ++i)
    line += std::string(" word") + static_cast<char>('a' + i % 26);
  const std::string shape = line_shape(line);
  CHECK(std::count(shape.begin(), shape.end(), ' ') == static_cast<std::ptrdiff_t>(kMostShapeWords));
  CHECK(shape.substr(shape.size() - 4) == " \xE2\x80\xA6");
  CHECK(line_shape(line + " and more") == shape);
  CHECK(line_shape(std::string(1 << 20, 'x')).size() <= kShapeBytes);
  std::string masks;
  for (int i = 0; i < 2000; ++i)
    masks += "a=1,";
  CHECK(line_shape(masks).size() <= kShapeBytes);
  const std::string same(300, 'x');
  CHECK(shape_label(same + "a").size() <= kMaxLabelBytes);
  CHECK(shape_label(same + "a") != shape_label(same + "b"));
  CHECK(shape_label("short") == "short");
}

TEST_CASE("line shape: a line is found again by the label of its shape", "[rules][line_shape]") {
  for (const char* line : {"2026-05-01T10:00:00Z ERROR order 17 (of 3) failed: no route to 10.0.0.7",
                           "a  b\t c ", "17 18", "", "user \"Ann Smith\" is unknown",
                           "ERROR login password=hunter2secret refused", "took 17 [3] - (4 5) steps"}) {
    INFO(line);
    CHECK(may_have_shape(line, shape_label(line_shape(line))));
  }
  CHECK(may_have_shape(std::string(500, 'x') + " y", shape_label(line_shape(std::string(500, 'x') + " y"))));
  CHECK_FALSE(may_have_shape("ERROR order 17 was late", "ERROR order <*> failed"));
  CHECK_FALSE(may_have_shape("failed order 17 ERROR", "ERROR order <*> failed"));
  // Words run together are not told from others, and a label says nothing of where words end.
  CHECK(may_have_shape("ERROR reordered, failed", "ERROR order <*> failed"));
}

TEST_CASE("line shape: a pattern gives it to who asks, of json and logfmt that of the message",
          "[rules][line_shape]") {
  PatternSpec spec;
  spec.match.push_back(*Regex::compile("rror"));
  spec.keys = {std::string(kTemplateKey), "user"};
  const std::vector<PatternSpec> specs{spec};
  const std::vector<std::uint32_t> all{0};
  const auto keys = [&](LineFormat format, std::string_view block) {
    const PatternSet set = PatternSet::compile(specs, all, format);
    PatternSet::Scratch scratch;
    std::vector<Match> found;
    set.match(block, scratch, found);
    std::vector<std::string> out;
    for (const Match& match : found)
      out.push_back(match.keys.at(0) + "|" + match.keys.at(1));
    return out;
  };
  using Lines = std::vector<std::string>;
  CHECK(keys(LineFormat::kText, "2026-05-01T10:00:00Z Error 17\nnothing\nError of 4 users\n") ==
        Lines{"Error <*>|", "Error of <*> users|"});
  CHECK(keys(LineFormat::kJson, R"({"level":"error","user":"ann","Message":"order 17 is lost","n":1})"
                                "\n"
                                R"({"level":"error","n":17})"
                                "\n"
                                R"({"level":"error","msg":"","text":"two\nlines"})") ==
        Lines{"order <*> is lost|ann", R"({"level":"error","n":<*>}|)", "two|"});
  CHECK(keys(LineFormat::kLogfmt, "level=error msg=\"order 17 is lost\" user=ann\n") ==
        Lines{"order <*> is lost|ann"});
}
