#!/usr/bin/env python3
"""Each kind of sink once, through the whole program."""
import hashlib
import hmac
import json

import harness
from harness import Case, configuration, rule, wait_for

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}}
RULES = [rule("Boom", "sum by (queue) (count_over_time(boom[2s])) >= 1", labels={"severity": "critical"}, annotations={"summary": "queue {{ $labels.queue }}"})]


class SinksTest(Case):
    def ring(self, sinks, **more):
        self.app = self.log()
        bell = self.bell(configuration(self.app.path, BOOM, RULES, sinks), **more)
        self.app.write("ERROR boom on orders password=hunter2")
        return bell

    def test_webhook_speaks_alertmanagers_version_4_signed(self):
        receiver = self.receiver()
        self.ring({"hook": harness.webhook(receiver.url + "/in", secret="${HOOK_SECRET}")}, env={"HOOK_SECRET": "s3cret-enough-for-anyone"})
        wait_for(lambda: receiver.alerts("firing") and receiver.alerts("resolved"), "firing and resolved", context=self.bells[0].tail)
        _, path, headers, raw = receiver.received[0]
        body = json.loads(raw)
        self.assertEqual(("/in", "4", "firing"), (path, body["version"], body["status"]))
        self.assertEqual({"alertname": "Boom", "queue": "orders", "severity": "critical", "environment": "e2e"},
                         {k: v for k, v in body["alerts"][0]["labels"].items() if k != "instance"})
        self.assertEqual("queue orders", body["alerts"][0]["annotations"]["summary"])
        for key in ("groupKey", "truncatedAlerts", "receiver", "groupLabels", "commonLabels", "commonAnnotations", "externalURL"):
            self.assertIn(key, body)
        for key in ("startsAt", "endsAt", "generatorURL", "fingerprint"):
            self.assertIn(key, body["alerts"][0])
        self.assertNotIn("hunter2", raw, "secrets in the log do not leave")
        self.assertTrue(headers["idempotency-key"])
        stamp = next(value for name, value in headers.items() if name.endswith("-timestamp"))
        signature = next(value for name, value in headers.items() if name.endswith("-signature"))
        wanted = hmac.new(b"s3cret-enough-for-anyone", f"{stamp}.{raw}".encode(), hashlib.sha256).hexdigest()
        self.assertEqual(wanted, signature.rpartition("=")[2])
        self.assertNotEqual(headers["idempotency-key"], receiver.received[1][2]["idempotency-key"])

    def test_file_and_console(self):
        out = self.path("alerts.jsonl")
        bell = self.ring({"record": harness.file_sink(out), "screen": {"console": {}}})
        wait_for(lambda: "resolved" in json.dumps(harness.json_lines(out)), "firing and resolved in the file", context=bell.tail)
        text = json.dumps(harness.json_lines(out))
        self.assertIn("Boom", text)
        self.assertNotIn("hunter2", text)
        bell.stop()
        self.assertIn("Boom", bell.said())
        self.assertNotIn("hunter2", bell.said())

    def test_a_file_alone_tells_nobody(self):
        self.app = self.log()
        bell = self.bell(configuration(self.app.path, BOOM, RULES, {"record": harness.file_sink(self.path("out"), audience=None)}), start=False)
        code, said = bell.refused()
        self.assertEqual(78, code)
        self.assertIn("audience: machine", said)


if __name__ == "__main__":
    harness.main()
