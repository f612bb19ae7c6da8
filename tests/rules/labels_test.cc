#include "rules/labels.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("labels: order of writing does not matter, an empty value is no label", "[rules][labels]") {
  const Labels a{{"b", "2"}, {"a", "1"}, {"c", ""}};
  const Labels b{{"a", "1"}, {"b", "2"}};
  CHECK(a == b);
  CHECK(a.fingerprint() == b.fingerprint());
  CHECK(a.size() == 2);
  CHECK_FALSE(a.has("c"));
  CHECK(a.get("c").empty());
}

TEST_CASE("labels: names and values cannot be shifted into one another", "[rules][labels]") {
  CHECK(Labels{{"a", "bc"}}.fingerprint() != Labels{{"ab", "c"}}.fingerprint());
  CHECK(Labels{{"a", "b"}, {"c", "d"}}.fingerprint() != Labels{{"a", "bcd"}}.fingerprint());
}

TEST_CASE("labels: a fingerprint is the same in every version, since the store keeps it", "[rules][labels]") {
  CHECK(format_fingerprint(Labels{}.fingerprint()) == "ef46db3751d8e999");
  CHECK(format_fingerprint(Labels{{"alertname", "QueueUnreachable"}}.fingerprint()) == "b11f701041d08b0a");
}

TEST_CASE("labels: keep, drop and merge", "[rules][labels]") {
  const Labels labels{{"a", "1"}, {"b", "2"}, {"c", "3"}};
  CHECK(labels.keep_only({"c", "a", "x"}) == Labels{{"a", "1"}, {"c", "3"}});
  CHECK(labels.without({"b"}) == Labels{{"a", "1"}, {"c", "3"}});
  CHECK(labels.merged({{"a", "9"}, {"d", "4"}}) == Labels{{"a", "9"}, {"b", "2"}, {"c", "3"}, {"d", "4"}});
  Labels changed = labels;
  changed.set("b", "");
  CHECK(changed == Labels{{"a", "1"}, {"c", "3"}});
}

TEST_CASE("labels: printing escapes what would end the value", "[rules][labels]") {
  CHECK(Labels{{"a", "say \"hi\"\n\\"}, {"b", "2"}}.format() == R"({a="say \"hi\"\n\\", b="2"})");
  CHECK(Labels{}.format() == "{}");
}

TEST_CASE("labels: names of labels and metrics", "[rules][labels]") {
  CHECK(is_label_name("_a1"));
  CHECK_FALSE(is_label_name("1a"));
  CHECK_FALSE(is_label_name("a:b"));
  CHECK_FALSE(is_label_name(""));
  CHECK_FALSE(is_label_name("ä"));
  CHECK(is_metric_name("job:a_total"));
}
