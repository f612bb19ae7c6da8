#!/usr/bin/env python3
"""F25: a log that is mounted by itself, as `docker run -v /var/log/app.log:/log/app.log` does. Once it is rotated by another name
where it comes from, its name here leads to the old file for ever. In a mount namespace of its own."""
import os

import harness
from harness import Case, configuration, rule, wait_for

MOUNT = 'mount --bind "$1" "$2" || exit 1; shift 2; exec "$@"'


class Mounted(harness.Logbell):
    def start(self, ready=True, deadline=None):
        self.close()
        self.process = harness.Process(["unshare", "--user", "--map-root-user", "--mount", "--propagation=private", "sh", "-c", MOUNT, "sh",
                                        *self.mounted, harness.binary(), "run", "--config", self.path, *self.args], self.output, self.env)
        if ready:
            self.await_ready(deadline)
        return self


class MountedTest(Case):
    def follow(self):
        self.app = self.log("app.log")
        self.app.write("INFO up")
        self.seen = self.path("seen", "app.log")
        os.makedirs(os.path.dirname(self.seen))
        open(self.seen, "w").close()
        config = configuration(self.seen, {"boom": {"match": "ERROR boom"}}, [rule("Boom", "count_over_time(boom[2s]) >= 1")],
                               {"record": harness.file_sink(self.path("told"))})
        bell = self.closing(Mounted(self.directory, config))
        self.bells.append(bell)
        bell.mounted = [self.app.path, self.seen]
        bell.start()
        bell.await_metric(0, "logbell_rule_unknown", alertname="Boom")
        self.assertEqual(1, bell.said().count("Is mounted by itself: once it is rotated"), bell.said())
        return bell

    def trouble(self, bell):
        return bell.api("sources")["sources"][0]["streams"][0]["error"]

    def await_trouble(self, bell, wanted):
        wait_for(lambda: self.trouble(bell) == wanted, f"the error {wanted!r}", 60, context=bell.tail)

    def test_F25_renamed_where_it_comes_from(self):
        bell = self.follow()
        self.app.write("ERROR boom")
        bell.await_firing("Boom")
        self.app.rename()
        self.app.write("ERROR boom into the old file")
        self.app.reopen()
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="boom")
        self.await_trouble(bell, "it was rotated away where it is mounted from")
        bell.await_metric(1, "logbell_rule_unknown", alertname="Boom")
        self.assertEqual(1, bell.said().count("its new file cannot be seen here, mount its directory instead"), bell.said())
        self.assertIn("is mounted by itself and was rotated away where it comes from", bell.api("rules")["groups"][0]["rules"][0]["lastError"])
        # Whoever still writes there has not turned to the new one, and is read.
        self.app.close()
        with open(self.app.path + ".1", "ab", buffering=0) as old:
            def goes_on():
                old.write(b"ERROR boom\n")
                return self.trouble(bell) == ""
            wait_for(goes_on, "no error while it grows", 60, context=bell.tail)
        bell.await_metric(0, "logbell_rule_unknown", alertname="Boom")
        self.await_trouble(bell, "it was rotated away where it is mounted from")

    def test_F25_rights_that_change_are_no_rotation(self):
        bell = self.follow()
        self.app.write("ERROR boom")
        bell.await_firing("Boom")
        os.chmod(self.app.path, 0o640)
        self.app.write("ERROR boom again")
        bell.await_metric(2, "logbell_pattern_matches_total", pattern="boom")
        self.assertEqual("", self.trouble(bell))

    def test_F25_removed_where_it_comes_from(self):
        bell = self.follow()
        os.remove(self.app.path)
        self.app.reopen()
        self.await_trouble(bell, "it was rotated away where it is mounted from")
        bell.await_metric(1, "logbell_rule_unknown", alertname="Boom")


if __name__ == "__main__":
    harness.main()
