#!/usr/bin/env python3
"""manual_test.py LOGBELL MANUAL: every example of a function in rules/README.md does what it says, and every function has one."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

LOGBELL, MANUAL = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
del sys.argv[1:]
CHAPTER = MANUAL.read_text().split("\n### Each function by example\n")[1].split("\n### ")[0]
PATTERNS, EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", CHAPTER, re.M | re.S), re.findall(r"^```text\n(.*?)^```", CHAPTER, re.M | re.S)
OPTIONS = ("for", "keep_firing_for", "location", "resolve_when")
CONFIG = """sources: [{name: app, files: [/var/log/app.log]}]
sinks: {ops: {webhook: {url: 'https://hooks.example.com/x'}}}
route: {sinks: [ops]}
"""


class Example:
    """Rules, then a line a moment: the time, what is logged, what is so from then on."""

    def __init__(self, text):
        head, body = text.split("\n\n", 1)
        self.options, self.exprs = {}, []
        for line in head.splitlines():
            name, _, value = line.partition(": ")
            if name in OPTIONS:
                self.options[name] = value
            else:
                self.exprs.append(line)
        self.moments = []  # (time, line logged, what is so then or None)
        for line in body.splitlines():
            before, arrow, state = line.partition("→")
            at, _, logged = before.strip().partition(" ")
            self.moments.append((at, logged.strip(), state.strip() if arrow else None))

    def rules(self):
        return [{"alert": f"R{i}", "expr": expr, "annotations": {"value": "{{ $value }}"}, **self.options} for i, expr in enumerate(self.exprs)]

    def test(self):
        """As it says at each moment, and a millisecond before as at the one before. Of several rules, only where it says."""
        checks, before, several = [], "nothing", len(self.exprs) > 1
        for at, _, state in self.moments:
            if at != "0s" and not several:
                checks += self.expectations(f"{milliseconds(at) - 1}ms", before)
            before = state or before
            if state or not several:
                checks += self.expectations(at, before)
        return {"watched_for": "30d", "input": [{"lines": [{"at": at, "line": logged} for at, logged, _ in self.moments if logged]}],
                "alert_rule_test": checks}

    def expectations(self, at, state):
        for i in range(len(self.exprs)):
            check = {"eval_time": at, "alertname": f"R{i}", "exp_alerts": [], "exp_pending": []}
            if state == "all":
                check["exp_alerts"] = [{}]
            elif state == "pending":
                check["exp_pending"] = [{}]
            elif state.startswith("fires: "):
                elements = re.findall(r"(\{.*?\} )?([^\s,]+)", state[len("fires: "):])
                check["exp_alerts"] = [{"exp_labels": dict(re.findall(r'(\w+)="(.*?)"', labels)), "exp_annotations": {"value": value}}
                                       for labels, value in elements]
            else:
                assert state in ("nothing", "none"), state
            yield check


def milliseconds(text):
    units = {"d": 86400_000, "h": 3600_000, "m": 60_000, "s": 1000}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))


class Manual(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)

    def logbell(self, *arguments):
        done = subprocess.run([LOGBELL, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def run_example(self, example):
        (self.directory / "logbell.yaml").write_text(CONFIG + PATTERNS[0] + "rules: " + json.dumps(example.rules(), ensure_ascii=False) + "\n")
        (self.directory / "test.yaml").write_text(json.dumps({"config": "logbell.yaml", "tests": [example.test()]}, ensure_ascii=False))
        return self.logbell("test", "test.yaml")

    def test_each_example_does_what_it_says(self):
        self.assertEqual(1, len(PATTERNS))
        self.assertGreater(len(EXAMPLES), 25)
        for text in EXAMPLES:
            with self.subTest(text.split("\n")[0]):
                code, said = self.run_example(Example(text))
                self.assertEqual(0, code, f"{text}\n{said}")

    def test_what_an_example_says_matters(self):
        for text in EXAMPLES:
            example = Example(text)
            last = max(i for i, moment in enumerate(example.moments) if moment[2])
            at, logged, state = example.moments[last]
            opposite = {"nothing": "fires: 1", "none": "all", "all": "none"}.get(state, "nothing")
            example.moments[last] = (at, logged, opposite)
            with self.subTest(text.split("\n")[0]):
                self.assertEqual(1, self.run_example(example)[0])

    def test_every_function_has_an_example(self):
        (self.directory / "logbell.yaml").write_text(CONFIG + PATTERNS[0] + "rules: [{alert: A, expr: 'qqqqqqqqqqqqqqqq(received[1m]) > 1'}]\n")
        _, said = self.logbell("check", "logbell.yaml")
        known = re.search(r"there are ([\w, ]+)", said)[1].split(", ")
        self.assertGreater(len(known), 40, said)
        exprs = "\n".join(expr for text in EXAMPLES for expr in Example(text).exprs)
        self.assertEqual([], [name for name in known if not re.search(rf"\b{name}\b *(\(|by|without)", exprs)])


if __name__ == "__main__":
    unittest.main()
