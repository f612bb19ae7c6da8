#!/usr/bin/env python3
"""The founding story as a test: an alert that was set up correctly and reached nobody, because a sink was missing.

    mutants_test.py LOGBELL YAML_TO_JSON COMMANDS CONFIGURATION…

Breaks every configuration in every way that the story knows, one way at a time: each sink removed, each secret blanked
(unset, empty, a placeholder; its file missing, empty, a placeholder), each route broken, each `sinks:` emptied. Every
mutant must be refused by every command of the comma-separated COMMANDS (`check`, `run`) with exit 78, in one go, naming
every rule that relied on what is gone. Whether a mutant is one is decided by a second, naive walk of the route below,
so `check` is also held to accepting what is still covered.
"""
import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

BUILT_IN = ["InputSilent", "RuleUnknown", "TimestampSkew", "SinkDead", "StateLost", "SeriesOverflow"]
SINK_TYPES = {"slack", "slack_app", "pagerduty", "alertmanager", "webhook", "file", "console"}
MACHINES = {"file", "console"}  # they tell nobody, unless a machine reads them
GOOD_SECRET = "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/" + "abcdefghijklmnopqrstuvwx"
GOOD_KEY = "0123456789abcdef0123456789abcdeF"
GOOD_TOKEN = "xoxb-123456789012-abcdefghijkl"
GOOD = {"pagerduty": GOOD_KEY, "slack_app": GOOD_TOKEN}  # else GOOD_SECRET
MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$')


class Configuration:
    """A configuration as dictionaries, with its rule files and the variables that it needs."""

    def __init__(self, path, to_json, scratch):
        load = lambda file: json.loads(subprocess.run([to_json, file], check=True, capture_output=True, text=True).stdout)
        self.name = path.name if path.parent.name == "examples" else f"{path.parent.name}/{path.name}"
        self.main = load(path)
        self.rule_files = {}
        for pattern in as_list(self.main.get("rule_files")):
            for file in sorted(path.parent.glob(pattern)):
                self.rule_files[str(file.relative_to(path.parent))] = load(file)
        self.scratch = scratch
        self.env = {}
        for name in set(re.findall(r"\$\{(\w+)", json.dumps([self.main, self.rule_files]))):
            self.env[name] = "0" if name.endswith("PORT") else str(scratch) if name.endswith("DIR") else "production"
        self.files = {}
        for sink in self.main["sinks"].values():
            for kind, settings in sink.items():
                if kind not in SINK_TYPES or not isinstance(settings, dict):
                    continue
                for key, value in settings.items():
                    if key.endswith("_file"):
                        settings[key] = str(scratch / f"secret-{len(self.files)}")
                        self.files[settings[key]] = GOOD.get(kind, GOOD_SECRET)
                    elif isinstance(value, str):
                        for name in re.findall(r"\$\{(\w+)", value):
                            self.env[name] = GOOD.get(kind, GOOD_SECRET)
                if "path" in settings:
                    settings["path"] = str(scratch / "alerts.jsonl")
        self.main["state_dir"] = str(scratch / "state")
        self.main["listen"] = "127.0.0.1:0"

    def rules(self):
        found = list(as_list(self.main.get("rules")))
        for file in self.rule_files.values():
            for group in file["groups"]:
                found += group["rules"]
        return found

    def copy(self):
        other = copy.copy(self)
        other.main, other.rule_files = copy.deepcopy(self.main), copy.deepcopy(self.rule_files)
        other.env, other.files = dict(self.env), dict(self.files)
        return other

    # --- the naive walk: every set of sinks that an alert may end at

    def tells(self, sink):
        settings = self.main.get("sinks", {}).get(sink)
        if settings is None:
            return False
        return not MACHINES & set(settings) or settings.get("audience") == "machine"

    def ways(self, rule):
        """The sinks on each way that the rule's alerts can take."""
        if rule.get("sinks"):
            return [set(as_list(rule["sinks"]))]
        if "route" not in self.main:
            return [set()]
        known = {"alertname": rule["alert"], "environment": None}
        known.update(self.main.get("labels") or {})
        # A template may render anything; so may a label that only the log knows.
        known.update({k: v for k, v in (rule.get("labels") or {}).items() if "{{" not in v})
        self.from_logs = self.labels_from_logs(rule) | {k for k, v in (rule.get("labels") or {}).items() if "{{" in v}
        return [sinks for sinks, _ in self.walk(self.main["route"], [], known, {})]

    def labels_from_logs(self, rule):
        """What the log may decide: what `by` names, else whatever the patterns have. None: anything."""
        if rule["alert"] in BUILT_IN:
            return {"severity", "source", "sink", "pattern", "rule"}
        expr = rule.get("expr", "")
        grouped = re.findall(r"by \((.*?)\)", expr)
        if grouped or "expr" not in rule:
            return {name.strip() for group in grouped for name in group.split(",")} | set(as_list(rule.get("by")))
        if re.search(r"\b(sum|min|max|avg|count)\b", expr):
            return set()
        patterns = (self.main.get("patterns") or {}).items()
        return {label for name, pattern in patterns if re.search(rf"\b{name}\b", expr) for label in as_list(pattern.get("labels"))}

    def walk(self, node, inherited, known, assumed):
        """Yields (sinks, assumptions) for each way through this node, which is already taken."""
        own = as_list(node["sinks"]) if "sinks" in node else inherited
        states = [(set(), assumed, False)]
        for child in as_list(node.get("routes")):
            after = []
            for sinks, facts, taken in states:
                if taken == "done":
                    after.append((sinks, facts, taken))
                    continue
                for holds, branch in self.decide(as_list(child.get("matchers")), known, facts):
                    if not holds:
                        after.append((sinks, branch, taken))
                        continue
                    for inner, deeper in self.walk(child, own, known, branch):
                        more = child.get("continue") in (True, "true")
                        after.append((sinks | inner, deeper, True if more else "done"))
            states = after
        return [(sinks if taken else set(own), facts) for sinks, facts, taken in states]

    def decide(self, matchers, known, facts):
        """Each way in which all of these matchers may hold, or one of them not."""
        if not matchers:
            return [(True, facts)]
        name, op, value = MATCHER.match(matchers[0]).groups()
        rest = matchers[1:]
        if name not in self.from_logs and name != "environment":
            known = {name: "", **known}  # nobody gives it that label
        if known.get(name) is not None:
            test = re.fullmatch(value, known[name]) is not None if "~" in op else known[name] == value
            return self.decide(rest, known, facts) if test != op.startswith("!") else [(False, facts)]
        fact = (name, op, value)
        if fact in facts:
            return self.decide(rest, known, facts) if facts[fact] else [(False, facts)]
        return self.decide(rest, known, {**facts, fact: True}) + [(False, {**facts, fact: False})]

    def own_alerts(self):
        """Logbell's own alerts, as rules whose labels nobody knows."""
        return [{"alert": name, "labels": {"severity": "{{"}} for name in BUILT_IN] if "route" in self.main else []

    def users(self, sink):
        return {rule["alert"] for rule in self.rules() if any(sink in way for way in self.ways(rule))}

    def lost(self):
        """The rules that reach nobody on some way."""
        everybody = self.rules() + self.own_alerts()
        return {rule["alert"] for rule in everybody if any(not any(map(self.tells, way)) for way in self.ways(rule))}

    def undefined(self):
        named = {sink for rule in self.rules() for sink in as_list(rule.get("sinks"))}
        named |= {sink for node in nodes(self.main.get("route")) for sink in as_list(node.get("sinks"))}
        named |= {sink for other in self.main["sinks"].values() for sink in as_list(other.get("fallback"))}
        return named - set(self.main["sinks"])


def as_list(value):
    return [] if value is None else value if isinstance(value, list) else [value]


def nodes(route):
    if route is None:
        return
    yield route
    for child in as_list(route.get("routes")):
        yield from nodes(child)


def mutants(base):
    """Yields (what was done, the configuration, the rules that must be named)."""
    for sink in base.main["sinks"]:
        mutant = base.copy()
        users = base.users(sink)
        del mutant.main["sinks"][sink]
        yield f"sink {sink} removed", mutant, users

    for sink, settings in base.main["sinks"].items():
        users = base.users(sink)
        for kind, fields in settings.items():
            if kind not in SINK_TYPES or not isinstance(fields, dict):
                continue
            for key, value in fields.items():
                if key.endswith("_file"):
                    for what, content in [("missing", None), ("empty", ""), ("a line break", "\n"), ("a placeholder", "changeme\n"),
                                          *([("cut short", GOOD[kind][1:])] if kind in GOOD else [])]:
                        mutant = base.copy()
                        mutant.files[value] = content
                        yield f"{sink}.{key} {what}", mutant, users
                    mutant = base.copy()
                    mutant.main["sinks"][sink][kind][key] = ""
                    yield f"{sink}.{key} names no file", mutant, users
                    mutant = base.copy()
                    del mutant.main["sinks"][sink][kind][key]
                    if kind == "slack" or key in ("url_file", "routing_key_file"):
                        yield f"{sink}.{key} removed", mutant, users
                elif isinstance(value, str) and "${" in value:
                    for name in re.findall(r"\$\{(\w+)", value):
                        for what, content in [("unset", None), ("empty", ""), ("a placeholder", "changeme"), ("xxx", "xxx"),
                                              ("Slack's example", "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXX")]:
                            mutant = base.copy()
                            mutant.env[name] = content
                            yield f"{sink}.{key}: {name} {what}", mutant, users
                    for what, content in [("blank", ""), ("null", None)]:
                        mutant = base.copy()
                        mutant.main["sinks"][sink][kind][key] = content
                        yield f"{sink}.{key} {what}", mutant, users
        mutant = base.copy()
        for kind in SINK_TYPES & set(settings):
            del mutant.main["sinks"][sink][kind]
        yield f"sink {sink} without a type", mutant, users

    count = len(list(nodes(base.main.get("route"))))
    for i in range(count):
        def broken(change, what, certain=True, i=i):
            mutant = base.copy()
            node = list(nodes(mutant.main["route"]))[i]
            change(node)
            # Whether somebody loses by it is the naive walk's to say, unless the file itself is wrong.
            return f"route node {i} {what}", mutant, mutant.lost() if not certain else set(), certain
        node = list(nodes(base.main["route"]))[i]
        takers = {rule["alert"] for rule in base.rules()
                  if not rule.get("sinks") and set(as_list(node.get("sinks"))) & set().union(*base.ways(rule))}
        if "sinks" in node:
            for what, content in [("sinks: []", []), ("sinks: null", None), ("sinks undefined", ["nobody"])]:
                name, mutant, lost, certain = broken(lambda n, c=content: n.update(sinks=c), what)
                yield name, mutant, mutant.lost() - set(BUILT_IN) if what != "sinks undefined" else set()
            for sink in as_list(node["sinks"]):
                if len(as_list(node["sinks"])) > 1:
                    name, mutant, lost, certain = broken(lambda n, s=sink: n["sinks"].remove(s), f"without {sink}", False)
                    yield name, mutant, lost - set(BUILT_IN)
            name, mutant, lost, certain = broken(lambda n: n.pop("sinks"), "without sinks", False)
            yield name, mutant, lost - set(BUILT_IN)
        if "matchers" in node:
            name, mutant, lost, certain = broken(lambda n: n.update(matchers=['alertname="Nobody"']), "matching nothing", False)
            yield name, mutant, lost - set(BUILT_IN)
            name, mutant, lost, certain = broken(lambda n: n.update(matchers=["severity"]), "unreadable")
            yield name, mutant, set()
        if "continue" in node:
            name, mutant, lost, certain = broken(lambda n: n.pop("continue"), "without continue", False)
            yield name, mutant, lost - set(BUILT_IN)
    if "route" in base.main:
        mutant = base.copy()
        del mutant.main["route"]
        yield "route removed", mutant, {rule["alert"] for rule in base.rules() if not rule.get("sinks")}
        mutant = base.copy()
        mutant.main["route"] = None
        yield "route: null", mutant, {rule["alert"] for rule in base.rules() if not rule.get("sinks")}

    for i, rule in enumerate(base.rules()):
        for what, content in [("[]", []), ("null", None), ("''", ""), ("undefined", ["nobody"]), ("[none]", ["none"]), ("none", "none")]:
            mutant = base.copy()
            mutant.rules()[i]["sinks"] = content
            yield f"rule {rule['alert']} sinks: {what}", mutant, {rule["alert"]}
        if rule.get("sinks"):
            mutant = base.copy()
            del mutant.rules()[i]["sinks"]
            yield f"rule {rule['alert']} without sinks", mutant, mutant.lost() - set(BUILT_IN)

    mutant = base.copy()
    everyone = {rule["alert"] for rule in base.rules()}
    del mutant.main["sinks"]
    yield "no sinks at all", mutant, everyone


def must_be_refused(what, mutant):
    """The naive answer; None where the file itself is wrong, so that it must be."""
    if "sinks" not in mutant.main:
        return True
    wrong = any(word in what for word in ["sinks: ", "unreadable", "secret", "_file", "${", ": null", "without a type", "unset",
                                          "empty", "placeholder", "example", " xxx", "blank"]) or re.search(r"\.\w+ (blank|null)", what)
    return bool(wrong) or bool(mutant.undefined()) or bool(mutant.lost())


def run(logbell, command, mutant, directory, base=None):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    if command == "diff":
        run(logbell, "write", base, directory / "base")
    (directory / "logbell.yaml").write_text(json.dumps(mutant.main, indent=1))
    for name, content in mutant.rule_files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(json.dumps(content, indent=1))
    for name, content in mutant.files.items():
        pathlib.Path(name).unlink(missing_ok=True)
        if content is not None:
            pathlib.Path(name).write_text(content)
            os.chmod(name, 0o600)
    env = {name: value for name, value in mutant.env.items() if value is not None}
    env["PATH"] = os.environ.get("PATH", "")
    # A refused `run` tells the sinks that are left: it gets no further than a proxy that is not there.
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        env[name] = "http://127.0.0.1:9"
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]
    if command == "write":
        return None
    arguments = {"check": ["check", "logbell.yaml"], "diff": ["diff", "base/logbell.yaml", "logbell.yaml"]}.get(
        command, [command, "--config", "logbell.yaml"])
    return subprocess.run([logbell, *arguments], cwd=directory, env=env, capture_output=True, text=True, timeout=60)


def main():
    logbell, to_json, commands, *paths = sys.argv[1:]
    logbell, to_json = os.path.abspath(logbell), os.path.abspath(to_json)
    failures, tried, refused = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="logbell-mutants-") as scratch:
        scratch = pathlib.Path(scratch)
        for path in map(pathlib.Path, paths):
            base = Configuration(path.resolve(), to_json, scratch)
            sound = run(logbell, "check", base, scratch / "configuration")
            if sound.returncode != 0:
                failures.append(f"{base.name}: as it is, it is refused:\n{sound.stderr}")
                continue
            seen = 0
            for what, mutant, named in mutants(base):
                seen += 1
                expected = must_be_refused(what, mutant)
                for command in commands.split(","):
                    if command != "check" and not expected:
                        continue  # it would run
                    if command == "diff" and (mutant.env, mutant.files) != (base.env, base.files):
                        continue  # one environment for both
                    tried += 1
                    done = run(logbell, command, mutant, scratch / "configuration", base)
                    title = f"{base.name}: {what}: {command}"
                    if not expected:
                        if done.returncode != 0:
                            failures.append(f"{title}: still covered, but exit {done.returncode}\n{done.stderr}")
                        continue
                    refused += 1
                    if command == "diff":
                        if done.returncode not in (1, 78):
                            failures.append(f"{title}: exit {done.returncode} instead of 1\n{done.stdout}{done.stderr}")
                        elif not re.search(r"^(FEWER are told|logbell.yaml is refused)", done.stdout, re.M):
                            failures.append(f"{title}: does not say that fewer are told\n{done.stdout}")
                        continue
                    if done.returncode != 78:
                        failures.append(f"{title}: exit {done.returncode} instead of 78\n{done.stdout}{done.stderr}")
                        continue
                    missing = [rule for rule in sorted(named) if not re.search(rf"\b{re.escape(rule)}\b", done.stderr)]
                    if missing:
                        failures.append(f"{title}: does not name {missing}\n{done.stderr}")
                    if not re.search(r"\.yaml:\d+:\d+: ", done.stderr):
                        failures.append(f"{title}: does not say where\n{done.stderr}")
            if seen < 15:
                failures.append(f"{base.name}: only {seen} mutants: the mutations no longer fit the file")
    for failure in failures[:20]:
        print(failure, end="\n\n")
    print(f"{len(paths)} configurations, {tried} runs of {commands}: {refused} mutants had to be refused, {len(failures)} failures")
    sys.exit(1 if failures else 0)


main()
