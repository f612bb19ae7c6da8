#!/usr/bin/env python3
"""logbell test as a user and a pipeline run it: exit statuses, the diff, JSON, JUnit, coverage."""
import json
import os
import subprocess
import time
import xml.etree.ElementTree

import harness
from harness import Case, configuration, rule

PATTERNS = {"failed": {"match": r"ERROR (?P<queue>\S+)", "labels": ["queue"]}, "slow": {"match": r"took \d{4,}ms"}}
RULES = [rule("Failed", "sum by (queue) (count_over_time(failed[1m])) >= 2", labels={"severity": "critical"}),
         rule("Slow", "count_over_time(slow[1m]) > 10", labels={"severity": "warning"})]

GOOD = """config: ../logbell.yaml
tests:
  - name: two errors
    input: [{every: 10s, lines: [ERROR a, ERROR a]}]
    alert_rule_test:
      - {eval_time: 9s, alertname: Failed, exp_alerts: []}
      - {eval_time: 10s, alertname: Failed, exp_alerts: [{exp_labels: {queue: a, severity: critical}}]}
    exp_notifications: [{eval_time: 10s, alertname: Failed, sinks: [ops], text: ERROR a}]
"""
# The third is wrong on purpose; names and lines hold what XML must escape, and what it cannot hold.
BAD = GOOD + """  - name: "<three> & \\"more\\""
    input: [{lines: ["ERROR <&>\\x01\\uFFFE]]>", "ERROR <&>\\x01\\uFFFE]]>"]}]
    alert_rule_test:
      - {eval_time: 1s, alertname: Failed, exp_alerts: [{exp_labels: {queue: b, severity: critical}}]}
"""


class TestCommandTest(Case):
    def setUp(self):
        super().setUp()
        os.mkdir(os.path.join(self.directory, "tests"))
        self.config = self.write("logbell.yaml", harness.yaml(
            configuration("/var/log/app.log", PATTERNS, RULES, {"ops": {"slack": {"webhook_url": "${SLACK_WEBHOOK_URL}"}}})))
        self.good = self.write("tests/good.test.yaml", GOOD)
        self.bad = self.write("tests/bad.test.yaml", BAD)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def logbell(self, *args):
        env = {key: value for key, value in os.environ.items() if key != "SLACK_WEBHOOK_URL"}
        return subprocess.run([harness.binary(), "test", *args], env=env, capture_output=True, text=True, timeout=60)

    def test_what_passes_is_one_line(self):
        before = sorted(os.walk(self.directory))
        done = self.logbell(self.good)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"\A1 test passed, 0 failed in \d+ ms\n\Z")
        self.assertEqual("", done.stderr)
        self.assertEqual(before, sorted(os.walk(self.directory)), "something was written")

    def test_what_fails_has_its_line_and_a_diff(self):
        done = self.logbell(self.good, self.bad)
        self.assertEqual(1, done.returncode)
        self.assertIn(f'{self.bad}:12:9: <three> & "more": Failed firing at 1s\n'
                      '    - {queue="b", severity="critical"}\n'
                      '    + {queue="<&>', done.stdout)
        self.assertRegex(done.stdout, r"\n2 tests passed, 1 failed in \d+ ms\n\Z")
        self.assertEqual(0, self.logbell(self.bad, "--only", "two").returncode)
        self.assertEqual(1, self.logbell(self.bad, "--only", "three").returncode)
        self.assertEqual(64, self.logbell(self.bad, "--only", "four").returncode)

    def test_json(self):
        done = self.logbell(self.bad, "--format", "json", "--coverage")
        self.assertEqual(1, done.returncode)
        said = json.loads(done.stdout)
        self.assertEqual((1, 1), (said["passed"], said["failed"]))
        self.assertEqual([("two errors", True, 3), ('<three> & "more"', False, 9)],
                         [(test["name"], test["passed"], test["line"]) for test in said["tests"]])
        failure = said["tests"][1]["failures"][0]
        self.assertEqual((12, "Failed firing at 1s"), (failure["line"], failure["what"]))
        self.assertEqual(['{queue="b", severity="critical"}'], failure["expected"])
        self.assertEqual(1, len(failure["got"]))
        covered = {rule["rule"]: rule for rule in said["coverage"]}
        self.assertEqual((True, False), (covered["Failed"]["fired"], covered["Slow"]["fired"]))
        self.assertEqual((True, True), tuple(covered["Failed"]["comparisons"][0][side] for side in ("seen_true", "seen_false")))
        self.assertEqual((False, False), tuple(covered["Slow"]["comparisons"][0][side] for side in ("seen_true", "seen_false")))

    def test_junit(self):
        done = self.logbell(self.good, self.bad, "--format", "junit")
        self.assertEqual(1, done.returncode)
        root = xml.etree.ElementTree.fromstring(done.stdout)
        self.assertEqual(("testsuites", "3", "1"), (root.tag, root.get("tests"), root.get("failures")))
        self.assertEqual([(self.good, "1", "0"), (self.bad, "2", "1")],
                         [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root])
        cases = root.findall("./testsuite/testcase")
        self.assertEqual(["two errors", "two errors", '<three> & "more"'], [case.get("name") for case in cases])
        failures = cases[2].findall("failure")
        self.assertEqual(1, len(failures))
        self.assertTrue(failures[0].get("message").startswith(f"{self.bad}:12:9: Failed firing"))
        self.assertIn('+ {queue="<&>\N{REPLACEMENT CHARACTER}', failures[0].text)

    def test_a_report_says_what_was_refused(self):
        broken = self.write("tests/broken.test.yaml", "tests: [{nme: x}]\n")
        done = self.logbell(self.good, broken, "--format", "junit")
        self.assertEqual(78, done.returncode)
        root = xml.etree.ElementTree.fromstring(done.stdout)
        self.assertEqual(("2", "0", "1"), (root.get("tests"), root.get("failures"), root.get("errors")))
        suite = next(suite for suite in root if suite.get("name") == broken)
        self.assertEqual("1", suite.get("errors"))
        self.assertIn('"config" is missing', suite.find("./testcase/error").text)
        done = self.logbell(self.good, broken, "--format", "json")
        refused = json.loads(done.stdout)["refused"]
        self.assertEqual([broken], [one["file"] for one in refused])
        self.assertTrue(any('"config" is missing' in problem for problem in refused[0]["problems"]))

    def test_coverage_says_what_no_test_has_seen(self):
        done = self.logbell(self.good, "--coverage")
        self.assertEqual(0, done.returncode)
        self.assertRegex(done.stdout, r'logbell\.yaml:\d+:\d+: rule "Slow": no test let it fire\n')
        for side in ("true", "false"):
            self.assertRegex(done.stdout, rf'rule "Slow": no test looked while this was {side}: count_over_time\(slow\[1m\]\) > 10\n')
        self.assertNotIn('rule "Failed"', done.stdout)
        self.assertRegex(done.stdout, r"logbell\.yaml: 1 of 2 rules fired, 2 of 4 sides of comparisons seen\n1 test passed")

    def test_what_cannot_be_tested_is_said(self):
        done = self.logbell(os.path.join(self.directory, "absent.yaml"))
        self.assertEqual(64, done.returncode)
        self.assertIn("absent.yaml: No such file", done.stderr)
        self.assertEqual(64, self.logbell().returncode)
        self.assertEqual(64, self.logbell(self.good, "--format", "yaml").returncode)
        wrong = self.write("tests/wrong.test.yaml", GOOD.replace("alertname: Failed, sinks", "alertname: Faild, sinks"))
        done = self.logbell(wrong, self.bad)
        self.assertEqual(78, done.returncode, "refused is more than failed")
        self.assertIn(f'{wrong}:8:53: test "two errors": there is no rule "Faild"; did you mean "Failed"?\n', done.stderr)
        self.assertIn("1 test passed, 1 failed", done.stdout)
        with open(self.config, "a") as file:
            file.write("\nnonsense: true\n")
        done = self.logbell(self.good)
        self.assertEqual(78, done.returncode)
        self.assertIn('unknown key "nonsense"', done.stderr)
        self.assertIn(f"{self.good}:1:9: the configuration {self.config} is refused", done.stderr)

    def test_many_tests(self):
        one = GOOD.split("tests:\n")[1]
        path = self.write("tests/many.test.yaml", "config: ../logbell.yaml\ntests:\n"
                          + "".join(one.replace("name: ", f"name: {i} ", 1) for i in range(1000)))
        began = time.monotonic()
        done = self.logbell(path)
        self.assertEqual(0, done.returncode)
        self.assertIn("1000 tests passed, 0 failed", done.stdout)
        print(f"1000 tests: {time.monotonic() - began:.2f} s", flush=True)


if __name__ == "__main__":
    harness.main()
