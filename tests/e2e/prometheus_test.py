#!/usr/bin/env python3
"""Debian's Prometheus scrapes it, whatever the log says."""
import subprocess

import harness
from harness import Case, configuration, rule, wait_for


class PrometheusTest(Case):
    def test_it_is_scraped_and_stays_so(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(configuration(log.path, {"boom": {"match": r"ERROR boom on (?P<queue>.+)$", "labels": ["queue"]}},
                                       [rule("Boom", "sum(count_over_time(boom[1h])) >= 2")], {"ops": harness.slack(slack.hook())}))
        prometheus = self.closing(harness.Prometheus(self.path("prometheus"), [f"127.0.0.1:{bell.port}"]))
        wait_for(lambda: prometheus.query("up")[0][1] == 1, "up == 1", context=bell.tail)
        log.write("ERROR boom on orders", "ERROR boom on orders")
        wait_for(lambda: [v for _, v in prometheus.query('logbell_pattern_matches_total{pattern="boom",queue="orders"}')] == [2], "the count",
                 context=bell.tail)
        wait_for(lambda: [v for _, v in prometheus.query('logbell_alerts{alertname="Boom",alertstate="firing"}')] == [1], "the firing alert")
        hostile = ['a"b', "a\\", 'x"} 1', "a{b=\"c\"} 2", "# EOF", "日本", "\x1b[31m", "x" * 500]
        log.write(*[f"ERROR boom on {value}" for value in hostile])
        log.raw(b"ERROR boom on \xff\xfe\n")

        def seen():
            found = {m["queue"] for m, _ in prometheus.query('logbell_pattern_matches_total{pattern="boom"}')}
            return len(found) == len(hostile) + 2 and found >= {harness.cleaned(value) for value in hostile[:-1]}
        wait_for(seen, "a series for each hostile value", context=lambda: str(prometheus.targets()))
        self.assertEqual([1], [v for _, v in prometheus.query("min_over_time(up[1m])")])
        self.assertEqual(["up"], [t["health"] for t in prometheus.targets()], prometheus.targets())
        self.assertEqual([], [m for m, _ in prometheus.query('{__name__=~"logbell_.*",__name__=~".*[^a-zA-Z0-9_:].*"}')])

    def test_a_restart_is_no_reset(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(configuration(log.path, {"boom": {"match": "ERROR boom"}}, [rule("Boom", "count_over_time(boom[1h]) >= 1000")],
                                       {"ops": harness.slack(slack.hook())}))
        prometheus = self.closing(harness.Prometheus(self.path("prometheus"), [f"127.0.0.1:{bell.port}"]))
        log.write(*["ERROR boom"] * 5)
        count = 'logbell_pattern_matches_total{pattern="boom"}'
        wait_for(lambda: prometheus.query(count)[0][1] == 5, "5", context=bell.tail)
        bell.kill()
        log.write(*["ERROR boom"] * 2)
        bell.restart()
        wait_for(lambda: prometheus.query(count)[0][1] == 7, "7", context=bell.tail)
        self.assertEqual([0], [v for _, v in prometheus.query(f"resets({count}[5m])")])

    def test_exported_rules_fire_there(self):
        log, slack = self.log(), self.slack()
        patterns = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)$", "labels": ["queue"]},
                    "took": {"match": r"took (?P<took>\d+)$", "value": "took", "metric": {"name": "took_ms", "type": "histogram", "buckets": [10, 100]}}}
        bell = self.bell(configuration(log.path, patterns,
                                       [rule("Boom", "sum by (queue) (count_over_time(boom[10s])) >= 3"),
                                        rule("Slow", "quantile_over_time(0.5, took[10s]) > 10"),
                                        rule("Least", "min_over_time(took[10s]) > 10")], {"ops": harness.slack(slack.hook())}))
        done = subprocess.run([harness.binary(), "export", "prometheus", "--scrape-interval", "1s", "--selector", "job=logbell", bell.path],
                              env=bell.env, capture_output=True, text=True, timeout=60)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn('rule "Least": not exported: the values of pattern "took"', done.stderr)
        prometheus = self.closing(harness.Prometheus(self.path("prometheus"), [f"127.0.0.1:{bell.port}"], done.stdout))
        wait_for(lambda: prometheus.query("up offset 10s")[0][1] == 1, "ten seconds of scrapes", 40, context=bell.tail)
        self.assertEqual([], prometheus.query("ALERTS"))
        log.write(*["ERROR boom on orders"] * 3, "ERROR boom on mail", "took 50", "took 70")

        def firing():
            return {(m["alertname"], m.get("queue")) for m, v in prometheus.query('ALERTS{alertstate="firing"}')}
        wait_for(lambda: harness.equal({("Boom", "orders"), ("Slow", None)}, firing()), "both alerts", 30)
        wait_for(lambda: harness.equal(set(), firing()), "their end", 40)


if __name__ == "__main__":
    harness.main()
