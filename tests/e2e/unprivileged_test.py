#!/usr/bin/env python3
"""Nothing of it needs root: it starts as nobody where the directories allow it, and says so where they do not."""
import os
import pwd
import shutil
import unittest

import harness
from harness import Case, Logbell, configuration, rule, wait_for


@unittest.skipIf(os.geteuid() != 0, "runs unprivileged already: every other test shows it")
class UnprivilegedTest(Case):
    def setUp(self):
        super().setUp()
        self.binary = self.path("logbell")  # the build may be below a directory that is closed to others
        shutil.copy(harness.binary(), self.binary)
        os.chmod(self.binary, 0o755)
        previous = os.environ.get("LOGBELL")
        os.environ["LOGBELL"] = self.binary
        self.addCleanup(lambda: os.environ.__setitem__("LOGBELL", previous) if previous else os.environ.pop("LOGBELL"))
        self.nobody = pwd.getpwnam("nobody")

    def config(self, log, slack):
        return configuration(log.path, {"boom": {"match": "ERROR boom"}}, [rule("Boom", "count_over_time(boom[1h]) >= 1")], {"ops": harness.slack(slack.hook())})

    def test_it_rings_as_nobody(self):
        log, slack = self.log(), self.slack()
        os.mkdir(self.path("state"))
        os.chown(self.path("state"), self.nobody.pw_uid, self.nobody.pw_gid)
        bell = self.bell(self.config(log, slack), user="nobody")
        with open(f"/proc/{bell.process.pid}/status") as status:
            self.assertIn(f"Uid:\t{self.nobody.pw_uid}", status.read())
        log.write("ERROR boom")
        wait_for(slack.messages, "message", context=bell.tail)
        bell.kill()
        bell.restart()
        bell.await_firing("Boom")
        self.assertEqual(0, bell.stop())
        for name in os.listdir(self.path("state")):  # what it read of the log is nobody else's business
            self.assertEqual(0, os.stat(self.path("state", name)).st_mode & 0o007, name)

    def test_a_state_directory_that_is_not_its_own_is_named(self):
        log, slack = self.log(), self.slack()
        os.mkdir(self.path("state"), 0o700)
        bell = self.bell(self.config(log, slack), start=False, user="nobody")
        code, said = bell.refused()
        self.assertEqual(74, code, said)
        self.assertIn(self.path("state"), said)
        self.assertRegex(said.lower(), "permission denied")

    def test_a_log_that_it_may_not_read_is_said_and_read_once_it_may(self):
        log, slack = self.log(), self.slack()
        os.chmod(log.path, 0o600)
        os.mkdir(self.path("state"))
        os.chown(self.path("state"), self.nobody.pw_uid, self.nobody.pw_gid)
        bell = self.bell(self.config(log, slack), user="nobody")
        log.write("ERROR boom")
        wait_for(lambda: "ermission denied" in str(bell.api("sources")), "the reason on /api/v1/sources", context=bell.tail)
        self.assertEqual([], slack.messages())
        os.chmod(log.path, 0o644)
        wait_for(slack.messages, "message once it is readable", 45, bell.tail)


if __name__ == "__main__":
    harness.main()
