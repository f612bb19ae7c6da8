#!/usr/bin/env python3
"""logbell backtest as a user runs it: logs of last night through a configuration that has no secrets here."""
import datetime
import gzip
import json
import os
import subprocess

import harness
from harness import Case, configuration, rule

PATTERNS = {"failed": {"match": r"ERROR (?P<code>\d+) in", "labels": ["code"]}, "slow": {"match": r"took \d{4,}ms"}}
RULES = [rule("Failed", "sum by (code) (count_over_time(failed[1m])) >= 5", labels={"severity": "critical"}),
         rule("Never", "count_over_time(slow[1m]) > 1000", labels={"severity": "warning"})]


class BacktestTest(Case):
    def setUp(self):
        super().setUp()
        self.config = os.path.join(self.directory, "logbell.yaml")
        with open(self.config, "w") as file:
            file.write(harness.yaml(configuration("/var/log/app.log", PATTERNS, RULES, {"ops": {"slack": {"webhook_url": "${SLACK_WEBHOOK_URL}"}}})))

    def log(self, name):
        """600 lines of a night, one a second: five errors of one code together, twice; a slow one each minute."""
        night = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(days=3)
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            for i in range(600):
                at = (night + datetime.timedelta(seconds=i)).isoformat().replace("+00:00", "Z")
                what = "ERROR 7 in orders" if i in range(100, 105) or i in range(400, 405) else "took 1234ms" if i % 60 == 0 else "INFO ok"
                file.write(f"{at} {what}\n")
        return path

    def backtest(self, *args):
        env = {key: value for key, value in os.environ.items() if key != "SLACK_WEBHOOK_URL"}
        return subprocess.run([harness.binary(), "backtest", "--config", self.config, *args], env=env, capture_output=True, text=True, timeout=30)

    def test_what_matched_and_what_would_have_fired(self):
        done = self.backtest("--from", self.log("night.log"))
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertRegex(done.stdout, r"\A600 lines, ")
        self.assertRegex(done.stdout, r"\nfailed +10\n")
        self.assertRegex(done.stdout, r"\nslow +10\n")
        self.assertRegex(done.stdout, r"\nFailed +2 +1m58s|\nFailed +2 ")
        self.assertRegex(done.stdout, r"\nNever +0 +- ")

    def test_both_matchers_say_the_same_in_json(self):
        path = self.log("night.log")
        reports = []
        for way in (["--from", path], ["--from", path, "--matcher", "plain", "--threads", "2"]):
            done = self.backtest(*way, "--format", "json")
            self.assertEqual(0, done.returncode, done.stderr)
            reports.append(json.loads(done.stdout))
            del reports[-1]["seconds"]
        self.assertEqual(reports[0], reports[1])
        self.assertEqual(600, reports[0]["lines"])
        self.assertEqual([("failed", 10), ("slow", 10)], [(each["name"], each["lines"]) for each in reports[0]["patterns"]])
        self.assertEqual([("Failed", 2, 0), ("Never", 0, 0)], [(each["name"], each["firings"], each["still_firing"]) for each in reports[0]["rules"]])

    def test_what_cannot_be_done_is_said(self):
        done = self.backtest("--from", os.path.join(self.directory, "absent.log"))
        self.assertEqual(64, done.returncode, done.stdout)
        self.assertEqual(64, self.backtest("--from", "-").returncode)
        self.assertRegex(done.stderr, r"absent\.log: No such file")
        packed = os.path.join(self.directory, "old.log.gz")
        with gzip.open(packed, "wt") as file:
            file.write("a line\n")
        done = self.backtest("--from", packed)
        self.assertEqual(64, done.returncode, done.stdout)
        self.assertIn(f"zcat {packed} > FILE", done.stderr)
        done = self.backtest("--from", self.log("night.log"), "--source", "nobody")
        self.assertEqual(64, done.returncode)
        self.assertIn('there is no source "nobody"', done.stderr)
        with open(self.config, "a") as file:
            file.write("\nnonsense: true\n")
        done = self.backtest("--from", self.log("night.log"))
        self.assertEqual(78, done.returncode)
        self.assertIn("nonsense", done.stderr)


if __name__ == "__main__":
    harness.main()
