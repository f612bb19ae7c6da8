#!/usr/bin/env python3
"""F51, the founding story: everything seemed to be set up, and the alert reached nobody. logbell refuses to start instead, names the
rule and the sink, and tells whoever it still can."""
import glob
import os
import re
import socket
import sys

import harness
from harness import Case, configuration, rule, stays, wait_for

BOOM = {"boom": {"match": "ERROR boom"}}


class RefusalTest(Case):
    def founding(self, log, slack, secret="${ONCALL_SECRET}"):
        """Two rules; the critical one goes to a sink of its own."""
        return configuration(log.path, BOOM, [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["oncall"]),
                                              rule("Other", "count_over_time(boom[1h]) >= 100")],
                             {"ops": harness.slack(slack.hook()), "oncall": harness.webhook("http://127.0.0.1:9/", secret=secret)},
                             route={"sinks": ["ops"], "group_by": ["alertname"], "group_interval": "1s"})

    def refuses(self, bell, *wanted):
        code, said = bell.refused()
        self.assertEqual(78, code, said)
        for words in wanted:
            self.assertRegex(said, words)
        self.assertRegex(said, r"logbell\.yaml:\d+:\d+", "the place")
        checked, also = bell.check()
        self.assertEqual(78, checked, also)
        for words in wanted:
            self.assertRegex(also, words)
        return said

    def test_F51_what_reaches_nobody_does_not_start(self):
        log, slack = self.log(), self.slack()
        hook = slack.hook()
        for what, change, wanted in [
            ("a rule without sinks, and no route", lambda c: (c.pop("route"), c["rules"][0].pop("sinks")), ["Boom"]),
            ("a sink that is not defined", lambda c: c["rules"][0].update(sinks=["on-call"]), ["Boom", "on-call", "oncall"]),
            ("an empty list of sinks", lambda c: c["rules"][0].update(sinks=[]), ["Boom"]),
            ("an empty sink", lambda c: c["sinks"].update(oncall={}), ["oncall"]),
            ("a sink without its secret", lambda c: c["sinks"].update(ops={"slack": {"webhook_url": "${UNSET_URL}"}}), ["ops", "UNSET_URL"]),
            ("a sink with an empty secret", lambda c: c["sinks"].update(ops={"slack": {"webhook_url": "${EMPTY_URL}"}}), ["ops", "EMPTY_URL"]),
            ("a placeholder where a secret belongs", lambda c: c["sinks"].update(ops=harness.slack("changeme")), ["ops"]),
            ("Slack's own example", lambda c: c["sinks"].update(ops=harness.slack("https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX")),
             ["ops"]),
            ("a secret file that is not there", lambda c: c["sinks"].update(ops={"slack": {"webhook_url_file": "/nonexistent/url"}}), ["ops", "/nonexistent/url"]),
            ("a route without sinks", lambda c: c["route"].pop("sinks"), ["Other"]),
            ("a template that names a label the rule cannot have",
             lambda c: c["rules"][1].update(annotations={"summary": "{{ $labels.queue }}"}), ["Other", "queue"]),
            ("a rule that cannot be true", lambda c: c["rules"][1].update(expr="count_over_time(boom[1h]) < 0"), ["Other"]),
        ]:
            with self.subTest(what):
                config = self.founding(log, slack, secret="a-real-secret-of-some-length")
                change(config)
                bell = self.bell(config, start=False, env={"EMPTY_URL": ""})
                said = self.refuses(bell, *wanted)
                self.assertNotIn(hook.rsplit("/", 1)[1], said, "secrets are never shown")

    def test_F51_every_problem_is_said_at_once(self):
        log, slack = self.log(), self.slack()
        config = self.founding(log, slack)
        config["rules"][0].update(sinks=["nowhere"], fro="1m")
        config["rules"][1].update(expr="count_over_time(bom[1h]) > 1")
        bell = self.bell(config, start=False)
        said = self.refuses(bell, "nowhere", "fro", "bom", "ONCALL_SECRET")
        self.assertGreaterEqual(len(set(re.findall(r"logbell\.yaml:\d+:\d+", said))), 4)

    def test_F51_the_sinks_that_work_are_told_once(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.founding(log, slack), start=False, env={"ONCALL_SECRET": ""})
        self.refuses(bell, "oncall", "ONCALL_SECRET")
        message = wait_for(slack.messages, "word at Slack")[0]
        self.assertRegex(message["rendered"].lower(), "refuse")
        self.assertIn("ONCALL_SECRET", message["rendered"])
        for _ in range(3):  # a crash loop
            self.assertEqual(78, bell.refused()[0])
        self.assertEqual(1, len(slack.messages()), "once an hour per configuration")

    def test_F51_a_start_that_fails_with_a_good_configuration_is_told_once(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.founding(log, slack), start=False, env={"ONCALL_SECRET": "8b1a9953c4611296"})
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", bell.port))
            taken.listen()
            self.assertEqual(74, bell.refused()[0])
            message = wait_for(slack.messages, "word at Slack", context=bell.tail)[0]
            self.assertIn("could not start", message["rendered"])
            self.assertIn("in use", message["rendered"])
            for _ in range(3):  # a crash loop
                self.assertEqual(74, bell.refused()[0])
            self.assertEqual(1, len(slack.messages()), "once an hour")

    def test_F51_so_is_one_whose_state_directory_takes_nothing(self):
        log, slack = self.log(), self.slack()
        config = self.founding(log, slack)
        with open(self.path("file"), "w"):
            config["state_dir"] = self.path("file")
        before = set(glob.glob("/dev/shm/logbell-start-failed-*"))
        self.addCleanup(lambda: [os.unlink(path) for path in set(glob.glob("/dev/shm/logbell-start-failed-*")) - before])
        bell = self.bell(config, start=False, env={"ONCALL_SECRET": "8b1a9953c4611296"})
        for _ in range(3):
            self.assertEqual(74, bell.refused()[0])
        self.assertEqual(1, len(slack.messages()), bell.tail())

    def test_F51_on_refusal_stay_parks_and_starts_with_the_mended_file(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.founding(log, slack), env={"ONCALL_SECRET": ""}, args=["--on-refusal=stay"])
        self.assertEqual(200, bell.get("/-/healthy")[0])
        self.assertEqual(200, bell.get("/-/ready")[0])
        bell.await_metric(1, "logbell_plan_refused")
        self.assertEqual(1, bell.metric("logbell_rules_without_sink"))  # no rule is at fault, and none reaches anybody
        stays(lambda: bell.process.code is None, "parking", 1, bell.tail)
        bell.configure(self.founding(log, slack, secret="a-real-secret-of-some-length"))
        self.assertEqual(200, bell.reload()[0])
        bell.await_metric(0, "logbell_plan_refused")
        log.write("ERROR boom")
        bell.await_firing("Boom")

    def test_F51_on_refusal_stay_goes_on_with_the_last_good_plan(self):
        log, slack = self.log(), self.slack()
        good = self.founding(log, slack, secret="a-real-secret-of-some-length")
        bell = self.bell(good, args=["--on-refusal=stay"])
        bell.await_metric(0, "logbell_plan_refused")
        bell.stop()
        bell.configure({**good, "rules": [rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["nowhere"])]})
        bell.start()
        bell.await_metric(1, "logbell_plan_refused")
        log.write("ERROR boom")
        bell.await_firing("Boom")
        self.assertEqual(["Boom", "Other"], sorted(r["name"] for g in bell.api("rules")["groups"] for r in g["rules"] if r["name"] in ("Boom", "Other")))

    def test_F51_deliberate_silence_says_why_and_until_when(self):
        log, slack = self.log(), self.slack()
        config = self.founding(log, slack, secret="a-real-secret-of-some-length")
        config["rules"][0].update(sinks="none", reason="muted while the queue is being moved", until="2999-01-01")
        config["sinks"].pop("oncall")
        bell = self.bell(config)
        self.assertEqual(1, bell.metric("logbell_rules_without_sink"))
        config["rules"][0].pop("reason")
        bell.stop()
        bell.configure(config)
        self.refuses(bell, "Boom", "reason")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
