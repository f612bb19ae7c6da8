#!/usr/bin/env python3
"""F52: is somebody there? Each start asks every sink, without a message that anybody sees. A rule whose every sink is dead stops it; what is
unknown does not."""
import sys

import harness
import heartbeat_server
from harness import Case, configuration, rule, wait_for

BOOM = {"boom": {"match": "ERROR boom"}}


class VerifyTest(Case):
    def config(self, log, sinks, *, of_the_rule=None, **more):
        names = of_the_rule or list(sinks)
        return configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=names)], sinks,
                             route={"sinks": list(sinks), "group_by": ["alertname"], "group_interval": "1s"}, **more)

    def verdict(self, bell, sink):
        for verdict in ("live", "dead", "unknown"):
            if bell.metric("logbell_sink_verdict", sink=sink, verdict=verdict) == 1:
                return verdict
        return None

    def test_F52_a_webhook_that_was_revoked_stops_the_start_and_the_others_hear_why(self):
        log, slack, other = self.log(), self.slack(), self.receiver()
        slack.revoke(slack.hook())
        sinks = {"ops": harness.slack(slack.hook()), "other": harness.webhook(other.url)}
        bell = self.bell(self.config(log, sinks, of_the_rule=["ops"]), start=False)
        code, said = bell.refused()
        self.assertEqual(78, code, said)
        self.assertRegex(said, r'logbell\.yaml:\d+:\d+: rule "Boom": it would reach nobody: ops is dead \(malformed message -> HTTP 404: no_service\)')
        self.assertNotIn(slack.hook().rsplit("/", 1)[1], said)
        self.assertIn("it would reach nobody", str(other.bodies()))
        self.assertEqual(78, bell.check("--probe")[0])
        self.assertEqual(0, bell.check()[0], "what nobody is asked for cannot be known")
        # A supervisor that starts it again and again asks Slack once in a while.
        asked = len(slack.probes)
        for _ in range(3):
            self.assertEqual(78, bell.refused()[0])
        self.assertEqual(asked, len(slack.probes))
        self.assertEqual([], slack.messages())

    def test_F52_a_machine_that_hears_makes_up_for_no_person(self):
        log, slack, monitor = self.log(), self.slack(), self.closing(heartbeat_server.HeartbeatServer())
        sinks = {"ops": harness.slack(slack.hook()), "record": harness.file_sink(self.path("record.jsonl"))}
        slack.revoke(slack.hook())
        bell = self.bell(self.config(log, sinks, heartbeat={"url": monitor.url(), "style": "healthchecks", "every": "1s"}), start=False)
        code, said = bell.check("--probe")
        self.assertEqual(0, code, said)
        self.assertRegex(said, r'warning: rule "Boom": it would reach no person: ops is dead .*; only record is left, which a machine reads')
        bell.start()
        self.assertIn("rule Boom reaches nobody: its sinks are dead", bell.get("/-/ready")[1])
        wait_for(lambda: monitor.of("fail"), "the heartbeat's failure", context=bell.tail)
        self.assertIn("rule Boom reaches nobody", str(monitor.of("fail")[0]))
        slack.restore(slack.hook())
        bell.reload()
        wait_for(lambda: "reaches nobody" not in bell.get("/-/ready")[1], "readiness", context=bell.tail)

    def test_F52_with_another_sink_it_starts_and_that_one_is_told(self):
        log, slack, other = self.log(), self.slack(), self.receiver()
        slack.revoke(slack.hook(), 410, "channel_is_archived")
        bell = self.bell(self.config(log, {"ops": harness.slack(slack.hook()), "other": harness.webhook(other.url)}))
        self.assertEqual(["ops"], [alert["labels"]["sink"] for alert in bell.await_firing("SinkDead")])
        wait_for(lambda: other.alerts("firing", alertname="SinkDead"), "SinkDead at the other", context=bell.tail)
        status, text = bell.get("/-/ready")
        self.assertEqual(200, status)
        self.assertIn("sink ops is dead, no message would arrive", text)
        self.assertEqual(("dead", "live"), (self.verdict(bell, "ops"), self.verdict(bell, "other")))
        answer = [sink["lanes"][0]["verification"] for sink in bell.api("sinks")["sinks"] if sink["name"] == "ops"][0]
        self.assertEqual(("dead", "L2", "gone"), (answer["verdict"], answer["level"], answer["reason"]))
        # Mended, and somebody says so.
        slack.restore(slack.hook())
        bell.reload()
        bell.await_quiet("SinkDead")
        wait_for(lambda: self.verdict(bell, "ops") == "live", "ops to be live", context=bell.tail)

    def test_F52_what_does_not_answer_stops_nobody(self):
        log, slack = self.log(), self.slack()
        slack.script({"status": 503, "times": -1, "probe": True})
        bell = self.bell(self.config(log, {"ops": harness.slack(slack.hook()), "am": harness.alertmanager("http://127.0.0.1:9")}))
        self.assertEqual(("unknown", "unknown"), (self.verdict(bell, "ops"), self.verdict(bell, "am")))
        self.assertIn("sink ops has not said whether a message would arrive", bell.get("/-/ready")[1])
        code, said = bell.check("--probe")
        self.assertEqual(0, code, said)
        self.assertRegex(said, r'warning: sink "am": nobody answered there, so it is not known whether a message would arrive: POST \[\] -> .*[Cc]onnect')
        self.assertNotIn('sink "ops": nobody answered', said)
        self.assertIn("2 warnings: every rule leads to a sink; whether a message would arrive at am is not known.", said)
        self.assertEqual(1, bell.check("--probe", "--strict")[0])
        log.write("ERROR boom")
        wait_for(slack.messages, "message all the same", context=bell.tail)
        # It took one: that says more than what it did not say.
        wait_for(lambda: "sink ops has not said" not in bell.get("/-/ready")[1], "ops to be believed", context=bell.tail)
        self.assertIn("sink am has not said", bell.get("/-/ready")[1])

    def test_F52_alertmanager_knows_no_alerts_at_all_and_a_wrong_prefix(self):
        log, other = self.log(), self.receiver()
        peer = self.closing(harness.Alertmanager(self.path("am"), other.url))
        bell = self.bell(self.config(log, {"am": harness.alertmanager(peer.url)}))
        self.assertEqual("live", self.verdict(bell, "am"))
        self.assertEqual([], peer.alerts())
        wrong = self.bell(self.config(log, {"am": harness.alertmanager(peer.url + "/nowhere")}, state_dir=self.path("other")), start=False)
        code, said = wrong.refused()
        self.assertEqual(78, code, said)
        self.assertIn("am is dead (POST [] -> HTTP 404", said)

    def test_F52_an_alertmanager_without_any_integration_stops_the_start(self):
        log, other = self.log(), self.receiver()
        peer = self.closing(harness.Alertmanager(self.path("am"), None))
        bell = self.bell(self.config(log, {"am": harness.alertmanager(peer.url), "other": harness.webhook(other.url)}, of_the_rule=["am"]), start=False)
        code, said = bell.check("--probe")
        self.assertEqual(78, code, said)
        self.assertIn('rule "Boom": it would reach nobody: am is dead (GET status -> none of its receivers has an integration, '
                      "it takes alerts and tells nobody: test)", said)
        self.assertEqual(78, bell.refused()[0])
        self.assertIn("none of its receivers has an integration", str(other.bodies()))
        peer.close()
        peer = self.closing(harness.Alertmanager(self.path("mended"), None, spare=True))
        bell.configure(self.config(log, {"am": harness.alertmanager(peer.url)}))
        self.assertEqual(0, bell.check("--probe")[0], "where alerts go there is the drill's to find out")

    def test_F52_in_a_pod_it_stays_and_starts_once_it_is_mended(self):
        log, slack = self.log(), self.slack()
        slack.revoke(slack.hook())
        bell = self.bell(self.config(log, {"ops": harness.slack(slack.hook())}), args=["--on-refusal=stay"])
        self.assertEqual(200, bell.get("/-/healthy")[0])
        self.assertIn("nothing is watched", bell.get("/-/ready")[1])
        self.assertEqual(1, bell.metric("logbell_plan_refused"))
        slack.restore(slack.hook())
        bell.reload()
        log.write("ERROR boom")
        wait_for(slack.messages, "message", context=bell.tail)

    def test_F52_a_reload_to_a_dead_sink_is_refused_and_the_old_one_goes_on(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.config(log, {"ops": harness.slack(slack.hook())}))
        slack.revoke(slack.hook("OTHER"))
        bell.configure(self.config(log, {"ops": harness.slack(slack.hook("OTHER"))}))
        bell.reload()
        bell.await_metric(0, "logbell_config_last_reload_successful")
        log.write("ERROR boom")
        message = wait_for(slack.messages, "message", context=bell.tail)[0]
        self.assertTrue(slack.hook().endswith(message["path"]))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
