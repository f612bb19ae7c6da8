#!/usr/bin/env python3
"""F48, F55, F56: messages that are too long, programs that misbehave, and messages that come back as log lines."""
import json
import os
import signal
import sys
import threading
import time

import harness
from harness import Case, configuration, rule, stays, wait_for

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}}
RULES = [rule("Boom", "sum by (queue) (count_over_time(boom[1h])) >= 1", labels={"severity": "critical"})]


class Faults(Case):
    def ring(self, sinks, start=True, source=None, rules=RULES, **options):
        self.app = self.log()
        route = {"sinks": [name for name in sinks if name != "spare"], "group_by": ["..."], "group_interval": "1s"}
        return self.bell(configuration(self.app.path, BOOM, rules, sinks, source=source, route=route), start=start, **options)


class TooLong(Faults):
    def test_F48_a_line_of_emoji_and_right_to_left_text_arrives_cut_between_characters(self):
        chat = self.slack()  # refuses what Slack refuses
        words = "🇩🇪👍🏽שָׁלוֹם " * 200
        bell = self.ring({"ops": harness.slack(chat.hook())},
                         rules=[*RULES, rule("Long", 'sum by (queue) (count_over_time(boom{queue="long"}[1h])) >= 1', annotations={"summary": words})])
        self.assertEqual(0, bell.metric("logbell_sink_payload_truncated_total", sink="ops"))
        self.app.write("ERROR boom on short")
        wait_for(lambda: len(chat.messages()) == 1, "a message", context=bell.tail)
        bell.await_metric(0, "logbell_sink_payload_truncated_total", sink="ops")
        self.app.write("ERROR boom on long " + words)
        wait_for(lambda: len(chat.messages()) == 3, "two more", context=bell.tail)
        bell.await_metric(3, "logbell_notifications_total", sink="ops", outcome="delivered")
        bell.await_metric(1, "logbell_sink_payload_truncated_total", sink="ops")
        said = str(chat.messages())
        self.assertIn("…", said)
        for half in ("🇩", "👍", "ש", "ש\u05b8", "ו"):  # without its other letter, its skin tone, its vowels
            self.assertNotIn(half + "…", said)

    def test_F48_what_refuses_the_blocks_gets_the_least_there_is_to_say(self):
        for words in ("invalid_blocks", "msg_too_long"):
            with self.subTest(words):
                chat = self.slack()
                chat.script({"status": 400, "body": words})
                bell = self.ring({"ops": harness.slack(chat.hook())})
                self.app.write(f"ERROR boom on {words}")
                message = wait_for(lambda: chat.messages() and chat.messages()[0], "the message", context=bell.tail)
                self.assertIn(words, message["rendered"])
                bell.await_metric(1, "logbell_notifications_total", sink="ops", outcome="delivered")
                bell.await_metric(1, "logbell_sink_payload_truncated_total", sink="ops")
                self.assertEqual(0, bell.metric("logbell_notifications_total", sink="ops", outcome="rejected"))
                bell.stop()
                os.remove(self.app.path)
                for name in os.listdir(self.path("state", "logbell")):
                    os.remove(self.path("state", "logbell", name))


class Program(Faults):
    def script(self, text, name="page"):
        path = self.path(name)
        with open(path + ".new", "w") as file:
            file.write("#!/bin/sh\n" + text)
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
        return path

    def pager(self, path, **more):
        return {"pager": {"exec": {"command": [path, self.path("told")], **more}}}

    def told(self):
        return harness.json_lines(self.path("told"))

    def test_F55_a_program_rings_and_its_first_line_is_the_receipt(self):
        # What a log says is data, on standard input, and nothing else.
        path = self.script('cat >> "$1"; env > "$1.env"; tr "\\0" "\\n" < /proc/$$/cmdline > "$1.argv"; echo "incident 4711"\n')
        bell = self.ring(self.pager(path, env={"PAGER_TOKEN": "${TOKEN}"}), env={"TOKEN": "t0k3nt0k3n", "SECRET": "not-for-you"})
        self.app.write('ERROR boom on $(touch${IFS}pwned);`reboot`')
        body = wait_for(lambda: self.told() and self.told()[0], "the document", context=bell.tail)
        self.assertEqual(("4", "$(touch${IFS}pwned);`reboot`"), (body["version"], body["alerts"][0]["labels"]["queue"]))
        wait_for(lambda: "exit 0: incident 4711" in bell.said(), "the receipt in the log", context=bell.tail)
        with open(self.path("told.env")) as file:
            environment = dict(line.rstrip("\n").split("=", 1) for line in file)
        self.assertEqual("t0k3nt0k3n", environment["PAGER_TOKEN"])
        self.assertEqual((body["deliveryKey"], "firing"), (environment["LOGBELL_KEY"], environment["LOGBELL_STATUS"]))
        self.assertNotIn("SECRET", environment)
        with open(self.path("told.argv")) as file:
            self.assertEqual(["/bin/sh", path, self.path("told")], file.read().split("\n")[:-1])

    def test_F55_a_program_that_hangs_is_ended_with_its_children_and_delays_nobody(self):
        path = self.script('echo $$ > "$1.pid"; sleep 600 & echo $! >> "$1.pid"; wait\n')
        other = self.receiver()
        bell = self.ring({**self.pager(path, timeout="1s"), "other": harness.webhook(other.url)})
        written = time.monotonic()
        self.app.write("ERROR boom on a")
        wait_for(lambda: other.alerts("firing", queue="a"), "the other sink", context=bell.tail)
        self.assertLess(time.monotonic() - written, 1)
        bell.await_metric(1, "logbell_notifications_total", sink="pager", outcome="unknown", reason="timeout")
        with open(self.path("told.pid")) as file:
            pids = [int(line) for line in file]
        self.assertEqual(2, len(pids))
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids if pid not in self.waiting()), "the end of both")
        # It is told again, and then it is said that it may be the second time.
        self.script('[ "$LOGBELL_MAYBE_SENT" = 1 ] && cat >> "$1"\n')
        body = wait_for(lambda: self.told() and self.told()[0], "another try", 20, bell.tail)
        self.assertIn("may be a duplicate", str(body["notes"]))

    def waiting(self):
        """Children that somebody has not buried yet: where nothing does, they do no harm."""
        zombies = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat") as file:
                        if file.read().rpartition(") ")[2].startswith("Z"):
                            zombies.append(int(name))
                except OSError:
                    pass
        return zombies

    def test_F55_a_daemon_a_flood_and_a_failure(self):
        path = self.script('cat > /dev/null; setsid sleep 600 & echo $! > "$1.pid"; head -c 1000000000 /dev/zero >&2; exit 1\n')
        bell = self.ring(self.pager(path))
        self.app.write("ERROR boom on a")
        bell.await_metric(1, "logbell_notifications_total", 30, sink="pager", outcome="retry", reason="io")
        with open(self.path("told.pid")) as file:
            os.kill(int(file.read()), signal.SIGKILL)
        self.assertLess(bell.metric("process_resident_memory_bytes"), 200e6)
        self.script('cat >> "$1"\n')
        wait_for(self.told, "another try", 20, bell.tail)

    def test_F55_a_program_that_is_missing_is_refused_and_one_that_goes_missing_has_its_fallback(self):
        path = self.script('cat >> "$1"\n')
        spare = self.receiver()
        sinks = self.pager(path)
        sinks["pager"]["fallback"] = ["spare"]
        bell = self.ring({**sinks, "spare": harness.webhook(spare.url)})
        os.remove(path)
        self.app.write("ERROR boom on a")
        wait_for(lambda: spare.alerts("firing", queue="a"), "the fallback", context=bell.tail)
        bell.await_firing("SinkDead", sink="pager")
        self.assertEqual(0, bell.stop())
        code, said = bell.refused()
        self.assertEqual(78, code, said)
        self.assertRegex(said, r'logbell\.yaml:\d+:\d+: sink "pager": cannot find .*/page: No such file or directory')
        self.assertEqual(78, bell.check()[0])


class Loop(Faults):
    def test_F56_its_own_log_and_its_own_files_are_not_read(self):
        out = self.path("log", "alerts.log")
        bell = self.ring({"ops": harness.webhook(self.receiver().url), "record": harness.file_sink(out)}, start=False,
                         source={"files": [self.path("log", "*"), self.path("*.log"), self.path("state", "**")]})
        code, said = bell.check()
        self.assertEqual(0, code, said)
        self.assertIn(f'also finds {out}, which the sink "record" writes', said)
        bell.start()
        self.app.write("ERROR boom on a")
        wait_for(lambda: harness.json_lines(out), "the record", context=bell.tail)
        bell.await_metric(1, "logbell_pattern_matches_total", pattern="boom")
        for what in ("logbell's own log goes there", 'the sink \\"record\\" writes it', "it is in logbell's state_dir"):
            wait_for(lambda what=what: f"Is not read: {what}." in bell.said(), f"the word that {what}", context=bell.tail)
        self.assertGreaterEqual(bell.metric("logbell_source_own_files_total", source="app"), 3)
        self.assertEqual([self.app.path], [f["path"] for f in self.files(bell)])
        bell.stop()
        os.rename(out, out + ".1")
        bell.start()
        self.app.write("ERROR boom on b")
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="boom")
        stays(lambda: bell.metric("logbell_pattern_matches_total", pattern="boom") == 2, "two matches", 0.5)

    def files(self, bell):
        found = []

        def walk(value):
            if isinstance(value, dict):
                if "path" in value:
                    found.append(value)
                value = list(value.values())
            for inner in value if isinstance(value, list) else []:
                walk(inner)
        walk(bell.api("sources"))
        return found

    def test_F56_a_bot_that_writes_our_own_messages_into_the_log_does_not_ring(self):
        chat, stop = self.slack(), threading.Event()
        bell = self.ring({"ops": harness.slack(chat.hook())})

        def echo():
            seen = 0
            while not stop.is_set():
                messages = chat.messages()
                for message in messages[seen:]:
                    self.app.write("ERROR boom on echo: " + json.dumps(message, default=str, ensure_ascii=False))
                seen = len(messages)
                stop.wait(0.02)
        bot = threading.Thread(target=echo)
        bot.start()
        self.addCleanup(bot.join)
        self.addCleanup(stop.set)
        self.app.write("ERROR boom on a")
        bell.await_metric(1, "logbell_source_feedback_lines_total", source="app")
        stays(lambda: len(chat.messages()) == 1, "one message", 2)
        self.assertEqual(1, bell.metric("logbell_pattern_matches_total", pattern="boom"))
        self.assertIn("A line repeats a message that logbell itself sent", bell.said())
        self.app.write("ERROR boom on b")
        wait_for(lambda: len(chat.messages()) == 2, "real ones ring", context=bell.tail)
        bell.await_metric(2, "logbell_source_feedback_lines_total", source="app")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
