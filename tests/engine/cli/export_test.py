#!/usr/bin/env python3
"""export_test.py LOGBELL [EXAMPLE…]: `logbell export prometheus` judged by promtool: what it writes is a rule file, and fires when it should."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

LOGBELL = os.path.abspath(sys.argv.pop(1))
EXAMPLES = [os.path.abspath(path) for path in sys.argv[1:]]
del sys.argv[1:]
CONFIG = """\
environment: production
labels: {service: orders-api}
sources: [{name: api, files: [/var/log/api.log]}]
patterns:
  queue_error: {match: 'queue (?P<queue>\\S+) gone', labels: [queue]}
  received: {match: received}
  order: {match: 'order (?P<outcome>\\S+)', labels: [outcome]}
  request:
    match: 'status=(?P<status>\\d+) took=(?P<took>\\d+)'
    labels: [status]
    value: took
    metric: {name: orders_ms, type: histogram, buckets: [10, 100, 1000]}
  paid: {match: 'paid (?P<euro>\\d+)', value: euro, metric: {name: orders_paid, type: counter}}
  depth: {match: 'depth (?P<depth>\\d+)', value: depth, metric: {name: orders_depth, type: gauge}}
  at: {match: 'at (?P<instance>\\S+)', labels: [instance]}
rules:
RULES
sinks: {ops: {webhook: {url: 'https://hooks.example.com/x'}}}
route: {sinks: [ops]}
"""


def rules(**exprs):
    """Rules by name; a text is the expression, a map all of the rule."""
    return "\n".join("  - " + json.dumps({"alert": name, **(rule if isinstance(rule, dict) else {"expr": rule})})
                     for name, rule in exprs.items())


class Export(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)

    def export(self, text, *arguments):
        (self.directory / "logbell.yaml").write_text(CONFIG.replace("RULES", text))
        return subprocess.run([LOGBELL, "export", "prometheus", "logbell.yaml", *arguments], cwd=self.directory, capture_output=True,
                              text=True, timeout=60)

    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *arguments], cwd=self.directory, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def exported(self, *arguments, **exprs):
        done = self.export(rules(**exprs), *arguments)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        (self.directory / "rules.yaml").write_text(done.stdout)
        code, said = self.promtool("check", "rules", "rules.yaml")
        self.assertEqual(0, code, said + done.stdout)
        return done.stdout

    def timeline(self, series, firing):
        """`series` in promtool's notation, a sample every 15 s; `firing`: {(time, alertname): [labels]}."""
        tests = [{"interval": "15s", "input_series": [{"series": name, "values": values} for name, values in series.items()],
                  "alert_rule_test": [{"eval_time": at, "alertname": name,
                                       "exp_alerts": [{"exp_labels": {**labels, "environment": "production", "service": "orders-api"}}
                                                      for labels in alerts]} for (at, name), alerts in firing.items()]}]
        (self.directory / "test.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": tests}))
        code, said = self.promtool("test", "rules", "test.yaml")
        self.assertEqual(0, code, said)

    def test_every_example_is_accepted(self):
        recipes = pathlib.Path(__file__).parents[3] / "examples" / "recipes"
        self.assertEqual([], [str(path) for path in recipes.glob("*/logbell.yaml") if str(path) not in EXAMPLES], "not in CMakeLists.txt")
        self.assertTrue(EXAMPLES)
        for example in EXAMPLES:
            with self.subTest(example):
                done = subprocess.run([LOGBELL, "export", "prometheus", "--assume-secrets", example], capture_output=True, text=True, timeout=60)
                self.assertIn(done.returncode, (0, 1), done.stderr)
                self.assertEqual(done.returncode, 1 if done.stderr else 0, done.stderr)
                (self.directory / "rules.yaml").write_text(done.stdout)
                code, said = self.promtool("check", "rules", "rules.yaml")
                self.assertEqual(0, code, said)
                left_out = done.stderr.count("not exported")
                config = pathlib.Path(example).read_text()
                in_groups = len(re.findall(r"^ *- alert:", done.stdout, re.M))
                if "rule_files" not in config:
                    self.assertEqual(len(re.findall(r"^ *- alert:", config, re.M)), in_groups + left_out)
                self.assertEqual(left_out, len(re.findall(r"^#   \S", done.stdout, re.M)))

    # A counter that begins at 3 is three matches: increase() alone would see none of them.
    def test_a_new_series_counts_from_its_beginning(self):
        self.exported(QueueUnreachable={"expr": "sum by (queue) (count_over_time(queue_error[1m])) >= 3", "labels": {"severity": "critical"},
                                        "annotations": {"summary": "{{ $labels.queue }} in {{ $externalLabels.environment }}"}})
        count = 'logbell_pattern_matches_total{pattern="queue_error",queue="orders",instance="a",job="l"}'
        alert = {"queue": "orders", "severity": "critical"}
        series = {'up{instance="a",job="l"}': "1x60", count: "_x21 3x39"}
        with self.assertRaises(AssertionError):  # the annotation is looked at, too
            self.timeline(series, {("5m15s", "QueueUnreachable"): [alert]})
        self.exported(QueueUnreachable={"expr": "sum by (queue) (count_over_time(queue_error[1m])) >= 3", "labels": {"severity": "critical"}})
        self.timeline(series, {("5m", "QueueUnreachable"): [], ("5m15s", "QueueUnreachable"): [alert], ("6m", "QueueUnreachable"): [alert],
                               ("6m15s", "QueueUnreachable"): []})

    # A scrape that failed a window ago: what had been counted by then has not come now.
    def test_a_gap_in_the_scrapes_is_no_burst(self):
        self.exported(Errors="sum by (queue) (count_over_time(queue_error[1m])) >= 3")
        self.timeline({'up{instance="a",job="l"}': "1x8 0 0 1x30",
                       'logbell_pattern_matches_total{pattern="queue_error",queue="orders",instance="a",job="l"}': "100x8 stale stale 100x30"},
                      {(f"{seconds}s", "Errors"): [] for seconds in range(75, 450, 15)})

    # The state was lost: the counter begins again.
    def test_a_counter_that_begins_again(self):
        self.exported(Errors="sum by (queue) (count_over_time(queue_error[1m])) >= 3")
        self.timeline({'up{instance="a",job="l"}': "1x40",
                       'logbell_pattern_matches_total{pattern="queue_error",queue="orders",instance="a",job="l"}': "100x8 3x30"},
                      {("2m", "Errors"): [], ("2m15s", "Errors"): [{"queue": "orders"}], ("2m45s", "Errors"): [{"queue": "orders"}],
                       ("3m15s", "Errors"): []})

    def test_instances_are_summed_and_others_left_out(self):
        exported = self.exported("--selector", "job=l", Errors="count_over_time(received[1m]) >= 3")
        self.assertIn('logbell_pattern_matches_total{pattern="received", job="l"} offset 1m', exported)
        one = 'logbell_pattern_matches_total{pattern="received",instance="%s",job="%s"}'
        self.timeline({'up{instance="a",job="l"}': "1x40", 'up{instance="b",job="l"}': "1x40", 'up{instance="a",job="other"}': "1x40",
                       one % ("a", "l"): "0x10 1x30", one % ("b", "l"): "7x10 8 9x29", one % ("a", "other"): "0x6 90x34"},
                      {("2m30s", "Errors"): [], ("3m", "Errors"): [{}], ("3m45s", "Errors"): []})

    # Nothing came, and somebody looked for all of that time: not where logbell is down, nor where it is new.
    def test_nothing_came(self):
        self.exported(NoData="count_over_time(received[5m]) == 0", NoOrder='count_over_time(order{outcome="paid"}[5m]) == 0',
                      Gone='absent_over_time(order{outcome="paid"}[5m])  > 0', NoneAtAll="sum(count_over_time(order[5m])) == 0")
        up, alive = 'up{instance="a",job="l"}', 'logbell_build_info{version="1",instance="a",job="l"}'
        received = 'logbell_pattern_matches_total{pattern="received",instance="a",job="l"}'
        order = 'logbell_pattern_matches_total{pattern="order",outcome="paid",instance="a",job="l"}'
        self.timeline({up: "1x40 0x40", alive: "1x40 stale", received: "0x10 1x29 stale", order: "_x11 1x29 stale"},
                      {("4m45s", "NoData"): [], ("5m", "NoData"): [], ("7m30s", "NoData"): [], ("7m45s", "NoData"): [{}], ("10m", "NoData"): [{}],
                       ("7m30s", "NoOrder"): [], ("8m", "NoOrder"): [{"outcome": "paid"}], ("8m", "Gone"): [{"outcome": "paid"}],
                       ("8m", "NoneAtAll"): [{}], ("10m15s", "NoData"): [], ("12m", "NoOrder"): [], ("12m", "NoneAtAll"): []})
        # Nobody ever ordered: it is no series, and counts 0.
        self.timeline({up: "1x40", alive: "1x40", received: "0x40"},
                      {("4m45s", "NoOrder"): [], ("5m", "NoOrder"): [{"outcome": "paid"}], ("5m", "Gone"): [{"outcome": "paid"}],
                       ("5m", "NoneAtAll"): [{}]})

    # Of a time that nobody recorded it is not known that nothing came.
    def test_a_comparison_with_before_waits_until_that_was_recorded(self):
        self.exported(Spike="sum(count_over_time(queue_error[1m])) > 3 * sum(count_over_time(queue_error[1m] offset 10m))")
        alive = {'up{instance="a",job="l"}': "1x160", 'logbell_build_info{instance="a",job="l"}': "1x160"}
        count = 'logbell_pattern_matches_total{pattern="queue_error",queue="orders",instance="a",job="l"}'
        self.timeline({**alive, count: "0+1x160"}, {(f"{minutes}m", "Spike"): [] for minutes in range(1, 40)})
        self.timeline({**alive, count: "_x64 1+1x90"}, {("15m", "Spike"): [], ("18m", "Spike"): [{}]})

    def test_labels_of_the_configuration_are_no_templates(self):
        config = CONFIG.replace("{service: orders-api}", "{service: orders-api, team: 'sre {{ x }}'}")
        with unittest.mock.patch(f"{__name__}.CONFIG", config):
            self.exported(Any="sum(count_over_time(queue_error[1m])) > 3")
        alive = {'up{instance="a",job="l"}': "1x60", 'logbell_build_info{instance="a",job="l"}': "1x60"}
        count = 'logbell_pattern_matches_total{pattern="queue_error",queue="orders",instance="a",job="l"}'
        self.timeline({**alive, count: "0+9x60"}, {("10m", "Any"): [{"team": "sre {{ x }}"}]})

    def test_values_of_a_histogram(self):
        self.exported(Slow="quantile_over_time(0.9, request[5m]) > 90", Sum='sum_over_time(request{status="500"}[5m]) >= 50',
                      Mean="sum by (status) (avg_over_time(request[5m])) > 5", Rate="rate(request[1m]) >= 0.1",
                      Some="present_over_time(request[1m]) == 1", Before="count_over_time(request[1m] offset 5m) > 5")
        labels = 'status="500",instance="a",job="l"'
        self.timeline({'up{instance="a",job="l"}': "1x80", 'logbell_build_info{instance="a",job="l"}': "1x80", f'orders_ms_bucket{{le="10",{labels}}}': "0x80", f'orders_ms_bucket{{le="100",{labels}}}': "0x20 10x59",
                       f'orders_ms_bucket{{le="1000",{labels}}}': "0x20 10x59", f'orders_ms_bucket{{le="+Inf",{labels}}}': "0x20 10x59",
                       f'logbell_pattern_matches_total{{pattern="request",{labels}}}': "0x20 10x59", f"orders_ms_count{{{labels}}}": "0x20 10x59", f"orders_ms_sum{{{labels}}}": "0x20 900x59"},
                      {("5m", name): [] for name in ("Slow", "Sum", "Mean", "Rate", "Some", "Before")} |
                      {("5m15s", name): [{"status": "500"}] for name in ("Slow", "Sum", "Mean", "Rate", "Some")} |
                      {("10m15s", "Sum"): [], ("10m15s", "Mean"): [], ("10m15s", "Some"): [], ("10m15s", "Before"): [{"status": "500"}],
                       ("11m15s", "Before"): []})

    def test_what_is_kept_of_a_rule(self):
        text = self.exported(Bad={"expr": "count_over_time(received[1m]) > (1 < 2)", "for": "1m", "keep_firing_for": "5m",
                                  "labels": {"service": "it's \"mine\"", "who": "{{ $value | humanize }}"},
                                  "annotations": {"summary": "line one\nline two in {{ $externalLabels.environment | toUpper }}"}})
        self.assertIn("expr: 'logbell:received:count1m > ((1 < bool 2))'", text)
        self.assertIn("        for: 1m\n        keep_firing_for: 5m\n", text)
        self.assertIn("          environment: 'production'\n          service: 'it''s \"mine\"'\n          who: '{{ $value | humanize }}'\n", text)
        self.assertIn('          summary: "line one\\nline two in {{ \\"production\\" | toUpper }}"\n', text)

    def test_what_cannot_be_said_is_named_with_its_reason(self):
        done = self.export(rules(
            Good="count_over_time(received[1m]) > 1", Last="last_over_time(depth[5m]) > 7", Paid="count_over_time(paid[5m]) > 7",
            Sum="sum_over_time(paid[5m]) > 7", Quantile="quantile_over_time(0.9, depth[5m]) > 7", At="count_over_time(at[5m]) > 7", Short="count_over_time(received[20s]) > 7",
            Silent={"expr": "count_over_time(received[1m]) > 1", "sinks": "none", "reason": "only\ncounted", "until": "2099-01-01"},
            Night={"expr": "count_over_time(received[1h]) == 0 and on () hour() > 7", "location": "Europe/Berlin"},
            Holds={"expr": "count_over_time(received[1m]) > 3", "resolve_when": "count_over_time(received[1m]) < 1"}))
        self.assertEqual(1, done.returncode, done.stderr)
        (self.directory / "rules.yaml").write_text(done.stdout)
        self.assertEqual(0, self.promtool("check", "rules", "rules.yaml")[0])
        reasons = dict(re.findall(r'^logbell\.yaml:\d+:\d+: rule "(\w+)": not exported: (.*)$', done.stderr, re.M))
        self.assertEqual(["Last", "Paid", "Sum", "Quantile", "At", "Short", "Night", "Holds"], [name for name in reasons if name != "Silent"])
        self.assertIn('the values of pattern "depth" themselves are no metric', reasons["Last"])
        self.assertIn("the metric orders_paid of pattern \"paid\" does not say how many lines matched; a `metric:` of type histogram does", reasons["Paid"])
        self.assertIn('no metric has the sum of the values of pattern "paid"', reasons["Sum"])
        self.assertIn('no metric has the values of pattern "depth" in buckets', reasons["Quantile"])
        self.assertIn('renames that of pattern "at"; capture it under another name', reasons["At"])
        self.assertIn("a window of 20s does not hold two scrapes, which are 15s apart", reasons["Short"])
        self.assertIn("of UTC, and this rule's of Europe/Berlin", reasons["Night"])
        self.assertIn("Prometheus has no `resolve_when`", reasons["Holds"])
        self.assertIn('rule "Silent": not exported: it says `sinks: none`: only\ncounted\n', done.stderr)
        self.assertIn("# These stay with logbell alone:\n#   Last: the values", done.stdout)
        self.assertIn("#   Silent: it says `sinks: none`: only counted\n", done.stdout)
        self.assertEqual(["Good"], re.findall(r"- alert: '(\w+)'", done.stdout))
        self.assertEqual(["logbell:received:count1m"], re.findall(r"- record: (\S+)", done.stdout))
        self.assertEqual(0, self.export(rules(Short="count_over_time(received[20s]) > 7"), "--scrape-interval", "10s").returncode)

    def test_nothing_is_exported_of_what_is_refused(self):
        done = self.export(rules(Bad="count_over_time(nothing[1m]) > 1"))
        self.assertEqual((78, ""), (done.returncode, done.stdout))
        self.assertIn("logbell.yaml:17:", done.stderr)
        self.assertIn("logbell.yaml: refused; nothing is exported.\n", done.stderr)
        good = rules(Good="count_over_time(received[1m]) > 1")
        for wrong in (["--scrape-interval", "0s"], ["--scrape-interval", "soon"], ["--selector", "job"]):
            done = self.export(good, *wrong)
            self.assertEqual((64, ""), (done.returncode, done.stdout), wrong)
        self.assertEqual(64, subprocess.run([LOGBELL, "export", "grafana", "x.yaml"], capture_output=True, timeout=60).returncode)
        done = self.export(rules(Short="count_over_time(received[1s]) > 1"))
        self.assertEqual(1, done.returncode)
        (self.directory / "rules.yaml").write_text(done.stdout)
        self.assertEqual(0, self.promtool("check", "rules", "rules.yaml")[0])


if __name__ == "__main__":
    unittest.main()
