#!/usr/bin/env python3
"""F24: more log files, or connections, than the process may have descriptors. It goes on, and says what it does not read."""
import os
import threading

import harness
from harness import Case, configuration, rule, wait_for


class Few(harness.Logbell):
    """`descriptors`: as prlimit takes them, soft and hard."""

    descriptors = "64"

    def start(self, ready=True, deadline=None):
        self.close()
        self.process = harness.Process(["prlimit", f"--nofile={self.descriptors}", harness.binary(), "run", "--config", self.path, *self.args],
                                       self.output, self.env)
        if ready:
            self.await_ready(deadline)
        return self

    def open(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu(self):
        """Seconds."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class DescriptorsTest(Case):
    def follow(self, files, descriptors, *more):
        os.makedirs(self.path("log"), exist_ok=True)
        for i in range(files):
            self.write(f"app{i}.log", "INFO started")
        self.hook = self.receiver()
        config = configuration(self.path("log", "*.log"), {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}},
                               [rule("Boom", "sum by (queue) (count_over_time(boom[1h])) >= 1")],
                               {"hook": harness.webhook(self.hook.url)},
                               route={"sinks": ["hook"], "group_by": ["alertname", "queue"], "group_interval": "1s"})
        config["sources"] += more
        bell = self.closing(Few(self.directory, config))
        self.bells.append(bell)
        bell.descriptors = descriptors
        return bell.start()

    def write(self, name, line):
        with open(self.path("log", name), "a") as file:
            file.write(f"{harness.now_text()} {line}\n")

    def followed(self, bell):
        return [os.path.basename(stream["path"]) for source in bell.api("sources")["sources"] for stream in source["streams"] if stream["readable"]]

    def waiting(self, bell):
        return bell.metric("logbell_source_open_errors_total", reason="too_many_files")

    def answers(self, bell):
        for path in ("/-/healthy", "/-/ready", "/metrics"):
            self.assertEqual(200, bell.get(path, timeout=2)[0], path)

    def rests(self, bell, seconds=2):
        """Hardly computes: with an accept that fails again and again it would take all of a core."""
        before = bell.cpu()
        harness.stays(lambda: True, "the time", seconds)
        self.assertLess(bell.cpu() - before, 0.4 * seconds, "it spins")

    def is_told(self, bell, name):
        self.write(name, f"ERROR boom on {name}")
        wait_for(lambda: self.hook.alerts("firing", queue=name), f"message about {name}", context=bell.tail)

    def test_F24_more_files_than_descriptors(self):
        bell = self.follow(300, "256")
        followed = self.followed(bell)
        self.assertEqual(192, len(followed))
        self.assertEqual(108, self.waiting(bell))
        self.assertLessEqual(bell.open(), 192 + 40)
        # Whoever looks is told of those that are not read, and how to mend it.
        ready = bell.get("/-/ready")[1]
        self.assertIn("source app cannot read all that it names", ready)
        self.assertIn("192 files are open already; more need a higher limit (LimitNOFILE=", ready)
        self.is_told(bell, followed[-1])
        self.answers(bell)
        self.rests(bell)
        status, said = bell.reload()
        self.assertEqual(200, status, said)
        # What waits is read from its beginning once there is room.
        left = sorted({f"app{i}.log" for i in range(300)} - set(followed))
        self.write(left[0], f"ERROR boom on {left[0]}")
        for name in followed[:120]:
            os.remove(self.path("log", name))
        wait_for(lambda: self.hook.alerts("firing", queue=left[0]), "message about what had waited", 60, bell.tail)
        bell.await_metric(302, "logbell_source_lines_total", 60)
        wait_for(lambda: "cannot read" not in bell.get("/-/ready")[1], "readiness without a word", context=bell.tail)
        self.assertNotIn("Too many open files", bell.said())
        self.assertEqual(0, bell.stop())

    def test_F24_far_more_files_and_clients_than_descriptors(self):
        bell = self.follow(500, "64")
        followed = self.followed(bell)
        self.assertEqual(16, len(followed))
        self.is_told(bell, followed[0])
        # Clients that never go: more than there are descriptors.
        clients = [self.closing(harness.slow_client(bell.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")) for _ in range(60)]
        stop = threading.Event()

        def drip():
            while not stop.wait(0.5):
                for client in clients:
                    try:
                        client.send(b"a")
                    except OSError:
                        pass
        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        self.addCleanup(dripping.join)
        self.addCleanup(stop.set)
        for _ in range(3):
            self.answers(bell)
        self.rests(bell)
        self.is_told(bell, followed[1])
        self.assertNotIn("Too many open files", bell.said())
        self.assertEqual(0, bell.stop())

    def test_F24_senders_leave_descriptors_for_the_rest(self):
        bell = self.follow(4, "64", {"name": "net", "syslog": {"listen": "tcp://127.0.0.1:0"}})
        port = int(next(stream["path"] for source in bell.api("sources")["sources"] for stream in source["streams"]
                        if stream["path"].startswith("tcp:")).rsplit(":", 1)[1])
        senders = [self.closing(harness.slow_client(port, b"<13>INFO sent\n")) for _ in range(60)]
        # Half of what is for logs; the others wait, which is said.
        wait_for(lambda: bell.metric("logbell_source_connections_total") == 8, "connections", context=bell.tail)
        wait_for(lambda: bell.metric("logbell_source_connections_refused_total", reason="no_descriptor") > 0, "count", context=bell.tail)
        wait_for(lambda: "A connection waits: 8 are open" in bell.said(), "word of it", context=bell.tail)
        self.is_told(bell, "app1.log")
        self.is_told(bell, "new.log")
        self.answers(bell)
        self.rests(bell)
        for sender in senders[:8]:
            sender.close()
        wait_for(lambda: bell.metric("logbell_source_connections_total") == 16, "those that waited", context=bell.tail)
        self.assertNotIn("Too many open files", bell.said())
        self.assertEqual(0, bell.stop())

    def test_F24_the_soft_limit_is_raised(self):
        bell = self.follow(300, "256:1024")
        self.assertEqual(300, len(self.followed(bell)))
        self.assertEqual(0, self.waiting(bell))
        self.assertEqual(1024, bell.metric("process_max_fds"))
        self.is_told(bell, "app299.log")
        self.assertEqual(0, bell.stop())


if __name__ == "__main__":
    harness.main()
