// PatternWentSilent: when a log's format has changed, and of which patterns it is said that they fell silent.
#include "engine/core/format_watch.h"

#include <algorithm>

#include <catch2/catch.hpp>

#include "tests/support/core_world.h"

using namespace logbell;
using engine::FormatWatch;
using tests::CoreWorld;
using Lines = std::vector<std::string>;

namespace {

constexpr std::int64_t kMinute = 60'000;

// A source that is read line by line, ten lines in each span of ten minutes.
struct Life {
  FormatWatch watch;
  std::int64_t minute = 0;

  bool line(const std::string& form, const Lines& patterns = {}) {
    bool news = watch.add({0, form, form + " line"}, CoreWorld::at(minute * kMinute));
    for (const std::string& pattern : patterns)
      news = watch.matched(pattern, form + " matched") || news;
    ++minute;
    return news;
  }
  // `pattern` matches once in each span of which `each` is a divisor.
  void spans(int count, const std::string& form, const std::string& pattern = "", int each = 1) {
    for (int span = 0; span < count; ++span) {
      for (int i = 0; i < 10; ++i)
        line(form, !pattern.empty() && i == 5 && span % each == 0 ? Lines{pattern} : Lines{});
    }
  }
  Lines silent() const {
    Lines names;
    for (const FormatWatch::Silent& one : watch.silent())
      names.push_back(one.pattern);
    return names;
  }
  void restart() {
    auto again = FormatWatch::parse(watch.to_json());
    REQUIRE(again);
    CHECK(again->to_json() == watch.to_json());
    watch = *std::move(again);
  }
};

}  // namespace

TEST_CASE("format: what matched in each span is silent three spans after the change", "[core][format]") {
  Life life;
  life.spans(10, "text 0L", "boom");
  const std::int64_t changed = life.minute;
  life.spans(1, "json ts,level,msg");
  life.restart();
  life.spans(1, "json ts,level,msg");
  CHECK(life.watch.changed_at() == CoreWorld::at(changed * kMinute));
  CHECK(life.silent().empty());
  life.restart();
  CHECK(life.line("json ts,level,msg"));  // of the third span since
  REQUIRE(life.silent() == Lines{"boom"});
  const FormatWatch::Silent boom = life.watch.silent()[0];
  CHECK(boom.matched == 10);
  CHECK(boom.spans == 10);
  CHECK(boom.line == "text 0L matched");
  CHECK(life.watch.new_line() == "json ts,level,msg line");
  // It goes on over a restart, and ends with a match.
  life.restart();
  life.spans(5, "json ts,level,msg");
  CHECK(life.silent() == Lines{"boom"});
  CHECK(life.line("json ts,level,msg", {"boom"}));
  CHECK(life.silent().empty());
  life.spans(50, "json ts,level,msg");
  CHECK(life.silent().empty());
}

TEST_CASE("format: without a change nobody is silent, and with one nobody who still matches",
          "[core][format]") {
  Life life;
  life.spans(10, "text 0L", "boom");
  life.spans(100, "text 0L");
  CHECK(life.silent().empty());
  life.spans(20, "text 0L", "boom");
  life.spans(20, "json a", "boom");
  CHECK(life.silent().empty());
}

TEST_CASE("format: what matched rarely is given its time", "[core][format]") {
  Life life;
  life.spans(100, "text 0L", "rare", 10);  // one span in ten
  life.spans(25, "json a");
  CHECK(life.silent().empty());
  life.spans(10, "json a");
  CHECK(life.silent() == Lines{"rare"});
}

TEST_CASE("format: a burst is no habit, and what was silent before the change is not silent because of it",
          "[core][format]") {
  Life life;
  life.spans(100, "text 0L");
  for (int i = 0; i < 20; ++i)
    life.line("text 0L", {"burst"});  // in two spans
  life.spans(10, "text 0L", "over");  // of 111 spans
  life.spans(60, "text 0L");          // and in none of so many
  life.spans(100, "json a");
  CHECK(life.silent().empty());
}

TEST_CASE("format: a banner, a dump, a line of a library is no change", "[core][format]") {
  Life life;
  for (int day = 0; day < 20; ++day) {
    life.spans(6, "text 0L", "boom");
    for (int i = 0; i < 15; ++i)
      life.line(i % 2 == 0 ? "text " : "text ---");
    life.line("");
  }
  CHECK(life.watch.changed_at() == rules::kLongAgo);
  // A dump that is longer than any seen before: until what was usual is back.
  for (int i = 0; i < 35; ++i)
    life.line("text |");
  CHECK(life.watch.changed_at() != rules::kLongAgo);
  life.spans(10, "text 0L");
  CHECK(life.silent().empty());
  CHECK(life.watch.silent().empty());
  // And the habits of before are still known.
  life.spans(3, "text 0L", "boom");
  life.spans(10, "json a");
  CHECK(life.silent() == Lines{"boom"});
}

TEST_CASE("format: a new version that writes beside the old one for a while is a change once it is alone",
          "[core][format]") {
  Life life;
  life.spans(30, "text 0L", "boom");
  for (int i = 0; i < 10; ++i) {
    life.line("text 0L");
    life.line("json a");
  }
  life.spans(6, "json a");
  CHECK(life.silent() == Lines{"boom"});
  // It is taken back: nobody is silent any more.
  life.line("text 0L");
  life.line("text 0L");
  CHECK(life.silent() == Lines{"boom"});
  life.line("text 0L");
  CHECK(life.silent().empty());
}

TEST_CASE("format: who fell silent at one change is so at the next, too", "[core][format]") {
  Life life;
  life.spans(10, "text 0L", "first");
  life.spans(6, "json a", "second");
  CHECK(life.silent() == Lines{"first"});
  life.spans(10, "logfmt a", "third");
  CHECK(life.silent() == Lines{"first", "second"});
  life.watch.keep_only({"second", "third"});
  CHECK(life.silent() == Lines{"second"});
}

TEST_CASE("format: the lines that are shown say nothing that nobody may see", "[core][format]") {
  Life life;
  for (int i = 0; i < 100; ++i) {
    life.watch.add({0, "text 0L", "x"}, CoreWorld::at(i * 10 * kMinute));
    life.watch.matched("login", "login of max@example.com password=hunter2 " + std::string(1000, 'x'));
  }
  for (int i = 100; i < 130; ++i)
    life.watch.add({0, "json a", "{\"password\":\"hunter2\"}"}, CoreWorld::at(i * 10 * kMinute));
  REQUIRE(life.watch.silent().size() == 1);
  CHECK(life.watch.silent()[0].line.size() <= FormatWatch::kLineBytes);
  CHECK(life.watch.to_json().find("hunter2") == std::string::npos);
  CHECK(life.watch.to_json().find("max@") == std::string::npos);
}

TEST_CASE("format: what it remembers is bounded", "[core][format]") {
  FormatWatch watch;
  for (int i = 0; i < 3000; ++i) {
    watch.add({0, "json " + std::to_string(i), "line"}, CoreWorld::at(i * kMinute));
    watch.matched("p" + std::to_string(i), "line");
  }
  CHECK(watch.to_json().size() < 400 * FormatWatch::kMaxPatterns);
  const std::string written = watch.to_json();
  std::size_t forms = 0;
  for (std::size_t at = written.find("\"json "); at != std::string::npos;
       at = written.find("\"json ", at + 1))
    ++forms;
  CHECK(forms <= 3 * FormatWatch::kMaxForms);
  for (const char* broken : {"", "{}", "[]", "{\"span\":\"x\"}", "null"})
    CHECK_FALSE(FormatWatch::parse(broken));
}

TEST_CASE("built in: a pattern that went silent is told once, over restarts and reloads, until it matches",
          "[core][format]") {
  CoreWorld world;
  world.pattern("boom");
  world.pattern("other");
  world.rule("Boom", "count_over_time(boom[1m]) >= 1000");
  world.sink("ops");
  world.route({"ops"});
  world.start();
  std::int64_t now = 0;
  const auto line = [&](const std::string& form, const std::string& text, const std::string& pattern = "") {
    now += 10 * kMinute;
    if (!pattern.empty()) world.match(pattern, now, {}, text);
    world.batch.read_at = CoreWorld::at(now);
    world.batch.form = {0, form, text};
    engine::Tick tick = world.tick(now);
    world.batch.form.reset();
    return tick;
  };
  for (int i = 0; i < 30; ++i)
    line("text 0L", "10:00:00 ERROR boom", "boom");
  for (std::uint64_t i = 0; i + 1 < FormatWatch::kRun; ++i)
    CHECK(line("json a", R"({"a":"boom"})").notifications.empty());
  world.restart();
  const engine::Tick fired = line("json a", "{}");
  REQUIRE(CoreWorld::summary(fired) == Lines{"ops: first_firing PatternWentSilent+"});
  const rules::Alert& alert = fired.notifications[0].alerts[0];
  CHECK(alert.labels.get("pattern") == "boom");
  CHECK(alert.labels.get("source") == "api");
  CHECK(alert.labels.get("severity") == "warning");
  CHECK(alert.annotation("summary") ==
        "pattern boom has matched nothing of source api (/var/log/api.log) since the form of its lines "
        "changed at "
        "2026-05-01T13:10:00Z; before, it matched in 30 of 30 spans of ten minutes. It matched \"10:00:00 "
        "ERROR boom\"; "
        "now there is \"{}\"");
  world.reload(now);
  CHECK(line("json a", "{}").notifications.empty());
  world.restart();
  CHECK(line("json a", "{}", "other").notifications.empty());
  SECTION("it matches again") {
    CHECK(CoreWorld::summary(line("json a", R"({"a":"boom"})", "boom")) ==
          Lines{"ops: all_resolved PatternWentSilent-"});
  }
  SECTION("it is written anew") {
    world.written.patterns[0].match = {*rules::Regex::compile("\"boom\"")};
    world.reload(now);
    CHECK(CoreWorld::summary(line("json a", "{}")) == Lines{"ops: all_resolved PatternWentSilent-"});
  }
  SECTION("its source is gone") {
    world.written.sources[0].name = "renamed";
    world.reload(now);
    CHECK(CoreWorld::summary(line("json a", "{}")) == Lines{"ops: all_resolved PatternWentSilent-"});
    CHECK(world.store.count("core/form/api") == 0);
  }
}
