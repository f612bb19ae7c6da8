#!/usr/bin/env python3
"""F31: kill -9 at random instants while lines are written and the log rotates, against an oracle that counts.

Every line is counted once, every alert reaches the file and the webhook, whatever was being done at that instant. The seed is
printed; LOGBELL_E2E_SEED repeats it, LOGBELL_E2E_KILLS makes it longer; tests/e2e/kill_loop does as many as wanted.
"""
import collections
import contextlib
import glob
import json
import os
import random
import sqlite3
import threading
import time

import harness
from harness import Case, configuration, rule, wait_for

KILLS = int(os.environ.get("LOGBELL_E2E_KILLS", "50"))
SEED = int(os.environ.get("LOGBELL_E2E_SEED", str(random.SystemRandom().randrange(10**9))))
MAX_BOOMS = 600  # below the bound of series a pattern
PAUSE = float(os.environ.get("LOGBELL_E2E_PAUSE", "0.03"))  # of the application between two writes, at most
KEPT = 6  # rotated files: more than are made while nobody reads, and fewer than in all: the oldest go
RESTART = float(os.environ.get("LOGBELL_E2E_RESTART", "2"))  # seconds until half of the restarts are ready, on a busy machine


class Writer(threading.Thread):
    """Writes as an application does, and remembers what it wrote: that is the oracle."""

    def __init__(self, log, seed):
        super().__init__(daemon=True)
        self.log, self.random = log, random.Random(seed)
        self.stop, self.rotate = threading.Event(), threading.Event()
        self.ticks = self.lines = 0
        self.colours = {"red": 0, "green": 0, "blue": 0}
        self.booms = []
        self.rotations = 0

    def run(self):
        while not self.stop.is_set():
            out = []
            for _ in range(self.random.randrange(1, 30)):
                self.ticks += 1
                colour = self.random.choice(list(self.colours))
                self.colours[colour] += 1
                out.append(f"tick n={self.ticks} colour={colour}")
                if self.random.random() < 0.02:
                    out.append("INFO " + "x" * self.random.randrange(20_000))  # matches nothing
                if self.random.random() < 0.01 and len(self.booms) < MAX_BOOMS:
                    self.booms.append(f"b{len(self.booms)}")
                    out.append(f"ERROR boom id={self.booms[-1]}")
            self.lines += len(out)
            text = "".join(f"{harness.now_text()} {line}\n" for line in out)
            cut = self.random.randrange(len(text))  # a write may end anywhere in a line
            self.log.raw(text[:cut])
            if self.rotate.is_set():  # within a line, too: the rest of it still goes to the old file
                self.rotate.clear()
                self.rotations += 1
                self.log.rename()
                self.log.raw(text[cut:])
                self.stop.wait(self.random.random() * 0.1)
                self.log.reopen()
                with contextlib.suppress(FileNotFoundError):
                    os.remove(f"{self.log.path}.{self.rotations - KEPT}")
            else:
                self.log.raw(text[cut:])
            self.stop.wait(self.random.random() * PAUSE)


class KillTest(Case):
    def told(self, out, receiver):
        """By sink: how often each alert was told that it fires; and how often each delivery came."""
        booms, deliveries = {}, {}
        messages = [line["notification"] for line in harness.json_lines(out)]
        for sink, bodies in (("record", messages), ("hook", receiver.bodies())):
            deliveries[sink] = collections.Counter(body["deliveryKey"] for body in bodies)
            booms[sink] = collections.Counter(alert["labels"]["id"] for body in bodies for alert in body["alerts"]
                                              if alert["labels"]["alertname"] == "Boom" and alert["status"] == "firing")
        return booms, deliveries

    def test_F31_every_line_is_counted_once_and_no_alert_is_lost(self):
        print(f"LOGBELL_E2E_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        log, out, receiver = self.log(), self.path("alerts.jsonl"), self.receiver()
        bell = self.bell(configuration(
            log.path,
            {"tick": {"match": r"tick n=\d+ colour=(?P<colour>\w+)$", "labels": ["colour"]},
             "boom": {"match": r"ERROR boom id=(?P<id>\w+)$", "labels": ["id"]}},
            [rule("Boom", "sum by (id) (count_over_time(boom[6h])) >= 1"),
             rule("Total", "sum(count_over_time(tick[6h])) >= 1")],
            {"record": harness.file_sink(out), "hook": harness.webhook(receiver.url)},
            route={"sinks": ["record", "hook"], "group_by": ["..."], "group_interval": "1s"}))
        writer = Writer(log, SEED + 1)
        writer.start()
        restarts = []
        try:
            for kill in range(KILLS):
                time.sleep(0.005 + chance.random() ** 2 * 0.495)  # the instant itself is what is random
                if kill % 5 == 2:
                    writer.rotate.set()
                bell.kill()
                if kill % 10 == 7:
                    writer.rotate.set()  # while nobody watches
                    wait_for(lambda: not writer.rotate.is_set(), "rotation")
                began = time.monotonic()
                bell.start(ready=chance.random() < 0.7)  # sometimes it is killed before it is ready
                if bell.process and chance.random() < 0.7:
                    bell.await_ready()
                    restarts.append(time.monotonic() - began)
        finally:
            writer.stop.set()
            writer.join()
        bell.await_ready()
        wanted = {"lines": writer.lines, "ticks": writer.ticks, "booms": len(writer.booms), **writer.colours, "bytes_lost": 0, "gaps": 0}

        def counted():  # all at once: what is missing together tells why
            metrics = bell.metrics()
            return harness.equal(wanted, {
                "lines": metrics.get("logbell_source_lines_total", source="app"), "ticks": metrics.get("logbell_pattern_matches_total", pattern="tick"),
                "booms": metrics.get("logbell_pattern_matches_total", pattern="boom"),
                **{colour: metrics.get("logbell_pattern_matches_total", pattern="tick", colour=colour) for colour in writer.colours},
                "bytes_lost": metrics.get("logbell_source_bytes_lost_total"),
                "gaps": metrics.get("logbell_source_gaps_total")})
        def context():
            gaps = [line for line in bell.get("/metrics")[1].splitlines() if line.startswith("logbell_source_gaps_total")]
            return "\n".join([*gaps, bell.tail()])
        wait_for(counted, "every line counted once", 60, context)
        wait_for(lambda: harness.equal(writer.ticks, float(bell.firing("Total")[0]["value"])), "window that holds each of them once", context=bell.tail)
        wait_for(lambda: len(bell.firing("Boom")) == len(writer.booms), "every alert firing", context=bell.tail)
        bell.await_metric(0, "logbell_outbox_pending")
        self.assertEqual(0, bell.stop())
        told, deliveries = self.told(out, receiver)
        repeated = {sink: sum(keys.values()) - len(keys) for sink, keys in deliveries.items()}
        summary = {"kills": KILLS, "rotations": writer.rotations, "lines": writer.lines, "alerts": len(writer.booms), "repeated": repeated,
                   "repeated_most": max(max(keys.values()) - 1 for keys in deliveries.values()),
                   "restart_slowest": round(max(restarts), 3), "restart_median": round(sorted(restarts)[len(restarts) // 2], 3)}
        print(json.dumps(summary), flush=True)
        for sink, booms in told.items():
            self.assertEqual([], [boom for boom in writer.booms if boom not in booms], f"alerts that were lost for {sink}")
            self.assertLessEqual(sum(booms.values()) - len(booms), repeated[sink], f"{sink}: told again under another key")
            self.assertLessEqual(repeated[sink], KILLS, "at most the delivery in flight is repeated")
        with contextlib.closing(sqlite3.connect(self.path("state", "logbell", "state.db"))) as db:
            self.assertEqual([("ok",)], db.execute("PRAGMA quick_check").fetchall())
        self.assertEqual([], glob.glob(self.path("state", "logbell", "*corrupt*")))
        self.assertLess(sorted(restarts)[len(restarts) // 2], RESTART, "a restart does not read everything again")
        self.assertLess(max(restarts), 5 * RESTART)

    def test_F31_who_was_ready_knows_his_files_though_he_is_killed_at_once(self):
        log = self.log()
        bell = self.bell(configuration(log.path, {"tick": {"match": "tick"}}, [rule("Total", "count_over_time(tick[6h]) >= 1")],
                                       {"record": harness.file_sink(self.path("alerts.jsonl"))}))
        bell.kill()
        log.write(*["tick"] * 50)
        log.rename()
        log.reopen()
        log.write("tick")
        bell.start()
        bell.await_metric(51, "logbell_source_lines_total", source="app")


if __name__ == "__main__":
    harness.main()
