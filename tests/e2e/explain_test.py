#!/usr/bin/env python3
"""logbell explain as a user runs it: a rule, a line, a log, what no rule looks at, and a draft that check accepts."""
import gzip
import json
import lzma
import os
import re
import subprocess

import harness
from harness import Case, configuration, rule

PATTERNS = {"failed": {"match": r"QueueNotFoundException: queue (?P<queue>\S+)", "labels": ["queue"], "exclude": "retry"},
            "slow": {"match": r"took (?P<took>\d+)ms", "value": "took"}, "unused": {"match": "nobody looks"}}
RULES = [rule("Failed", "sum by (queue) (count_over_time(failed[1m])) >= 2", labels={"severity": "critical"}),
         rule("Slow", "count_over_time(slow[1m]) > 10 and on () hour() > 6", labels={"severity": "warning"})]
LOG = """2026-05-01T10:00:00Z ERROR QueueNotFoundException: queue orders
2026-05-01T10:00:01Z ERROR QueueNotFoundError: queue orders
2026-05-01T10:00:02Z ERROR QueueNotFoundException: queue orders retry
2026-05-01T10:00:03Z INFO took 12ms
2026-05-01T10:00:04Z INFO hello
2026-05-01T10:00:05Z ERROR disk 7 of srv1 is full
2026-05-01T10:00:06Z ERROR disk 8 of srv2 is full password=hunter2
2026-05-01T10:00:07Z ERROR disk 9 of srv3 is full
2026-05-01T10:00:08Z ERROR nobody looks
"""


class ExplainTest(Case):
    def setUp(self):
        super().setUp()
        self.settings = configuration(os.path.join(self.directory, "app.log"), PATTERNS, RULES, {"ops": {"slack": {"webhook_url": "${SLACK_WEBHOOK_URL}"}}})
        self.config = self.write("logbell.yaml", harness.yaml(self.settings))
        self.log_path = self.write("app.log", LOG)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def logbell(self, *args, stdin=None, stdin_file=None):
        env = {key: value for key, value in os.environ.items() if key != "SLACK_WEBHOOK_URL"}
        given = {"stdin": stdin_file} if stdin_file else {"input": stdin}
        return subprocess.run([harness.binary(), *args], env=env, capture_output=True, text=True, timeout=60, **given)

    def explain(self, *args, **more):
        return self.logbell("explain", "--config", self.config, *args, **more)

    def test_a_rule(self):
        nobody = "http://127.0.0.1:1"
        done = self.explain("Failed", "--url", nobody)
        self.assertEqual(0, done.returncode, done.stderr)
        for wanted in (r"\AFailed  \S+logbell\.yaml:\d+:\d+\n", r"\n  sum by \(queue\) \(count_over_time\(failed\[1m\]\)\) >= 2\n",
                       r"\n    match    QueueNotFoundException: queue ", r"\n    exclude  retry\n", r"\n    labels   queue\n",
                       r"\n    window   1m in count_over_time\(failed\[1m\]\)\n", r"\n    memory   16 bytes a match for 1m; at most 1001 series ",
                       r"\n  severity: critical\n", r"\n  queue: from the logs\n", r"\nops +slack +https://hooks.slack.com +-\n",
                       r"\nNo process was heard, .*127\.0\.0\.1:1"):
            self.assertRegex(done.stdout, wanted)
        self.assertRegex(self.explain("Slow", "--url", nobody).stdout, r"\n    and on \(\)\n      >\n        count_over_time\(slow\[1m\]\)\n        10\n      >\n        hour\(\)\n        6\n")
        said = json.loads(self.explain("Failed", "--url", nobody, "--format", "json").stdout)["rules"]
        self.assertEqual([("Failed", 60, False)], [(each["alert"], each["windows"][0]["window_seconds"], each["reach"]["asked"]) for each in said])
        self.assertIn("logbell's own", self.explain("InputSilent", "--url", nobody).stdout)
        done = self.explain("Faild")
        self.assertEqual(64, done.returncode)
        self.assertIn('did you mean "Failed"?', done.stderr)

    def test_a_rule_that_says_when_it_ends(self):
        rules = [rule("Held", "sum by (queue) (count_over_time(failed[1m])) >= 2", resolve_when="sum by (queue) (count_over_time(failed[9m])) < 1"),
                 rule("All", "sum by (queue) (count_over_time(failed[1m])) >= 2", resolve_when="count_over_time(unused[9m]) > 0")]
        self.config = self.write("ends.yaml", harness.yaml({**self.settings, "rules": rules}))
        done = self.explain("Held", "--url", "http://127.0.0.1:1")
        for wanted in (r"\nresolve_when:     sum by \(queue\) \(count_over_time\(failed\[9m\]\)\) < 1\n  An alert that fires goes on until it has an "
                       r"element with the alert's queue\.\n  It rests on lines that do not come: ",
                       r"\n    window   1m in count_over_time\(failed\[1m\]\)\n    window   9m in count_over_time\(failed\[9m\]\)\n",
                       r"\n    memory   16 bytes a match for 9m;"):
            self.assertRegex(done.stdout, wanted)
        self.assertRegex(self.explain("All", "--url", "http://127.0.0.1:1").stdout, r"one without labels: it ends every alert of the rule[^$]*It rests on lines that come: it ends")
        said = json.loads(self.explain("Held", "--url", "http://127.0.0.1:1", "--format", "json").stdout)["rules"][0]
        self.assertEqual({"expr": "sum by (queue) (count_over_time(failed[9m])) < 1", "labels": ["queue"], "rests_on_presence": False,
                          "rests_on_absence": True}, said["resolve_when"])
        # A rule looks at what ends it, too.
        self.assertNotIn("nobody looks", self.explain("--file", self.log_path, "--missed").stdout)

    def test_a_rule_with_the_proof_of_the_running_process(self):
        bell = self.bell(configuration(self.log_path, PATTERNS, RULES, {"ops": harness.webhook(self.receiver().url)}))
        self.config = bell.path
        said = json.loads(self.explain("Failed", "--format", "json").stdout)["rules"][0]["reach"]
        self.assertEqual((True, "Failed", "ops"), (said["asked"], said["sinks"][0]["proof"]["alertname"], said["sinks"][0]["proof"]["sink"]))
        done = self.explain("Failed")
        self.assertRegex(done.stdout, r"\nops +webhook +\S+ +L[0-9]")
        self.assertNotIn("No process was heard", done.stdout)
        # Under the same name, but another rule.
        with open(self.config) as file:
            changed = file.read().replace(">= 2", ">= 3")
        self.config = self.write("changed.yaml", changed)
        self.assertIn("runs this rule as it was written before", self.explain("Failed", "--url", bell.url).stdout)

    def test_a_line(self):
        done = self.explain("--line", "ERROR QueueNotFoundException: queue orders took 12ms")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertRegex(done.stdout, r"  failed matches columns 7 to 42\n    captures queue=orders \(column 37\)\n    labels   \{queue=\"orders\"\}\n    rules    Failed\n")
        self.assertRegex(done.stdout, r"  slow matches columns 44 to 52\n    captures took=12 \(column 49\)\n    value    12\n")
        done = self.explain("--line", "ERROR QueueNotFoundError: queue orders")
        self.assertEqual(1, done.returncode)
        self.assertIn("failed does not: `match:` matches up to `QueueNotFoundE`; then `xception: queue (?P<queue>\\S+)` is expected at column 21, "
                      "where the line has `rror: queue orders`\n", done.stdout)
        self.assertIn("no rule looks at it", done.stdout)
        said = json.loads(self.explain("--line", "x QueueNotFoundException: queue orders retry", "--format", "json").stdout)["lines"][0]
        self.assertEqual([], said["matches"])
        self.assertEqual(("failed", "`exclude: retry` rules it out: it matches `retry`"), (said["near"][0]["pattern"], said["near"][0]["reason"]))
        self.assertEqual(3, len(json.loads(self.explain("--line", "x", "--all", "--format", "json").stdout)["lines"][0]["near"]))

    def test_a_log(self):
        done = self.explain("--file", self.log_path)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("1: 2026-05-01T10:00:00Z ERROR QueueNotFoundException: queue orders\n    failed matches columns 28 to 63\n", done.stdout)
        self.assertIn("\n9 lines: 3 matched, 7 look like errors, 5 of these with no rule that looks at them", done.stdout)
        self.assertNotIn("hello", done.stdout)
        self.assertIn("\n5: 2026-05-01T10:00:04Z INFO hello\n", self.explain("--file", self.log_path, "--all").stdout)
        self.assertNotIn("hunter2", done.stdout)
        self.assertRegex(done.stdout, r"\nfailed +1\nslow +1\nunused +1\n")
        # The same as backtest counts.
        counted = json.loads(self.logbell("backtest", "--config", self.config, "--from", self.log_path, "--format", "json").stdout)
        said = json.loads(self.explain("--file", self.log_path, "--format", "json").stdout)
        self.assertEqual({each["name"]: each["lines"] for each in counted["patterns"]}, said["by_pattern"])
        self.assertEqual(said, json.loads(self.explain("--file", "-", "--format", "json", stdin=LOG).stdout))

    def test_a_log_that_is_compressed(self):
        said = self.explain("--file", self.log_path, "--format", "json").stdout
        missed = self.explain("--file", self.log_path, "--missed").stdout
        for packer, end in (("gzip", ".gz"), ("zstd", ".zst")):
            packed = self.log_path + end
            with open(packed, "wb") as file:
                for half in (LOG[:200], LOG[200:]):  # two members, cut within a line
                    file.write(subprocess.run([packer, "-c"], input=half.encode(), capture_output=True, check=True).stdout)
            done = self.explain("--file", packed, "--format", "json")
            self.assertEqual((0, said), (done.returncode, done.stdout), done.stderr)
            done = self.explain("--file", packed, "--missed")
            self.assertEqual((1, missed, ""), (done.returncode, done.stdout, done.stderr))
            # Standard input is not unpacked.
            with open(packed, "rb") as file:
                done = self.explain("--file", "-", stdin_file=file)
            self.assertEqual(64, done.returncode, done.stdout)
            self.assertRegex(done.stderr, rf"-: it is compressed with {packer}, .*name the file itself, or unpack it: \w+ FILE \| logbell explain --file -\n")

    def test_a_compressed_log_that_is_cut_off(self):
        whole = "".join(f"2026-05-01T10:00:00Z ERROR disk {i * i} of srv{i * 7919} is full\n" for i in range(20000))
        for packer, end in (("gzip", ".gz"), ("zstd", ".zst")):
            packed = subprocess.run([packer, "-c"], input=whole.encode(), capture_output=True, check=True).stdout
            path = os.path.join(self.directory, "cut.log" + end)
            with open(path, "wb") as file:
                file.write(packed[:len(packed) // 2])
            done = self.explain("--file", path, "--missed")
            self.assertEqual(1, done.returncode, done.stderr)
            told = re.fullmatch(rf"logbell explain: {re.escape(path)}: it is compressed, and ends early at byte (\d+) of what it holds: the rest is "
                                rf"missing or is no {packer}; `{packer} -t {re.escape(path)}` says whether another copy is whole\. "
                                r"Here is what the (\d+) lines before that say\n", done.stderr)
            self.assertIsNotNone(told, done.stderr)
            # All that could be unpacked, and nothing else.
            before = whole[:int(told[1])]
            self.assertGreater(len(before), len(whole) // 4)
            lines = len(before.splitlines())
            self.assertEqual(lines, int(told[2]))
            self.assertIn(f"\n{lines} lines, ", done.stdout)
            self.assertEqual(1, self.explain("--file", path, "--format", "json").returncode)
            with open(path, "wb") as file:
                file.write(packed[:6])
            done = self.explain("--file", path)
            self.assertEqual((64, ""), (done.returncode, done.stdout))
            self.assertIn("ends early at byte 0 of what it holds", done.stderr)
        path = os.path.join(self.directory, "old.log.xz")
        with open(path, "wb") as file:
            file.write(lzma.compress(LOG.encode()))
        done = self.explain("--file", path)
        self.assertEqual(64, done.returncode)
        self.assertIn(f"old.log.xz: it is compressed with xz, which is not read here; unpack it: xzcat {path} | logbell explain --file -\n", done.stderr)

    def test_a_compressed_log_costs_no_memory(self):
        small = self.log_path + ".gz"
        with gzip.open(small, "wb") as file:
            file.write(LOG.encode())
        # A line of 400 MB in some hundred KB.
        large = os.path.join(self.directory, "large.log.gz")
        with gzip.open(large, "wb") as file:
            for _ in range(400):
                file.write(b"x" * 1_000_000)
            file.write(b"\n" + LOG.encode())
        needs = {}
        for path in (small, large):
            child = subprocess.Popen([harness.binary(), "explain", "--config", self.config, "--file", path], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(0, child.returncode)
            needs[path] = usage.ru_maxrss
        self.assertLess(needs[large] - needs[small], 32 * 1024, "KB")

    def test_what_no_rule_looks_at(self):
        done = self.explain("--file", self.log_path, "--missed")
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertTrue(done.stdout.startswith("      2  <time> ERROR disk <number> of <id> is full\n         line 6: 2026-05-01T10:00:05Z ERROR disk 7 of srv1 is full\n"), done.stdout)
        self.assertNotIn("hunter2", done.stdout)
        self.assertIn("\n9 lines, 7 like errors, 5 of them with no rule that looks at them.\n1 counted by a pattern that no rule looks at.\n", done.stdout)
        said = json.loads(self.explain("--file", self.log_path, "--missed", "--format", "json").stdout)
        self.assertEqual((9, 7, 5, [2, 1, 1, 1]), (said["lines"], said["errors"], said["missed"], [each["count"] for each in said["templates"]]))
        fine = self.write("fine.log", "all is well\n")
        self.assertEqual(0, self.explain("--file", fine, "--missed").returncode)

    def test_a_draft_is_accepted_as_it_is(self):
        line = "2026-05-01T10:00:00Z ERROR DiskFull: '/data' of srv1 has ${LEFT} 7 MB (it's #1)"
        drafted = self.explain("--new-rule", line)
        self.assertEqual(0, drafted.returncode, drafted.stderr)
        # Put under the same keys of the configuration, as it says.
        text = drafted.stdout
        patterns = text.split("patterns:\n")[1].split("rules:\n")[0]
        rules = text.split("rules:\n")[1]
        whole = "sources: [{name: api, files: [/var/log/x.log]}]\nsinks: {ops: {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}}\nroute: {sinks: [ops]}\n"
        merged = self.write("merged.yaml", whole + "patterns:\n  failed: {match: failed}\n" + patterns +
                            "rules:\n  - {alert: Failed, expr: 'count_over_time(failed[1m]) > 0'}\n" + rules)
        done = self.logbell("check", "--strict", "--assume-secrets", merged)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        name = json.loads(self.logbell("explain", "--config", self.config, "--new-rule", line, "--format", "json").stdout)
        again = json.loads(self.logbell("explain", "--config", merged, "--new-rule", line, "--format", "json").stdout)
        self.assertEqual((name["pattern"] + "_2", name["alert"] + "2"), (again["pattern"], again["alert"]), "names are free")
        done = self.logbell("explain", "--config", merged, "--line", line)
        self.assertIn(f"{name['pattern']} matches", done.stdout)
        # Without a configuration, and of JSON.
        done = self.logbell("explain", "--new-rule", '{"level": "ERROR", "msg": "disk 7 is full"}')
        self.assertIn("    where:\n      level: 'ERROR'\n      msg: {match: 'disk (?P<disk>\\d+) is full'}\n", done.stdout)
        self.assertEqual(64, self.logbell("explain", "--new-rule", "7").returncode)
        self.assertIn("secret", self.explain("--new-rule", "ERROR login failed password=hunter2").stderr)

    def test_what_cannot_be_done_is_said(self):
        self.assertEqual(64, self.explain().returncode)
        self.assertEqual(64, self.explain("Failed", "--line", "x").returncode)
        self.assertEqual(64, self.explain("--missed").returncode)
        done = self.explain("--file", os.path.join(self.directory, "absent.log"))
        self.assertEqual(64, done.returncode)
        self.assertIn("absent.log: No such file", done.stderr)
        done = self.explain("--line", "x", "--source", "nobody")
        self.assertEqual(64, done.returncode)
        self.assertIn('there is no source "nobody"', done.stderr)
        with open(self.config, "a") as file:
            file.write("\nnonsense: true\n")
        done = self.explain("Failed")
        self.assertEqual(78, done.returncode)
        self.assertIn('unknown key "nonsense"', done.stderr)


if __name__ == "__main__":
    harness.main()
