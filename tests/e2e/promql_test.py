#!/usr/bin/env python3
"""The same answer as Prometheus: random rules over random matches, judged by logbell at every instant and by Debian's
`promtool test rules` at its evaluation times. promql_rules.py draws them and says how the two languages are held against each other.

LOGBELL_E2E_SEED draws others; LOGBELL_E2E_RULES as many as wanted.
"""
import concurrent.futures
import json
import math
import os
import random
import re
import subprocess
import time

import harness
import promql_rules
from harness import Case
from promql_rules import PATTERNS, World, duration

SEED = int(os.environ.get("LOGBELL_E2E_SEED", "1"))
RULES = int(os.environ.get("LOGBELL_E2E_RULES", "1250"))  # that are drawn; some are refused
A_WORLD = 50
MOMENTS = 12  # at which a world is looked at
HOUR, DAY = 3600, 86400

# Each kind of world, and what of the rules are drawn for it.
KINDS = [
    (0.84, lambda name: World(name, tick=2, phase=1, step=2, lead=18, ticks=48)),
    (0.08, lambda name: World(name, tick=60, phase=30, step=60, lead=20, ticks=80, clocks=("time", "minute", "hour"), holds=False)),
    (0.04, lambda name: World(name, tick=3 * HOUR, phase=HOUR // 2, step=3 * HOUR, lead=18, ticks=34 * 8, holds=False,
                              clocks=("hour", "day_of_week", "day_of_month", "days_in_month", "month", "year"))),
    # Two looks a tick, of which one is between a match and the hour's turn: so `for` counts from the same moment.
    (0.04, lambda name: World(name, tick=1200, phase=300, step=600, lead=18, ticks=150, clocks=("hour", "day_of_week"))),
]


def series_notation(values):
    return " ".join("_" if value is None else repr(value) for value in values)


class Judgement:
    """One world, its rules, and what both judges say of them."""

    def __init__(self, index, kind, seed, directory):
        self.rng = random.Random(f"{seed}/{index}")
        self.name = f"world {index} of seed {seed}"
        self.world = kind(self.name)
        self.world.happen(self.rng)
        drawing = promql_rules.Rules(self.rng, self.world)
        self.rules = [drawing.rule(f"R{i}") for i in range(A_WORLD)]
        self.refused = {}       # name -> logbell's reason
        self.not_promql = {}    # name -> promtool's reason
        self.failed = {}        # name -> promtool's reason, at an evaluation
        self.directory = os.path.join(directory, f"w{index}")
        os.mkdir(self.directory)
        world = self.world
        first = world.start + 8 * world.step  # from here on a `for` that began before the test is over
        steps = range(-(-first // world.step), world.end // world.step + 1)
        self.moments = sorted(world.step * step for step in self.rng.sample(steps, MOMENTS))

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def rule(self, name):
        return self.rules[int(name[1:])]

    # --- logbell

    def write_config(self):
        patterns = {}
        for name, labels in PATTERNS.items():
            captures = "".join(rf" {label}=(?P<{label}>\w+)" for label in labels)
            patterns[name] = {"match": rf"^{name}{captures}(?: value=(?P<value>\S+))?$", "value": "value"}
            if labels:
                patterns[name]["labels"] = labels
            if self.world.expected[name]:
                patterns[name]["expect"] = self.world.expected[name]
        rules = [{**rule, "expr": rule["expr"][0], "sinks": ["record"]} for rule in self.rules if rule["alert"] not in self.refused]
        config = {"sources": [{"name": "app", "files": ["/var/log/app.log"]}], "patterns": patterns, "rules": rules,
                  "sinks": {"record": {"file": {"path": "/tmp/alerts.jsonl"}, "audience": "machine"}}}
        self.write("logbell.yaml", json.dumps(config))

    def check(self):
        """Leaves out what logbell refuses, and why."""
        self.write_config()
        done = subprocess.run([harness.binary(), "check", "--format", "json", self.path("logbell.yaml")], capture_output=True, text=True,
                              timeout=60)
        for problem in json.loads(done.stdout)["problems"]:
            if problem["severity"] != "error":
                continue
            found = re.fullmatch(r'rule "(R\d+)"', problem["subject"])
            assert found, problem
            self.refused[found[1]] = f'{problem["reason"]}; {problem["fix"]}'
        self.write_config()

    def log_lines(self):
        lines = []
        for (pattern, values), happened in self.world.matches.items():
            labels = "".join(f" {label}={value}" for label, value in zip(PATTERNS[pattern], values))
            for tick, value in happened.items():
                at = self.world.at(tick) - self.world.start
                lines.append((at, f"{pattern}{labels}" + ("" if value is None else f" value={value!r}")))
        return [{"at": f"{at}s", "line": line} for at, line in sorted(lines)]

    def ask_logbell(self):
        """{(moment, rule): ({labels: value} that fires, {labels} that is pending)}"""
        nothing = [{"exp_labels": {"none": "of these"}, "exp_annotations": {"value": "none of these"}}]
        world = self.world
        asked = [{"eval_time": f"{moment - world.start}s", "alertname": rule["alert"], "exp_alerts": nothing, "exp_pending": nothing}
                 for moment in self.moments for rule in self.rules if rule["alert"] not in self.refused]
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.start))
        self.write("test.yaml", json.dumps({"config": "logbell.yaml", "tests": [
            {"name": self.name, "start": start, "watched_for": f"{world.start}s", "input": [{"lines": self.log_lines()}],
             "alert_rule_test": asked}]}))
        done = subprocess.run([harness.binary(), "test", "--format", "json", self.path("test.yaml")], capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 1, done.stderr
        answers = {}
        for failure in json.loads(done.stdout)["tests"][0]["failures"]:
            name, state, at = re.fullmatch(r"(R\d+) (firing|pending) at (\S+)", failure["what"]).groups()
            answer = answers.setdefault((world.start + seconds_of(at), name), ({}, set()))
            for line in failure["got"]:
                if line.startswith("  value: "):
                    if state == "firing":
                        answer[0][labels] = float(line[9:])
                else:
                    labels = labels_of(line)
                    if state == "pending":
                        answer[1].add(labels)
        assert len(answers) == len(asked), (len(answers), len(asked))
        return answers

    # --- Prometheus

    def write_promtool(self):
        world = self.world
        rules = [{**rule, "expr": rule["expr"][1]} for rule in self.rules
                 if rule["alert"] not in self.not_promql and rule["alert"] not in self.failed]
        self.write("rules.yaml", json.dumps({"groups": [{"name": "judged", "rules": rules}]}))
        grain = math.gcd(world.tick, world.phase)
        total = world.end // grain + 1
        series = []

        def add(name, labels, values):
            series.append({"series": name + "{" + ",".join(f'{label}="{value}"' for label, value in labels) + "}",
                           "values": series_notation(values)})
        for pattern, values, expected in world.series:
            happened = world.matches[pattern, values]
            labels = list(zip(PATTERNS[pattern], values))
            counts, events, numbers = [None] * total, [None] * total, [None] * total
            there = 0 if expected else min(happened, default=None)
            if there is not None:
                for tick in range(there, world.lead + world.ticks):
                    counts[world.at(tick) // grain] = int(tick in happened)
            for tick, value in happened.items():
                events[world.at(tick) // grain], numbers[world.at(tick) // grain] = 1, value
            for kind, what in (("count", counts), ("event", events), ("value", numbers)):
                if any(value is not None for value in what):
                    add(f"{pattern}_{kind}", labels, what)
        test = {"interval": f"{grain}s", "input_series": series,
                "alert_rule_test": [{"eval_time": f"{moment}s", "alertname": rule["alert"], "exp_alerts": []}
                                    for moment in self.moments for rule in rules],
                "promql_expr_test": [{"expr": "ALERTS", "eval_time": f"{moment}s", "exp_samples": []} for moment in self.moments]}
        self.write("promtool.yaml", json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": f"{world.step}s", "tests": [test]}))

    def promtool(self, *args):
        done = subprocess.run(["promtool", *args], cwd=self.directory, capture_output=True, text=True, timeout=300)
        return done.stdout + done.stderr

    def ask_promtool(self):
        """The same; what PromQL refuses is left out, and what it fails at."""
        self.write_promtool()
        said = self.promtool("check", "rules", "rules.yaml")
        for name, reason in re.findall(r'rule \d+, "(R\d+)": (.*)', said):
            self.not_promql[name] = reason
        while True:
            self.write_promtool()
            said = self.promtool("test", "rules", "promtool.yaml")
            failed = re.findall(r"rule: (R\d+), time: \S+, err: (.*)", said)
            if not failed:
                break
            self.failed.update(failed)
        answers = {(moment, rule["alert"]): ({}, set()) for moment in self.moments for rule in self.rules}
        for name, at, got in re.findall(r"alertname: ?(R\d+), time: ?(\S+?), *\n.*?got:\[(.*?)\n *\]", said, re.S):
            for labels, value in re.findall(r'Labels:(\{.*?\})\n *Annotations:\{value="(.*?)"\}', got):
                answers[seconds_of(at), name][0][labels_of(labels)] = float(value)
        seen = 0
        for at, got in re.findall(r'expr: "ALERTS", time: (\S+?),\s+exp:.*?\n\s+got:(.*)', said):
            seen += 1
            for labels in re.findall(r"\{[^{}]*\}", got):
                found = dict(re.findall(r'(\w+)=\\?"(.*?)\\?"', labels))
                if found["alertstate"] == "pending":
                    answers[seconds_of(at), found["alertname"]][1].add(
                        frozenset((k, v) for k, v in found.items() if k not in ("__name__", "alertname", "alertstate")))
        self.said = said
        assert said.count("alertname:") == sum(1 for answer in answers.values() if answer[0]), said[:2000]
        return answers

    # --- the verdict

    def judge(self):
        self.check()
        ours, theirs = self.ask_logbell(), self.ask_promtool()
        self.disagreements, self.judged, self.lively = [], 0, 0
        for rule in self.rules:
            name = rule["alert"]
            if name in self.not_promql or name in self.failed:
                if name not in self.refused:
                    self.disagree(rule, f"logbell takes it, and Prometheus says {self.not_promql.get(name) or self.failed[name]}")
                continue
            if name in self.refused:
                # Of a part the same can be said while the whole fires.
                of_a_part = re.search(r"\b(or|unless|bool)\b", rule["expr"][0], re.I)
                fired = [moment for moment in self.moments if theirs[moment, name][0]]
                if fired and not of_a_part and re.search("can never be true|never gives anything", self.refused[name]):
                    self.disagree(rule, f"logbell says {self.refused[name]}, and in Prometheus it fires at {fired[0]} s: "
                                        f"{theirs[fired[0], name][0]}")
                continue
            self.judged += 1
            states = set()
            for moment in self.moments:
                mine, other = ours[moment, name], theirs[moment, name]
                states.add((bool(mine[0]), bool(mine[1])))
                if not same(mine, other):
                    self.disagree(rule, f"at {moment} s logbell has {shown(mine)}, Prometheus {shown(other)}")
                    break
            self.lively += len(states) > 1
        return self

    def disagree(self, rule, how):
        self.disagreements.append(f'{self.name}, {self.directory}: {rule["alert"]}: {how}\n    {rule["expr"][0]}\n    {rule["expr"][1]}\n'
                                  f'    for {rule.get("for", "0s")}, keep_firing_for {rule.get("keep_firing_for", "0s")}')


def seconds_of(text):
    units = {"d": DAY, "h": HOUR, "m": 60, "s": 1, "w": 7 * DAY}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([wdhms])(?!s)", text))


def labels_of(text):
    return frozenset((name, value) for name, value in re.findall(r'(\w+)="(.*?)"', text) if name != "alertname")


def same(one, other):
    return one[1] == other[1] and one[0].keys() == other[0].keys() and all(
        math.isclose(value, other[0][labels], rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(value) and math.isnan(other[0][labels]))
        for labels, value in one[0].items())


def shown(answer):
    def text(labels):
        return "{" + ", ".join(f"{name}={value}" for name, value in sorted(labels)) + "}"
    firing = sorted(f"{text(labels)} {value!r}" for labels, value in answer[0].items())
    pending = sorted(text(labels) + " pending" for labels in answer[1])
    return ", ".join(firing + pending) or "nothing"


class PromqlTest(Case):
    def test_the_same_answer_as_prometheus(self):
        os.nice(10)  # beside tests that judge times
        worlds = -(-RULES // A_WORLD)
        kinds, at = [], 0.0
        for share, kind in KINDS:
            at += share * worlds
            kinds += [kind] * (max(1, round(at)) - len(kinds))
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as two:
            done = list(two.map(lambda one: Judgement(one[0], one[1], SEED, self.directory).judge(), enumerate(kinds)))
        judged, lively = sum(one.judged for one in done), sum(one.lively for one in done)
        refused = sum(len(one.refused) for one in done)
        print(f"{judged} rules, of which {lively} changed their state, {refused} refused by logbell; {time.monotonic() - began:.1f} s",
              flush=True)
        disagreements = [text for one in done for text in one.disagreements]
        if disagreements:
            self.fail(f"{len(disagreements)} disagreements:\n" + "\n".join(disagreements[:20]))
        self.assertGreaterEqual(judged, 0.8 * RULES, "most of what is drawn says something")
        self.assertGreater(lively, 0.4 * judged, "most rules do something")


if __name__ == "__main__":
    harness.main()
