#!/usr/bin/env python3
"""F39, F40, F42, F49: what becomes of an alert whose sink says "later", says "never", says nothing, or is not there."""
import email.utils
import json
import os
import signal
import subprocess
import sys
import time

import harness
from harness import Case, configuration, rule, stays, wait_for

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}}
RULES = [rule("Boom", "sum by (queue) (count_over_time(boom[1h])) >= 1", labels={"severity": "critical"})]


class Delivery(Case):
    def ring(self, sinks, route=None, **more):
        self.app = self.log()
        return self.bell(configuration(self.app.path, BOOM, RULES, sinks, route=route, **more))


class RateLimited(Delivery):
    def waits(self, answer, at_least):
        chat = self.slack()
        chat.script({"status": 429, **answer})
        bell = self.ring({"ops": harness.slack(chat.hook())})
        self.app.write("ERROR boom on orders")
        wait_for(lambda: len(chat.entries()) == 2, "the second try", at_least + 15, bell.tail)
        first, second = chat.entries()
        self.assertEqual((429, 200), (first["status"], second["status"]))
        self.assertGreaterEqual(second["monotonic"] - first["monotonic"], at_least - 0.05)
        stays(lambda: len(chat.messages()) == 1, "one message", 1)
        metrics = bell.metrics()
        self.assertEqual(1, metrics.get("logbell_notifications_total", sink="ops", outcome="delivered"))
        told = wait_for(lambda: bell.api("deliveries?alertname=Boom&sink=ops")["deliveries"], "its receipt", context=bell.tail)
        self.assertEqual([("delivered", "first_firing", "ok", 2)], [(one["state"], one["why"], one["receipt"], one["attempts"]) for one in told])
        self.assertEqual(1, metrics.get("logbell_notifications_total", sink="ops", outcome="retry", reason="rate_limited"))

    def test_F39_the_header_in_seconds(self):
        self.waits({"headers": {"Retry-After": "3"}, "body": "{}"}, 3)

    def test_F39_the_header_as_a_date(self):
        at = time.time() + 5
        self.waits({"headers": {"Retry-After": email.utils.formatdate(at, usegmt=True)}, "body": ""}, int(at) - time.time() - 2)

    def test_F39_the_body_alone(self):
        self.waits({"headers": {"Content-Type": "application/json"}, "body": json.dumps({"ok": False, "error": "rate_limited", "retry_after": 2.5})}, 2.5)

    def test_F39_neither(self):
        self.waits({"body": "slow down"}, 0)

    def test_F39_a_burst_respects_one_message_a_second_and_loses_nothing(self):
        chat = self.slack(burst=2, rate=1.0)
        bell = self.ring({"ops": harness.slack(chat.hook())}, {"sinks": ["ops"], "group_by": ["..."], "group_interval": "1s"})
        queues = {f"q{i}" for i in range(6)}
        self.app.write(*[f"ERROR boom on {queue}" for queue in sorted(queues)])
        wait_for(lambda: len(chat.messages()) == 6, "every message", 40, bell.tail)
        self.assertEqual([], [e for e in chat.entries() if e["early"]], "never before Slack's own hint")
        self.assertEqual(queues, {q for q in queues for m in chat.messages() if q in m["rendered"]})


class Storm(Delivery):
    def storm(self, sinks, count=40):
        bell = self.ring(sinks, {"sinks": sorted(sinks), "group_by": ["..."], "group_interval": "1s"})
        self.app.write(*[f"ERROR boom on queue-{i:02}" for i in range(count)])
        return bell

    def test_F47_a_storm_is_told_in_few_messages_and_names_whatever_there_is(self):
        chat = self.slack(burst=1000, rate=1000)
        bell = self.storm({"ops": {**harness.slack(chat.hook()), "messages_per_minute": 12}})
        bell.await_metric(40, "logbell_notifications_total", sink="ops", outcome="delivered")
        self.assertEqual(6, len(chat.messages()), "five for one each, and one for the others")
        last = chat.messages()[-1]["rendered"]
        self.assertIn("one message instead of 35", last)
        self.assertIn("Boom 35 firing", last)
        # A lane says how it stands at the end of its step.
        bell.await_metric(34, "logbell_notifications_coalesced_total", sink="ops")
        bell.await_metric(0, "logbell_outbox_pending", sink="ops")
        # The next one within this minute: it waits its turn, and is itself again.
        self.app.write("ERROR boom on another")
        wait_for(lambda: len(chat.messages()) == 7 and "another" in chat.messages()[6]["rendered"], "the next one", 40, bell.tail)

    def test_F47_the_slack_app_changes_no_message_for_many_into_one_of_them(self):
        server = self.slack(burst=1000, rate=1000)
        bell = self.storm({"ops": {**harness.slack_app(server), "messages_per_minute": 12}})
        bell.await_metric(40, "logbell_notifications_total", sink="ops", outcome="delivered")
        said = server.api.shown()
        self.assertEqual(6, len(said))
        many = json.dumps(said[-1])
        # A change of one that the message for many was about.
        self.app.write("ERROR boom on queue-39", "ERROR boom on queue-40")
        wait_for(lambda: len(server.api.shown()) == 7, "a message", 40, bell.tail)
        self.assertEqual(many, json.dumps(server.api.shown()[5]))


class Hung(Delivery):
    def test_F42_a_sink_that_never_answers_delays_no_other(self):
        silent, chat = self.receiver(lambda path, body: None), self.slack()
        bell = self.ring({"silent": harness.webhook(silent.url + "/silent"), "ops": harness.slack(chat.hook())},
                         {"sinks": ["silent", "ops"], "group_by": ["..."], "group_interval": "1s"})
        for i in range(5):
            written = time.time()
            self.app.write(f"ERROR boom on q{i}")
            message = wait_for(lambda i=i: len(chat.messages()) == i + 1 and chat.messages()[-1], f"message {i}", context=bell.tail)
            self.assertLess(message["at"] - written, 2)  # Slack takes a message a second; the other would take 15
        self.assertGreaterEqual(len(silent.received), 1, "the other was being talked to all the while")
        bell.await_metric(5, "logbell_outbox_pending", sink="silent")
        self.assertEqual(200, bell.get("/-/healthy", timeout=1)[0])
        wait_for(lambda: bell.metric("logbell_notifications_total", sink="silent", outcome="delivered") == 0
                 and len(silent.received) >= 2, "another try after the time-out", 30, bell.tail)

    def test_F42_a_server_that_is_stopped_is_waited_for_and_delays_no_other(self):
        program = ("import http.server\n"
                   "class H(http.server.BaseHTTPRequestHandler):\n"
                   "    def do_POST(self):\n"
                   "        self.rfile.read(int(self.headers['Content-Length']))\n"
                   "        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()\n"
                   "    def log_message(self, *_): pass\n"
                   "s = http.server.HTTPServer(('127.0.0.1', 0), H); print(s.server_port, flush=True); s.serve_forever()\n")
        server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (server.kill(), server.wait(), server.stdout.close()))
        port = int(server.stdout.readline())
        chat = self.slack()
        bell = self.ring({"stopped": harness.webhook(f"http://127.0.0.1:{port}/"), "ops": harness.slack(chat.hook())},
                         {"sinks": ["stopped", "ops"], "group_by": ["..."], "group_interval": "1s"})
        # It is asked at the start whether it is there; from here on the kernel alone answers for it.
        wait_for(lambda: bell.get("/-/ready")[0] == 200, "ready", context=bell.tail)
        os.kill(server.pid, signal.SIGSTOP)
        written = time.time()
        self.app.write("ERROR boom on orders")
        message = wait_for(lambda: chat.messages() and chat.messages()[0], "the other's message", context=bell.tail)
        self.assertLess(message["at"] - written, 2)
        bell.await_metric(1, "logbell_outbox_pending", deadline=5, sink="stopped")  # while the attempt hangs
        self.assertEqual(0, bell.metric("logbell_notifications_total", sink="stopped", outcome="delivered"))
        os.kill(server.pid, signal.SIGCONT)
        bell.await_metric(1, "logbell_notifications_total", sink="stopped", outcome="delivered")

    def test_F42_stop_does_not_wait_for_it_beyond_its_grace(self):
        silent = self.receiver(lambda path, body: None)
        bell = self.ring({"silent": harness.webhook(silent.url)})
        self.app.write("ERROR boom on q")
        wait_for(lambda: silent.received, "a try", context=bell.tail)
        began = time.monotonic()
        self.assertEqual(0, bell.stop())
        self.assertLess(time.monotonic() - began, 31)


class Revoked(Delivery):
    def test_F40_a_revoked_webhook_is_replaced_within_seconds_and_told_elsewhere(self):
        chat = self.slack()
        chat.revoke(chat.hook("DEAD"), 404, "no_service")
        bell = self.ring({"dead": harness.slack(chat.hook("DEAD"), fallback=["spare"]), "spare": harness.slack(chat.hook("SPARE")),
                          "other": harness.slack(chat.hook("OTHER"))}, {"sinks": ["dead", "other"], "group_by": ["alertname"], "group_interval": "1s"})
        self.app.write("ERROR boom on orders")
        began = time.monotonic()
        spare = wait_for(lambda: [m for m in chat.messages(chat.hook("SPARE")) if "Boom" in m["rendered"]], "the fallback's message", 5, bell.tail)
        self.assertLess(time.monotonic() - began, 5)
        self.assertIn("dead", spare[0]["rendered"], "it says for whom it speaks")
        wait_for(lambda: [m for m in chat.messages(chat.hook("OTHER")) if "SinkDead" in m["rendered"]], "SinkDead told elsewhere", context=bell.tail)
        self.assertEqual(["dead"], [a["labels"]["sink"] for a in bell.await_firing("SinkDead")])
        stays(lambda: len(chat.entries(chat.hook("DEAD"))) <= 3, "no hot retries", 2)
        self.assertEqual(0, bell.metric("logbell_notifications_total", sink="dead", outcome="delivered"))
        self.assertEqual(1, bell.metric("logbell_notifications_total", sink="dead", outcome="rejected"))


class Stopped(Delivery):
    def test_F49_undelivered_rows_survive_and_leave_after_the_next_start(self):
        chat = self.slack()
        chat.script({"status": 503, "body": "", "times": -1})
        bell = self.ring({"ops": harness.slack(chat.hook())}, {"sinks": ["ops"], "group_by": ["..."], "group_interval": "1s"})
        self.app.write(*[f"ERROR boom on q{i}" for i in range(5)])
        wait_for(lambda: bell.metric("logbell_outbox_pending", sink="ops") == 5, "5 rows waiting", context=bell.tail)
        began = time.monotonic()
        self.assertEqual(0, bell.stop())
        self.assertLess(time.monotonic() - began, 30)
        self.assertEqual([], chat.messages())
        chat.reset()
        chat.limit(25, 100)
        bell.start()
        wait_for(lambda: {q for m in chat.messages() for q in ("q0", "q1", "q2", "q3", "q4") if q in m["rendered"]} == {f"q{i}" for i in range(5)},
                 "all five after the start", context=bell.tail)
        bell.await_metric(0, "logbell_outbox_pending", sink="ops")
        self.assertEqual(5, len(chat.messages()))

    def test_F49_the_last_try_ignores_the_back_off(self):
        chat = self.slack()
        chat.script({"status": 503, "body": "", "times": 4})
        bell = self.ring({"ops": harness.slack(chat.hook())})
        self.app.write("ERROR boom on orders")
        wait_for(lambda: len(chat.entries()) == 4, "four refused tries", 40, bell.tail)
        self.assertEqual(0, bell.stop())
        self.assertEqual(1, len(chat.messages()))

    def test_F49_what_was_written_before_the_signal_is_still_heard(self):
        chat = self.slack()
        bell = self.ring({"ops": harness.slack(chat.hook())}, {"sinks": ["ops"], "group_by": ["..."], "group_interval": "1s"})
        os.kill(bell.process.pid, signal.SIGSTOP)
        self.app.write(*["INFO nothing"] * 20_000)
        self.app.write("ERROR boom on last")
        bell.process.signal(signal.SIGTERM)
        os.kill(bell.process.pid, signal.SIGCONT)
        self.assertEqual(0, bell.process.wait(40))
        self.assertEqual(1, len([m for m in chat.messages() if "last" in m["rendered"]]))

    def leaves(self, hook, grace="8s", tried=lambda: True):
        """A critical alert, its sink in trouble, its fallback up, and the pod ends: what the fallback hears, and what the log says."""
        two = self.receiver()
        self.app = self.log()
        sinks = {"hook": harness.webhook(hook, fallback=["two"]), "two": harness.webhook(two.url + "/two")}
        route = {"sinks": ["hook"], "group_by": ["..."], "group_interval": "1s"}
        self.told = bell = self.bell(configuration(self.app.path, BOOM, RULES, sinks, route=route), args=(f"--grace={grace}",))
        self.app.write("ERROR boom on orders")
        bell.await_metric(1, "logbell_outbox_pending", sink="hook")
        wait_for(tried, "a try", context=bell.tail)
        self.assertEqual([], two.received)
        began = time.monotonic()
        self.assertEqual(0, bell.stop())
        self.assertLess(time.monotonic() - began, float(grace[:-1]) + 1)
        self.assertEqual(1, len(two.received), bell.tail())
        told = json.loads(two.received[0][3])
        self.assertEqual(["firing"], [one["status"] for one in told["alerts"]])
        self.assertIn("In place of the sink \"hook\"", " ".join(told["notes"]))
        last = bell.said().strip().split("\n")[-1]
        self.assertIn("level=warn", last)
        self.assertIn("Boom", last)
        self.assertIn("hook", last)
        return two

    def test_F49_what_its_sink_refuses_on_the_last_try_the_fallback_hears_once(self):
        works = []
        hook = self.receiver(lambda path, body: 200 if works else 503)
        two = self.leaves(hook.url + "/hook", tried=lambda: hook.received)
        # The state is kept, this time: its own sink gets it all the same, and nobody hears of it twice.
        works.append(True)
        bell = self.told.start()
        bell.await_metric(0, "logbell_outbox_pending", sink="hook")
        self.assertEqual(1, bell.metric("logbell_notifications_total", sink="hook", outcome="delivered"))
        stays(lambda: len(two.received) == 1, "one message there", 2)

    def test_F49_a_sink_that_is_not_there_leaves_it_to_the_fallback(self):
        self.leaves(f"http://127.0.0.1:{harness.free_port()}/hook")

    def test_F49_a_sink_that_hangs_leaves_the_fallback_its_share_of_the_time(self):
        hook = self.receiver(lambda path, body: None)
        self.leaves(hook.url + "/hook", grace="6s", tried=lambda: hook.received)

    def test_F49_what_nobody_took_is_the_last_thing_that_is_said(self):
        hook = self.receiver(lambda path, body: 503)
        bell = self.ring({"hook": harness.webhook(hook.url)})
        self.app.write("ERROR boom on orders")
        wait_for(lambda: hook.received, "a try", context=bell.tail)
        self.assertEqual(0, bell.stop())
        last = bell.said().strip().split("\n")[-1]
        self.assertIn("level=warn", last)
        self.assertIn("alerts=Boom", last)
        self.assertIn("sinks=hook", last)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
