#!/usr/bin/env python3
"""A Slack app through the whole program: one message an episode, kept up to date, whatever happens to us in between."""
import json
import signal
import subprocess
import sys

import harness
from harness import Case, configuration, rule, wait_for

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"], "examples": ["ERROR boom on orders"]}}
ROUTE = {"sinks": ["chat"], "group_by": ["alertname"], "group_interval": "1s"}


class SlackAppTest(Case):
    def config(self, slack, window="1h", sinks=None, **more):
        rules = [rule("Boom", f"sum by (queue) (count_over_time(boom[{window}])) >= 1", labels={"severity": "critical"},
                      annotations={"summary": "queue {{ $labels.queue }} is gone"})]
        return configuration(self.app.path, BOOM, rules, sinks or {"chat": harness.slack_app(slack)}, route=ROUTE, **more)

    def start(self, slack, **more):
        self.app = self.log()
        env = more.pop("env", None)
        return self.bell(self.config(slack, **more), env=env)

    def delivered(self, bell, count):
        bell.await_metric(count, "logbell_notifications_total", sink="chat", outcome="delivered")

    def message(self, slack, bell):
        """The one message that the channel shows, and what is in its thread."""
        [message] = wait_for(slack.api.shown, "a message", 20, bell.tail)
        return json.dumps(message, ensure_ascii=False), slack.api.thread(message["ts"])

    def test_app_one_message_fires_and_is_resolved_in_its_thread(self):
        slack = self.slack()
        bell = self.start(slack, window="3s")
        self.assertEqual(["auth.test", "users.conversations", "conversations.info"], [c["method"] for c in slack.calls()], "asked once, silently")
        self.app.write("ERROR boom on orders password=hunter2")
        self.delivered(bell, 1)
        posted = slack.calls("chat.postMessage")[0]["args"]
        self.assertIn("queue orders is gone", posted["text"])
        self.assertNotIn("thread_ts", posted)
        self.assertIn("boom on orders", json.dumps(posted))
        self.assertNotIn("hunter2", json.dumps(posted))
        ts = slack.api.shown()[0]["ts"]
        self.assertIn(f"C0STANDIN1 {ts} https://standin.slack.com/archives/C0STANDIN1/p{ts.replace('.', '')}", bell.said(), "the receipt")
        self.delivered(bell, 2)
        shown, replies = self.message(slack, bell)
        self.assertIn("✅ Resolved: Boom", shown)
        self.assertEqual([False], [reply["broadcast"] for reply in replies])
        self.assertIn("Resolved: Boom", replies[0]["text"])
        self.assertEqual(0, bell.metric("logbell_sink_payload_truncated_total", sink="chat"))
        # The next time is another message.
        self.app.write("ERROR boom on orders")
        self.delivered(bell, 3)
        self.assertEqual(2, len(slack.api.shown()))

    def test_app_what_follows_finds_the_first_message_after_a_restart(self):
        slack = self.slack()
        bell = self.start(slack, window="4s")
        self.app.write("ERROR boom on orders")
        self.delivered(bell, 1)
        bell.stop()
        bell.start()
        wait_for(lambda: "Resolved" in self.message(slack, bell)[0], "the end", 20, bell.tail)
        wait_for(lambda: len(self.message(slack, bell)[1]) == 1, "a reply", 20, bell.tail)

    def test_app_a_second_queue_is_seen_in_the_channel(self):
        slack = self.slack()
        bell = self.start(slack)
        self.app.write("ERROR boom on first")
        self.delivered(bell, 1)
        self.app.write("ERROR boom on second")
        self.delivered(bell, 2)
        first, reply = slack.api.shown()
        self.assertEqual((first["ts"], True), (reply["thread_ts"], reply["broadcast"]))
        self.assertIn("second", json.dumps(first["blocks"]))

    def test_F43_killed_before_the_receipt_is_written_it_is_one_message(self):
        slack = self.slack()
        bell = self.start(slack, window="6s", env={"LOGBELL_FAULT_POINT": "lane.answered:1"})
        self.app.write("ERROR boom on orders")
        self.assertEqual(-signal.SIGKILL, bell.process.wait())
        self.assertEqual(1, len(slack.api.shown()), "Slack has it, and we do not know")
        bell.env.pop("LOGBELL_FAULT_POINT")
        bell.start()
        self.delivered(bell, 1)
        self.assertEqual(1, len(slack.calls("chat.postMessage")), "it was found, and not sent again")
        self.assertIn("found in Slack", bell.said())
        self.assertNotIn("duplicate", self.message(slack, bell)[0])
        # And what follows follows it.
        self.delivered(bell, 2)
        shown, replies = self.message(slack, bell)
        self.assertIn("Resolved", shown)
        self.assertEqual(1, len(replies))

    def test_F43_killed_between_a_reply_and_its_record_it_is_one_reply(self):
        slack = self.slack()
        bell = self.start(slack, window="3s", env={"LOGBELL_FAULT_POINT": "lane.answered:2"})
        self.app.write("ERROR boom on orders")
        self.assertEqual(-signal.SIGKILL, bell.process.wait())
        bell.env.pop("LOGBELL_FAULT_POINT")
        self.assertEqual(1, len(slack.api.thread(slack.api.shown()[0]["ts"])), "Slack has the reply, and we do not know")
        bell.start()
        self.delivered(bell, 2)
        shown, replies = self.message(slack, bell)
        self.assertIn("Resolved", shown)
        self.assertEqual(1, len(replies))
        self.assertEqual(2, len(slack.calls("chat.postMessage")))

    def test_F40_a_channel_that_is_archived_is_told_elsewhere(self):
        slack, spare = self.slack(), self.receiver()
        sinks = {"chat": harness.slack_app(slack, fallback=["spare"]), "spare": harness.webhook(spare.url)}
        bell = self.start(slack, sinks=sinks)
        slack.api.channels["C0STANDIN1"]["is_archived"] = True
        self.app.write("ERROR boom on orders")
        wait_for(lambda: spare.alerts("firing", alertname="Boom"), "the fallback", 5, bell.tail)
        self.assertEqual([], slack.api.shown())
        self.assertEqual(1, bell.metric("logbell_notifications_total", sink="chat", outcome="rejected", reason="gone"))
        self.assertNotIn(harness.slack_server.TOKEN, bell.said())

    def test_app_a_drill_is_one_message(self):
        slack = self.slack()
        bell = self.start(slack)
        ended = subprocess.run([harness.binary(), "drill", "--url", bell.url], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(0, ended.returncode, ended.stdout + ended.stderr)
        shown, replies = self.message(slack, bell)
        self.assertIn("[DRILL]", shown)
        self.assertEqual([], replies)
        wait_for(lambda: "What a drill has brought there was found." in bell.said(), "it is read back", context=bell.tail)

    def test_app_a_token_that_is_not_known_stops_the_start(self):
        slack, self.app = self.slack(), self.log()
        slack.api.token = "xoxb-another"
        bell = self.bell(self.config(slack), start=False)
        code, said = bell.refused()
        self.assertEqual(78, code, said)
        self.assertRegex(said, r"chat is dead \(auth\.test -> HTTP 200: .*invalid_auth")
        self.assertNotIn(harness.slack_server.TOKEN, said)
        bell.configure(self.config(slack, sinks={"chat": harness.slack_app(slack, channel="ops")}))
        code, said = bell.check()
        self.assertEqual(78, code)
        self.assertRegex(said, r"logbell\.yaml:\d+:\d+: .*a channel's name begins with # \(Boom relies on it\); did you mean '#ops'\?")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
