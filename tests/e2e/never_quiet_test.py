#!/usr/bin/env python3
"""What logbell alerts on by itself when a log changes under its rules: errors that no rule looks at, and patterns that no longer match
since the log is written in another format."""
import datetime
import json
import os

import harness
from harness import Case, configuration, rule, wait_for


class NeverQuietTest(Case):
    def test_errors_that_no_rule_looks_at(self):
        log, chat = self.log(), self.slack()
        config = configuration(log.path, {"boom": {"match": "ERROR boom"}}, [rule("Boom", "count_over_time(boom[1h]) >= 1000")],
                               {"ops": harness.slack(chat.hook())})
        bell = self.bell(config)
        log.write(*[f"INFO order {n}, errors=0, no ERROR_COUNT" for n in range(50)], *["ERROR boom"] * 50,
                  *[f"ERROR queue {n} unreachable password=hunter2" for n in range(9)])
        bell.await_metric(109, "logbell_source_lines_total", source="app")
        bell.await_metric(9, "logbell_source_uncovered_errors_total", source="app")
        self.assertEqual([], bell.firing("UncoveredErrors"))
        log.raw('{"level":"fatal","msg":"out of stock"}\n')
        summary = bell.await_firing("UncoveredErrors", source="app")[0]["annotations"]["summary"]
        self.assertIn("ERROR queue 0 unreachable", summary)
        self.assertIn("out of stock", summary)
        self.assertNotIn("queue 1", summary)
        self.assertNotIn("hunter2", summary)
        message = wait_for(chat.messages, "word of it", context=bell.tail)[0]["rendered"]
        self.assertIn("unreachable", message)
        self.assertNotIn("hunter2", message)
        self.assertEqual(50, bell.metric("logbell_pattern_matches_total", pattern="boom"))
        # It outlives a restart, and ends where a rule looks at them or the source says that they are known.
        bell.stop()
        bell.start()
        log.write("ERROR queue 9 unreachable")
        bell.await_metric(11, "logbell_source_uncovered_errors_total", source="app")
        self.assertEqual(1, len(chat.messages()))
        config["sources"][0]["uncovered_errors"] = "none"
        bell.configure(config)
        self.assertEqual(200, bell.reload()[0])
        bell.await_quiet("UncoveredErrors")
        wait_for(lambda: len(chat.messages()) == 2, "its end", context=bell.tail)

    def test_a_pattern_that_no_longer_matches_since_the_format_changed(self):
        log, chat = self.log(), self.slack()
        config = configuration(log.path, {"slow": {"match": r"WARN  slow: (?P<table>\w+)", "labels": ["table"]}, "taken": {"match": "order taken"}},
                               [rule("Slow", "count_over_time(slow[15h]) >= 1000000"), rule("None", "count_over_time(taken[1h]) == 0")],
                               {"ops": harness.slack(chat.hook())})
        # Fifteen hours in a few megabytes: a read is a quarter of one, so each is ten minutes and more.
        began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=15)
        filler = "x" * 8000
        lines = 90 * 33
        for n in range(lines):
            at = harness.now_text((began + n * datetime.timedelta(hours=15) / lines).timestamp())
            if n < lines * 0.6:
                log.raw(f"{at} {'WARN  slow: orders' if n % 20 == 0 else 'INFO  order taken'} {filler}\n")
            else:
                log.raw(json.dumps({"ts": at, "level": "warn" if n % 20 == 0 else "info", "msg": "slow" if n % 20 == 0 else "order taken", "table": "orders",
                                    "filler": filler}) + "\n")
        bell = self.bell(config)
        alert = bell.await_firing("PatternWentSilent")
        self.assertEqual([("slow", "app")], [(a["labels"]["pattern"], a["labels"]["source"]) for a in alert])
        self.assertRegex(alert[0]["annotations"]["summary"], r"(?s)slow has matched nothing of source app .* since .*It matched .*WARN  slow: orders.*now there "
                                                             r"is .*\"level\"")
        wait_for(lambda: [m for m in chat.messages() if "PatternWentSilent" in m["rendered"]], "word of it", context=bell.tail)
        bell.stop()
        bell.start()
        self.assertEqual(alert[0]["activeAt"], bell.await_firing("PatternWentSilent")[0]["activeAt"])
        log.write("WARN  slow: customers")
        bell.await_quiet("PatternWentSilent")
        wait_for(lambda: len([m for m in chat.messages() if "PatternWentSilent" in m["rendered"]]) == 2, "its end, told once", context=bell.tail)
        self.assertLess(os.path.getsize(log.path), 40 << 20)


if __name__ == "__main__":
    harness.main()
