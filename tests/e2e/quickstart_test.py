#!/usr/bin/env python3
"""examples/quickstart as a new user runs it, without the build: it ends by itself, in time, and has shown everything."""
import os
import re
import subprocess
import time

import harness
from harness import Case


class QuickstartTest(Case):
    def test_it_shows_the_alert_the_metrics_and_the_resolve(self):
        began = time.monotonic()
        env = {key: value for key, value in os.environ.items() if key != "SLACK_WEBHOOK_URL"}
        done = subprocess.run([os.path.join(harness.ROOT, "examples", "quickstart")], env={**env, "LOGBELL": harness.binary(), "TMPDIR": self.directory},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110)
        took = time.monotonic() - began
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertEqual("", done.stderr)
        self.assertLess(took, 60)
        wanted = ["queue is taken away", "QueueUnreachable", "cannot reach queue orders-foobar", r"QueueNotFoundException:\s*[┃▏\s]*queue",
                  'logbell_alerts{.*alertname="QueueUnreachable".*} 1', "The queue is back", "re-sent from backup", "[Rr]esolved|RESOLVED", "a log of your own"]
        place = 0
        for words in wanted:
            found = re.search(words, done.stdout[place:])
            self.assertTrue(found, f"{words!r} is not in what came after {place}:\n{done.stdout}")
            place += found.start()
        self.assertNotIn("MENTION", done.stdout)
        self.assertEqual([], os.listdir(self.directory), "it leaves nothing behind")


if __name__ == "__main__":
    harness.main()
