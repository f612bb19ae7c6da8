#!/usr/bin/env python3
"""F35: the configuration changes in the middle of an alert."""
import copy
import signal
import sys
import threading

import harness
from harness import Case, configuration, rule, stays, wait_for


class ReloadTest(Case):
    args, env = [], {}

    def start(self):
        self.app, self.chat = self.log(), self.slack()
        self.config = configuration(
            self.app.path, {"boom": {"match": "ERROR boom"}, "bang": {"match": "ERROR bang"}},
            [rule("Boom", "count_over_time(boom[1h]) >= 3", labels={"severity": "critical"}, annotations={"summary": "first words"}),
             rule("Bang", "count_over_time(bang[1h]) >= 1")],
            {"ops": harness.slack(self.chat.hook()), "spare": harness.slack(self.chat.hook("SPARE"))})
        bell = self.bell(self.config, args=self.args, env=self.env)
        self.app.write(*["ERROR boom"] * 3)
        self.before = bell.await_firing("Boom")[0]
        wait_for(lambda: len(self.chat.messages(self.chat.hook())) == 1, "the first message", context=bell.tail)
        return bell

    def reload(self, bell, change):
        config = copy.deepcopy(self.config)
        change(config)
        bell.configure(config)
        status, said = bell.reload()
        self.assertEqual(200, status, said)
        self.config = config

    def told(self):
        return [m["rendered"] for m in self.chat.messages(self.chat.hook())]

    def test_F35_an_unchanged_rule_keeps_firing_and_says_nothing(self):
        bell = self.start()
        self.reload(bell, lambda c: c["rules"][0].update(annotations={"summary": "other words"}) or c["rules"].append(
            rule("New", "count_over_time(boom[1h]) >= 100")))
        self.assertEqual(["New"], [r["name"] for g in bell.api("rules")["groups"] for r in g["rules"] if r["name"] == "New"])
        after = bell.firing("Boom")[0]
        self.assertEqual(self.before["activeAt"], after["activeAt"])
        stays(lambda: len(self.told()) == 1 and bell.firing("Boom"), "silence about what has not changed", 2, bell.tail)
        self.app.write("ERROR boom", "ERROR bang")  # the windows and the reading went on
        bell.await_metric(4, "logbell_pattern_matches_total", pattern="boom")
        bell.await_firing("Bang")

    def test_F35_a_changed_rule_judges_by_its_new_expression(self):
        bell = self.start()
        self.reload(bell, lambda c: c["rules"][0].update(expr="count_over_time(boom[1h]) >= 2"))
        wait_for(lambda: bell.firing("Boom"), "Boom still firing: the matches are still there", context=bell.tail)
        self.reload(bell, lambda c: c["rules"][0].update(expr="count_over_time(boom[1h]) >= 100"))
        bell.await_quiet("Boom")
        wait_for(lambda: "resolved" in self.told()[-1].lower(), "the resolve to whoever was told", context=bell.tail)

    def test_F35_a_removed_rule_is_resolved_and_says_why(self):
        bell = self.start()
        self.reload(bell, lambda c: c["rules"].pop(0))
        bell.await_quiet("Boom")
        wait_for(lambda: len(self.told()) == 2, "the resolve", context=bell.tail)
        self.assertRegex(self.told()[1].lower(), "resolved")
        self.assertIn("rule removed", self.told()[1].lower())
        self.assertIn('rules_gone=Boom msg="Rules are watched no longer', bell.tail(100))
        self.assertNotIn("no rule", bell.get("/-/ready")[1])
        self.reload(bell, lambda c: c["rules"].clear())
        wait_for(lambda: "the configuration has no rule: nobody is told" in bell.get("/-/ready")[1], "word of it", context=bell.tail)

    def test_F35_a_removed_sink_is_not_needed_for_the_resolve_of_the_others(self):
        bell = self.start()
        wait_for(lambda: self.chat.messages(self.chat.hook("SPARE")), "the spare's first message")

        def without_spare(c):
            del c["sinks"]["spare"]
            c["route"]["sinks"] = ["ops"]
        self.reload(bell, without_spare)
        self.reload(bell, lambda c: c["rules"].pop(0))
        wait_for(lambda: len(self.told()) == 2, "the resolve", context=bell.tail)
        self.assertEqual(200, bell.get("/-/healthy")[0])

    def told_as_missed(self, change):
        """The alert that nobody heard is over, and its sink then mended under another name, by `change(bell, configuration)`."""
        app, chat = self.log(), self.slack()
        patterns = {"boom": {"match": r"ERROR boom on (?P<queue>\w+)$", "labels": ["queue"]}}
        rules = [rule("Boom", "sum by (queue) (count_over_time(boom[300ms])) >= 1")]

        def policy(name, url):
            return configuration(app.path, patterns, rules, {name: harness.slack(url)}, route={"sinks": [name], "group_wait": "0s"})
        bell = self.bell(policy("gone", f"http://127.0.0.1:{harness.free_port()}/services/a"))
        app.write("ERROR boom on orders")
        bell.await_firing("Boom")
        bell.await_quiet("Boom")
        wait_for(lambda: bell.metric("logbell_notifications_total", outcome="retry", sink="gone"), "an attempt", context=bell.tail)
        change(bell, policy("chat", chat.hook()))

        def missed():
            return [m["rendered"] for m in chat.messages() if "AlertsMissed" in m["rendered"]]
        wait_for(missed, "word of what nobody heard", context=bell.tail)
        self.assertIn("rule Boom fired and is over; sink gone was never told", missed()[0])
        self.assertIn("orders", missed()[0])
        bell.await_metric(1, "logbell_notifications_dropped_total", reason="no_lane")

    def test_F35_what_never_reached_a_sink_that_is_replaced_is_told_by_the_new_one(self):
        def change(bell, policy):
            bell.configure(policy)
            self.assertEqual(200, bell.reload()[0])
        self.told_as_missed(change)

    def test_F35_what_never_reached_a_sink_that_is_replaced_while_logbell_is_down_is_told(self):
        def change(bell, policy):
            bell.configure(policy)
            bell.restart()
        self.told_as_missed(change)

    def test_F35_an_invalid_file_is_rejected_and_the_old_one_goes_on(self):
        bell = self.start()
        good = bell.text
        for what, text in [("a rule that reaches nobody", good.replace("  sinks: [ops, spare]\n", "")), ("no YAML at all", "rules: [\n"),
                           ("a regex that RE2 refuses", good.replace("match: 'ERROR boom'", "match: '(?=x)'")), ("nothing", "")]:
            with self.subTest(what):
                self.assertNotEqual(good, text)
                bell.configure(text)
                status, said = bell.reload()
                self.assertIn(status, range(400, 600))
                self.assertIn("logbell.yaml:", said)
                bell.await_metric(0, "logbell_config_last_reload_successful")
                self.assertEqual(self.before["activeAt"], bell.firing("Boom")[0]["activeAt"])
        self.assertEqual(200, bell.get("/-/ready")[0])
        self.app.write("ERROR bang")
        bell.await_firing("Bang")
        bell.configure(good)
        self.assertEqual(200, bell.reload()[0])
        bell.await_metric(1, "logbell_config_last_reload_successful")
        self.assertEqual(1, len([t for t in self.told() if "Boom" in t]))

    def test_F35_a_reload_that_was_refused_is_an_alert_until_it_is_mended(self):
        self.args, self.env = ["--on-refusal=stay"], {"LOGBELL_FAULT_TELL_RELOAD_MS": "100"}
        bell = self.start()
        good = bell.text
        other = self.slack()

        def told(chat=None):
            return [m["rendered"] for m in (chat or self.chat).messages() if "ConfigReloadFailed" in m["rendered"] or "refuses its conf" in m["rendered"]]

        def refused(text):
            bell.configure(text)
            self.assertEqual(400, bell.reload()[0])
        refused(good.replace("match: 'ERROR boom'", "match: '(?=x)'"))
        summary = bell.await_firing("ConfigReloadFailed")[0]["annotations"]["summary"]
        self.assertRegex(summary, r"refuses its configuration: 1 error in .*logbell\.yaml\. The last good configuration goes on .*"
                                  r"logbell\.yaml:\d+:\d+: pattern \"boom\": .*\(\?=")
        wait_for(lambda: len(told()) == 2, "word at both sinks, by the route", context=bell.tail)
        # Another mistake: the alert says it, and nobody is told again; nor by the next process, which goes on with the last good one,
        # but for a sink of the new configuration, which only that one can name.
        worse = good.replace("alert: Bang", "alart: Bang").replace(self.chat.hook("SPARE"), other.hook())
        self.assertIn(other.hook(), worse)
        refused(worse)
        wait_for(lambda: "alart" in bell.firing("ConfigReloadFailed")[0]["annotations"]["summary"], "the newest mistake", context=bell.tail)
        bell.stop()
        bell.start()
        bell.await_metric(1, "logbell_plan_refused")
        wait_for(lambda: told(other), "word at the new sink", context=bell.tail)
        self.assertIn("alart", bell.firing("ConfigReloadFailed")[0]["annotations"]["summary"])
        self.assertEqual((2, 1), (len(told()), len(told(other))))
        bell.configure(good)
        self.assertEqual(200, bell.reload()[0])
        bell.await_quiet("ConfigReloadFailed")
        wait_for(lambda: len(told()) == 4, "the end at both", context=bell.tail)
        self.assertEqual(2, len([t for t in told() if "resolved" in t.lower()]))
        self.assertEqual(1, len(told(other)))

    def test_F35_by_signal(self):
        bell = self.start()
        self.config["rules"].pop(0)
        bell.configure(self.config)
        bell.process.signal(signal.SIGHUP)
        bell.await_quiet("Boom")

    def test_F35_in_full_flow_no_line_is_lost_or_counted_twice(self):
        bell = self.start()
        stop, written = threading.Event(), [3]

        def flow():
            while not stop.wait(0.001):
                self.app.write(*["ERROR boom"] * 10)
                written[0] += 10
        writer = threading.Thread(target=flow)
        writer.start()
        try:
            for turn in range(10):
                self.reload(bell, lambda c, turn=turn: c["rules"][1].update(expr=f"count_over_time(bang[{turn + 1}m]) >= 1"))
        finally:
            stop.set()
            writer.join()
        bell.await_metric(written[0], "logbell_pattern_matches_total", pattern="boom")
        wait_for(lambda: float(bell.firing("Boom")[0]["value"]) == written[0], "all of them in the window", context=bell.tail)
        self.assertEqual(self.before["activeAt"], bell.firing("Boom")[0]["activeAt"])


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
