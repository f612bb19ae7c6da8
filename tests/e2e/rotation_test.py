#!/usr/bin/env python3
"""F1, F3, F13 and F14 with the real logrotate: renamed, copied away and compressed under a writer that does not notice."""
import os
import subprocess
import sys
import threading

import harness
from harness import Case, configuration, rule, wait_for


class RotationTest(Case):
    def start(self):
        log, slack = self.log(), self.slack()
        self.chat = slack
        self.written = 0
        bell = self.bell(configuration(log.path, {"tick": {"match": r"tick (?P<n>\d+)$"}}, [rule("Never", "count_over_time(tick[1h]) > 1000000")],
                                       {"ops": harness.slack(slack.hook())}))
        return log, bell

    def write(self, log, count):
        log.write(*[f"tick {self.written + i}" for i in range(count)])
        self.written += count

    def all_counted(self, bell):
        bell.await_metric(self.written, "logbell_pattern_matches_total", pattern="tick")
        self.assertEqual(self.written, bell.metric("logbell_source_lines_total", source="app"))

    def logrotate(self, log, how, compress="nocompress"):
        config = self.path("logrotate.conf")
        with open(config, "w") as file:
            file.write(f"{log.path} {{\n  rotate 20\n  {how}\n  {compress}\n}}\n")
        os.chmod(config, 0o644)
        done = subprocess.run([harness.tool("logrotate"), "-f", "-s", self.path("logrotate.state"), config], capture_output=True, text=True,
                              timeout=30, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
        self.assertEqual(0, done.returncode, done.stderr)

    def test_F1_renamed_while_the_writer_goes_on_in_the_old_file(self):
        log, bell = self.start()
        self.write(log, 100)
        for turn in range(1, 4):
            self.logrotate(log, "create")
            self.write(log, 50)  # into the old file, which has another name now
            self.all_counted(bell)
            wait_for(lambda turn=turn: bell.metric("logbell_source_rotations_total", kind="rename") == turn, f"rotation {turn}", context=bell.tail)
            self.write(log, 7)  # it is still read although the new one is known
            log.reopen()
            self.write(log, 50)
            self.all_counted(bell)
        self.assertEqual(0, bell.metric("logbell_source_rotations_total", kind="truncate") or 0)

    def test_F1_renamed_in_full_flow(self):
        log, bell = self.start()
        stop = threading.Event()

        def flow():
            while not stop.is_set():
                self.write(log, 20)
                stop.wait(0.002)
                if self.reopen.is_set():
                    self.reopen.clear()
                    log.reopen()
        self.reopen = threading.Event()
        writer = threading.Thread(target=flow)
        writer.start()
        try:
            for _ in range(5):
                before = self.written
                wait_for(lambda before=before: self.written > before + 500, "lines before a rotation")
                self.logrotate(log, "create")
                before = self.written
                wait_for(lambda before=before: self.written > before + 300, "lines in the old file")
                self.reopen.set()
        finally:
            stop.set()
            writer.join()
        self.all_counted(bell)

    def test_F1_renamed_while_nobody_watched(self):
        log, bell = self.start()
        self.write(log, 100)
        self.all_counted(bell)
        bell.stop()
        self.write(log, 30)
        self.logrotate(log, "create")
        log.reopen()
        self.write(log, 20)
        bell.start()
        self.all_counted(bell)

    def test_F13_gzip(self):
        self.compressed_while_nobody_watched("create", "compress")

    def test_F13_zstd(self):
        self.compressed_while_nobody_watched("create", "compress\n  compresscmd /usr/bin/zstd\n  compressext .zst")

    def test_F13_delayed(self):
        self.compressed_while_nobody_watched("create", "compress\n  delaycompress")

    def test_F13_copied_and_truncated(self):
        self.compressed_while_nobody_watched("copytruncate", "compress")

    def compressed_while_nobody_watched(self, how, compress):
        log, bell = self.start()
        self.write(log, 100)
        self.all_counted(bell)
        bell.stop()
        for _ in range(3):
            self.write(log, 30)
            self.logrotate(log, how, compress)
            log.reopen()
        self.write(log, 20)
        names = sorted(os.listdir(os.path.dirname(log.path)))
        self.assertTrue([name for name in names if name.endswith((".gz", ".zst"))], names)
        bell.start()
        self.all_counted(bell)
        text = bell.get("/metrics")[1]
        gaps = [line for line in text.splitlines() if line.startswith("logbell_source_gaps_total") and not line.endswith(" 0")]
        self.assertEqual([], gaps, names)

    def test_F14_rotated_away_while_nobody_watched(self):
        log, bell = self.start()
        slack = self.chat
        self.write(log, 10)
        self.all_counted(bell)
        bell.stop()
        log.write("tick 10")  # nobody will ever read it
        os.rename(log.path, log.path + ".1")
        log.reopen()
        log.write("tick 11")
        os.remove(log.path + ".1")
        bell.start()
        alert = bell.await_firing("InputGap", source="app")[0]
        self.assertEqual(1, bell.metric("logbell_source_gaps_total", cause="rotated_away_while_down"))
        self.assertIn(f"lines of source app ({log.path}) are missing", alert["annotations"]["summary"])
        self.assertIn("rotated away while logbell did not run", alert["annotations"]["summary"])
        bell.await_metric(11, "logbell_pattern_matches_total", pattern="tick")
        wait_for(lambda: [m for m in slack.messages() if "rotated away" in m["rendered"]], "word of it", context=bell.tail)
        # What is known of it outlives the process, and it is told once (one that is killed before its receipt is written tells twice).
        bell.stop()
        bell.start()
        self.assertEqual(alert["activeAt"], bell.await_firing("InputGap")[0]["activeAt"])
        log.write("tick 12")
        bell.await_metric(12, "logbell_pattern_matches_total", pattern="tick")
        self.assertEqual(1, len([m for m in slack.messages() if "InputGap" in m["rendered"]]))

    def test_F3_copied_away_and_truncated(self):
        log, bell = self.start()
        for turn in range(1, 4):
            self.write(log, 100)
            self.all_counted(bell)  # it keeps up: what is lost between copy and truncate is lost by logrotate, not here
            self.logrotate(log, "copytruncate")
            self.write(log, 60)
            self.all_counted(bell)
            wait_for(lambda turn=turn: bell.metric("logbell_source_rotations_total", kind="truncate") == turn, f"truncation {turn}", context=bell.tail)
        self.assertEqual(0, bell.metric("logbell_source_rotations_total", kind="rename") or 0)

    def test_F3_truncated_and_grown_past_the_old_end_at_once(self):
        log, bell = self.start()
        self.write(log, 10)
        self.all_counted(bell)
        os.kill(bell.process.pid, 19)  # SIGSTOP: it sees only what comes of it
        os.truncate(log.path, 0)
        self.write(log, 500)
        os.kill(bell.process.pid, 18)
        self.all_counted(bell)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):  # ctest names the fault
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
