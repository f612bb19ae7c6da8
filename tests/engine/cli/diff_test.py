#!/usr/bin/env python3
"""diff_test.py LOGBELL: the founding story told by `diff`: staging has the Slack integration, production has not."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LOGBELL = os.path.abspath(sys.argv.pop(1))
SLACK = "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/abcdefghijklmnopqrstuvwx"
STAGING = """\
environment: staging
sources: [{name: api, files: [/var/log/api.log]}]
rules:
  - {alert: Errors, match: ERROR, labels: {severity: critical}}
sinks:
  ops: {slack: {webhook_url: '${SLACK}'}}
  record: {webhook: {url: 'https://hooks.example.com/x'}}
route: {sinks: [record], routes: [{matchers: ['severity="critical"'], sinks: [ops, record]}]}
"""
# The overlay forgot it: everything is valid, and nobody is woken.
PRODUCTION = STAGING.replace("environment: staging", "environment: production").replace("sinks: [ops, record]", "sinks: [record]")


class Diff(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)

    def diff(self, a, b, *arguments, **env):
        (self.directory / "staging.yaml").write_text(a)
        (self.directory / "production.yaml").write_text(b)
        keep = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        return subprocess.run([LOGBELL, "diff", "staging.yaml", "production.yaml", *arguments], cwd=self.directory,
                              env={**keep, "SLACK": SLACK, **env}, capture_output=True, text=True, timeout=60)

    def test_a_sink_that_production_forgot_is_said_first_and_is_1(self):
        done = self.diff(STAGING, PRODUCTION)
        self.assertEqual((1, ""), (done.returncode, done.stderr))
        self.assertTrue(done.stdout.startswith(
            'FEWER are told with production.yaml:\n  rule "Errors": ops (slack), record (webhook) -> record (webhook)\n'), done.stdout)
        self.assertNotIn("abcdefghijklmnop", done.stdout)
        back = self.diff(PRODUCTION, STAGING)
        self.assertEqual(0, back.returncode)
        self.assertTrue(back.stdout.startswith("More are told:\n"), back.stdout)

    def test_whatever_reaches_fewer_is_1(self):
        def with_route(route, more=""):
            return STAGING.replace("route: {sinks: [record], routes: [{matchers: ['severity=\"critical\"'], sinks: [ops, record]}]}\n",
                                   f"route: {route}\n{more}")

        def night(start, end):
            return (f"time_intervals: [{{name: night, time_intervals: [{{times: [{{start_time: '{start}', end_time: '{end}'}}]}}]}}]\n")

        plain = with_route("{sinks: [ops, record]}")
        muted = ("{sinks: [ops, record], routes: [{matchers: ['severity=\"critical\"'], mute_time_intervals: [night]}]}")
        machine = plain.replace("hooks.example.com/x'}}", "hooks.example.com/x'}}\n  audit: {file: {path: /tmp/audit}, audience: machine}")
        signed = plain.replace("/x'}", "/x', secret: '${SECRET}'}")
        caught = "{sinks: [record], routes: [%s, %s]}"
        first, last = ("{matchers: ['service=\"db\"'], sinks: [ops, record]}", "{matchers: ['service=~\"d.*\"'], sinks: [record]}")
        pattern = STAGING.replace(
            "rules:\n  - {alert: Errors, match: ERROR, labels: {severity: critical}}",
            "patterns: {err: {match: 'ERROR (?P<service>\\w+)', labels: [service]}}\n"
            "rules:\n  - {alert: Errors, expr: 'count_over_time(err[1m]) > 1'}")

        def by_service(route):
            return pattern.replace("route: {sinks: [record], routes: [{matchers: ['severity=\"critical\"'], sinks: [ops, record]}]}",
                                   f"route: {route}")

        rows = {
            "a mute that is new": (plain, with_route(muted, night("00:01", "24:00")), "the same, but nobody at "),
            "a mute that is longer": (with_route(muted, night("00:01", "00:02")), with_route(muted, night("00:01", "24:00")),
                                      "night (00:01-00:02) -> night (00:01-24:00)"),
            "a route that an earlier one empties": (by_service(caught % (first, last)), by_service(caught % (last, first)),
                                                    'rule "Errors": record (webhook), ops (slack) when service="db" holds -> record (webhook)'),
            "other labels": (by_service(caught % (first, last)), by_service(caught % (first.replace("db", "dc"), last)),
                             'ops (slack) when service="dc" holds'),
            "a fallback": (plain.replace("{url: 'https://hooks.example.com/x'}}", "{url: 'https://hooks.example.com/x'}, fallback: [ops]}")
                           .replace("[ops, record]", "[record]"), plain.replace("[ops, record]", "[record]"),
                           'rule "Errors": record (webhook, else ops) -> record (webhook)'),
            "logbell's own": (machine, machine.replace("[ops, record]}", "[ops, record], routes: [{matchers: [alertname=SinkDead], sinks: [audit]}]}"),
                              "logbell's own SinkDead: ops (slack), record (webhook) -> no person, only audit (file, read by a machine)"),
            "a secret": (signed, plain, 'sink "record": secrets: secret, url -> url'),
            "a machine instead of people": (machine, machine.replace("[ops, record]", "[audit]"),
                                            'rule "Errors": ops (slack), record (webhook) -> no person, only audit (file, read by a machine)'),
        }
        for name, (a, b, says) in rows.items():
            with self.subTest(name):
                done = self.diff(a, b, SECRET="8d1f6c0b6a8e8d1f6c0b6a8e")
                self.assertEqual((1, ""), (done.returncode, done.stderr), done.stdout)
                self.assertTrue(done.stdout.startswith("FEWER are told with production.yaml:\n"), done.stdout)
                self.assertIn(says, done.stdout)
                self.assertNotIn("is refused", done.stdout)
        done = self.diff(plain, plain.replace("/var/log/api.log", "/var/log/other.log"))
        self.assertEqual((0, 'Sources:\n  source "api": lines from: /var/log/api.log -> /var/log/other.log\n'), (done.returncode, done.stdout))

    def test_another_end_is_said(self):
        held = STAGING.replace("match: ERROR,", "match: ERROR, resolve_when: 'count_over_time(Errors[9m]) == 0',")
        done = self.diff(STAGING, held)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertIn('rule "Errors": resolve_when: when expr does not hold -> count_over_time(Errors[9m]) == 0\n', done.stdout)
        self.assertIn('rule "Errors": keep_firing_for: 5m -> 0s\n', done.stdout)

    def test_what_does_the_same_is_0(self):
        done = self.diff(STAGING, STAGING.replace("staging", "production"))
        self.assertEqual((0, "They do the same, wherever their sinks lead.\n"), (done.returncode, done.stdout))

    def test_one_that_would_not_start_is_1_and_says_why(self):
        done = self.diff(STAGING, STAGING.replace("sinks: [ops, record]", "sinks: [pager]"))
        self.assertEqual(1, done.returncode)
        self.assertIn('rule "Errors": ops (slack), record (webhook) -> nobody', done.stdout)
        self.assertIn("production.yaml is refused; `logbell run` would not start with it:\n  production.yaml:8:", done.stdout)

    def test_secrets_that_are_not_here_can_be_left_out(self):
        done = self.diff(STAGING, PRODUCTION, SLACK="")
        self.assertIn("the variable SLACK is empty", done.stdout)
        done = self.diff(STAGING, PRODUCTION, "--assume-secrets", SLACK="")
        self.assertEqual(1, done.returncode)
        self.assertIn('rule "Errors": ops (slack), record (webhook) -> record (webhook)', done.stdout)

    def test_what_a_refused_a_tells_nobody_proves_nothing_of_b(self):
        done = self.diff(STAGING.replace("${SLACK}", "${STAGING_SLACK}"), PRODUCTION)
        self.assertEqual(78, done.returncode, done.stdout)
        self.assertIn("the variable STAGING_SLACK is not set", done.stdout)
        self.assertIn("So nothing says whether fewer are told with production.yaml; `--assume-secrets` compares without the values.", done.stdout)

    def test_json(self):
        done = self.diff(STAGING, PRODUCTION, "--format", "json")
        self.assertEqual(1, done.returncode)
        found = json.loads(done.stdout)
        self.assertTrue(found["fewer"] and found["a_starts"] and found["b_starts"])
        self.assertEqual({"section": "fewer", "subject": 'rule "Errors"', "what": "told", "a": "ops (slack), record (webhook)",
                          "b": "record (webhook)"}, found["differences"][0])

    def test_what_cannot_be_read_is_78(self):
        done = self.diff(STAGING, "sources: [\n")
        self.assertEqual(78, done.returncode)
        self.assertIn("production.yaml is refused", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
