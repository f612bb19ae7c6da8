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
