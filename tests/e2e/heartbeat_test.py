#!/usr/bin/env python3
"""F54: a heartbeat is sent only while whoever should hear of an alert would; a loop that hangs stops it, and after a while the process. And
what systemd is told of all that."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import harness
from harness import Case, configuration, rule, wait_for

sys.path.insert(0, os.path.join(harness.ROOT, "tests", "support"))
from heartbeat_server import HeartbeatServer  # noqa: E402

BOOM = {"boom": {"match": "ERROR boom"}}
# A loop that has not got on for so long earns nothing (kPulseStalled), and what is said is looked at each kPulseLook; and a busy machine.
WITHHELD_AFTER = 10 + 5 + 2


class HeartbeatTest(Case):
    def config(self, log, server, sinks=None, **heartbeat):
        sinks = sinks or {"ops": harness.webhook(self.receiver().url)}
        return configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=list(sinks))], sinks,
                             route={"sinks": list(sinks), "group_interval": "1s"},
                             heartbeat={"url": server.url(), "style": "healthchecks", "every": "1s", **heartbeat})

    def server(self, **options):
        return self.closing(HeartbeatServer(**options))

    def test_F54_a_loop_that_hangs_stops_it_and_then_the_process(self):
        bells = []
        # Two lives at a time: in one the reader hangs once a line matches, in the other the core at its first commit.
        for point in ("reader.matched:1:hang", "core.ticked:1:hang"):
            name = point.split(".")[0]
            log, server = self.log(name + ".log"), self.server()
            os.mkdir(self.path(name))
            bell = self.closing(harness.Logbell(self.path(name), self.config(log, server),
                                                env={"LOGBELL_FAULT_POINT": point, "LOGBELL_FAULT_STALL_MS": "20000"}))
            self.bells.append(bell)
            bells.append((bell.start(ready=False), log, server))
        (reading, log, heard), (core, _, unheard) = bells
        reading.await_ready()
        wait_for(lambda: len(heard.of("success")) >= 2, "heartbeats", context=reading.tail)
        hung = time.monotonic()
        log.write("ERROR boom")
        self.assertEqual(-signal.SIGABRT, reading.process.wait(60), reading.tail())
        self.assertGreater(time.monotonic() - hung, 15)
        self.assertLess(heard.of("success")[-1]["at"] - hung, WITHHELD_AFTER)
        self.assertEqual({"success"}, set(heard.kinds()), "nothing that it said could be relied on")
        self.assertIn("level=error loop=reader silent=2", reading.said())
        self.assertIn("The heartbeat is withheld", reading.said())
        # What never was ready has never earned one.
        self.assertEqual(-signal.SIGABRT, core.process.wait(60), core.tail())
        self.assertIn("level=error loop=core", core.said())
        self.assertEqual([], unheard.kinds())

    def test_F54_a_rule_that_reaches_nobody_any_more_is_told_with_its_reason(self):
        log, server, slack = self.log(), self.server(), self.slack()
        bell = self.bell(self.config(log, server, {"ops": harness.slack(slack.hook())}))
        wait_for(lambda: server.of("success"), "heartbeat", context=bell.tail)
        slack.revoke(slack.hook())
        log.write("ERROR boom")
        told = json.loads(wait_for(lambda: server.of("fail"), "a failure", context=bell.tail)[0]["body"])
        self.assertEqual("failing", told["status"])
        self.assertIn("rule Boom reaches nobody: its sinks are dead", told["reason"])
        self.assertEqual(bell.metric("logbell_heartbeats_total", outcome="failed"), 0)
        everything = str(server.pings) + bell.said().split("level=info", 1)[1]
        self.assertNotIn(server.check, everything)
        self.assertNotIn(slack.hook().rsplit("/", 1)[1], everything)
        slack.restore(slack.hook())
        bell.reload()
        at = len(server.kinds())
        wait_for(lambda: "success" in server.kinds()[at:], "heartbeat again", context=bell.tail)

    def test_F54_a_drill_that_does_not_arrive(self):
        log, server, slack, other = self.log(), self.server(), self.slack(), self.receiver()
        bell = self.bell(self.config(log, server, {"ops": harness.slack(slack.hook()), "other": harness.webhook(other.url)}))
        wait_for(lambda: server.of("success"), "heartbeat", context=bell.tail)
        slack.revoke(slack.hook())
        self.assertEqual(1, subprocess.run([harness.binary(), "drill", "--url", bell.url, "--wait", "30s"], capture_output=True).returncode)
        told = wait_for(lambda: server.of("fail"), "a failure", context=bell.tail)[0]
        self.assertIn("A drill of Boom did not arrive at sink ops", told["body"])

    def test_F54_the_log_is_gone(self):
        log, server = self.log(), self.server()
        os.unlink(log.path)
        bell = self.bell(self.config(log, server))
        told = wait_for(lambda: server.of("fail"), "a failure", context=bell.tail)[0]
        self.assertIn("no readable file: source app", told["body"])
        self.assertEqual([], server.of("success"))
        log.reopen()
        log.write("INFO here it is")
        wait_for(lambda: server.of("success"), "heartbeat", 30, context=bell.tail)

    def test_it_says_when_it_is_asked_to_stop_and_nothing_when_it_is_killed(self):
        log, server = self.log(), self.server()
        bell = self.bell(self.config(log, server, every="1h"))
        wait_for(lambda: bell.metric("logbell_heartbeats_total", outcome="delivered") == 1, "heartbeat", context=bell.tail)
        self.assertAlmostEqual(time.time(), bell.metric("logbell_heartbeat_last_success_timestamp_seconds"), delta=30)
        self.assertEqual("ok", json.loads(server.pings[0]["body"])["status"])
        self.assertEqual(0, bell.stop())
        self.assertEqual(["success", "log"], server.kinds())
        self.assertEqual("stopping", json.loads(server.pings[1]["body"])["status"])
        bell.start()
        wait_for(lambda: len(server.pings) == 3, "heartbeat", context=bell.tail)
        bell.kill()
        self.assertEqual(["success", "log", "success"], server.kinds())

    def test_a_receiver_that_knows_no_such_check_is_told_to_the_sinks(self):
        for old in (False, True):
            log, server, ops = self.log(f"{old}.log"), self.server(old=old), self.receiver()
            gone = server.url().rsplit("/", 1)[0] + "/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
            bell = self.bell(self.config(log, server, {"ops": harness.webhook(ops.url)}, url=gone))
            wait_for(lambda: ops.alerts("firing", alertname="HeartbeatUnheard"), "HeartbeatUnheard", context=bell.tail)
            self.assertNotIn("5bf66975", str(ops.bodies()))
            bell.configure(self.config(log, server, {"ops": harness.webhook(ops.url)}))
            bell.reload()
            bell.await_quiet("HeartbeatUnheard")
            wait_for(lambda: ops.alerts("resolved", alertname="HeartbeatUnheard"), "its end", context=bell.tail)
            bell.stop()


    def test_an_alertmanager_holds_its_watchdog(self):
        # Whoever rings when the Watchdog is not repeated any more hears of Alertmanager; here the receiver is that one's webhook.
        dead_mans_switch, slack, log = self.receiver(), self.slack(), self.log()
        peer = self.closing(harness.Alertmanager(self.path("am"), dead_mans_switch.url + "/switch"))
        sinks = {"ops": harness.slack(slack.hook()), "watch": harness.alertmanager(peer.url)}
        bell = self.bell(configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["ops"])], sinks,
                                       route={"sinks": ["ops"], "group_interval": "1s"}, heartbeat={"sink": "watch", "every": "1s"}))
        watchdog = wait_for(lambda: peer.alerts("Watchdog"), "Watchdog in amtool", context=bell.tail)[0]
        self.assertEqual(("none", "e2e"), (watchdog["labels"]["severity"], watchdog["labels"]["environment"]))
        wait_for(lambda: dead_mans_switch.alerts("firing", alertname="Watchdog"), "Watchdog at the switch")
        wait_for(lambda: bell.metric("logbell_heartbeats_total", outcome="delivered") >= 3, "three of them", context=bell.tail)
        self.assertEqual(watchdog["startsAt"], peer.alerts("Watchdog")[0]["startsAt"], "one alert, and no other each time")
        # It is no way for alerts: neither listed, nor drilled, nor told.
        self.assertEqual(["ops"], [sink["name"] for sink in bell.api("sinks")["sinks"]])
        slack.revoke(slack.hook())
        log.write("ERROR boom")
        over = wait_for(lambda: dead_mans_switch.alerts("resolved", alertname="Watchdog"), "its end", context=bell.tail)[0]
        self.assertIn("rule Boom reaches nobody", over["annotations"]["summary"])
        self.assertEqual([], peer.alerts("Watchdog"))
        self.assertEqual([], peer.alerts("Boom"))
        slack.restore(slack.hook())
        bell.reload()
        wait_for(lambda: peer.alerts("Watchdog"), "Watchdog again", 30, context=bell.tail)

    def test_an_alertmanager_that_tells_nobody_is_told_to_the_sinks(self):
        log, ops = self.log(), self.receiver()
        peer = self.closing(harness.Alertmanager(self.path("am"), None))
        sinks = {"ops": harness.webhook(ops.url), "watch": harness.alertmanager(peer.url)}
        bell = self.bell(configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["ops"])], sinks,
                                       route={"sinks": ["ops"], "group_interval": "1s"}, heartbeat={"sink": "watch", "every": "1s"}))
        told = wait_for(lambda: ops.alerts("firing", alertname="HeartbeatUnheard"), "HeartbeatUnheard", context=bell.tail)[0]
        self.assertIn("it takes alerts and tells nobody: test", told["annotations"]["summary"])
        self.assertIn("HeartbeatUnheard", bell.get("/-/ready")[1])
        self.assertEqual(0, bell.metric("logbell_heartbeats_total", outcome="delivered"))

    def test_another_logbell_listens(self):
        token, ops, log = "a-long-token-of-ours", self.receiver(), self.log("their.log")
        with open(self.path("token"), "w") as file:
            file.write(token + "\n")
        os.chmod(self.path("token"), 0o600)
        os.mkdir(self.path("theirs"))
        there = configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["ops"])],
                              {"ops": harness.webhook(ops.url)}, route={"sinks": ["ops"], "group_interval": "1s"},
                              heartbeats={"orders-api": {"every": "1s", "grace": "3s", "token_file": self.path("token")}})
        listening = self.closing(harness.Logbell(self.path("theirs"), there))
        self.bells.append(listening)
        listening.start()
        url = listening.url + "/api/v1/heartbeats/orders-api"
        self.assertEqual(401, harness.http_request(url, "POST")[0])
        self.assertEqual(404, harness.http_request(url + "2", "POST")[0])

        slack, mine = self.slack(), self.log()
        config = configuration(mine.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["ops"])],
                               {"ops": harness.slack(slack.hook())}, route={"sinks": ["ops"]},
                               heartbeat={"url": url, "every": "1s", "bearer_token_file": self.path("token")})
        bell = self.bell(config)
        wait_for(lambda: listening.metric("logbell_heartbeat_heard_timestamp_seconds", heartbeat="orders-api"), "heartbeat", context=bell.tail)
        self.assertEqual("ok", listening.api("heartbeats")["heartbeats"][0]["state"])
        slack.revoke(slack.hook())
        mine.write("ERROR boom")
        bad = wait_for(lambda: ops.alerts("firing", alertname="HeartbeatFailing"), "HeartbeatFailing", context=listening.tail)[0]
        self.assertIn("rule Boom reaches nobody", bad["annotations"]["summary"])
        self.assertEqual("orders-api", bad["labels"]["heartbeat"])
        bell.kill()
        wait_for(lambda: ops.alerts("firing", alertname="HeartbeatMissing"), "HeartbeatMissing", 30, context=listening.tail)
        # Still so after a restart there, and over once it lives.
        listening.restart()
        self.assertEqual(1, len(listening.await_firing("HeartbeatMissing")))
        slack.restore(slack.hook())
        bell.start()
        wait_for(lambda: ops.alerts("resolved", alertname="HeartbeatMissing"), "its end", 30, context=listening.tail)
        for who in (bell, listening):
            self.assertNotIn(token, who.said())


class SystemdTest(Case):
    def test_systemd_hears_ready_reloading_signs_of_life_and_stopping(self):
        path, heard = self.path("notify"), []
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
            manager.bind(path)
            manager.settimeout(harness.DEADLINE)

            def until(wanted):
                while True:
                    message = manager.recv(4096).decode()
                    heard.append(message.split("\n")[0])
                    if heard[-1] == wanted:
                        return message

            log = self.log()
            sinks = {"ops": harness.webhook(self.receiver().url)}
            config = configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["ops"])], sinks,
                                   route={"sinks": ["ops"]})
            bell = self.bell(config, start=False, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "900000"})
            bell.start(ready=False)
            until("READY=1")
            self.assertEqual(200, bell.get("/-/ready")[0])
            until("WATCHDOG=1")
            until("WATCHDOG=1")
            before = time.clock_gettime(time.CLOCK_MONOTONIC)
            bell.reload()
            reloading = until("RELOADING=1")
            at = int(reloading.split("MONOTONIC_USEC=")[1].split("\n")[0]) / 1e6
            self.assertTrue(before <= at <= time.clock_gettime(time.CLOCK_MONOTONIC), (before, at))
            until("READY=1")
            self.assertEqual(0, bell.stop())
            until("STOPPING=1")
            self.assertEqual(2, heard.count("READY=1"))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
