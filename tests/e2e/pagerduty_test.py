#!/usr/bin/env python3
"""PagerDuty through the whole program: an alert is one incident, whatever happens to us between its beginning and its end."""
import signal
import sys
import time

import harness
from harness import Case, configuration, rule, stays, wait_for

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}}
ROUTE = {"sinks": ["oncall"], "group_by": ["alertname"], "group_interval": "1s"}


class PagerDutyTest(Case):
    def config(self, pager, window="1h", sinks=None, route=None, rules=None, **more):
        rules = rules or [rule("Boom", f"sum by (queue) (count_over_time(boom[{window}])) >= 1", labels={"severity": "critical"},
                               annotations={"summary": "queue {{ $labels.queue }} is gone", "runbook_url": "https://wiki.example.com/queue"})]
        return configuration(self.app.path, BOOM, rules, sinks or {"oncall": harness.pagerduty(pager.url)}, route=route or ROUTE, **more)

    def start(self, pager, **more):
        self.app = self.log()
        env = more.pop("env", None)
        return self.bell(self.config(pager, **more), env=env)

    def incident(self, pager, state="triggered", count=1):
        return wait_for(lambda: len(pager.incidents(state)) == count and pager.incidents(state)[-1], f"{count} {state}", 20, self.bells[0].tail)

    def test_pager_an_alert_opens_an_incident_and_its_end_resolves_it(self):
        pager = self.pager()
        bell = self.start(pager, window="2s", labels={"service": "orders-api"})
        self.assertEqual(["logbell/is-anybody-there"], [probe["event"]["dedup_key"] for probe in pager.probes], "asked once, silently")
        self.app.write("ERROR boom on orders password=hunter2")
        incident = self.incident(pager)
        payload = incident["payload"]
        self.assertEqual("Boom · orders-api · e2e: 1 (>= 1) — queue orders is gone", payload["summary"])
        self.assertEqual(("critical", "orders-api", "e2e", "Boom"), tuple(payload[key] for key in ("severity", "component", "group", "class")))
        self.assertEqual("orders", payload["custom_details"]["labels"]["queue"])
        self.assertIn("boom on orders", payload["custom_details"]["first_line"])
        self.assertNotIn("hunter2", str(payload))
        self.assertEqual([{"href": "https://wiki.example.com/queue", "text": "Runbook"}], incident["links"])
        self.assertEqual(incident["dedup_key"], self.incident(pager, "resolved")["dedup_key"])
        bell.await_metric(2, "logbell_notifications_total", sink="oncall", outcome="delivered")
        self.assertIn(incident["dedup_key"], bell.said(), "the receipt")
        self.assertEqual(["trigger", "resolve"], [e["event"]["event_action"] for e in pager.events()])
        self.assertEqual(0, bell.metric("logbell_sink_payload_truncated_total", sink="oncall"))

    def test_pager_a_second_queue_calls_while_somebody_looks_after_the_first(self):
        pager = self.pager()
        self.start(pager)
        self.app.write("ERROR boom on first")
        pager.acknowledge(self.incident(pager)["dedup_key"])
        self.app.write("ERROR boom on second")
        self.incident(pager)
        self.assertEqual([1, 1], [incident["calls"] for incident in pager.incidents()])

    def test_pager_a_reload_that_groups_otherwise_loses_no_end(self):
        pager = self.pager()
        bell = self.start(pager, window="3s")
        self.app.write("ERROR boom on a", "ERROR boom on b")
        self.incident(pager, count=2)
        other = {"spare": harness.webhook(self.receiver().url), "oncall": harness.pagerduty(pager.url)}
        route = {"sinks": ["spare"], "routes": [{"matchers": ['queue="a"'], "sinks": ["oncall"], "group_by": ["queue"]},
                                                {"sinks": ["oncall", "spare"], "group_by": ["..."]}]}
        bell.configure(self.config(pager, "3s", other, route))
        self.assertEqual(200, bell.reload()[0])
        self.incident(pager, "resolved", 2)
        self.assertEqual([1, 1], [incident["triggers"] for incident in pager.incidents()])

    def test_pager_a_limit_is_kept_and_a_lost_answer_doubles_nothing(self):
        pager = self.pager()
        pager.script({"status": 429, "headers": {"Retry-After": "2"}}, {"mode": "drop"})
        bell = self.start(pager)
        self.app.write("ERROR boom on orders")
        bell.await_metric(1, "logbell_notifications_total", sink="oncall", outcome="delivered")
        tries = pager.events()
        self.assertEqual(3, len(tries))
        self.assertGreaterEqual(tries[1]["monotonic"] - tries[0]["monotonic"], 1.95)
        self.assertEqual([("triggered", 2, 1)], [(i["state"], i["triggers"], i["calls"]) for i in pager.incidents()])
        self.assertEqual(1, bell.metric("logbell_notifications_total", sink="oncall", outcome="unknown"))

    def test_pager_who_acknowledged_it_is_asked_for(self):
        pager = self.pager(on_call="Anna Example")
        pager.script({"api": True, "status": 403, "body": "{}"})
        bell = self.start(pager, sinks={"oncall": harness.pagerduty(pager.url, api_token=harness.pagerduty_server.API_TOKEN)})
        self.assertIn("api_token: GET incidents -> HTTP 403", str(bell.api("sinks")))
        self.app.write("ERROR boom on orders")

        def levels():
            return {proof["level"]: proof for proof in bell.api("proof")["proofs"][0]["proofs"]}
        proofs = wait_for(lambda: "L6" in levels() and levels(), "L6", context=bell.tail)
        self.assertEqual("Anna Example", proofs["L6"]["who"])
        self.assertRegex(proofs["L6"]["evidence"], "^Anna Example acknowledged it in PagerDuty, . s after it began; incident PT4KH001 is acknowledged$")
        self.assertEqual("GET incidents -> incident PT4KH001 is acknowledged", proofs["L5"]["evidence"])
        self.assertEqual(1, bell.metric("logbell_acknowledgements_total", way="read_back"))
        self.assertEqual(1, bell.metric("logbell_read_backs_total", outcome="found"))
        self.assertEqual([("incident_key", pager.incidents()[0]["dedup_key"]), ("limit", "10"), ("sort_by", "created_at:desc")], pager.questions[-1]["query"])
        self.assertNotIn(harness.pagerduty_server.API_TOKEN, bell.said() + str(bell.api("sinks")))

    def test_pager_a_key_that_is_not_known_stops_the_start(self):
        pager, self.app = self.pager(keys=set()), self.log()
        bell = self.bell(self.config(pager), start=False)
        code, said = bell.refused()
        self.assertEqual(78, code, said)
        self.assertRegex(said, r"oncall is dead \(resolve of nothing -> HTTP 400: .*Invalid routing key")
        self.assertNotIn(harness.pagerduty_server.KEY, said)
        self.assertEqual(78, bell.check("--probe")[0])
        self.assertEqual(0, bell.check()[0], "what nobody is asked for cannot be known")
        bell.configure(self.config(pager, sinks={"oncall": harness.pagerduty(pager.url, key="too-short")}))
        code, said = bell.check()
        self.assertEqual(78, code)
        self.assertRegex(said, r'logbell\.yaml:\d+:\d+: .*a routing key has 32 characters, this one 9')

    def test_F43_killed_before_the_receipt_is_written_it_is_one_incident(self):
        pager = self.pager()
        bell = self.start(pager, window="4s", env={"LOGBELL_FAULT_POINT": "lane.answered:1"})
        self.app.write("ERROR boom on orders")
        self.assertEqual(-signal.SIGKILL, bell.process.wait())
        self.assertEqual(1, len(pager.incidents("triggered")), "PagerDuty has it, and we do not know")
        bell.env.pop("LOGBELL_FAULT_POINT")
        bell.start()
        bell.await_metric(1, "logbell_notifications_total", sink="oncall", outcome="delivered")
        first, second = pager.events("trigger")
        self.assertEqual(first["event"]["dedup_key"], second["event"]["dedup_key"])
        self.incident(pager, "resolved")
        self.assertEqual([("resolved", 2, 1)], [(i["state"], i["triggers"], i["calls"]) for i in pager.incidents()])

    def test_F40_a_revoked_key_is_replaced_within_seconds_and_told_elsewhere(self):
        pager, spare, other = self.pager(), self.receiver(), self.receiver()
        sinks = {"oncall": harness.pagerduty(pager.url, fallback=["spare"]), "spare": harness.webhook(spare.url), "other": harness.webhook(other.url)}
        bell = self.start(pager, sinks=sinks, route={**ROUTE, "sinks": ["oncall", "other"]})
        pager.revoke()
        self.app.write("ERROR boom on orders")
        began = time.monotonic()
        wait_for(lambda: spare.alerts("firing", alertname="Boom"), "the fallback", 5, bell.tail)
        self.assertLess(time.monotonic() - began, 5)
        wait_for(lambda: other.alerts("firing", alertname="SinkDead", sink="oncall"), "SinkDead elsewhere", context=bell.tail)
        stays(lambda: len(pager.events()) <= 2, "no hot retries", 1)
        self.assertEqual([], pager.incidents())
        self.assertEqual(1, bell.metric("logbell_notifications_total", sink="oncall", outcome="rejected", reason="auth"))
        self.assertNotIn(harness.pagerduty_server.KEY, bell.said())


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
