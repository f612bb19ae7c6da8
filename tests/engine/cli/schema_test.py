#!/usr/bin/env python3
"""schema_test.py LOGBELL ROOT: every configuration and test file of the tree against `logbell schema`, with Debian's jsonschema."""
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

import jsonschema
import yaml

LOGBELL, ROOT = os.path.abspath(sys.argv.pop(1)), pathlib.Path(sys.argv.pop(1))
DATA = ROOT / "tests" / "testdata"

# Bad files whose fault is none of structure: what a name, an expression, a regex, a secret or two keys together mean, `check` says. Each
# other one must be invalid.
MEANING = set("""
file.duplicate_key file.rule_file_faults file.rule_files file.variables pattern.example pattern.example_json pattern.label_name pattern.line_break
pattern.label_without_capture pattern.metric pattern.metric_twice pattern.name pattern.regex pattern.regex_backreference
pattern.regex_group_twice pattern.regex_in_where pattern.regex_lookahead pattern.regex_named_group pattern.unknown_source
pattern.where_on_text route.always_muted route.from_logs route.interval route.matchers route.no_sinks route.only_a_file_on_one_way
route.sink_undefined rule.built_in_name rule.expr_and_match rule.expr_apart rule.expr_arguments rule.expr_contradiction
rule.expr_always_true rule.expr_ill_typed rule.expr_key rule.expr_many_to_one rule.expr_never_true rule.expr_no_comparison rule.expr_no_pattern rule.expr_no_value
rule.expr_not_supported rule.expr_offset rule.expr_syntax rule.expr_syntax_in_block rule.expr_template rule.expr_unknown_key rule.expr_unknown_label rule.expr_unknown_pattern
rule.location rule.no_sink rule.only_files rule.own_sink_misspelt rule.own_sink_undefined rule.reason_without_silence rule.resolve_when
rule.silent_expired rule.silent_in_a_list rule.silent_not_a_date rule.silent_without_reason rule.template_syntax
rule.template_unknown_label rule.twins sink.fallback sink.secret_both sink.secret_empty sink.secret_file_control
sink.secret_file_empty sink.secret_file_missing sink.secret_file_placeholder sink.secret_inline_placeholder sink.secret_placeholder
sink.secret_unexpanded sink.secret_unset sink.secret_unset_why sink.undefined source.paths source.timestamp source.twice
expr.answers_itself metric.not_its_own pattern.regex_slips route.waits rule.silent_no_route source.same_file
""".split())
# They are no YAML: there is nothing to hold against a schema.
NO_YAML = set("""
file.double_quoted_regex file.quote file.tab rule.template_unquoted
""".split())


class Loader(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors and logbell read it: no dates, no yes and no."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("^[-+]?[0-9]+$"), list("-+0123456789"))


def schema(of):
    done = subprocess.run([LOGBELL, "schema", of], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.by = {}
        for of in ("config", "tests", "rules"):
            text = schema(of)
            jsonschema.Draft202012Validator.check_schema(text)
            cls.by[of] = jsonschema.Draft202012Validator(text)

    def faults(self, of, path):
        document = yaml.load(path.read_text(), Loader)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in self.by[of].iter_errors(document)]

    def test_every_good_configuration_is_valid(self):
        good = sorted(DATA.glob("*.good.yaml"))
        examples = [path for path in sorted((ROOT / "examples").rglob("*.yaml"))
                    if not path.name.endswith(".test.yaml") and re.search(r"^sources:", path.read_text(), re.M)]
        self.assertGreater(len(good), 2)
        self.assertGreater(len(examples), 5)
        for path in good + examples:
            with self.subTest(path.name):
                self.assertEqual([], self.faults("config", path))

    def test_every_test_file_and_rule_file_is_valid(self):
        tests = sorted((ROOT / "examples").rglob("*.test.yaml"))
        self.assertGreater(len(tests), 4)
        for path in tests:
            with self.subTest(path.name):
                self.assertEqual([], self.faults("tests", path))
        self.assertEqual([], self.faults("rules", DATA / "rules.d" / "more.yaml"))
        self.assertNotEqual([], self.faults("rules", DATA / "rules.d" / "faults.yaml"))

    def test_every_bad_configuration_is_invalid_unless_it_is_about_meaning(self):
        bad = {path.name.removesuffix(".bad.yaml"): path for path in DATA.glob("*.bad.yaml")}
        self.assertGreater(len(bad), 60)
        found = {"valid": set(), "no yaml": set()}
        for name, path in bad.items():
            try:
                if not self.faults("config", path):
                    found["valid"].add(name)
            except yaml.YAMLError:
                found["no yaml"].add(name)
        self.assertEqual(MEANING, found["valid"])
        self.assertEqual(NO_YAML, found["no yaml"])

    def test_what_check_calls_an_unknown_key_or_a_bad_word_is_invalid(self):
        """The texts beside the bad files are what `check` says of them."""
        structural = re.compile(r'unknown key "|" cannot be "|is a whole number from|is true or false, not|is a list, not|is a map of names to values, not|a map of keys is expected')
        seen = 0
        for path in sorted(DATA.glob("*.bad.yaml")):
            said = path.with_suffix(".txt").read_text()
            name = path.name.removesuffix(".bad.yaml")
            if not structural.search(said) or name in NO_YAML or "rules.d/" in said:
                continue
            seen += 1
            with self.subTest(name):
                self.assertNotEqual([], self.faults("config", path))
        self.assertGreater(seen, 5)

    def test_each_key_has_a_sentence(self):
        for of in self.by:
            for name, table in schema(of)["$defs"].items():
                for key, value in table.get("properties", {}).items():
                    with self.subTest(f"{name}.{key}"):
                        self.assertRegex(value["description"], r"^.{4,}\.$")

    def test_variables_stand_where_a_value_may(self):
        config = {"sources": [{"name": "${N}", "files": ["/x"], "stdin": "${S}", "max_silence": "${T:-5m}", "max_line_bytes": "${B}"}],
                  "patterns": {"p": {"match": "x", "max_series": "${M}"}}}
        self.assertEqual([], list(self.by["config"].iter_errors(config)))
        for key, value in (("stdin", "yes"), ("max_silence", "5 minutes"), ("max_line_bytes", "1GB"), ("max_line_bytes", 12)):
            wrong = {**config, "sources": [{**config["sources"][0], key: value}]}
            self.assertNotEqual([], list(self.by["config"].iter_errors(wrong)), (key, value))

    def test_the_command_line(self):
        self.assertEqual(schema("config"), json.loads(subprocess.run([LOGBELL, "schema"], capture_output=True, text=True, timeout=30).stdout))
        self.assertEqual(64, subprocess.run([LOGBELL, "schema", "nothing"], capture_output=True, timeout=30).returncode)


unittest.main()
