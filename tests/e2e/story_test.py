#!/usr/bin/env python3
"""The founding story of examples/orders-api: each of the five things saves the evening by itself, none takes a machine for a person, and the
story says so only if it did."""
import os
import re
import subprocess

import harness
from harness import Case

SAYS = {"check": r'rule "QueueUnreachable": it reaches only record: files and consoles tell nobody.*Exit 78',
        "start": r'rule "QueueUnreachable": it reaches only record.*Refused to start.*Exit 78',
        "diff": r'FEWER are told.*rule "QueueUnreachable": ops-slack \(slack\) -> nobody.*Exit 1',
        "drill": r"QueueUnreachable +ops-slack .*FAILED at deliver: auth: HTTP 403: action_prohibited.*NOT proven.*Exit 1",
        "heartbeat": r'pinged.*fail \{"status":"failing","reason":"[^"]*QueueUnreachable reaches nobody',
        "machine": r'rule "QueueUnreachable": no person hears of it: only record, which a machine reads.*Exit 1.*FEWER are told.*'
                   r'ops-slack \(slack\) -> no person, only record \(file, read by a machine\).*Exit 1.*'
                   r'No person is told of these, only a machine\..*QueueUnreachable.*Machine only, no person is told of it: QueueUnreachable\.'}


class StoryTest(Case):
    def story(self, part, binary=None):
        script = os.path.join(harness.ROOT, "examples", "orders-api", "story")
        return subprocess.run([script, part], capture_output=True, text=True, timeout=90, check=False,
                              env=dict(os.environ, LOGBELL=binary or harness.binary()))

    def test_each_saves_the_evening_alone(self):
        for part, says in SAYS.items():
            with self.subTest(part):
                ended = self.story(part)
                self.assertEqual(0, ended.returncode, ended.stdout + ended.stderr)
                self.assertRegex(ended.stdout, re.compile(says, re.S))

    def test_what_does_not_ring_fails_the_story(self):
        # A logbell that takes everything for good.
        fake = self.path("logbell")
        with open(fake, "w") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(fake, 0o755)
        for part in ("check", "start", "diff", "machine"):
            with self.subTest(part):
                ended = self.story(part, fake)
                self.assertEqual(1, ended.returncode, ended.stdout)
                self.assertIn("it ended with 0, not with", ended.stderr)


if __name__ == "__main__":
    harness.main()
