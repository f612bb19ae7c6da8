#!/usr/bin/env python3
"""F53: everything is green, but would anybody hear? A marked line goes the whole way, and ends in a receipt; nothing real moves."""
import datetime
import json
import os
import re
import subprocess
import sys

import harness
from harness import Case, configuration, rule, wait_for

PATTERNS = {"boom": {"match": r"ERROR boom (?P<queue>\S+)", "labels": ["queue"], "examples": ["ERROR boom orders"]},
            "received": {"match": "received batch"}}
RULES = [rule("Boom", "sum by (queue) (count_over_time(boom[1m])) >= 3", labels={"severity": "critical"}),
         rule("NoData", "count_over_time(received[2h]) == 0", labels={"severity": "warning"})]
# What counts lines, matches, alerts and messages; not what a drill is about.
REAL = re.compile(r"^(?!#)(?!process_|logbell_(drills|proof|read_backs|sink|outbox|queue|commit|http|source_last_line|notification_latency|config_last))\S+ ")


class DrillTest(Case):
    def config(self, log, sinks, **more):
        return configuration(log.path, PATTERNS, RULES, sinks, route={"sinks": list(sinks), "group_by": ["alertname"], "group_interval": "1s"}, **more)

    def drill(self, bell, *args):
        ended = subprocess.run([harness.binary(), "drill", "--url", bell.url, *args], capture_output=True, text=True, timeout=90, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    def report(self, bell, *args):
        code, out, err = self.drill(bell, "--format", "json", *args)
        self.assertIn(code, (0, 1), err)
        return code, json.loads(out)

    def ways(self, report):
        return sorted((pair["alertname"], pair["sink"], pair["state"], pair["failed_at"]) for pair in report["pairs"])

    def real(self, bell):
        return sorted(line for line in bell.get("/metrics")[1].splitlines() if REAL.match(line))

    def test_F53_a_machine_is_proven_as_a_machine(self):
        log, slack = self.log(), self.slack()
        conf = self.config(log, {"chat": harness.slack(slack.hook()), "record": harness.file_sink(self.path("record.jsonl"))})
        conf["route"].update(sinks=["chat"], routes=[{"matchers": ['severity="warning"'], "sinks": ["record"]}])
        bell = self.bell(conf)
        self.assertRegex(bell.tail(), r"rules=NoData msg=\"No person is told of these, only a machine\.")
        code, out, _ = self.drill(bell)
        self.assertEqual(0, code, out)
        self.assertIn("\nMachine only, no person is told of it: NoData.\n", out)
        self.assertEqual(["NoData"], self.report(bell, "NoData")[1]["machine_only"])
        self.assertEqual([], self.report(bell, "Boom")[1]["machine_only"])
        self.assertEqual(["NoData"], bell.api("proof")["machine_only"])
        status = subprocess.run([harness.binary(), "status", "--url", bell.url], capture_output=True, text=True, timeout=90, check=False)
        self.assertIn("\nMachine only, no person is told of it: NoData.\n", status.stdout)

    def test_F53_each_rule_is_proven_at_each_sink_and_nothing_real_moves(self):
        log, slack, pager = self.log(), self.slack(), self.receiver()
        bell = self.bell(self.config(log, {"chat": harness.slack(slack.hook()), "pager": harness.webhook(pager.url)}))
        log.write("ERROR boom orders", "ERROR boom orders")
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="boom", queue="orders")
        before = self.real(bell)
        self.assertGreater(len(before), 30)
        code, report = self.report(bell)
        self.assertEqual(0, code, report)
        self.assertEqual([("Boom", "chat", "proven", ""), ("Boom", "pager", "proven", ""), ("NoData", "chat", "proven", ""), ("NoData", "pager", "proven", "")],
                         self.ways(report))
        for pair in report["pairs"]:
            times = [pair[hop] for hop in ("read", "matched", "routed", "stored", "accepted")]
            self.assertEqual(sorted(times), times, pair)
        # One message a sink, plainly a drill; what it opens at a pager is closed behind it.
        message = wait_for(slack.messages, "message", context=bell.tail)
        self.assertEqual(1, len(message))
        self.assertIn("[DRILL] 2 rules", json.dumps(message[0], ensure_ascii=False))
        wait_for(lambda: len(pager.bodies()) == 2, "the drill's end", context=bell.tail)
        self.assertEqual(["firing", "resolved"], [body["status"] for body in pager.bodies()])
        for alert in pager.alerts():
            self.assertEqual(report["id"], alert["labels"]["drill"])
            self.assertTrue(alert["annotations"]["summary"].startswith("[DRILL] "), alert)
        self.assertEqual(before, self.real(bell))
        self.assertEqual([], bell.alerts("Boom"))
        self.assertEqual(1, bell.metric("logbell_drills_total", outcome="proven"))
        # The third line rings: what was counted before still counts.
        log.write("ERROR boom orders")
        wait_for(lambda: [alert for alert in pager.alerts("firing", alertname="Boom") if "drill" not in alert["labels"]], "the real one", context=bell.tail)
        proof = {(one["alertname"], one["sink"]): one for one in bell.api("proof")["proofs"]}
        self.assertEqual("L4", proof["NoData", "chat"]["reached"])
        self.assertEqual("drill", proof["NoData", "chat"]["proofs"][-1]["by"])
        # It outlives the process.
        bell.restart()
        self.assertEqual({"L4"}, {one["reached"] for one in bell.api("proof")["proofs"]})

    def test_F53_a_sink_that_takes_nothing_fails_the_drill_and_the_others_hear_of_it(self):
        log, slack, other = self.log(), self.slack(), self.receiver()
        bell = self.bell(self.config(log, {"chat": harness.slack(slack.hook()), "other": harness.webhook(other.url)}))
        # After the start had asked it, and as no question without a message can find out: it refuses each message.
        slack.script({"status": 403, "body": "action_prohibited", "times": -1})
        code, out, _ = self.drill(bell, "Boom")
        self.assertEqual(1, code, out)
        self.assertRegex(out, r"Boom +chat .* FAILED at deliver: .*403")
        self.assertRegex(out, r"Boom +other .* receipt")
        self.assertIn("1 of 2 ways are NOT proven", out)
        wait_for(lambda: other.alerts("firing", alertname="DrillFailed", sink="chat"), "DrillFailed", context=bell.tail)
        wait_for(lambda: "DrillFailed: A drill of Boom did not arrive at sink chat: " in bell.get("/-/ready")[1], "the truth", context=bell.tail)
        # Mended: the next drill says so, and ends it.
        slack.reset()
        self.assertEqual(0, self.drill(bell)[0])
        wait_for(lambda: other.alerts("resolved", alertname="DrillFailed", sink="chat"), "its end", context=bell.tail)
        wait_for(lambda: "DrillFailed" not in bell.get("/-/ready")[1], "the truth", context=bell.tail)

    def test_F53_alertmanager_is_asked_who_gets_it(self):
        log, receiver = self.log(), self.receiver()
        peer = self.closing(harness.Alertmanager(self.path("am"), receiver.url))
        bell = self.bell(self.config(log, {"am": harness.alertmanager(peer.url)}))
        code, report = self.report(bell, "Boom")
        self.assertEqual(0, code, report)
        proof = wait_for(lambda: [one for one in bell.api("proof")["proofs"] if one["alertname"] == "Boom" and one["reached"] == "L5"], "read back", context=bell.tail)[0]
        self.assertEqual(("L5", "its receivers: test"), (proof["proofs"][-1]["level"], proof["proofs"][-1]["evidence"]))
        # Behind Alertmanager it is plainly a drill, too.
        told = wait_for(lambda: receiver.alerts("firing", alertname="Boom"), "its own webhook", context=bell.tail)[0]
        self.assertTrue(told["annotations"]["summary"].startswith("[DRILL] "))
        self.assertEqual(report["id"], told["labels"]["drill"])

    def test_F53_an_alertmanager_that_tells_nobody_fails_the_drill(self):
        log, other = self.log(), self.receiver()
        peer = self.closing(harness.Alertmanager(self.path("am"), None, spare=True))
        sinks = {"am": harness.alertmanager(peer.url), "other": harness.webhook(other.url)}
        bell = self.bell(self.config(log, sinks))
        nobody = "receivers without any integration, which tell nobody: test"
        code, out, _ = self.drill(bell, "Boom")
        self.assertEqual(1, code, out)
        self.assertRegex(out, rf"Boom +am .* FAILED at read back: {nobody}")
        self.assertRegex(out, r"Boom +other .* receipt")
        self.assertIn("1 of 2 ways are NOT proven", out)
        told = wait_for(lambda: other.alerts("firing", alertname="DrillFailed", sink="am"), "DrillFailed", context=bell.tail)[0]
        self.assertEqual(f"A drill of Boom was taken by sink am, and is not to be found there: {nobody}.", told["annotations"]["summary"])
        status = subprocess.run([harness.binary(), "status", "--url", bell.url], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(1, status.returncode)
        self.assertRegex(status.stdout, rf"Boom +am +L\d NOT FOUND .*{nobody}")
        # Somebody gives it a receiver that rings.
        peer.close()
        with open(peer.config, "w", encoding="utf-8") as file:
            file.write(f"route: {{receiver: test, group_by: [alertname]}}\nreceivers: [{{name: test, webhook_configs: [{{url: '{other.url}/am'}}]}}]\n")
        peer.start()
        code, out, _ = self.drill(bell)
        self.assertEqual(0, code, out)
        self.assertRegex(out, r"Boom +am .* receipt: .*; its receivers: test")
        wait_for(lambda: other.alerts("resolved", alertname="DrillFailed", sink="am"), "its end", context=bell.tail)
        self.assertEqual("L5", [one for one in bell.api("proof")["proofs"] if (one["alertname"], one["sink"]) == ("Boom", "am")][0]["reached"])

    def test_F53_what_fails_for_one_rule_is_ended_by_that_rule_alone(self):
        log, chat, other = self.log(), self.receiver(), self.receiver()
        patterns = {**PATTERNS, "tight": {"match": "^Ready$"}}
        rules = [rule("Boom", "count_over_time(boom[1m]) >= 3", sinks=["chat"]), rule("Tight", "count_over_time(tight[1m]) >= 3", sinks=["chat"]),
                 rule("Night", "count_over_time(boom[2m]) >= 3", labels={"team": "night"})]
        # Always would be refused: all months but one that is far away.
        now = datetime.datetime.now(datetime.timezone.utc).month
        most = {"name": "most", "time_intervals": [{"months": [str(month) for month in range(1, 13) if month != (now + 5) % 12 + 1]}]}
        route = {"sinks": ["other"], "group_by": ["alertname"], "group_interval": "1s",
                 "routes": [{"matchers": ['team="night"'], "sinks": ["chat"], "mute_time_intervals": ["most"]}]}
        bell = self.bell(configuration(log.path, patterns, rules, {"chat": harness.webhook(chat.url), "other": harness.webhook(other.url)}, route=route,
                                       time_intervals=[most]))
        self.assertEqual(1, self.drill(bell, "Tight")[0])
        self.assertEqual(["Tight"], [alert["labels"]["rule"] for alert in bell.await_firing("DrillFailed")])
        # Another rule gets through: that says nothing of this one.
        self.assertEqual(0, self.drill(bell, "Boom")[0])
        # Muted at the moment: not proven, and no alarm.
        code, out, _ = self.drill(bell, "Night")
        self.assertEqual(1, code, out)
        self.assertIn("skipped at route: it tells nobody now: its route is muted at this time", out)
        # Whoever asks for one sink asks of no rule that does not go there.
        code, _, err = self.drill(bell, "--sink", "other")
        self.assertEqual(64, code, err)
        self.assertIn('no rule\'s alerts go to sink "other"', err)
        code, report = self.report(bell, "--sink", "chat", "Boom")
        self.assertEqual((0, [("Boom", "chat", "proven", "")]), (code, self.ways(report)))
        self.assertEqual(["Tight"], [alert["labels"]["rule"] for alert in bell.firing("DrillFailed")])
        # Gone with its rule.
        bell.configure(configuration(log.path, PATTERNS, rules[:1], {"chat": harness.webhook(chat.url), "other": harness.webhook(other.url)},
                                     route={"sinks": ["other"], "group_by": ["alertname"], "group_interval": "1s"}))
        bell.reload()
        bell.await_quiet("DrillFailed")

    def test_F53_each_way_of_a_rule_is_drilled_with_a_line_that_takes_it(self):
        log, slack, pager, mail = self.log(), self.slack(), self.receiver(), self.receiver()
        patterns = {"boom": {"match": r"ERROR boom (?P<team>\w+)", "labels": ["team"], "examples": ["ERROR boom web", "ERROR boom db"]}}
        rules = [rule("Boom", "sum by (team) (count_over_time(boom[1m])) >= 3")]
        sinks = {"chat": harness.slack(slack.hook()), "pager": harness.webhook(pager.url, fallback=["mail"]), "mail": harness.webhook(mail.url)}

        def config(team):
            return configuration(log.path, patterns, rules, sinks,
                                 route={"sinks": ["chat"], "group_by": ["alertname"], "routes": [{"matchers": [f'team="{team}"'], "sinks": ["chat", "pager"]}]})

        bell = self.bell(config("db"))
        code, report = self.report(bell)
        self.assertEqual(0, code, report)
        self.assertEqual([("Boom", sink, "proven", "") for sink in ("chat", "mail", "pager")], self.ways(report))
        self.assertEqual([["pager"]], [pair["fallback_for"] for pair in report["pairs"] if pair["sink"] == "mail"])
        self.assertEqual(["web"], re.findall(r"boom (web|db)", json.dumps(slack.messages()[0]))[:1])
        self.assertEqual({"db"}, {alert["labels"]["team"] for alert in pager.alerts() + mail.alerts()})
        self.assertEqual({"[DRILL] (in case pager fails) "}, {alert["annotations"]["summary"][:30] for alert in mail.alerts("firing")})
        code, out, _ = self.drill(bell, "--sink", "mail")
        self.assertEqual(0, code, out)
        self.assertRegex(out, r"Boom +mail \(for pager\) .* receipt")
        self.assertIn("each of 1 ways is proven", out)
        proof = {one["sink"]: (one["reached"], one["conditional"], one["fallback_for"]) for one in bell.api("proof")["proofs"]}
        self.assertEqual({"chat": ("L4", False, []), "pager": ("L4", True, []), "mail": ("L4", True, ["pager"])}, proof)
        # No example has that team, and the expression can be given it.
        bell.configure(config("search"))
        bell.reload()
        code, report = self.report(bell)
        self.assertEqual((0, 3), (code, len(report["pairs"])), report)
        self.assertEqual("search", pager.alerts()[-1]["labels"]["team"])
        # Nothing can: what is not drilled is said, with what to add.
        patterns["boom"]["match"] = r"ERROR boom (?P<team>web|db)"
        bell.configure(config("search"))
        bell.reload()
        code, out, _ = self.drill(bell)
        self.assertEqual(1, code, out)
        self.assertRegex(out, r'Boom +pager .* skipped at line: its alerts go there only when team="search" holds, and no line was found that is so; '
                              r'add one to the `examples:` of pattern "boom"')
        self.assertIn("2 of 3 ways are NOT proven", out)

    def test_F53_a_reload_without_a_change_takes_no_line(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.config(log, {"chat": harness.slack(slack.hook())}))
        _, mark, _ = self.drill(bell, "--issue", "Boom")
        mark = mark.strip()
        bell.reload()
        log.write(f"ERROR boom invoices [{mark}]")
        code, out, _ = self.drill(bell, "--result", mark.split(":")[1])
        self.assertEqual(0, code, out)
        self.assertRegex(out, r"Boom +chat .* receipt")
        self.assertIn("each of 1 ways that the line took is proven", out)

    def test_F53_what_the_drill_does_not_prove_is_said(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.config(log, {"chat": harness.slack(slack.hook())}))
        self.assertNotIn("Note", self.drill(bell)[1])
        os.rename(log.path, log.path + ".gone")
        code, out, _ = self.drill(bell)
        self.assertEqual(0, code, out)
        self.assertIn('Note: source "app" has no readable file: the line of the drill came in behind it, and what is logged is not read.', out)

    def test_F53_what_is_not_asked_for_is_no_reason_to_complain(self):
        log, slack = self.log(), self.slack()
        sinks = {"chat": harness.slack(slack.hook()), "copy": {"file": {"path": self.path("copy.jsonl")}}, "quiet": harness.webhook(self.receiver().url, drill=False)}
        bell = self.bell(self.config(log, sinks))

        def status():
            ended = subprocess.run([harness.binary(), "status", "--url", bell.url], capture_output=True, text=True, timeout=30, check=False)
            return ended.returncode, ended.stdout

        self.assertEqual(1, status()[0])
        self.assertEqual(0, self.drill(bell, "--sink", "chat")[0])
        code, out = status()
        self.assertEqual(0, code, out)
        for sink in ("copy", "quiet"):
            self.assertRegex(out, rf"Boom +{sink} +L\d \(not asked for\)")

    def test_F53_through_the_log_itself(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(self.config(log, {"chat": harness.slack(slack.hook())}))
        code, report = self.report(bell, "--via-log", log.path)
        self.assertEqual(0, code, report)
        self.assertEqual(2, len(report["lines"]))
        self.assertEqual(2, bell.metric("logbell_source_lines_total", source="app"))
        self.assertEqual([], bell.metrics().all("logbell_pattern_matches_total", pattern="boom"))
        # What somebody logs himself: one line, once.
        code, mark, said = self.drill(bell, "--issue", "Boom")
        self.assertEqual(0, code, said)
        mark = mark.strip()
        self.assertIn("logbell drill --result", said)
        log.write(f"2026-11-28 ERROR boom invoices [{mark}]", f"2026-11-28 ERROR boom again [{mark}]", "2026-11-28 ERROR boom x logbell-drill:0123456789abcdef")
        code, report = self.report(bell, "--result", mark.split(":")[1])
        self.assertEqual(0, code, report)
        self.assertEqual([("Boom", "chat", "proven", "")], self.ways(report))
        bell.await_metric(1, "logbell_pattern_matches_total", pattern="boom", queue="again")
        self.assertEqual(1, bell.metric("logbell_pattern_matches_total", pattern="boom", queue="x"))
        self.assertEqual([], bell.metrics().all("logbell_pattern_matches_total", pattern="boom", queue="invoices"))
        self.assertIn("invoices", json.dumps(slack.messages()))

    def test_F53_what_is_asked_wrongly_is_said(self):
        log = self.log()
        bell = self.bell(self.config(log, {"other": harness.webhook(self.receiver().url)}))
        for args, code, said in ((["Nope"], 64, 'there is no rule "Nope"'), (["--sink", "nope"], 64, 'there is no sink "nope"'),
                                 (["--via-log", self.path("none.log")], 64, "not followed by any source"), (["--result", "0"], 64, "no such drill"),
                                 (["--issue", "--via-log", log.path], 64, "excludes")):
            with self.subTest(args):
                ended, _, err = self.drill(bell, *args)
                self.assertEqual(code, ended, err)
                self.assertIn(said, err)
        # A page in somebody's browser may begin none.
        self.assertEqual(403, harness.http_request(bell.url + "/api/v1/drills", "POST", b"{}", {"Origin": "http://evil.example"})[0])
        self.assertEqual(403, harness.http_request(bell.url + "/api/v1/drills", "POST", b"{}", {"Host": "evil.example"})[0])
        self.assertEqual([], bell.api("drills")["drills"])
        bell.stop()
        ended, _, err = self.drill(bell)
        self.assertEqual(74, ended)
        self.assertIn("does `logbell run` run there?", err)

    def test_F53_a_hundred_rules_over_five_sinks_in_ten_seconds(self):
        log, slack = self.log(), self.slack()
        receivers = [self.receiver() for _ in range(3)]
        sinks = {"chat": harness.slack(slack.hook()), "alertmanagers": harness.alertmanager(self.receiver().url)}
        sinks.update({f"hook{i}": harness.webhook(receiver.url) for i, receiver in enumerate(receivers)})
        patterns = {f"p{i}": {"match": rf"ERROR {i} (?P<queue>\w+)", "labels": ["queue"]} for i in range(100)}
        rules = [rule(f"R{i}", f"sum by (queue) (count_over_time(p{i}[1m])) > 2") for i in range(100)]
        bell = self.bell(configuration(log.path, patterns, rules, sinks, route={"sinks": list(sinks), "group_by": ["alertname"]}))
        # Every series is there: this one comes with the first look at the log.
        wait_for(lambda: "\nlogbell_inotify_overflows_total 0\n" in bell.get("/metrics")[1], "the first look", context=bell.tail)
        before = self.real(bell)
        code, report = self.report(bell, "--wait", "10s")
        self.assertEqual(0, code, [pair for pair in report["pairs"] if pair["state"] != "proven"][:3])
        self.assertEqual(500, len(report["pairs"]))
        self.assertEqual(before, self.real(bell))
        self.assertLessEqual(len(slack.messages()), 2)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
