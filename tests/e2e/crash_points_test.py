#!/usr/bin/env python3
"""F31: the process dies at every point of engine/io/fault.h, and the next one loses nothing and doubles nothing.

A run is one point, the pass at which it kills (1st, 2nd, 3rd) and one kind of sink: a log with a known history (lines, alerts
that fire and resolve, rotations, reloads, a stop), written on whether or not somebody reads. The armed process dies by SIGKILL,
an unarmed one goes on at once. Then the counters are those of the lines, every alert and its end were told, what was in flight
once more at most and under the same key, and SQLite finds nothing wrong.

Without arguments every point once, its pass and its sink drawn from LOGBELL_E2E_SEED; --all: every point x pass x sink.
LOGBELL_CRASH_JOBS says how many runs go on at once: they wait more than they work.
"""
import concurrent.futures
import contextlib
import datetime
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import unittest

import harness
from harness import configuration, rule, wait_for

SEED = int(os.environ.get("LOGBELL_E2E_SEED", str(random.SystemRandom().randrange(10**9))))
JOBS = int(os.environ.get("LOGBELL_CRASH_JOBS", "8"))
ALL = "--all" in sys.argv
PASSES = (1, 2, 3)
RESTART = float(os.environ.get("LOGBELL_E2E_RESTART", "2"))  # seconds until a restart is ready


def points():
    """(name, passed once in a life) of every row of the table."""
    with open(os.path.join(harness.ROOT, "engine", "io", "fault.h")) as file:
        table = re.search(r"kFaultPoints\{(.*?)\n\};", file.read(), re.S)[1]
    return [(name, bool(once)) for name, once in re.findall(r'FaultPoint\{"([^"]+)"(, FaultPoint::Passed::kOnce)?\}', table)]


# --- what was told, by kind of sink: (key, queue, "firing" or "resolved") in order ------------------------------------------

class Webhook:
    def __init__(self, _):
        self.receiver = harness.Receiver()
        self.config = harness.webhook(self.receiver.url + "/in")

    def told(self):
        with self.receiver.lock:
            received = list(self.receiver.received)
        return [(headers["idempotency-key"], alert["labels"].get("queue"), alert["status"])
                for _, _, headers, body in received for alert in json.loads(body)["alerts"]]

    def close(self):
        self.receiver.close()


class Alertmanager:
    """Of its v2 API what the sink uses: POST /api/v2/alerts. An alert is known by its labels and its start."""

    def __init__(self, _):
        self.receiver = harness.Receiver()
        self.config = harness.alertmanager(self.receiver.url)

    def told(self):
        with self.receiver.lock:
            received = list(self.receiver.received)
        return [(json.dumps(alert["labels"], sort_keys=True) + alert["startsAt"], alert["labels"].get("queue"), self.status(alert))
                for _, path, _, body in received if path == "/api/v2/alerts" for alert in json.loads(body)]

    @staticmethod
    def status(alert):
        """What still fires ends minutes ahead."""
        starts, ends = (datetime.datetime.fromisoformat(alert[name].replace("Z", "+00:00")) for name in ("startsAt", "endsAt"))
        return "firing" if ends - starts > datetime.timedelta(minutes=1) else "resolved"

    def close(self):
        self.receiver.close()


class Slack:
    def __init__(self, _):
        self.server = harness.SlackServer(burst=100, rate=100.0).start()
        self.config = harness.slack(self.server.hook())

    def told(self):
        told = []
        for message in self.server.messages():
            text = message["rendered"]
            key, queue = re.search(r"delivery ([0-9a-f]{16})", text), re.search(r"queue=(\w+)", text)
            told.append((key and key[1], queue and queue[1], "resolved" if "Resolved" in text else "firing"))
        return told

    def close(self):
        self.server.close()


class File:
    def __init__(self, directory):
        self.path = os.path.join(directory, "told.jsonl")
        self.config = harness.file_sink(self.path)

    def told(self):
        return [(line["notification"]["deliveryKey"], alert["labels"].get("queue"), alert["status"])
                for line in harness.json_lines(self.path) for alert in line["notification"]["alerts"]]

    def close(self):
        pass


SINKS = {"slack": Slack, "webhook": Webhook, "alertmanager": Alertmanager, "file": File}


# While these are passed nothing is in flight: it is not sent yet, or what became of it is written down.
NOTHING_IN_FLIGHT = ("store.create.unnamed", "lane.before_mark", "lane.before_send", "lane.settled", "runtime.started", "runtime.stop.drained")
numbers = itertools.count(1)


class Died(Exception):
    pass


class Bell(harness.Logbell):
    """On a loopback address of its own: nobody takes its port while it is dead."""

    def __init__(self, directory, config):
        number = next(numbers)
        self.address = f"127.{os.getpid() % 250 + 1}.{number // 250 + 1}.{number % 250 + 1}:9733"
        super().__init__(directory, {**config, "listen": self.address})

    @property
    def url(self):
        return f"http://{self.address}"


class Run:
    def __init__(self, point, once, nth, kind):
        self.point, self.once, self.nth, self.kind = point, once, nth, kind
        self.deaths, self.lines, self.ticks, self.booms = 0, 0, 0, []
        self.slowest = 0.0
        self.directory = tempfile.mkdtemp(prefix="logbell-crash-")
        os.chmod(self.directory, 0o755)

    def __str__(self):
        return f"{self.point}:{self.nth} {self.kind}"

    # The process.

    def armed(self):
        return self.deaths < (self.nth if self.once else 1)

    def start(self):
        """The next life, or the one after it if that one dies before it is ready."""
        while True:
            env = {"LOGBELL_FAULT_POINT": f"{self.point}:{1 if self.once else self.nth}"} if self.armed() else {}
            self.bell.env = {**self.env, **env}
            began = time.monotonic()
            self.bell.start(ready=False)
            try:
                self.until(lambda: self.bell.get("/-/ready")[0] == 200, "readiness")
            except Died:
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            return

    def until(self, condition, what, deadline=20):
        def look():
            if self.bell.process.code is not None:
                return True
            return condition()
        wait_for(look, f"{self}: {what}", deadline, self.context)
        if self.bell.process.code is None:
            return
        code = self.bell.process.code
        assert code == -signal.SIGKILL and self.armed(), f"{self}: ended with {code}\n{self.context()}"
        self.deaths += 1
        raise Died

    def whatever_dies(self, condition, what):
        """As until(), in the next life if there must be one."""
        while True:
            try:
                return self.until(condition, what)
            except Died:
                self.start()

    def context(self):
        return f"{self.bell.tail(30)}\ntold: {self.sink.told()}"

    # The history.

    def write(self, *lines):
        self.lines += len(lines)  # the oracle
        self.log.write(*lines)

    def tick(self, count):
        self.ticks += count
        self.write(*[f"tick n={i}" for i in range(count)])

    def boom(self, queue):
        self.booms.append(queue)
        self.write(f"ERROR boom on {queue}")

    def rotate(self):
        self.log.rename()
        self.tick(1)  # the application has not heard of it yet
        self.log.reopen()
        self.tick(1)

    def reload(self):
        def asked():
            status, text = self.bell.reload()
            assert status == 200, (status, text)
            return True
        self.whatever_dies(asked, "a reload")

    def await_told(self, queue, status):
        self.whatever_dies(lambda: any(q == queue and s == status for _, q, s in self.sink.told()), f"{status} {queue} told")

    def await_counted(self):
        def counted():
            metrics = self.bell.metrics()
            harness.equal(self.lines, metrics.get("logbell_source_lines_total"))
            harness.equal(self.ticks, metrics.get("logbell_pattern_matches_total", pattern="tick"))
            return harness.equal(len(self.booms), metrics.get("logbell_pattern_matches_total", pattern="boom"))
        self.whatever_dies(counted, "every line counted once")

    def run(self):
        self.sink = SINKS[self.kind](self.directory)
        self.log = harness.Log(os.path.join(self.directory, "log", "app.log"))
        self.config = configuration(
            self.log.path,
            {"tick": {"match": r"tick n=\d+$"}, "boom": {"match": r"ERROR boom on (?P<queue>\w+)$", "labels": ["queue"]}},
            [rule("Boom", "sum by (queue) (count_over_time(boom[400ms])) >= 1")],
            {"ops": self.sink.config}, route={"sinks": ["ops"], "group_by": ["..."], "group_interval": "1s"})
        self.bell = Bell(self.directory, self.config)
        self.env = dict(self.bell.env)
        try:
            self.happen()
            self.judge()
        finally:
            self.bell.close()
            self.log.close()
            self.sink.close()
            if not os.environ.get("LOGBELL_E2E_KEEP"):
                shutil.rmtree(self.directory, ignore_errors=True)

    def happen(self):
        self.tick(5)
        self.start()
        for queue in ("a", "b"):
            self.boom(queue)
            self.await_told(queue, "firing")
            self.rotate()
            self.reload()
            self.await_told(queue, "resolved")
        self.rotate()
        self.reload()
        self.await_counted()
        if self.point == "reader.rotation.before_let_go":  # seconds after a rotation
            self.whatever_dies(lambda: self.deaths > 0, "an old file let go")
        while True:
            self.bell.process.signal(signal.SIGTERM)
            code = self.bell.process.wait(40)
            if code == 0:
                break
            assert code == -signal.SIGKILL and self.armed(), f"{self}: the stop ended with {code}\n{self.context()}"
            self.deaths += 1
            self.start()

    def judge(self):
        assert not self.armed(), f"{self}: the point was not passed so often\n{self.context()}"
        self.start()
        self.await_counted()
        self.whatever_dies(lambda: harness.equal(0, self.bell.metric("logbell_outbox_pending", sink="ops")), "nothing waiting")
        assert self.bell.stop() == 0, self.context()
        told = [one for one in self.sink.told() if one[1] is not None]
        wanted = {(queue, status) for queue in self.booms for status in ("firing", "resolved")}
        assert wanted == {(queue, status) for _, queue, status in told}, f"{self}: {told}"
        assert len({(key, queue, status) for key, queue, status in told}) == len(wanted), f"{self}: another key for the same: {told}"
        keys = [key for key, _, _ in told]
        repeated = {key for key in keys if keys.count(key) > 1}
        if self.kind == "alertmanager":  # which forgets: it is reminded after each start of what fires
            assert len(told) - len(wanted) <= 2 * self.deaths, f"{self}: more than what was in flight was repeated: {told}"
        else:
            most = 0 if self.point in NOTHING_IN_FLIGHT else self.deaths
            assert len(told) - len(wanted) <= most, f"{self}: more than what was in flight was repeated: {told}"
            said = self.bell.said()
            for key in repeated:
                assert re.search(rf"delivery={key} .*maybe_sent=true", said), f"{self}: repeated without saying so: {told}\n{self.context()}"
        for queue in self.booms:
            order = [status for _, q, status in told if q == queue]
            assert order == sorted(order), f"{self}: firing after its end: {told}"
        with contextlib.closing(sqlite3.connect(os.path.join(self.directory, "state", "logbell", "state.db"))) as db:
            assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)], f"{self}: the state file is damaged"
        assert self.slowest < RESTART, f"{self}: a start took {self.slowest:.2f} s"


def chosen():
    chance = random.Random(SEED)
    rows = [(name, once, nth, kind) for name, once in points() for nth in PASSES for kind in SINKS]
    if ALL:
        return rows
    picked = []
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        picked.append(chance.choice(list(group)))
    return picked


class CrashPointsTest(unittest.TestCase):
    def test_F31_nothing_is_lost_or_doubled_wherever_it_dies(self):
        print(f"LOGBELL_E2E_SEED={SEED}", flush=True)
        rows = chosen()
        self.assertGreaterEqual({row[0] for row in rows}, {name for name, _ in points()})
        began, failures, slowest = time.monotonic(), [], 0.0

        def one(row):
            run = Run(*row)
            run.run()
            return run
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for future in concurrent.futures.as_completed([pool.submit(one, row) for row in rows]):
                try:
                    slowest = max(slowest, future.result().slowest)
                except AssertionError as wrong:
                    failures.append(str(wrong))
        print(f"{len(rows)} runs in {time.monotonic() - began:.1f} s; slowest start {slowest:.2f} s", flush=True)
        self.assertEqual([], failures, f"{len(failures)} of {len(rows)} runs:\n" + "\n\n".join(failures[:8]))


if __name__ == "__main__":
    sys.argv = [arg for arg in sys.argv if arg != "--all"]
    harness.main()
