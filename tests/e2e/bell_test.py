#!/usr/bin/env python3
"""The promise, once through: a line is written, a person hears of it at Slack, and hears when it is over."""
import subprocess
import time

import harness
from harness import Case, configuration, equal, rule, wait_for

BOOM = {"match": r"ERROR boom on (?P<queue>.+)$", "labels": ["queue"]}
RULE = rule("QueueUnreachable", "sum by (queue) (count_over_time(boom[3s])) >= 3", labels={"severity": "critical"},
            annotations={"summary": "API cannot reach queue {{ $labels.queue }}: {{ $value }} errors"})
# Everything that would break a scrape or a message if it were copied as it is.
HOSTILE = ['a"b', "a\\b", "a\\", 'x"} 1', "<!channel>", "*bold* `tick` ```fence```", "&amp;", "a{b=\"c\"}", "\u202eevil", "日本", "\x1b[31mred",
           "# HELP boom", "{{ $labels.queue }}", "%s%n", "x" * 2000]


class BellTest(Case):
    def start(self, **more):
        log, slack = self.log(), self.slack()
        bell = self.bell(configuration(log.path, {"boom": BOOM}, [RULE], {"ops": harness.slack(slack.hook())}, **more))
        return log, slack, bell

    def test_a_line_rings_and_is_resolved(self):
        log, slack, bell = self.start(labels={"service": "orders-api"})
        first = time.time()
        log.write("INFO all is well", "ERROR boom on orders", "ERROR boom on orders")
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="boom", queue="orders")
        self.assertEqual([], slack.entries(), "two are not three")
        written = time.time()
        log.write("ERROR boom on orders")
        message = wait_for(slack.messages, "message at Slack", context=bell.tail)[0]
        self.assertLess(message["at"] - written, 2)
        for wanted in ("QueueUnreachable", "API cannot reach queue orders: 3 errors", "critical", "e2e", "orders-api", "boom on orders"):
            self.assertIn(wanted, message["rendered"])
        self.assertEqual([], message["mentions"])

        alert = bell.await_firing("QueueUnreachable", queue="orders")[0]
        equal({"alertname": "QueueUnreachable", "queue": "orders", "severity": "critical", "environment": "e2e", "service": "orders-api"},
              {key: value for key, value in alert["labels"].items() if key != "instance"})
        self.assertTrue(alert["labels"]["instance"])
        self.assertEqual(3, float(alert["value"]))
        self.assertEqual("API cannot reach queue orders: 3 errors", alert["annotations"]["summary"])
        bell.await_metric(1, "logbell_alerts", alertname="QueueUnreachable", alertstate="firing")
        bell.await_metric(1, "logbell_notifications_total", sink="ops", outcome="delivered")
        bell.await_metric(0, "logbell_outbox_pending", sink="ops")  # what came is counted a moment before it waits no more
        metrics = bell.metrics()
        for wanted, name, labels in [(4, "logbell_source_lines_total", {"source": "app"}), (0, "logbell_source_lag_bytes", {"source": "app"}),
                                     (3, "logbell_pattern_matches_total", {"pattern": "boom"}),
                                     (0, "logbell_rules_without_sink", {}), (1, "logbell_config_last_reload_successful", {}),
                                     (1, "logbell_build_info", {}), (0, "logbell_plan_refused", {})]:
            self.assertEqual(wanted, metrics.get(name, **labels), name)

        bell.await_quiet("QueueUnreachable")
        wait_for(lambda: len(slack.messages()) == 2, "resolve at Slack", context=bell.tail)
        resolve = slack.messages()[1]
        self.assertRegex(resolve["rendered"].lower(), "resolved")
        self.assertIn("QueueUnreachable", resolve["rendered"])
        self.assertGreater(resolve["at"] - first, 2.9, "not before the first line has left the window")
        bell.await_metric(0, "logbell_alerts", alertname="QueueUnreachable", alertstate="firing")
        self.assertEqual(0, bell.stop())
        self.assertEqual(2, len(slack.entries()), "nothing more was said")

    def test_hostile_text_breaks_neither_a_scrape_nor_a_message(self):
        log, slack = self.log(), self.slack()
        own = {"match": r"ERROR boom on (?P<queue>.+)$", "labels": ["queue"],
               "metric": {"name": "booms_total", "type": "counter", "help": 'first "line"\nof\\two\n# TYPE booms_total gauge'}}
        bell = self.bell(configuration(log.path, {"boom": BOOM, "own": own}, [RULE, rule("Own", "sum(count_over_time(own[1h])) >= 100000")],
                                       {"ops": harness.slack(slack.hook())}))
        for value in HOSTILE:
            log.write(*[f"ERROR boom on {value}"] * 3)
        log.raw(b"2026-05-01T10:00:00Z ERROR boom on \xff\xfe\x00nul\n" * 3)
        total = 3 * len(HOSTILE) + 3
        bell.await_metric(total, "logbell_pattern_matches_total", pattern="boom")
        wait_for(lambda: len(bell.firing("QueueUnreachable")) >= len(HOSTILE), "an alert for each", context=bell.tail)
        values = {labels["queue"] for labels, _ in bell.metrics().all("logbell_pattern_matches_total", pattern="boom")}
        self.assertGreaterEqual(values, {harness.cleaned(value) for value in HOSTILE if len(value) < 100},
                                "labels arrive as they were written, but for what no eye can see")
        self.assertEqual(total, bell.metric("booms_total"))
        _, text = bell.get("/metrics")
        lint = subprocess.run([harness.tool("promtool"), "check", "metrics"], input=text, text=True, capture_output=True, timeout=30)
        self.assertEqual((0, ""), (lint.returncode, lint.stdout + lint.stderr))
        wait_for(slack.messages, "message at Slack", context=bell.tail)
        bell.await_metric(0, "logbell_outbox_pending", sink="ops")
        self.assertEqual({200}, {entry["status"] for entry in slack.entries()}, [entry["why"] for entry in slack.entries()])
        self.assertEqual([], [m for entry in slack.messages() for m in entry["mentions"]])

    def test_the_metrics_please_promtool_from_the_first_moment(self):
        _, _, bell = self.start()
        _, text = bell.get("/metrics")
        lint = subprocess.run([harness.tool("promtool"), "check", "metrics"], input=text, text=True, capture_output=True, timeout=30)
        self.assertEqual((0, ""), (lint.returncode, lint.stdout + lint.stderr))
        metrics = bell.metrics()  # counters are there at zero before anything has happened
        for name in ("logbell_source_lines_total", "logbell_source_bytes_total", "logbell_notifications_total",
                     "logbell_alerts", "logbell_outbox_pending", "logbell_series_dropped_total", "logbell_rules_without_sink", "logbell_sink_state"):
            self.assertIsNotNone(metrics.get(name), name)

    def test_the_api_shows_rules_sources_and_sinks(self):
        log, slack, bell = self.start()
        log.write(*["ERROR boom on orders"] * 3)
        bell.await_firing("QueueUnreachable")
        rules = [r for group in bell.api("rules")["groups"] for r in group["rules"]]
        mine = [r for r in rules if r["name"] == "QueueUnreachable"][0]
        self.assertEqual(("alerting", "firing"), (mine["type"], mine["state"]))
        self.assertIn("count_over_time(boom[3s])", mine["query"])
        self.assertEqual(1, len(mine["alerts"]))
        for path in ("sources", "sinks"):
            self.assertIn({"sources": "app", "sinks": "ops"}[path], str(bell.api(path)))
        self.assertNotIn(slack.hook().rsplit("/", 1)[1], str(bell.api("sinks")) + bell.said(), "secrets are never shown")
        self.assertEqual(404, bell.get("/no-such-path")[0])
        self.assertEqual(200, bell.get("/-/healthy")[0])

    def test_standard_input_ends_cleanly_with_its_end(self):
        import json
        import os
        out = self.path("alerts.jsonl")
        config = configuration("unused", {"boom": BOOM}, [RULE], {"record": harness.file_sink(out)})
        config["sources"] = [{"name": "app", "stdin": True}]
        bell = self.bell(config, start=False)
        read, write = os.pipe()
        bell.stdin = read
        bell.start()
        os.close(read)
        os.write(write, "".join(f"{harness.now_text()} ERROR boom on orders\n" for _ in range(3)).encode())
        os.write(write, f"{harness.now_text()} the last line has no end".encode())
        os.close(write)
        self.assertEqual(0, bell.process.wait())
        self.assertIn("QueueUnreachable", json.dumps(harness.json_lines(out)))


if __name__ == "__main__":
    harness.main()
