#!/usr/bin/env python3
"""Debian's Alertmanager is told of what fires, keeps it while it fires, and hears of the resolve."""
import os
import shutil
import sys
import unittest

import harness
from harness import Case, configuration, rule, wait_for

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}}


def config(log, urls, window):
    return configuration(log.path, BOOM, [rule("Boom", f"sum by (queue) (count_over_time(boom[{window}])) >= 2", labels={"severity": "critical"},
                                               annotations={"summary": "queue {{ $labels.queue }}"})], {"am": harness.alertmanager(*urls)})


class AlertmanagerTest(Case):
    def peer(self, name, receiver):
        return self.closing(harness.Alertmanager(self.path(name), receiver.url + "/" + name))

    def test_two_peers_hear_of_firing_and_of_the_resolve(self):
        log, receiver = self.log(), self.receiver()
        peers = [self.peer("one", receiver), self.peer("two", receiver)]
        bell = self.bell(config(log, [p.url for p in peers], "5s"))
        log.write("ERROR boom on orders", "ERROR boom on orders", "ERROR boom on billing", "ERROR boom on billing")
        for peer in peers:
            alerts = wait_for(lambda peer=peer: len(peer.alerts("Boom")) == 2 and peer.alerts("Boom"), "alerts in amtool", context=bell.tail)
            self.assertEqual({"orders", "billing"}, {a["labels"]["queue"] for a in alerts})
            self.assertEqual({"queue orders", "queue billing"}, {a["annotations"]["summary"] for a in alerts})
            self.assertEqual({("critical", "e2e")}, {(a["labels"]["severity"], a["labels"]["environment"]) for a in alerts})
        self.assertEqual({a["labels"]["queue"]: a["activeAt"][:19] for a in bell.firing("Boom")},
                         {a["labels"]["queue"]: a["startsAt"][:19] for a in peers[0].alerts("Boom")})
        wait_for(lambda: len(receiver.alerts("firing", alertname="Boom")) >= 4, "Alertmanager's own webhooks")
        for peer in peers:
            wait_for(lambda peer=peer: peer.alerts("Boom") == [], "resolve in amtool", context=bell.tail)
        wait_for(lambda: {a["labels"]["queue"] for a in receiver.alerts("resolved", alertname="Boom")} == {"orders", "billing"}, "resolved webhooks")

    def test_a_peer_that_is_down_delays_nobody_and_is_told_later(self):
        log, receiver = self.log(), self.receiver()
        up = self.peer("up", receiver)
        down = self.peer("down", receiver)
        down.process.close()
        bell = self.bell(config(log, [down.url, up.url], "1h"))
        log.write("ERROR boom on orders", "ERROR boom on orders")
        wait_for(lambda: up.alerts("Boom"), "alert at the peer that is up", 3, bell.tail)
        down.start()
        wait_for(lambda: down.alerts("Boom"), "alert at the peer that came back", 40, bell.tail)

    @unittest.skipUnless(os.environ.get("LOGBELL_E2E_SLOW") or "--slow" in sys.argv, "waits for refreshes: more than a minute; LOGBELL_E2E_SLOW=1")
    def test_a_peer_that_forgot_everything_is_told_again(self):
        log, receiver = self.log(), self.receiver()
        peer = self.peer("one", receiver)
        bell = self.bell(config(log, [peer.url], "1h"))
        log.write("ERROR boom on orders", "ERROR boom on orders")
        started = wait_for(lambda: peer.alerts("Boom"), "alert", context=bell.tail)[0]["startsAt"]
        peer.process.close()
        shutil.rmtree(os.path.join(peer.directory, "data"))
        peer.start()
        again = wait_for(lambda: peer.alerts("Boom"), "refresh", 90, bell.tail)
        self.assertEqual(started, again[0]["startsAt"])
        self.assertEqual([], receiver.alerts("resolved"))


if __name__ == "__main__":
    sys.argv = [a for a in sys.argv if a != "--slow"]
    harness.main()
