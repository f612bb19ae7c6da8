#!/usr/bin/env python3
"""logbell backtest as a user runs it: logs of last night through a configuration that has no secrets here."""
import contextlib
import datetime
import gzip
import json
import lzma
import os
import pty
import re
import struct
import subprocess
import zlib

import harness
from harness import Case, configuration, rule

PATTERNS = {"failed": {"match": r"ERROR (?P<code>\d+) in", "labels": ["code"]}, "slow": {"match": r"took \d{4,}ms"}}
RULES = [rule("Failed", "sum by (code) (count_over_time(failed[1m])) >= 5", labels={"severity": "critical"}),
         rule("Never", "count_over_time(slow[1m]) > 1000", labels={"severity": "warning"})]


def pixels(path):
    """The rows of a PNG as (red, green, blue), of what browsers write: 8 bits, RGB or RGBA, not interlaced."""
    with open(path, "rb") as file:
        data = file.read()
    at, packed, width, height, size = 8, b"", 0, 0, 3
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8 and colour in (2, 6), (depth, colour)
            size = 3 if colour == 2 else 4
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw, before, rows = zlib.decompress(packed), bytearray(width * size), []
    for y in range(height):
        kind, line = raw[y * (width * size + 1)], bytearray(raw[y * (width * size + 1) + 1:(y + 1) * (width * size + 1)])
        for i in range(len(line)):
            left, up, corner = line[i - size] if i >= size else 0, before[i], before[i - size] if i >= size else 0
            if kind == 4:
                guess = left + up - corner
                paeth = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth if kind == 4 else 0)[kind]) & 255
        before = line
        rows.append([tuple(line[x:x + 3]) for x in range(0, len(line), size)])
    return rows


def near(pixel, colour):
    return all(abs(a - b) < 24 for a, b in zip(pixel, colour))


def is_red(pixel):
    red, green, blue = pixel
    return red > green + 30 and blue > green + 5


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

    def backtest(self, *args, locale="C"):
        env = {key: value for key, value in os.environ.items() if key != "SLACK_WEBHOOK_URL"}
        env["LC_ALL"] = locale
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
            for took in ("seconds", "cpu_seconds"):
                self.assertTrue(reports[-1].pop(took))
        self.assertEqual(reports[0], reports[1])
        self.assertEqual(600, reports[0]["lines"])
        self.assertEqual([("failed", 10), ("slow", 10)], [(each["name"], each["lines"]) for each in reports[0]["patterns"]])
        self.assertEqual([("Failed", 2, 0), ("Never", 0, 0)], [(each["name"], each["firings"], each["still_firing"]) for each in reports[0]["rules"]])

    def test_packed_logs_and_standard_input_say_the_same(self):
        path = self.log("night.log")
        packed = {path + ".gz": ["gzip", "-k", path], path + ".zst": ["zstd", "-q", "-k", path]}
        plain = json.loads(self.backtest("--from", path, "--format", "json").stdout)
        del plain["seconds"], plain["cpu_seconds"]
        for name, command in packed.items():
            subprocess.run(command, check=True)
            done = self.backtest("--from", name, "--format", "json")
            self.assertEqual((0, ""), (done.returncode, done.stderr))
            report = json.loads(done.stdout)
            del report["seconds"], report["cpu_seconds"]
            self.assertEqual(plain, report)
        reading, writing = os.pipe()
        with subprocess.Popen([harness.binary(), "backtest", "--config", self.config, "--from", "-", "--format", "json"], stdin=reading,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            os.close(reading)
            with open(path, "rb") as file, os.fdopen(writing, "wb") as pipe:
                for line in file:
                    pipe.write(line)
                    pipe.flush()
            report = json.loads(process.communicate(timeout=30)[0])
        del report["seconds"], report["cpu_seconds"]
        self.assertEqual(plain, report)
        with open(path + ".gz", "rb") as file:
            done = subprocess.run([harness.binary(), "backtest", "--config", self.config, "--from", "-"], stdin=file, capture_output=True, text=True,
                                  timeout=30)
        self.assertEqual(64, done.returncode)
        self.assertIn("it is compressed; name the file itself", done.stderr)

    def test_of_each_rule_what_people_ask_of_it(self):
        path = self.log("night.log")
        done = self.backtest("--from", path)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertNotIn("\r", done.stderr)  # it is no terminal: nothing is drawn there
        self.assertRegex(done.stdout, r"\nFailed +2 +\S+ +\S+ +1 ")  # the second within a quarter of an hour of the first's end
        self.assertRegex(done.stdout, r'\nFailed +>= 5 +5 +\S+Z +\{code="7"\}\n')
        self.assertRegex(done.stdout, r"\nFailed  \.+[-=#_]+\.+[-=#_]+\.+\n")  # the C locale knows no blocks
        self.assertRegex(done.stdout, r"\nops +4 +- +[24] on \d{4}-\d\d-\d\d +Failed 4\n")
        self.assertIn("\nFailed: code 7=10\n", done.stdout)
        self.assertIn("\n1 rule never fired.\n", done.stdout)
        in_utf8 = self.backtest("--from", path, locale="C.UTF-8")
        self.assertRegex(in_utf8.stdout, r"\nFailed  ·+[▁▂▃▄▅▆▇█]+·+[▁▂▃▄▅▆▇█]+·+\n")

    def test_how_far_it_is_on_a_terminal(self):
        with open(self.log("night.log"), "rb") as file:
            lines = file.readlines()
        for terminal, expected in (("xterm", True), ("dumb", False)):
            ours, theirs = pty.openpty()
            with subprocess.Popen([harness.binary(), "backtest", "--config", self.config, "--from", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=theirs, env={**os.environ, "TERM": terminal, "LC_ALL": "C"}) as process:
                os.close(theirs)
                seen = b""
                for line in lines:
                    process.stdin.write(line)
                    process.stdin.flush()
                if expected:  # it waits for more
                    while b" kB/s" not in seen:
                        seen += os.read(ours, 4096)
                process.stdin.close()
                text = process.stdout.read().decode()
                with contextlib.suppress(OSError):  # the terminal's end
                    while more := os.read(ours, 4096):
                        seen += more
                os.close(ours)
                self.assertEqual(0, process.wait(30))
            self.assertRegex(text, r"\A600 lines, ")
            if expected:
                self.assertRegex(seen.decode(), r"\r[\d.]+ kB, [\d.]+ kB/s\x1b\[K")  # of standard input nobody knows the end
                self.assertTrue(seen.endswith(b"\r\x1b[K"), seen)  # it is taken away
            else:
                self.assertEqual(b"", seen)

    def test_a_time_to_look_at(self):
        path = self.log("night.log")
        whole = json.loads(self.backtest("--from", path, "--format", "json").stdout)
        first = next(each for each in whole["rules"] if each["name"] == "Failed")["episodes"][0]
        done = self.backtest("--from", path, "--format", "json", "--since", first["resolved_at"])
        self.assertEqual([1, 0], [each["firings"] for each in json.loads(done.stdout)["rules"]])
        done = self.backtest("--from", path, "--format", "json", "--until", first["resolved_at"])
        self.assertEqual([1, 0], [each["firings"] for each in json.loads(done.stdout)["rules"]])
        done = self.backtest("--from", path, "--format", "json", "--since", "1d")
        self.assertEqual([0, 0], [each["firings"] for each in json.loads(done.stdout)["rules"]])
        done = self.backtest("--from", path, "--since", "1d")
        self.assertIn("; none says a time between --since and --until", done.stdout)
        done = self.backtest("--from", path, "--since", "yesterday")
        self.assertEqual(64, done.returncode)
        self.assertIn('"yesterday" is no moment; write 2026-05-01T10:00:00Z', done.stderr)
        done = self.backtest("--from", path, "--since", "2026-05-02", "--until", "2026-05-01")
        self.assertEqual(64, done.returncode)

    def test_thresholds_are_suggested(self):
        done = self.backtest("--from", self.log("night.log"), "--suggest")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("\nThresholds, from 9m59s of logs, as if the rest of a month went as they do:\n", done.stdout)
        self.assertIn("Failed: sum by (code) (count_over_time(failed[1m])) >= 5 fired 2 times\n"
                      "  at most  1 a month: >= 6 (the first that never fired: these logs are too short to tell so few)\n", done.stdout)
        report = json.loads(self.backtest("--from", self.log("night.log"), "--suggest", "--format", "json").stdout)
        self.assertEqual([(1, 6, 0, True), (5, 6, 0, True), (20, 6, 0, True)],
                         [(each["firings_a_month"], each["threshold"], each["firings"], each["beyond_what_was_seen"])
                          for each in report["rules"][0]["suggestions"]])

    def test_what_another_configuration_would_have_changed(self):
        other = os.path.join(self.directory, "other.yaml")
        rules = [rule("Failed", "sum by (code) (count_over_time(failed[1m])) >= 3", labels={"severity": "page"}),
                 rule("Slow", "count_over_time(slow[5m]) >= 4", labels={"severity": "warning"})]
        with open(other, "w") as file:
            file.write(harness.yaml(configuration("/var/log/app.log", PATTERNS, rules, {"ops": {"slack": {"webhook_url": "${SLACK_WEBHOOK_URL}"}}})))
        path = self.log("night.log")
        done = self.backtest("--from", path, "--compare", other)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertRegex(done.stdout, r"\nFailed +2 +2 +0 +0 +2\n")
        self.assertRegex(done.stdout, r"\nNever +0 +no rule +0 +0 +0\n")
        self.assertRegex(done.stdout, r"\nSlow +no rule +1 +0 +1 +0\n")
        self.assertRegex(done.stdout, r"\n  ~ \S+Z for \S+, with B \S+Z for ")
        self.assertRegex(done.stdout, r"\nops +4 +[56] +\+[12]\n")
        report = json.loads(self.backtest("--from", path, "--compare", other, "--format", "json").stdout)["comparison"]
        self.assertEqual([("Failed", 0, 0, 2), ("Never", 0, 0, 0), ("Slow", 0, 1, 0)],
                         [(each["name"], len(each["only_a"]), len(each["only_b"]), len(each["both"])) for each in report["rules"]])
        done = self.backtest("--from", "-", "--compare", other)
        self.assertEqual(64, done.returncode)
        self.assertIn("standard input can be read once", done.stderr)

    def browse(self, page, *args):
        return subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={self.directory}/chromium",
                               *args, "file://" + page], capture_output=True, timeout=60, check=True).stdout.decode()

    def test_a_page_that_a_browser_draws(self):
        with open(self.config, "w") as file:
            patterns = {"failed": {"match": r"ERROR (?P<code>\S+) in", "labels": ["code"]}}
            rules = [rule("Failed", "sum by (code) (count_over_time(failed[1m])) >= 5", labels={"severity": "critical"})]
            file.write(harness.yaml(configuration("/var/log/app.log", patterns, rules, {"ops": {"slack": {"webhook_url": "${SLACK_WEBHOOK_URL}"}}})))
        path = self.log("night.log")
        evil = "</script><script>document.title='owned'</script><img/src=x/onerror=document.title='owned'>"
        with open(path) as file:
            text = file.read().replace("ERROR 7 ", f"ERROR {evil} ")
        with open(path, "w") as file:
            file.write(text)
        page = os.path.join(self.directory, "page.html")
        done = self.backtest("--from", path, "--format", "html", "--suggest")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        with open(page, "w") as file:
            file.write(done.stdout)
        self.assertIsNone(re.search(r"(?i)https?:|<script|<img|@import|url\(", done.stdout))

        seen = self.browse(page, "--dump-dom")
        self.assertIn(f"<title>Backtest of {self.config}</title>", seen)  # nothing that a log says was run
        self.assertIsNone(re.search(r"<script|<img", seen))
        self.assertIn("&lt;/script&gt;", seen)
        self.assertEqual(2, seen.count('<rect class="firing"'))
        self.assertIn('<line class="threshold"', seen)
        self.assertTrue(re.search(r'<path class="band" d="M\d', seen))
        self.assertIn("Fired 2 times", seen)

        picture = os.path.join(self.directory, "page.png")
        self.browse(page, f"--screenshot={picture}", "--window-size=1000,900")
        light = pixels(picture)
        self.assertEqual((255, 255, 255), light[0][0])
        # The threshold is a line, dashed, across the plot; the firings are columns as high as the plot, the value reaches it.
        self.assertGreater(max(sum(near(pixel, (0xb4, 0x53, 0x09)) for pixel in row) for row in light), 400)
        columns = [sum(is_red(row[x]) for row in light) for x in range(len(light[0]))]
        self.assertGreater(sum(count > 100 for count in columns), 100)
        self.assertGreater(sum(near(pixel, (0x25, 0x63, 0xab)) for row in light for pixel in row), 200)
        self.browse(page, f"--screenshot={picture}", "--window-size=1000,900", "--blink-settings=preferredColorScheme=0")
        self.assertEqual((0x14, 0x18, 0x1c), pixels(picture)[0][0])

    def test_what_cannot_be_done_is_said(self):
        done = self.backtest("--from", os.path.join(self.directory, "absent.log"))
        self.assertEqual(64, done.returncode, done.stdout)
        self.assertRegex(done.stderr, r"absent\.log: No such file")
        done = self.backtest("--from", self.log("night.log"), "--from", os.path.join(self.directory, "nope*.log"))
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertIn("nope*.log: no file has such a name.", done.stderr)
        self.assertIn("PATTERN", done.stdout)
        broken = os.path.join(self.directory, "old.log.gz")
        with open(broken, "wb") as file:
            file.write(gzip.compress(b"2026-05-01T10:00:00Z a line\n" * 1000)[:60])
        done = self.backtest("--from", broken)
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertIn("It is compressed, and ends early at byte ", done.stderr)
        packed = os.path.join(self.directory, "old.log.xz")
        with open(packed, "wb") as file:
            file.write(lzma.compress(b"2026-05-01T10:00:00Z a line\n"))
        done = self.backtest("--from", packed)
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertIn(f"xzcat {packed} | logbell backtest --from -", done.stderr)
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
