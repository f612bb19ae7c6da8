// A template with whatever stands in labels and values: what it says is as long as what is put into it, a
// label's text is never read as a template, what it does not name plays no part, and a number that was
// written is read as the same.
//
// Lines: the template; the label queue; the label instance, which is external; the value.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "rules/labels.h"
#include "rules/result.h"
#include "rules/template.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell::rules;
namespace fuzz = logbell::fuzz;

// Of what one `{{ … }}` may add beside the label's text: 1.7e308 in full, or what printf is asked for.
constexpr std::size_t kMaxNumber = 512;

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t times = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + what.size()))
    ++times;
  return times;
}

// The last line as a number: as it is written, else from its bytes.
double value_of(std::string_view text) {
  if (text.size() == sizeof(double)) {
    double value = 0;
    std::memcpy(&value, text.data(), sizeof value);
    return value;
  }
  return parse_number(text);
}

void check_number(double value) {
  const double again = parse_number(format_number(value));
  LOGBELL_CHECK(std::isnan(value) ? std::isnan(again) : again == value);
  // However it is written out, it is the same number, to the digits that are asked for.
  for (const char* format :
       {"{{ printf \"%.17g\" $value }}", "{{ printf \"%.17e\" $value }}", "{{ $value }}"}) {
    const double read = parse_number(Template::parse(format)->render({}, {}, value));
    LOGBELL_CHECK(std::isnan(value) ? std::isnan(read) : read == value || std::isinf(value));
  }
  const double whole = parse_number(Template::parse("{{ printf \"%.0f\" $value }}")->render({}, {}, value));
  LOGBELL_CHECK(!std::isfinite(value) || std::abs(whole - value) <= 0.5);
}

void check_literals(std::string_view text, std::string_view queue, double value) {
  const std::string quoted = "{{ $labels.queue }}";
  const Labels labels{{"queue", std::string(queue)}};
  const auto parsed = Template::parse("a " + quoted + " b " + quoted);
  LOGBELL_CHECK(parsed.has_value());
  const std::string is(queue);
  LOGBELL_CHECK(parsed->render(labels, {}, value) == "a " + is + " b " + is);
  if (text.find("{{") != std::string_view::npos) return;
  const auto literal = Template::parse(text);
  LOGBELL_CHECK(literal.has_value() && literal->is_literal());
  LOGBELL_CHECK(literal->render(labels, labels, value) == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest = fuzz::text_of(data, size);
  // From the end, so that a template may have several lines.
  std::string_view last[3];
  for (std::string_view& line : last) {
    const std::size_t at = rest.rfind('\n');
    if (at == std::string_view::npos) return 0;
    line = rest.substr(at + 1);
    rest = rest.substr(0, at);
  }
  const std::string_view text = rest;
  const double value = value_of(last[0]);
  const std::string_view instance = last[1];
  const std::string_view queue = last[2];
  check_number(value);
  check_literals(text, queue, value);

  std::vector<Template::Fault> faults;
  const Template read = Template::parse(text, faults);
  LOGBELL_CHECK(read.text() == text);
  const auto parsed = Template::parse(text);
  LOGBELL_CHECK(parsed.has_value() == faults.empty());
  for (const Template::Fault& fault : faults)
    LOGBELL_CHECK(fault.offset < text.size() && !fault.message.empty());
  if (!parsed) return 0;

  Labels labels{{"queue", std::string(queue)}, {"partner", "acme"}};
  Labels external{{"instance", std::string(instance)}, {"environment", "production"}};
  const std::string said = parsed->render(labels, external, value);
  LOGBELL_CHECK(said == parsed->render(labels, external, value));
  const std::size_t holes = count(text, "{{");
  LOGBELL_CHECK(said.size() <=
                text.size() * (1 + holes) + holes * (queue.size() + instance.size() + kMaxNumber));
  if (parsed->is_literal()) LOGBELL_CHECK(said == parsed->render({}, {}, -value));
  // Labels that are not named.
  labels.set("other", "x");
  external.set("other", "y");
  if (count(text, "other") == 0) LOGBELL_CHECK(said == parsed->render(labels, external, value));
  for (const std::string& name : parsed->label_names())
    LOGBELL_CHECK(is_label_name(name));
  return 0;
}
