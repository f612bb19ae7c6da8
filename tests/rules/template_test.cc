// Template: Prometheus's subset, parsed when loaded.
#include "rules/template.h"

#include <limits>

#include <catch2/catch.hpp>
#include <fmt/format.h>

using namespace logbell::rules;

TEST_CASE("template: renders labels, values and functions as Prometheus does", "[rules][template]") {
  const Labels labels{{"queue", "orders"}, {"n", "1500"}};
  const Labels external{{"environment", "production"}};
  const struct {
    const char* text;
    double value;
    const char* expected;
  } rows[] = {
      {"plain", 1, "plain"},
      {"{{ $labels.queue }}: {{ $value }} errors", 12, "orders: 12 errors"},
      {"{{$externalLabels.environment|toUpper}}", 0, "PRODUCTION"},
      {"{{ $labels.nobody }}x", 0, "x"},
      {"{{ $value | humanize }}", 1234567, "1.235M"},
      {"{{ humanize $value }}", 0.0021, "2.1m"},
      {"{{ $value | humanize }}", std::numeric_limits<double>::infinity(), "+Inf"},
      {"{{ $value | humanizePercentage }}", std::numeric_limits<double>::quiet_NaN(), "NaN%"},
      {"{{ $labels.n | humanize }}", 0, "1.5k"},
      {"{{ $value | humanize1024 }}", 2048, "2ki"},
      {"{{ $value | humanizeDuration }}", 3661, "1h 1m 1s"},
      {"{{ $value | humanizeDuration }}", 0.25, "250ms"},
      {"{{ $value | humanizePercentage }}", 0.0512, "5.12%"},
      {"{{ $value | humanizeTimestamp }}", 1777629600, "2026-05-01 10:00:00 +0000 UTC"},
      {"{{ $value | printf \"%.2f\" }} s", 1.005, "1.00 s"},
      {"{{ printf \"%.1f%\" $value }}", 1, nullptr},
      {"{{ $value }}", std::numeric_limits<double>::infinity(), "+Inf"},
      {"a \n{{- $value -}}\n b", 1, "a1b"},
      {"{{ $value", 0, nullptr},
      {"{{ }}", 0, nullptr},
      {"{{ $label.queue }}", 0, nullptr},
      {"{{ $value | humanise }}", 0, nullptr},
      {"{{ range $x }}", 0, nullptr},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto parsed = Template::parse(row.text);
    REQUIRE(parsed.has_value() == (row.expected != nullptr));
    if (parsed) CHECK(parsed->render(labels, external, row.value) == row.expected);
  }
  CHECK(Template::parse("{{ $value | humanise }}").error().message.find("did you mean humanize?") !=
        std::string::npos);
  CHECK(Template::parse("{{ $labels.a }}{{ $labels.b | title }}")->label_names() ==
        std::vector<std::string>{"a", "b"});
  CHECK(Template::parse("x")->is_literal());
}

TEST_CASE("template: numbers print the shortest form that reads back", "[rules][template]") {
  CHECK(format_number(3) == "3");
  CHECK(format_number(0.05) == "0.05");
  CHECK(format_number(-0.0) == "0");
  CHECK(format_number(200'000) == "200000");
  CHECK(format_number(-3e6) == "-3000000");
  CHECK(format_number(200'000.5) == "200000.5");
  CHECK(format_number(1e21) == "1e+21");
}

TEST_CASE("template: every fault is told, and the labels of what could be read are known",
          "[rules][template]") {
  std::vector<Template::Fault> faults;
  const Template parsed = Template::parse(
      "{{ $labels.foo }} {{ $value | humanise }} {{ $labels.bar | upper }} {{ $valu }} {{", faults);
  REQUIRE(faults.size() == 4);
  CHECK(faults[0].offset == 18);
  CHECK(faults[0].message == "unknown function `humanise`; did you mean humanize?");
  CHECK(faults[1].offset == 42);
  CHECK(faults[2].message.find("`$valu`") != std::string::npos);
  CHECK(faults[3].message == "{{ is never closed: }} is expected");
  CHECK(parsed.label_names() == std::vector<std::string>{"foo", "bar"});
}

TEST_CASE("template: numbers beyond what a function can show are shown as they are", "[rules][template]") {
  const struct {
    const char* text;
    double value;
    std::string expected;
  } rows[] = {
      {"{{ $value | humanizeDuration }}", 1e300, "1e+300s"},
      {"{{ $value | humanizeTimestamp }}", -62'135'596'800.0 - 86400, "0000-12-31 00:00:00 +0000 UTC"},
      {"{{ $value | humanizeTimestamp }}", -1e11, "-1199-02-15 14:13:20 +0000 UTC"},
      {"{{ $value | printf \"%d\" }}", 1e19, "10000000000000000000"},
      {"{{ $value | printf \"%d\" }}", std::numeric_limits<double>::quiet_NaN(), "NaN"},
      {"{{ $value | printf \"%d\" }}", -std::numeric_limits<double>::infinity(), "-Inf"},
      {"{{ $value | printf \"%.0f\" }}", 1e200, fmt::format("{:.0f}", 1e200)},
      {"{{ $value | printf \"%99.1f\" }}", 1, std::string(96, ' ') + "1.0"},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(Template::parse(row.text)->render({}, {}, row.value) == row.expected);
  }
  // A label's text is a number as a whole or not at all.
  const Labels labels{{"n", std::string("15\0x", 4)}};
  CHECK(Template::parse("{{ $labels.n | humanize }}")->render(labels, {}, 0) == labels.get("n"));
}

TEST_CASE("template: printf is not asked for more than a line can hold", "[rules][template]") {
  for (const char* text : {"{{ printf \"%.999999999f\" $value }}", "{{ printf \"%100f\" $value }}",
                           "{{ printf \"%5.123g\" $value }}", "{{ printf \"%1.2.3f\" $value }}"}) {
    INFO(text);
    const auto parsed = Template::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().message.find("at most two digits") != std::string::npos);
  }
}
