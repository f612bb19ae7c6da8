#!/usr/bin/env python3
"""F31, F33, F36, F37: the n-th write, fsync, open or malloc of the real binary fails, for n = 1, 2, 3 … until none does.

tests/support/failing_calls.cc is preloaded and fails one call on a file below the state directory (or one malloc, of those after
the start), or kills the process there: so it also dies within a checkpoint and between two writes of one commit. What it leaves is
judged by the next, whole life: the state file is sound, every line is counted once, every alert and its end were told.

Without arguments every fsync and open, and of the writes and mallocs a sample drawn by LOGBELL_E2E_SEED; --all: every write, every
malloc of the stop, and of the others 320. One argument that begins with F: the tests of that fault.
"""
import concurrent.futures
import contextlib
import errno
import glob
import json
import mmap
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import unittest

import harness
from crash_points_test import Bell, File, Webhook
from harness import configuration, rule, wait_for

SEED = int(os.environ.get("LOGBELL_E2E_SEED", str(random.SystemRandom().randrange(10**9))))
JOBS = int(os.environ.get("LOGBELL_CRASH_JOBS", "6"))
ALL = "--all" in sys.argv
LIBRARY = os.environ.get("LOGBELL_FAILING_CALLS_LIBRARY") or os.path.join(
    os.path.dirname(harness.binary()), "..", "..", "tests", "support", "libfailing_calls.so")
KINDS = {"write": 1, "fsync": 2, "open": 3, "malloc": 4}
LAYOUT = "=IIiIQQ480s"  # Control of failing_calls.cc


class Control:
    def __init__(self, path, kind, at, error, under):
        with open(path, "wb") as file:
            file.write(struct.pack(LAYOUT, 0, KINDS[kind], error, 0, at, 0, under.encode()))
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 0)

    def window(self, is_open):
        self.map[0:4] = struct.pack("=I", int(is_open))

    @property
    def struck(self):
        """0: not reached; 2: it was the sync of a directory; else 1."""
        return struct.unpack("=I", self.map[12:16])[0]

    @property
    def count(self):
        return struct.unpack("=Q", self.map[24:32])[0]

    def close(self):
        self.map.close()
        self.file.close()


class Life:
    """The same short history each time: lines, an alert, its end, a stop."""

    def __init__(self, kind, at, error, sink=Webhook, ending=False):
        self.kind, self.at, self.error = kind, at, error
        self.ending = ending  # only the calls are counted that come once it was told to stop
        self.directory = tempfile.mkdtemp(prefix="logbell-failing-", dir="/dev/shm")
        self.sink = sink(self.directory)
        self.log = harness.Log(os.path.join(self.directory, "log", "app.log"))
        self.bell = Bell(self.directory, configuration(
            self.log.path, {"tick": {"match": r"tick n=\d+$"}, "boom": {"match": r"ERROR boom on (?P<queue>\w+)$", "labels": ["queue"]}},
            [rule("Boom", "sum by (queue) (count_over_time(boom[300ms])) >= 1")],
            {"ops": self.sink.config}, route={"sinks": ["ops"], "group_by": ["..."], "group_interval": "1s"}))
        self.control = Control(os.path.join(self.directory, "control"), kind, at, error, os.path.join(self.directory, "state"))
        self.env = dict(self.bell.env)
        self.code = None
        self.in_time = 0  # what was struck before it was told to stop
        self.lines = 0

    def __str__(self):
        return f"{self.kind} {self.at} {errno.errorcode.get(self.error, 'kill')}{' while it stops' if self.ending else ''}"

    def dead(self):
        self.code = self.bell.process.code
        return self.code is not None

    def until(self, condition, what):
        wait_for(lambda: self.dead() or condition(), f"{self}: {what}", 20, self.context)

    def context(self):
        return f"{self.bell.tail(20)}\ntold: {self.sink.told()}"

    def write(self, *lines):
        self.lines += len(lines)
        self.log.write(*lines)

    def told(self, status):
        return any(queue == "a" and seen == status for _, queue, seen in self.sink.told())

    def live(self):
        """How it ended, and whether the call was reached."""
        self.write(*["tick n=1"] * 5)
        self.bell.env = {**self.env, "LD_PRELOAD": LIBRARY, "LOGBELL_FAILING_CALLS": os.path.join(self.directory, "control")}
        if self.kind != "malloc":
            self.control.window(True)
        self.bell.start(ready=False)
        self.until(lambda: self.bell.get("/-/ready")[0] == 200, "readiness")
        if self.kind == "malloc" and not self.ending:
            self.control.window(True)
        self.write("ERROR boom on a")
        self.until(lambda: self.told("firing"), "told")
        self.write(*["tick n=1"] * 2)
        self.until(lambda: self.told("resolved"), "its end told")
        self.in_time = self.control.struck
        if self.ending:
            self.control.window(True)
        if not self.dead():
            self.bell.process.signal(signal.SIGTERM)
            self.code = self.bell.process.wait(40)
        self.control.window(False)
        return self.code, self.control.struck

    def judge(self):
        self.bell.env = self.env
        began = time.monotonic()
        self.bell.start(deadline=20)
        took = time.monotonic() - began
        self.until(lambda: self.told("firing") and self.told("resolved"), "told by the next life")

        def counted():
            metrics = self.bell.metrics()
            harness.equal(self.lines, metrics.get("logbell_source_lines_total"))
            harness.equal(1, metrics.get("logbell_pattern_matches_total", pattern="boom"))
            harness.equal(0, metrics.get("logbell_outbox_pending"))
            return harness.equal(7, metrics.get("logbell_pattern_matches_total", pattern="tick"))
        self.until(counted, "every line counted once")
        assert self.bell.stop() == 0, self.context()
        assert "panic" not in self.bell.said()
        told = [one for one in self.sink.told() if one[1] == "a"]
        assert len(told) <= 3 and len({key for key, _, _ in told}) == 2, f"{self}: {told}"
        state = os.path.join(self.directory, "state", "logbell")
        assert not glob.glob(os.path.join(state, "*.corrupt-*")), f"{self}: moved aside {os.listdir(state)}"
        with contextlib.closing(sqlite3.connect(os.path.join(state, "state.db"))) as db:
            assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)], f"{self}: the state file is damaged"
        assert took < 2, f"{self}: the next start took {took:.2f} s"

    def close(self):
        self.bell.close()
        self.log.close()
        self.sink.close()
        self.control.close()
        if not os.environ.get("LOGBELL_E2E_KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)


class FailingCallsTest(unittest.TestCase):
    def life(self, kind, at, error, codes, ending=False):
        life = Life(kind, at, error, ending=ending)
        try:
            code, struck = life.live()
            assert code == 0 or struck, f"{life}: ended with {code} without reason\n{life.context()}"
            allowed = codes(life) if callable(codes) else codes
            assert not struck or code in allowed, f"{life}: ended with {code}, not {allowed}\n{life.context()}"
            said = life.bell.said()
            life.judge()
            return life.control.count, struck, code, said
        finally:
            life.close()

    def every(self, kind, error, codes, some=None, ending=False):
        """For each n until a life in which it is not reached; or for `some` of them."""
        self.assertTrue(os.path.exists(LIBRARY), LIBRARY)
        calls = self.life(kind, 0, error, (0,), ending)[0]
        self.assertGreater(calls, 3)
        ns = list(range(1, calls + 1))
        if some and len(ns) > some:
            ns = sorted(random.Random(SEED).sample(ns, some))
        failures, ends = [], {}
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for future in concurrent.futures.as_completed([pool.submit(self.life, kind, n, error, codes, ending) for n in ns]):
                try:
                    _, struck, code, said = future.result()
                    key = code if struck else "not reached"
                    ends[key] = ends.get(key, 0) + 1
                except AssertionError as wrong:
                    failures.append(str(wrong))
        print(f"LOGBELL_E2E_SEED={SEED} {kind}: {len(ns)} of about {calls} calls; ends: {ends}", flush=True)
        self.assertEqual([], failures, f"{len(failures)} of {len(ns)} lives:\n" + "\n\n".join(failures[:5]))

    def test_F36_a_write_finds_no_space(self):
        self.every("write", errno.ENOSPC, (0, 74), None if ALL else 12)

    def test_F36_a_write_fails(self):
        self.every("write", errno.EIO, (0, 74), None if ALL else 12)

    def test_F37_an_fsync_fails(self):
        # SQLite does not tell of a directory's; and once it was told to stop, what is not folded stays in the log.
        self.every("fsync", errno.EIO, lambda life: (74,) if life.in_time == 1 else (0, 74))

    def test_F36_no_descriptor_is_left_for_a_file_of_the_state(self):
        self.every("open", errno.EMFILE, (0, 74))

    def test_F31_killed_at_a_write(self):
        self.every("write", 0, (-signal.SIGKILL,), None if ALL else 12)

    def test_F33_a_piece_of_memory_is_refused(self):
        # std::bad_alloc ends the process (70 where it is the main thread that gets it); where a library bears it, it goes on.
        self.every("malloc", errno.ENOMEM, (0, 70, 74, -signal.SIGABRT), 320 if ALL else 24)

    def test_F33_a_piece_of_memory_is_refused_while_it_stops(self):
        # Whoever unwinds then must not wait for threads that nobody told to end.
        self.every("malloc", errno.ENOMEM, (0, 70, 74, -signal.SIGABRT), None if ALL else 24, ending=True)


if __name__ == "__main__":
    sys.argv = [arg for arg in sys.argv if arg != "--all"]
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
