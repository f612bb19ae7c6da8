// One text type per target: what a log, a label or an answer says cannot get into a message but through one
// of them.
//
// Values; any thread. A raw std::string does not convert to any of them by itself, and Payload takes nothing
// else, so forgetting to encode does not compile. All of them are valid UTF-8 without control characters,
// bidirectional overrides and zero-width characters.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "rules/json.h"
#include "rules/time.h"

namespace logbell::sinks {

// Text that stands in our own source: trusted, never computed.
class Literal {
 public:
  template <std::size_t kSize>
  consteval Literal(const char (&text)[kSize])  // NOLINT(google-explicit-constructor): that is its purpose
      : text_(text, kSize - 1) {}
  constexpr std::string_view view() const { return text_; }

 private:
  std::string_view text_;
};

enum class Lines { kJoin, kKeep };  // line breaks become spaces, or stay

// How long a text is for a target that counts as JavaScript does: UTF-16 units. Never less than code points.
std::size_t count_units(std::string_view utf8);
// At most `max_units`, ending in "…" if something was cut off; never inside a character as people see it: a
// code point with what modifies it (accents, vowel signs, skin tones, variation selectors), joined emoji, the
// two letters of a flag.
std::string cut_to_units(std::string_view utf8, std::size_t max_units);
std::string cut_to_bytes(std::string_view utf8, std::size_t max_bytes);  // so, in bytes
// Whether cleaning takes something out of it that a reader might miss: shown as "(sanitised)".
bool is_sanitised(std::string_view text);

// For targets that show text as it is: Slack's plain_text and rich_text.
class PlainText {
 public:
  PlainText() = default;
  PlainText(Literal text) : text_(text.view()) {}  // NOLINT(google-explicit-constructor): our own words
  PlainText(std::string_view text, std::size_t max_units, Lines lines = Lines::kJoin);
  PlainText& operator+=(const PlainText& more);
  friend PlainText operator+(PlainText a, const PlainText& b) { return a += b; }
  friend PlainText operator+(Literal a, const PlainText& b) { return PlainText(a) += b; }
  PlainText cut(std::size_t max_units) const;
  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }
  bool was_cut() const { return was_cut_; }  // something of it is missing

 private:
  std::string text_;
  bool was_cut_ = false;
};

// An address to click on: http or https, no user, nothing that could end the address early.
class LinkUrl {
 public:
  static std::optional<LinkUrl> from(std::string_view text);
  const std::string& str() const { return text_; }

 private:
  explicit LinkUrl(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// For Slack's mrkdwn: `&`, `<` and `>` escaped, which ends every mention and link; what else would be mark-up
// there (back-ticks, asterisks, automatic links) replaced by what looks like it. The limit counts what is
// sent.
class MrkdwnText {
 public:
  MrkdwnText() = default;
  MrkdwnText(Literal text) : text_(text.view()) {}  // NOLINT(google-explicit-constructor): our own mark-up
  MrkdwnText(std::string_view text, std::size_t max_units);
  // A time that each reader sees in their own zone.
  static MrkdwnText date(rules::Timestamp at);
  static MrkdwnText link(const LinkUrl& url, Literal name);
  MrkdwnText& operator+=(const MrkdwnText& more);
  friend MrkdwnText operator+(MrkdwnText a, const MrkdwnText& b) { return a += b; }
  friend MrkdwnText operator+(Literal a, const MrkdwnText& b) { return MrkdwnText(a) += b; }
  const std::string& str() const { return text_; }
  std::size_t units() const { return count_units(text_); }
  // What is missing of it stands elsewhere in the message.
  MrkdwnText excerpt() && {
    was_cut_ = false;
    return std::move(*this);
  }
  bool was_cut() const { return was_cut_; }  // something of it is missing

 private:
  std::string text_;
  bool was_cut_ = false;
};

// For programs that read JSON. Line breaks stay; Payload's own writer escapes.
class JsonString {
 public:
  JsonString() = default;
  JsonString(Literal text) : text_(text.view()) {}  // NOLINT(google-explicit-constructor): our own words
  explicit JsonString(std::string_view text, std::size_t max_bytes = 16UL * 1024);
  const std::string& str() const { return text_; }
  bool was_cut() const { return was_cut_; }  // something of it is missing

 private:
  std::string text_;
  bool was_cut_ = false;
};

// For one HTTP header's value: printable ASCII; everything else is percent-encoded.
class HeaderText {
 public:
  explicit HeaderText(std::string_view text, std::size_t max_bytes = 256);
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

// For a mail's text. Line breaks may stay; no address in it becomes a link by itself, as mail programs would
// make of any "https://".
class MailText {
 public:
  MailText() = default;
  MailText(Literal text) : text_(text.view()) {}  // NOLINT(google-explicit-constructor): our own words
  MailText(std::string_view text, std::size_t max_units, Lines lines = Lines::kJoin);
  explicit MailText(const LinkUrl& url) : text_(url.str()) {}
  MailText& operator+=(const MailText& more);
  friend MailText operator+(MailText a, const MailText& b) { return a += b; }
  friend MailText operator+(Literal a, const MailText& b) { return MailText(a) += b; }
  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }
  bool was_cut() const { return was_cut_; }  // something of it is missing

 private:
  std::string text_;
  bool was_cut_ = false;
};

// For what a mail's header says to people: one line, whatever is in it (RFC 2047).
class MailWords {
 public:
  MailWords() = default;
  MailWords(std::string_view text, std::size_t max_units);
  const std::string& plain() const { return text_; }  // before it is encoded
  // Behind `used` characters of a line: as it is where it is short and ASCII, else in encoded words of at
  // most 75 characters, one a line.
  std::string str(std::size_t used) const;
  bool was_cut() const { return was_cut_; }  // something of it is missing

 private:
  std::string text_;
  bool was_cut_ = false;
};

// user@host, with nothing in it that could end it early: RFC 5321's dot-string and host names.
class MailAddress {
 public:
  static std::optional<MailAddress> from(std::string_view text);
  const std::string& str() const { return text_; }
  std::string_view host() const { return std::string_view(text_).substr(text_.rfind('@') + 1); }
  friend bool operator==(const MailAddress&, const MailAddress&) = default;

 private:
  explicit MailAddress(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// A mail to send, made of encoded text, addresses and literals only: headers, then one part of plain text,
// quoted-printable, in lines of at most 76 characters that end in CRLF.
class Mail {
 public:
  Mail& set(Literal name, Literal value) { return put(name, std::string(value.view())); }
  Mail& set(Literal name, const HeaderText& value) { return put(name, value.str()); }
  Mail& set(Literal name, const MailWords& value);
  Mail& set(Literal name, const MailWords& person, const MailAddress& address);
  Mail& set(Literal name, const std::vector<MailAddress>& addresses);
  Mail& set(Literal name, rules::Timestamp at);  // RFC 5322, in UTC
  Mail& set_id(Literal name, Literal kind, std::string_view key, const MailAddress& of) {
    return put(name, id(kind, key, of));
  }
  // "<kind.key@host>": the same for the same key.
  static std::string id(Literal kind, std::string_view key, const MailAddress& of);
  Mail& say(Literal text) { return say(MailText(text)); }
  Mail& say(const MailText& text);

  // A text in it is not whole because of its limits.
  bool was_cut() const { return was_cut_; }
  std::string dump() const;
  const std::string& text() const { return text_; }  // before it is encoded

 private:
  Mail& put(Literal name, const std::string& value);
  std::string headers_;
  std::string text_;
  bool was_cut_ = false;
};
// Of quoted-printable text (RFC 2045 §6.7): `text` with lines that end in "\n", in UTF-8.
std::string quoted_printable(std::string_view text);

// For a terminal: no escape sequence can begin in it.
class ConsoleText {
 public:
  ConsoleText() = default;
  ConsoleText(Literal text) : text_(text.view()) {}  // NOLINT(google-explicit-constructor): our own words
  explicit ConsoleText(std::string_view text, std::size_t max_bytes = 4096);
  const std::string& str() const { return text_; }
  std::size_t columns() const;  // how wide a terminal shows it

 private:
  std::string text_;
};
// Columns of a terminal that one code point takes: 0, 1 or 2.
int columns_of(char32_t code);
// The code point that begins at `at` of valid UTF-8, and its length.
std::pair<char32_t, std::size_t> code_point_at(std::string_view utf8, std::size_t at);

// JSON to send, made of encoded text, literals and numbers only.
class Payload {
 public:
  static Payload object() { return Payload(rules::Json(rules::Json::Object{})); }
  static Payload array() { return Payload(rules::Json(rules::Json::Array{})); }

  Payload& set(Literal name, Literal value) { return put(name.view(), rules::Json(value.view())); }
  Payload& set(Literal name, const PlainText& value) { return put_text(name.view(), value); }
  Payload& set(Literal name, const MrkdwnText& value) { return put_text(name.view(), value); }
  Payload& set(Literal name, const LinkUrl& value) { return put(name.view(), rules::Json(value.str())); }
  Payload& set(Literal name, const JsonString& value) { return put_text(name.view(), value); }
  Payload& set(Literal name, Payload value) {
    was_cut_ = was_cut_ || value.was_cut_;
    return put(name.view(), std::move(value.json_));
  }
  template <class Number>
  requires std::is_arithmetic_v<Number> Payload& set(Literal name, Number value) {
    if constexpr (std::is_same_v<Number, bool> || std::is_floating_point_v<Number>) {
      return put(name.view(), rules::Json(value));
    } else {
      return put(name.view(), rules::Json(static_cast<std::int64_t>(value)));
    }
  }
  // A name that comes from a label: only where the target allows any.
  Payload& set(const JsonString& name, const JsonString& value) {
    was_cut_ = was_cut_ || name.was_cut();
    return put_text(name.str(), value);
  }
  Payload& push(Payload value);
  Payload& push(const JsonString& value);

  // A text in it is not whole because the target's limits would not have it.
  bool was_cut() const { return was_cut_; }
  void mark_cut() { was_cut_ = true; }  // something else was left out for them

  // Every text and number in it, one a line, as it is read.
  std::string words() const;

  std::size_t size() const { return json_.array().size(); }
  const rules::Json& json() const { return json_; }
  std::string dump() const { return json_.dump(); }

 private:
  explicit Payload(rules::Json json) : json_(std::move(json)) {}
  template <class Text>
  Payload& put_text(std::string_view name, const Text& value) {
    was_cut_ = was_cut_ || value.was_cut();
    return put(name, rules::Json(value.str()));
  }
  Payload& put(std::string_view name, rules::Json value);
  rules::Json json_;
  bool was_cut_ = false;
};

}  // namespace logbell::sinks
