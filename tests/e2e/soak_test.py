#!/usr/bin/env python3
"""The soak's verdict, on samples that were made up: what grows is found, what only swings is not."""
import importlib.machinery
import importlib.util
import os
import unittest

LOADER = importlib.machinery.SourceFileLoader("soak", os.path.join(os.path.dirname(os.path.abspath(__file__)), "soak"))
soak = importlib.util.module_from_spec(importlib.util.spec_from_loader("soak", LOADER))
LOADER.exec_module(soak)

MIB = 1024 * 1024


def samples(seconds=7200, **columns):
    """One a 10 s. A column is a value, or a function of the seconds."""
    flat = {"rss_bytes": 40 * MIB, "descriptors": 35, "deleted_open": 0, "threads": 10, "state_bytes": 20 * MIB, "pid": 7, "started": 1.5, "too_many": 0, "outbox_pending": 0}
    return [{"seconds": at, **{name: value(at) if callable(value) else value for name, value in {**flat, **columns}.items()}}
            for at in range(10, seconds + 1, 10)]


class SoakTest(unittest.TestCase):
    def judged(self, **columns):
        return soak.judge(samples(**columns))[0]

    def test_what_stays_as_it_is_passes(self):
        self.assertEqual([], self.judged())
        self.assertEqual([], self.judged(rss_bytes=lambda at: 40 * MIB + (at % 30) * MIB, descriptors=lambda at: 35 + at % 7))  # swings
        self.assertEqual([], self.judged(rss_bytes=lambda at: (10 + min(at, 1200) / 40) * MIB, state_bytes=lambda at: min(at, 1500) * 10_000))  # warms up
        self.assertEqual([], self.judged(rss_bytes=lambda at: 400 * MIB if 1000 < at < 1300 else 40 * MIB))  # and gave it back
        self.assertEqual([], self.judged(outbox_pending=lambda at: 2000 if 5000 < at < 5100 else 100,
                                         state_bytes=lambda at: (25 if at > 5000 else 20) * MIB))  # a longer outage than any before

    def test_what_grows_is_named(self):
        for column, value in (("rss_bytes", lambda at: 40 * MIB + at * 1024), ("descriptors", lambda at: 35 + at // 600),
                              ("deleted_open", lambda at: at // 900), ("threads", lambda at: 10 + at // 1800),
                              ("state_bytes", lambda at: 20 * MIB + at * 2048)):
            against = self.judged(**{column: value})
            self.assertEqual(1, len(against), against)
            self.assertIn(f"{column} grew from", against[0])

    def test_another_process_or_too_much_counted(self):
        self.assertIn("not the one", self.judged(pid=lambda at: 7 if at < 5000 else 8)[0])
        self.assertIn("not the one", self.judged(started=lambda at: 1.5 if at < 5000 else 1.6)[0])
        self.assertIn("more was counted", self.judged(too_many=lambda at: 1 if at == 5000 else 0)[0])
        self.assertEqual(["fewer than four samples"], soak.judge([])[0])

    def test_missing_lines_need_a_cause(self):
        written = {name: 1000 for name in soak.SOURCE}
        whole = {name: 1000.0 for name in soak.SOURCE}
        self.assertEqual(([], []), soak.counts_against(written, whole, {}))
        wrong, explained = soak.counts_against(written, {**whole, "boom": 999.0}, {})
        self.assertEqual((1, 0), (len(wrong), len(explained)))
        self.assertEqual(1, len(soak.counts_against(written, {**whole, "boom": 1001.0}, {"boom": (1000, 1)})[0]), "twice is never explained")
        self.assertEqual(0, len(soak.counts_against(written, {**whole, "boom": 999.0}, {"boom": (200, 0)})[0]))
        self.assertEqual(1, len(soak.counts_against(written, {**whole, "boom": 900.0}, {"boom": (200, 0)})[0]), "too few bytes for so many lines")
        self.assertEqual(1, len(soak.counts_against(written, {**whole, "boom": 999.0}, {"job": (200, 0)})[0]), "of another source")

    def test_errors_that_nobody_expects(self):
        text = 'ts=1 level=info msg="all well level=error "\nts=1 level=error sink=a msg="It broke 17 times."\nts=2 level=error sink=b msg="It broke 18 times."\n'
        unexpected, expected = soak.unexpected_errors(text)
        self.assertEqual({"It broke N times.": 2}, dict(unexpected))
        self.assertEqual({}, dict(expected))


if __name__ == "__main__":
    unittest.main(verbosity=2)
