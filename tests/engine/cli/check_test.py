#!/usr/bin/env python3
"""check_test.py LOGBELL: exit codes, what goes to which stream, colour, and JSON, of the program as it is run."""
import json
import os
import pathlib
import pty
import subprocess
import sys
import tempfile
import unittest

LOGBELL = os.path.abspath(sys.argv.pop(1))
SLACK = "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/" + "abcdefghijklmnopqrstuvwx"
GOOD = """\
sources: [{name: api, files: [/var/log/api.log]}]
rules: [{alert: Errors, match: ERROR, sinks: [ops]}]
sinks: {ops: {slack: {webhook_url: '${SLACK}'}}}
"""
WARNS = GOOD + "route: {sinks: [ops], routes: [{matchers: [a=b]}]}\n"
BAD = GOOD.replace("sinks: [ops]}]", "sinks: [pager]}]")


class Check(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.directory = pathlib.Path(self.scratch.name)

    def check(self, text, *arguments, **env):
        (self.directory / "c.yaml").write_text(text)
        return self.run_it("check", "c.yaml", *arguments, **env)

    def run_it(self, *arguments, **env):
        keep = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        return subprocess.run([LOGBELL, *arguments], cwd=self.directory, env={**keep, "SLACK": SLACK, **env},
                              capture_output=True, text=True, timeout=60)

    def test_a_good_one_is_0_and_says_who_hears_of_what(self):
        done = self.check(GOOD)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"Errors +its own sinks +ops")
        self.assertRegex(done.stdout, r"ops +slack +https://hooks.slack.com")
        self.assertIn("every rule reaches a sink", done.stdout)
        self.assertNotIn("abcdefghijklmnop", done.stdout)

    def test_a_bad_one_is_78_and_its_problems_are_on_stderr(self):
        done = self.check(BAD)
        self.assertEqual((done.returncode, done.stdout), (78, ""))
        self.assertIn('c.yaml:2:47: rule "Errors": its sink "pager" is not defined', done.stderr)
        self.assertIn("refused: 1 error, 1 warning", done.stderr)

    def test_the_secret_is_never_said(self):
        for secret in (SLACK + "/more", "abcdefghijklmnopqrstuvwx", "http://hooks.slack.com/abcdefghijklmnopqrstuvwx"):
            for format in ("text", "json"):
                done = self.check(GOOD, "--format", format, SLACK=secret)
                self.assertEqual(done.returncode, 78, secret)
                self.assertNotIn("abcdefghijklmnop", done.stdout + done.stderr)

    def test_warnings_fail_only_with_strict(self):
        done = self.check(WARNS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("warning: ", done.stderr)
        done = self.check(WARNS, "--strict")
        self.assertEqual(done.returncode, 1)
        self.assertIn("--strict", done.stdout)
        self.assertEqual(self.check(BAD, "--strict").returncode, 78)
        self.assertEqual(self.check(GOOD, "--strict").returncode, 0)

    def test_a_pattern_that_no_line_matches_is_said(self):
        for regex, why in (("ERROR$foo", "seems to match nothing"), ("ERROR ^foo", "seems to match nothing"),
                           (r"ERROR\nfoo", "asks for a line break"), (r"ERROR \d+(foo|bar)", None), ("(?i)error$", None)):
            done = self.check(GOOD.replace("match: ERROR", f"match: '{regex}'"), "--strict")
            with self.subTest(regex):
                self.assertEqual(done.returncode, 1 if why else 0, done.stderr)
                if why:
                    self.assertIn(f'`match:` "{regex}" {why}', done.stderr)
        lines = f"patterns: {{errors: {{match: 'ERROR', exclude: 'ERROR'}}}}\n" + GOOD.replace(
            "match: ERROR", "expr: 'count_over_time(errors[1m]) > 0'")
        self.assertIn("is its `exclude:`, too", self.check(lines).stderr)
        # An example is proof, and of traces a line break is none.
        self.assertEqual(self.check(lines.replace("'ERROR'}", "'ERROR x', examples: ['ERROR']}"), "--strict").returncode, 0)
        traces = lines.replace("match: 'ERROR', exclude: 'ERROR'", r"match: 'ERROR\nfoo'").replace(".log]}", ".log], multiline: java}")
        self.assertEqual(self.check(traces, "--strict").returncode, 0)

    def test_the_table_says_in_which_hours_nobody_hears(self):
        hours = GOOD.replace(", sinks: [ops]", "") + """\
route: {sinks: [ops], routes: [{matchers: [alertname=Errors], active_time_intervals: [office]}, {matchers: [alertname=x], mute_time_intervals: [office]}]}
time_intervals: [{name: office, time_intervals: [{times: [{start_time: 09:00, end_time: 17:00}]}]}]
"""
        done = self.check(hours)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"Errors +.*alertname=\"Errors\".* only during office +ops")

    def test_secrets_can_be_left_out(self):
        self.assertEqual(self.check(GOOD, SLACK="").returncode, 78)
        done = self.check(GOOD, "--assume-secrets", SLACK="")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("left out", done.stdout)
        self.assertEqual(self.check(BAD, "--assume-secrets", SLACK="").returncode, 78)

    def test_json_says_the_same(self):
        done = self.check(BAD, "--format", "json")
        self.assertEqual((done.returncode, done.stderr), (78, ""))
        said = json.loads(done.stdout)
        self.assertFalse(said["accepted"])
        first = said["problems"][0]
        self.assertEqual((first["severity"], first["file"], first["line"], first["column"], first["subject"]),
                         ("error", "c.yaml", 2, 47, 'rule "Errors"'))
        said = json.loads(self.check(GOOD, "--format", "json").stdout)
        self.assertTrue(said["accepted"])
        self.assertEqual(said["rules"][0]["ways"], [{"routes": [], "when": [], "sinks": ["ops"]}])
        self.assertEqual(said["rules_without_sink"], 0)

    def test_long_windows_are_said_with_what_they_take(self):
        self.assertNotIn("LOOKS BACK", self.check(GOOD).stdout)
        week = GOOD.replace("match: ERROR,", "expr: 'count_over_time(e[1m]) > 3 * baseline_over_time(e[1m], 1d, 7)',")
        week += "patterns: {e: {match: ERROR}}\n"
        self.assertRegex(self.check(week).stdout, r"Errors +7d1m +at most 16 MB\n")
        rule = json.loads(self.check(week, "--format", "json").stdout)["rules"][0]
        self.assertEqual((rule["looks_back_seconds"], rule["window_bytes_at_most"]), (7 * 86400 + 60, 16_000_000))

    def test_files_that_cannot_be_read(self):
        done = self.run_it("check", "missing.yaml")
        self.assertEqual(done.returncode, 78)
        self.assertIn("missing.yaml: cannot be read: No such file or directory", done.stderr)
        self.assertIn("is a directory", self.run_it("check", ".").stderr.lower())
        os.mkfifo(self.directory / "pipe")
        self.assertEqual(self.run_it("check", "pipe").returncode, 78)
        self.assertEqual(self.run_it("check").returncode, 78)  # /etc/logbell/logbell.yaml is not here

    def test_the_command_line(self):
        for arguments in ([], ["chekc"], ["check", "--format", "xml"], ["check", "a", "b"], ["run", "--on-refusal", "x"],
                          ["run", "--assume-secrets"]):
            done = self.run_it(*arguments)
            self.assertEqual((done.returncode, done.stdout), (64, ""), arguments)
            self.assertTrue(done.stderr)
        self.assertEqual(self.run_it("--help").returncode, 0)
        self.assertRegex(self.run_it("--version").stdout, r"^logbell \d+\.\d+\.\d+\n$")

    def test_colour_is_for_terminals(self):
        self.assertNotIn("\x1b", self.check(BAD, TERM="xterm").stderr)
        for env, colour in (({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({}, False)):
            master, slave = pty.openpty()
            subprocess.run([LOGBELL, "check", "c.yaml"], cwd=self.directory, env={"SLACK": SLACK, **env}, stderr=slave, timeout=60)
            os.close(slave)
            self.assertEqual("\x1b[" in os.read(master, 4096).decode(), colour, env)
            os.close(master)


unittest.main()
