#!/usr/bin/env python3
"""F23: no inotify watches or instances are left. In a user namespace of its own, with its own limits: those of the machine stay."""

import harness
from harness import Case, configuration, rule


class Limited(harness.Logbell):
    """`limits` are of user.*: each namespace has its own. Those below fs.inotify are the machine's, and are not touched."""

    limits = {}

    def start(self, ready=True, deadline=None):
        self.close()
        settings = "".join(f"echo {value} > /proc/sys/user/{name} || exit 1; " for name, value in self.limits.items())
        self.process = harness.Process(["unshare", "--user", "--map-root-user", "sh", "-c", settings + 'exec "$0" "$@"',
                                        harness.binary(), "run", "--config", self.path, *self.args], self.output, self.env)
        if ready:
            self.await_ready(deadline)
        return self


class InotifyTest(Case):
    def follow(self, **limits):
        self.apps = [self.log(f"app{i}.log") for i in range(5)]
        config = configuration(self.path("log", "app*.log"), {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}},
                               [rule("Boom", "sum by (queue) (count_over_time(boom[1h])) >= 1")],
                               {"record": harness.file_sink(self.path("told"))})
        bell = self.closing(Limited(self.directory, config))
        self.bells.append(bell)
        bell.limits = limits
        return bell.start()

    def is_followed_all_the_same(self, bell, polled):
        modes = [stream["mode"] for source in bell.api("sources")["sources"] for stream in source["streams"]]
        self.assertEqual(sorted(["poll"] * polled + ["watch"] * (5 - polled)), sorted(modes))
        for i, app in enumerate(self.apps):
            app.write(f"ERROR boom on q{i}", "INFO a line")
            bell.await_firing("Boom", 5, queue=f"q{i}")  # the interval of polling is a second
        self.apps[0].rename()
        self.apps[0].raw(f"{harness.now_text()} ERROR boom on old\n")
        self.apps[0].reopen()
        self.apps[0].write("ERROR boom on new")
        late = self.log("app-late.log")
        late.write("ERROR boom on late")
        for queue in ("old", "new", "late"):
            bell.await_firing("Boom", 15, queue=queue)
        bell.await_metric(13, "logbell_source_lines_total")
        self.assertEqual(1, bell.said().count("Cannot be watched"), bell.said())
        self.assertEqual(0, bell.stop())

    def test_F23_no_watches_are_left(self):
        bell = self.follow(max_inotify_watches=5)  # two of them for the configuration
        bell.await_metric(3, "logbell_inotify_watch_failures_total")
        self.is_followed_all_the_same(bell, 3)

    def test_F23_no_instance_is_left(self):
        bell = self.follow(max_inotify_instances=0)
        bell.await_metric(1, "logbell_inotify_watch_failures_total")
        self.is_followed_all_the_same(bell, 5)


if __name__ == "__main__":
    harness.main()
