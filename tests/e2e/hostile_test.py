#!/usr/bin/env python3
"""F33, F34: input that is made to exhaust memory. It is cut, counted and said; the process stays below a hard limit."""
import os
import sys

import harness
from harness import Case, configuration, rule, wait_for

MIB = 1024 * 1024
USERS = int(os.environ.get("LOGBELL_E2E_USERS", "100000"))  # a million take an unoptimised build most of a minute
KEYS = int(os.environ.get("LOGBELL_E2E_KEYS", "150000"))
KEPT_KEYS = 100_000  # KeyedWindow::kMaxKeys


class Capped(harness.Logbell):
    """With a hard limit on its data: an allocation beyond it fails, and std::bad_alloc ends the process."""

    limit = 512 * MIB

    def start(self, ready=True, deadline=None):
        self.close()
        # One arena: what the limit counts is what is reserved, and each other would reserve 64 MiB.
        env = {**self.env, "MALLOC_ARENA_MAX": "1"}
        self.process = harness.Process(["prlimit", f"--data={self.limit}", harness.binary(), "run", "--config", self.path, *self.args],
                                       self.output, env)
        if ready:
            self.await_ready(deadline)
        return self

    def peak(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024


class HostileTest(Case):
    def capped(self, patterns, rules, limit=512 * MIB):
        self.app, self.receiver = self.log(), self.receiver()
        bell = self.closing(Capped(self.directory, configuration(
            self.app.path, patterns, rules, {"hook": harness.webhook(self.receiver.url)},
            route={"sinks": ["hook"], "group_by": ["alertname"], "group_interval": "1s"})))
        self.bells.append(bell)
        bell.limit = limit
        return bell.start()

    def test_F34_more_users_than_series(self):
        bell = self.capped({"login": {"match": r"login user=(?P<user>\w+)", "labels": ["user"]}},
                           [rule("Busy", f"sum by (user) (count_over_time(login[6h])) > {USERS * 9 // 10}")])
        now = harness.now_text()
        for first in range(0, USERS, 10_000):
            self.app.raw("".join(f"{now} login user=u{first + i}\n" for i in range(10_000)))
        bell.await_metric(USERS, "logbell_pattern_matches_total", 90, pattern="login")
        # A thousand have a series of their own, all others share one; and that one can ring.
        series = bell.metrics().all("logbell_pattern_matches_total", pattern="login")
        self.assertEqual(1001, len(series))
        self.assertEqual(USERS - 1000, bell.metric("logbell_pattern_matches_total", pattern="login", user="__other__"))
        self.assertGreaterEqual(bell.metric("logbell_series_dropped_total", pattern="login"), USERS - 1000)
        self.assertEqual(["__other__"], [a["labels"]["user"] for a in bell.await_firing("Busy", 60)])
        self.assertEqual(["login"], [a["labels"]["pattern"] for a in bell.await_firing("SeriesOverflow")])
        for name in ("Busy", "SeriesOverflow"):
            wait_for(lambda name=name: [a for a in self.receiver.alerts("firing") if a["labels"]["alertname"] == name], f"{name} told", context=bell.tail)
        self.assertLess(bell.peak(), 128 * MIB)
        self.assertEqual(200, bell.get("/-/healthy")[0])
        bell.kill()
        bell.start()
        bell.await_metric(USERS, "logbell_pattern_matches_total", pattern="login")
        self.assertEqual(0, bell.stop())

    def test_F34_more_keys_than_are_kept(self):
        bell = self.capped({"asked": {"match": r"asked id=(?P<id>\w+)"}, "answered": {"match": r"answered id=(?P<id>\w+)"}},
                           [rule("Unanswered", 'unanswered_over_time("id", asked, answered[5s]) > 0')])

        def health():
            return [one["health"] for group in bell.api("rules")["groups"] for one in group["rules"]]

        def told(name="Unanswered", status="firing", **labels):
            return self.receiver.alerts(status, alertname=name, **labels)

        # It is right before: who is answered does not ring, who is not does.
        self.app.write("asked id=fine", "answered id=fine", "asked id=alone")
        wait_for(lambda: told(id="alone"), "the first told", context=bell.tail)
        self.assertEqual(["ok"], health())
        # Answers to what nobody asked, and one that counts and is not kept: for ten seconds the rule cannot know.
        now = harness.now_text()
        for first in range(0, KEYS, 10_000):
            self.app.raw("".join(f"{now} answered id=k{first + i}\n" for i in range(10_000)))
        self.app.write("asked id=lost", "answered id=lost")
        wait_for(lambda: health() == ["unknown"], "the rule unknown", 60, bell.tail)
        wait_for(lambda: told("SeriesOverflow", pattern="answered", key="id"), "SeriesOverflow told", 60, bell.tail)
        bell.await_metric(KEYS + 2, "logbell_pattern_matches_total", 60, pattern="answered")
        # There was room for so many; the first may have left by then.
        self.assertIn(KEYS + 2 - KEPT_KEYS - bell.metric("logbell_keys_dropped_total", pattern="answered"), (0, 1))
        self.assertEqual(0, bell.metric("logbell_keys_dropped_total", pattern="asked"))
        self.assertLess(bell.peak(), 160 * MIB)
        # It is over when the keys have left, and was never wrong.
        wait_for(lambda: told("SeriesOverflow", "resolved", pattern="answered"), "its end told", context=bell.tail)
        wait_for(lambda: health() == ["ok"], "the rule known again", context=bell.tail)
        self.app.write("asked id=again", "answered id=again", "asked id=ignored")
        wait_for(lambda: told(id="ignored"), "the last told", context=bell.tail)
        self.assertEqual({"alone", "ignored"}, {alert["labels"]["id"] for alert in told()})
        self.assertEqual(0, bell.stop())

    def test_F33_hostile_input_below_a_hard_limit(self):
        bell = self.capped({"boom": {"match": r"ERROR boom (?P<id>\S+)", "labels": ["id"]}, "any": {"match": "x"}},
                           [rule("Boom", "sum(count_over_time(boom[6h])) >= 1")], 384 * MIB)
        self.app.raw(b"x" * (64 * MIB))  # a line that does not end
        self.app.raw(b"\n" + b"\0" * (16 * MIB) + b"\n")
        for _ in range(16):
            self.app.raw((b"y" * MIB + b"\n") * 4)  # lines far beyond the bound
        for i in range(24):  # label values as long as they can be, each another one
            self.app.raw(b"".join(b"ERROR boom %d-" % (i * 50 + j) + b"z" * 30_000 + b"\n" for j in range(50)))
        self.app.raw(bytes(range(256)) * 4096 + b"\n")
        self.app.write("ERROR boom last")
        bell.await_firing("Boom", 90)
        bell.await_metric(1201, "logbell_pattern_matches_total", 60, pattern="boom")
        metrics = bell.metrics()
        self.assertGreaterEqual(metrics.get("logbell_source_lines_truncated_total"), 65)
        self.assertGreaterEqual(metrics.get("logbell_source_nul_bytes_skipped_total"), 16 * MIB)
        self.assertGreater(metrics.get("logbell_series_dropped_total", pattern="boom"), 0)
        self.assertLess(bell.peak(), 256 * MIB)
        self.assertEqual(200, bell.get("/-/healthy")[0])
        self.app.write("ERROR boom once-more")
        bell.await_metric(1202, "logbell_pattern_matches_total", pattern="boom")
        self.assertEqual(0, bell.stop())


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
