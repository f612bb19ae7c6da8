#!/usr/bin/env python3
"""F17: the state is gone, or an older copy of it was put back. Nothing is missed that the log still holds, and nobody is paged for
what is long over."""
import os
import shutil
import signal
import time

import harness
from harness import Case, configuration, rule, stays, wait_for

PATTERNS = {"tick": {"match": r"tick n=\d+$"}, "boom": {"match": r"ERROR boom on (?P<queue>\w+)$", "labels": ["queue"]},
            "outage": {"match": "ERROR outage"}}
REPLAY = 3  # seconds: max_replay_age
LOOK = 5  # seconds: Writer::kLookEvery
DELETED = "logbell's state directory was deleted or replaced while it ran"


class StateLostTest(Case):
    def ring(self):
        self.app, self.receiver = self.log(), self.receiver()
        bell = self.bell(configuration(
            self.app.path, PATTERNS, [rule("Boom", "sum by (queue) (count_over_time(boom[300ms])) >= 1"),
                                      rule("Outage", "count_over_time(outage[6h]) >= 1")],
            {"hook": harness.webhook(self.receiver.url)}, route={"sinks": ["hook"], "group_by": ["..."], "group_interval": "1s"},
            max_replay_age=f"{REPLAY}s"))
        self.state = self.path("state", "logbell")
        return bell

    def told(self, queue, status="firing"):
        return [alert for alert in self.receiver.alerts(status) if alert["labels"].get("queue") == queue]

    def boom(self, bell, queue):
        self.app.write("tick n=1", f"ERROR boom on {queue}")
        wait_for(lambda: self.told(queue) and self.told(queue, "resolved"), f"{queue} told, and its end", context=bell.tail)

    def outlive_the_replay(self):
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > REPLAY, "age", REPLAY + 2)

    def test_F17_an_older_copy_of_the_state_is_put_back(self):
        bell = self.ring()
        self.boom(bell, "before")
        bell.await_metric(1, "logbell_pattern_matches_total", pattern="tick")
        bell.stop()
        shutil.copytree(self.state, self.path("backup"))
        bell.start()
        self.boom(bell, "forgotten")
        self.app.write("ERROR outage")
        wait_for(lambda: [a for a in self.receiver.alerts("firing") if a["labels"]["alertname"] == "Outage"], "Outage told", context=bell.tail)
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="tick")
        bell.stop()
        self.outlive_the_replay()
        shutil.rmtree(self.state)
        shutil.copytree(self.path("backup"), self.state)
        os.chmod(self.state, 0o700)
        self.app.write("ERROR boom on missed", "tick n=1")  # while nobody read, and young
        bell.start()
        # The oracle: everything is counted once, what the copy did not know too.
        bell.await_metric(3, "logbell_pattern_matches_total", pattern="tick")
        bell.await_metric(3, "logbell_pattern_matches_total", pattern="boom")
        wait_for(lambda: self.told("missed"), "what was missed", context=bell.tail)
        # What still fires is told with its real start, under the key that its sink knows; what is over is not told again.
        wait_for(lambda: len([a for a in self.receiver.alerts("firing") if a["labels"]["alertname"] == "Outage"]) == 2, "Outage, again", context=bell.tail)
        self.assertEqual(1, len({a["startsAt"] for a in self.receiver.alerts("firing") if a["labels"]["alertname"] == "Outage"}))
        stays(lambda: len(self.told("forgotten")) == 1, "one notification of what is long over", 1)
        self.assertEqual(1, len(self.told("before")))

    def test_F17_the_state_is_gone(self):
        bell = self.ring()
        self.boom(bell, "over")
        self.app.write("ERROR outage")
        wait_for(lambda: [a for a in self.receiver.alerts("firing") if a["labels"]["alertname"] == "Outage"], "Outage told", context=bell.tail)
        bell.stop()
        self.outlive_the_replay()
        for name in os.listdir(self.state):
            if name != "lock":
                os.remove(os.path.join(self.state, name))
        bell.start()
        bell.await_firing("StateLost")
        # As at a first start: of an old file what fills the windows is read again, and what still fires is told.
        bell.await_firing("Outage")
        bell.await_metric(1, "logbell_pattern_matches_total", pattern="tick")
        wait_for(lambda: [a for a in self.receiver.alerts("firing") if a["labels"]["alertname"] == "StateLost"], "StateLost told", context=bell.tail)
        stays(lambda: len(self.told("over")) == 1, "one notification of what is long over", 1)
        self.app.write("ERROR boom on after")
        wait_for(lambda: self.told("after"), "what comes after", context=bell.tail)

    def told_of(self, alertname, status="firing"):
        return [alert for alert in self.receiver.alerts(status) if alert["labels"]["alertname"] == alertname]

    def test_F17_the_state_is_deleted_while_it_runs(self):
        bell = self.ring()
        self.boom(bell, "before")
        self.app.write("ERROR outage")
        wait_for(lambda: self.told_of("Outage"), "Outage told", context=bell.tail)
        bell.await_metric(1, "logbell_pattern_matches_total", pattern="tick")
        shutil.rmtree(self.path("state"))
        # Nobody writes a line: it looks by itself, and writes everything there again.
        wait_for(lambda: DELETED in bell.get("/-/ready")[1], "readiness says it", LOOK + 5, bell.tail)
        wait_for(lambda: self.told_of("StateLost"), "StateLost told", context=bell.tail)
        self.assertTrue(self.told_of("StateLost")[0]["annotations"]["summary"].startswith(DELETED))
        self.assertEqual(200, bell.get("/-/ready")[0])
        self.assertIn("level=error", [line for line in bell.said().split("\n") if "deleted or replaced while" in line][0])
        self.boom(bell, "between")
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="tick")
        # Once more, by whoever makes it anew at once: with the next line.
        shutil.rmtree(self.state)
        os.makedirs(self.state, 0o700)
        self.boom(bell, "after")
        bell.await_metric(3, "logbell_pattern_matches_total", pattern="tick")
        bell.kill()
        self.outlive_the_replay()
        self.app.write("tick n=1", "ERROR boom on missed")
        bell.start()
        wait_for(lambda: self.told("missed"), "what was missed", context=bell.tail)
        bell.await_metric(4, "logbell_pattern_matches_total", pattern="tick")
        bell.await_metric(4, "logbell_pattern_matches_total", pattern="boom")
        stays(lambda: all(len(self.told(queue)) == 1 for queue in ("before", "between", "after")) and len(self.told_of("Outage")) == 1,
              "nothing is told twice", 1)
        bell.await_firing("StateLost")  # for an hour, over a restart

    def test_F17_another_one_took_the_state_dir_that_was_deleted(self):
        bell = self.ring()
        self.boom(bell, "before")
        os.mkdir(self.path("second"))
        second = self.closing(harness.Logbell(
            self.path("second"), bell.text.replace(f"127.0.0.1:{bell.port}", f"127.0.0.1:{harness.free_port()}")))
        self.assertNotEqual(bell.port, second.port)
        bell.process.signal(signal.SIGSTOP)  # it must not be quicker
        shutil.rmtree(self.state)
        second.start()
        bell.process.signal(signal.SIGCONT)
        self.assertEqual(74, bell.process.wait(LOOK + 10))
        self.assertIn("another logbell uses this state_dir", bell.said())
        wait_for(lambda: self.told_of("StateLost"), "StateLost told", context=bell.tail)
        self.app.write("ERROR boom on after")
        wait_for(lambda: self.told("after"), "the second tells", context=second.tail)
        stays(lambda: len(self.told("after")) == 1, "one of them tells", 1)


if __name__ == "__main__":
    harness.main()
