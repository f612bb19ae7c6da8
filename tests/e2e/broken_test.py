#!/usr/bin/env python3
"""The safety check, tested by mutation: pieces of the way from a line to a person, and of what proves it, are taken out one at a time
(LOGBELL_BREAK, the table in engine/io/fault.h). The process goes on and believes that all is well; each time a proof must say otherwise,
with the configuration that is proven in full when nothing is broken."""
import json
import os
import re
import subprocess

import harness
from harness import Case, configuration, rule, wait_for


def breaks():
    with open(os.path.join(harness.ROOT, "engine", "io", "fault.h")) as file:
        table = re.search(r"kBreaks\{(.*?)\n\};", file.read(), re.S)[1]
    return re.findall(r'std::string_view\{"([^"]+)"\}', table)


class BrokenTest(Case):
    """`chat`; `ops`, which refuses every message and has `mail` as its fallback; `am`, an Alertmanager that can be asked what it has;
    `mute`, one that tells nobody; `hung`, which does not answer until the late proof is over, with `late` as its fallback; `spare`, which is revoked while it runs."""

    def begin(self, broken):
        if not hasattr(self, "am"):
            self.am = self.closing(harness.Alertmanager(self.path("am")))
            self.mute = self.closing(harness.Alertmanager(self.path("mute"), None, spare=True))
        # Asked twice a second, Slack would answer 429 when it has been for half a minute.
        log, slack, refusing, fallback = self.log(), self.slack(burst=1000), self.receiver(lambda path, body: 410), self.receiver()
        self.hangs = True
        # Another one each time: what is dead is remembered.
        self.spare = slack.hook(f"SPARE{broken or ''}".replace(".", "").upper())
        silent, self.late, self.slack_server, self.app = self.receiver(lambda path, body: None if body and self.hangs else 200), self.receiver(), slack, log
        sinks = {"chat": harness.slack(slack.hook()), "ops": harness.webhook(refusing.url, fallback=["mail"]), "mail": harness.webhook(fallback.url),
                 "am": harness.alertmanager(self.am.url), "mute": harness.alertmanager(self.mute.url),
                 "hung": harness.webhook(silent.url, fallback=["late"], fallback_after="10s", drill=False),
                 "late": harness.webhook(self.late.url, drill=False), "spare": harness.slack(self.spare)}
        config = configuration(log.path, {"boom": {"match": "ERROR boom"}, "hang": {"match": "ERROR hang"}}, [rule("Hung", "count_over_time(hang[1h]) >= 1", sinks=["hung"]),
                                                                              rule("Spare", "count_over_time(hang[9h]) >= 9", sinks=["spare"]),
                                                                              rule("Boom", "count_over_time(boom[1h]) >= 1", sinks=["chat"]),
                                                                              rule("Other", "count_over_time(boom[2h]) >= 2", sinks=["ops"]),
                                                                              rule("Watched", "count_over_time(boom[3h]) >= 3", sinks=["am"]),
                                                                              rule("Unheard", "count_over_time(boom[4h]) >= 4", sinks=["mute"])],
                               sinks, route={"sinks": ["chat"]})
        # Who is due is drilled soon.
        env = dict(os.environ, LOGBELL_FAULT_DRILL_MS="200", LOGBELL_FAULT_VERIFY_MS="500", **({"LOGBELL_BREAK": broken} if broken else {}))
        return self.bell(config, env=env)

    def command(self, bell, *args):
        ended = subprocess.run([harness.binary(), *args, "--format", "json"], capture_output=True, text=True, timeout=60, check=False)
        self.assertIn(ended.returncode, (0, 1), ended.stderr)
        return ended.returncode, json.loads(ended.stdout)

    def scheduled(self, bell):
        try:
            return bool(wait_for(lambda: [one for one in bell.api("drills")["drills"] if one["scheduled"] and one["proven"]], "a drill that nobody asked for", 5))
        except AssertionError:
            return False

    def unheard(self, bell):
        _, report = self.command(bell, "drill", "--url", bell.url, "--wait", "15s", "Unheard")
        return report["pairs"][0]["failed_at"] == "read back"

    def told_late(self, bell):
        self.app.write("ERROR hang")
        wait_for(lambda: bell.firing("Hung"), "Hung", context=bell.tail)
        try:
            return bool(wait_for(lambda: self.late.alerts("firing", alertname="Hung"), "the fallback of what hangs", 14))
        except AssertionError:
            return False
        finally:
            self.hangs = False

    def asked_again(self, bell):
        self.slack_server.revoke(self.spare)
        try:
            return bool(wait_for(lambda: bell.metric("logbell_sink_verdict", sink="spare", verdict="dead") == 1, "that it is dead", 3))
        except AssertionError:
            return False

    def proofs(self, bell, wanted=None):
        """What each proof says, or only the one that is wanted where it takes long: True is green."""
        slow = {"schedule": self.scheduled, "missing": self.unheard, "late": self.told_late, "again": self.asked_again}
        slow = {name: ask(bell) for name, ask in slow.items() if wanted in (None, name)}
        code, report = self.command(bell, "drill", "--url", bell.url, "--wait", "1s", "Boom")
        _, other = self.command(bell, "drill", "--url", bell.url, "--wait", "1s", "Other")
        watched, _ = self.command(bell, "drill", "--url", bell.url, "--wait", "1s", "Watched")
        _, status = self.command(bell, "status", "--url", bell.url)
        levels = {(one["alertname"], one["sink"]): one for one in status["proofs"]}
        chat = levels["Boom", "chat"]
        return {"drill": code == 0 and report["proven"],
                "fallback": any(pair["instead_of"] == "ops" and pair["state"] == "proven" for pair in other["pairs"] if "instead_of" in pair),
                "probe": any(proof["by"] == "probe" and proof["level"] == "L2" for proof in chat["proofs"]),
                "proof": chat["reached"] == "L4",
                "read back": watched == 0 and levels["Watched", "am"]["reached"] == "L5",
                **slow}

    def test_F53_nothing_is_broken_and_every_proof_is_green(self):
        bell = self.begin(None)
        self.assertEqual({"drill": True, "fallback": True, "probe": True, "proof": True, "read back": True, "missing": True, "schedule": True, "late": True, "again": True}, self.proofs(bell))

    def test_F53_each_break_turns_a_proof_red(self):
        expected = {"reader.match": "drill", "core.told": "drill", "store.outbox": "drill", "writer.hand_over": "drill", "lane.send": "drill",
                    "lane.receipt": "drill", "lane.fallback": "fallback", "lane.late": "late", "probe.ask": "probe", "probe.shortcut": "probe", "probe.again": "again",
                    "drill.settled": "drill",
                    "proof.noted": "proof", "read_back.look": "read back",
                    "read_back.found": "missing", "drill.schedule": "schedule"}
        self.assertEqual(set(expected), set(breaks()), "a break that no proof is asked about")
        for broken, red in expected.items():
            with self.subTest(broken):
                bell = self.begin(broken)
                try:
                    self.assertFalse(self.proofs(bell, red)[red], f"{broken} is broken, and the {red} says that all is well")
                finally:
                    bell.stop()


if __name__ == "__main__":
    harness.main()
