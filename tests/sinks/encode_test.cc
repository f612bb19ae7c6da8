#include "sinks/encode.h"

#include <catch2/catch.hpp>

#include "rules/redact.h"
#include "tests/sinks/fixtures.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)

// What cannot be put into a payload by itself.
template <class Text>
concept Settable = requires(Payload payload, Text text) {
  payload.set("name", text);
};
static_assert(!Settable<std::string>);
static_assert(!Settable<std::string_view>);
static_assert(!Settable<const char*>);
static_assert(!Settable<rules::Json>);
static_assert(!Settable<ConsoleText>);
static_assert(!Settable<HeaderText>);
static_assert(Settable<PlainText>);
static_assert(Settable<MrkdwnText>);
static_assert(Settable<JsonString>);
static_assert(Settable<int>);
static_assert(!std::is_convertible_v<std::string, PlainText>);
static_assert(!std::is_convertible_v<std::string, MrkdwnText>);
static_assert(!std::is_convertible_v<std::string, JsonString>);
static_assert(!std::is_convertible_v<std::string, ConsoleText>);
static_assert(!std::is_convertible_v<std::string, HeaderText>);
static_assert(!std::is_convertible_v<PlainText, MrkdwnText>);
static_assert(!std::is_convertible_v<MrkdwnText, PlainText>);

bool has_control(std::string_view text, bool lines_allowed) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '\t' || (lines_allowed && byte == '\n')) continue;
    if (byte < 0x20 || byte == 0x7F) return true;
  }
  // C1, bidirectional overrides and isolates, zero-width: clean_text would have taken them out.
  std::string joined(text);
  std::replace(joined.begin(), joined.end(), '\n', ' ');
  return rules::clean_text(joined, 1 << 20) != joined;
}

}  // namespace

TEST_CASE("encode: Slack's mark-up escapes exactly three characters", "[sinks][encode]") {
  CHECK(MrkdwnText("a & b < c > d", 100).str() == "a &amp; b &lt; c &gt; d");
  CHECK(MrkdwnText("&amp;", 100).str() == "&amp;amp;");
  CHECK(MrkdwnText("http_status \"x\" 'y' 10:00:03 a-b (c) 5%", 100).str() ==
        "http_status \"x\" 'y' 10:00:03 a-b (c) 5%");
}

TEST_CASE("encode: hostile text is text in every target", "[sinks][encode]") {
  for (const std::string& text : tests::hostile_texts()) {
    INFO(text);
    const std::string mrkdwn = MrkdwnText(text, 3000).str();
    CHECK_FALSE(has_control(mrkdwn, false));
    CHECK(mrkdwn.find_first_of("<>`*~") == std::string::npos);
    CHECK(mrkdwn.find("://") == std::string::npos);
    for (std::size_t at = mrkdwn.find('&'); at != std::string::npos; at = mrkdwn.find('&', at + 1)) {
      const std::string_view rest = std::string_view(mrkdwn).substr(at);
      CHECK((rest.substr(0, 5) == "&amp;" || rest.substr(0, 4) == "&lt;" || rest.substr(0, 4) == "&gt;"));
    }
    CHECK_FALSE(has_control(PlainText(text, 3000).str(), false));
    CHECK_FALSE(has_control(PlainText(text, 3000, Lines::kKeep).str(), true));
    CHECK_FALSE(has_control(JsonString(text).str(), true));
    CHECK_FALSE(has_control(ConsoleText(text).str(), false));
    const HeaderText header(text);
    for (const char c : header.str())
      CHECK((c >= 0x20 && c < 0x7F));

    // A payload is JSON that reads back as what was put in.
    const std::string dumped =
        Payload::object().set("a", PlainText(text, 3000)).set("b", JsonString(text)).dump();
    const rules::Result<rules::Json> parsed = rules::Json::parse(dumped);
    REQUIRE(parsed);
    CHECK((*parsed)["a"].string() == PlainText(text, 3000).str());
    CHECK((*parsed)["b"].string() == JsonString(text).str());
  }
}

TEST_CASE("encode: a cut counts UTF-16 units and never splits a character", "[sinks][encode][F48]") {
  CHECK(count_units("abc") == 3);
  CHECK(count_units("é€") == 2);
  CHECK(count_units("🔴") == 2);
  CHECK(cut_to_units("abc", 3) == "abc");
  CHECK(cut_to_units("abcd", 3) == "ab…");
  CHECK(cut_to_units("ab🔴d", 4) == "ab…");
  CHECK(cut_to_units("ab🔴", 4) == "ab🔴");
  CHECK(cut_to_units("abc", 1) == "…");
  CHECK(cut_to_units("abc", 0).empty());
  // An accent, a skin tone, a variation selector stay with what they modify.
  CHECK(cut_to_units("abe\u0301xyz", 4) == "ab…");
  CHECK(cut_to_units("a👍🏽zz", 4) == "a…");
  CHECK(cut_to_units("שלום עולם", 5) == "שלום…");
  for (const std::string& text : tests::hostile_texts()) {
    const std::string clean = PlainText(text, 3000).str();
    for (std::size_t limit = 0; limit <= count_units(clean) + 1; ++limit) {
      for (const std::string& cut : {PlainText(text, limit).str(), MrkdwnText(text, limit).str()}) {
        INFO(text << " at " << limit << ": " << cut);
        CHECK(count_units(cut) <= limit);
        CHECK(rules::clean_text(cut, 1 << 20) == cut);  // valid UTF-8 still
      }
    }
  }
}

TEST_CASE("encode: F48 what people see as one character is cut off whole", "[sinks][encode][F48]") {
  struct Row {
    const char* story;
    std::string character;  // one, however many code points it has
  };
  const auto row = GENERATE(
      Row{"a family joined by joiners", "👩\u200D👩\u200D👧"}, Row{"a flag of two letters", "🇩🇪"},
      Row{"a flag of tags", "🏴\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F"},
      Row{"a rainbow flag", "🏳\uFE0F\u200D🌈"}, Row{"a key", "1\uFE0F\u20E3"},
      Row{"a skin tone", "👍🏽"}, Row{"two accents", "a\u0302\u0301"}, Row{"Hebrew with vowels", "שּׁ"},
      Row{"Arabic with vowels", "بّ"}, Row{"a vowel sign of Devanagari", "कि"},
      Row{"Thai with a vowel and a tone", "กี่"}, Row{"a Hangul syllable in parts", "\u1112\u1161\u11AB"},
      Row{"an ideograph with a selector", "葛\U000E0100"});
  INFO(row.story);
  const std::string text = "ab" + row.character + row.character + "cd";
  const std::size_t one = count_units(row.character);
  for (std::size_t limit = 1; limit < count_units(text); ++limit) {
    const std::size_t whole = limit - 1 < 2 ? 0 : std::min<std::size_t>((limit - 3) / one, 2);
    std::string wanted = std::string("ab").substr(0, limit - 1);
    for (std::size_t i = 0; i < whole; ++i)
      wanted += row.character;
    wanted += std::string("cd").substr(0, whole < 2 ? 0 : limit - 3 - 2 * one);
    INFO(limit);
    CHECK(cut_to_units(text, limit) == wanted + "…");
  }
  const std::string ellipsis = "…";
  CHECK(cut_to_bytes(text, 2 + row.character.size() + ellipsis.size()) == "ab" + row.character + "…");
  CHECK(cut_to_bytes(text, 1 + row.character.size() + ellipsis.size()) == "ab…");
  if (PlainText(row.character, 100).str() != row.character) return;  // joiners and tags do not get that far
  // Right before it and right behind it, in the text that Slack reads as mark-up, too.
  CHECK(MrkdwnText("ab" + row.character + "cd", 2 + one).str() == "ab…");
  CHECK(MrkdwnText("ab" + row.character + "cd", 3 + one).str().rfind("ab", 0) == 0);
}

TEST_CASE("encode: F48 flags in a row are cut between two of them", "[sinks][encode][F48]") {
  CHECK(cut_to_units("🇩🇪🇫🇷🇮🇹", 9) == "🇩🇪🇫🇷…");
  CHECK(cut_to_units("🇩🇪🇫🇷🇮🇹", 8) == "🇩🇪…");
}

TEST_CASE("encode: F48 who piles up accents loses no more than they", "[sinks][encode][F48]") {
  std::string pile = "e";
  for (int i = 0; i < 1000; ++i)
    pile += "\u0301";
  const std::string cut = cut_to_units("ERROR " + pile, 500);
  CHECK(count_units(cut) <= 500);
  CHECK(count_units(cut) > 460);
}

TEST_CASE("encode: F48 what was cut says so, and so does the message it is in", "[sinks][encode][F48]") {
  CHECK_FALSE(PlainText("abc", 3).was_cut());
  CHECK(PlainText("abcd", 3).was_cut());
  CHECK((PlainText("a", 3) + PlainText("abcd", 3)).was_cut());
  CHECK(PlainText("abcd", 9).cut(3).was_cut());
  CHECK_FALSE(MrkdwnText("<b>", 9).was_cut());
  CHECK(MrkdwnText("<b>", 8).was_cut());
  CHECK_FALSE(MrkdwnText("<b>", 8).excerpt().was_cut());
  CHECK_FALSE(JsonString("abc", 3).was_cut());
  const JsonString cut("ab\n€cd", 6);
  CHECK(cut.was_cut());
  CHECK(cut.str() == "ab\n…");  // in bytes, and the lines stay
  Payload inner = Payload::object();
  inner.set("a", cut);
  CHECK(inner.was_cut());
  Payload outer = Payload::array();
  CHECK_FALSE(outer.was_cut());
  outer.push(Payload::object().set("b", inner));
  CHECK(outer.was_cut());
}

TEST_CASE("encode: a cut never leaves half an escape", "[sinks][encode][F48]") {
  for (std::size_t limit = 1; limit < 40; ++limit) {
    const std::string cut = MrkdwnText("<<<&&&>>>", limit).str();
    INFO(cut);
    CHECK(count_units(cut) <= limit);
    std::string rest = cut;
    for (const std::string_view whole : {"&amp;", "&lt;", "&gt;", "…"}) {
      for (std::size_t at = rest.find(whole); at != std::string::npos; at = rest.find(whole))
        rest.erase(at, whole.size());
    }
    CHECK(rest.empty());
  }
}

TEST_CASE("encode: dates are shown in the reader's zone", "[sinks][encode]") {
  CHECK(MrkdwnText::date(tests::start()).str() ==
        "<!date^1777629600^{date_short_pretty} {time_secs}|2026-05-01T10:00:00Z>");
}

TEST_CASE("encode: only an address becomes a link", "[sinks][encode]") {
  CHECK(LinkUrl::from("https://wiki.example.com/a?b=c#d")->str() == "https://wiki.example.com/a?b=c#d");
  CHECK(LinkUrl::from("https://wiki/a|b<c>d \"e\n")->str() == "https://wiki/a%7Cb%3Cc%3Ed%20%22e%0A");
  CHECK(LinkUrl::from("https://wiki/größe")->str() == "https://wiki/gr%C3%B6%C3%9Fe");
  for (const char* bad : {"", "javascript:alert(1)", "wiki", "https://", "https://slack.com@evil.example/",
                          "data:text/html,x", "https://a|b/", "file:///etc/passwd"}) {
    INFO(bad);
    CHECK_FALSE(LinkUrl::from(bad));
  }
  CHECK_FALSE(LinkUrl::from("https://a/" + std::string(4000, 'x')));
}

TEST_CASE("encode: what was taken out can be said", "[sinks][encode]") {
  CHECK_FALSE(is_sanitised("a plain line\twith a tab, ünïcode and \n a break\r\n"));
  CHECK(is_sanitised("\x1b[31m"));
  CHECK(is_sanitised("\u202E"));
  CHECK(is_sanitised("\xff"));
}

TEST_CASE("encode: a header is one line of ASCII", "[sinks][encode]") {
  CHECK(HeaderText("key-1").str() == "key-1");
  CHECK(HeaderText("a\r\nb: c").str().find_first_of("\r\n") == std::string::npos);
  CHECK(HeaderText("ü%").str() == "%C3%BC%25");
  CHECK(HeaderText(std::string(1000, 'x')).str().size() <= 256);
}
