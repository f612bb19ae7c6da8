#!/usr/bin/env python3
"""L6: a person says that they saw a message, by the link in it. Only a button does so, once, for a week; a link that is none proves nothing."""
import json
import re
import subprocess
import sys
import urllib.parse

import harness
from harness import Case, configuration, rule, wait_for

PATTERNS = {"boom": {"match": r"ERROR boom (?P<queue>\S+)", "labels": ["queue"], "examples": ["ERROR boom orders"]}}
RULES = [rule("Boom", "sum by (queue) (count_over_time(boom[1h])) >= 1", labels={"severity": "critical"}), rule("<b>Odd", "count_over_time(boom[2h]) >= 3")]
TOKEN = re.compile(r"lba_[A-Za-z0-9_-]+")
EXTERNAL = "https://logbell.example.com/orders"


class AcknowledgeTest(Case):
    def start(self, sinks, **more):
        self.app = self.log()
        return self.bell(configuration(self.app.path, PATTERNS, more.pop("rules", RULES[:1]), sinks, external_url=EXTERNAL + "/", **more))

    def drill(self, bell, *args):
        ended = subprocess.run([harness.binary(), "drill", "--url", bell.url, *args], capture_output=True, text=True, timeout=60, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    def status(self, bell):
        return subprocess.run([harness.binary(), "status", "--url", bell.url], capture_output=True, text=True, timeout=60, check=False).stdout

    def links(self, message):
        """Those in a message of Slack's by which one acknowledges it, as paths of logbell's own: a proxy takes the prefix away."""
        urls = [element["url"] for block in message["blocks"] for part in block.get("elements", []) for element in part.get("elements", [])
                if element.get("type") == "link" and element["text"] == "I have seen this"]
        for url in urls:
            self.assertTrue(url.startswith(EXTERNAL + "/ack/"), url)
        return [url[len(EXTERNAL):] for url in urls]

    def say(self, bell, path, name=None):
        body = urllib.parse.urlencode({"name": name}) if name is not None else ""
        return harness.http_request(bell.url + path, "POST", body, {"Content-Type": "application/x-www-form-urlencoded", "Host": "logbell.example.com",
                                                                    "Origin": "https://logbell.example.com"})

    def seen(self, bell, alertname="Boom", sink="chat"):
        """The proof that a person saw it, if there is one."""
        return next((proof for one in bell.api("proof")["proofs"] if (one["alertname"], one["sink"]) == (alertname, sink)
                     for proof in one["proofs"] if proof["level"] == "L6"), None)

    def test_acknowledge_a_person_says_so_by_the_button_of_the_link(self):
        slack = self.slack()
        bell = self.start({"chat": harness.slack(slack.hook())}, rules=RULES)
        code, out, err = self.drill(bell)
        self.assertEqual(0, code, out + err)
        self.assertIn("Nobody has said yet that they saw 2 of them", out)
        (path,) = self.links(wait_for(slack.messages, "message", context=bell.tail)[0]["payload"])
        # What a previewer, a scanner or a person fetches shows, and says nothing.
        for method in ("GET", "HEAD", "GET"):
            status, page = harness.http_request(bell.url + path, method)
            self.assertEqual(200, status, page)
        self.assertIn('<form method="post">', page)
        self.assertIn("&lt;b&gt;Odd, Boom", page)
        self.assertIn("This drill went to chat at ", page)
        self.assertIsNone(self.seen(bell))
        # The button does.
        status, page = self.say(bell, path, "Anna <b>Müller</b> & Söhne")
        self.assertEqual(200, status, page)
        self.assertIn("Thank you", page)
        proof = self.seen(bell)
        self.assertEqual(("Anna <b>Müller</b> & Söhne", "drill", False), (proof["who"], proof["by"], proof["expired"]))
        self.assertLess(proof["took_seconds"], 30)
        self.assertEqual(proof["at"], self.seen(bell, "<b>Odd")["at"])
        # The first word counts.
        status, page = self.say(bell, path, "Bob")
        self.assertEqual(200, status)
        self.assertIn("Anna &lt;b&gt;Müller&lt;/b&gt; &amp; Söhne said so at ", page)
        self.assertNotIn("<form", harness.http_request(bell.url + path)[1])
        self.assertRegex(self.status(bell), r"Boom +chat +L6 +\d+ s +drill +Anna <b>Müller</b> & Söhne said so by the link, \d+ s after it was sent")
        self.assertLess(bell.metric("logbell_proof_age_seconds", alertname="Boom", sink="chat", level="L6"), 30)
        self.assertEqual([1, 1], [bell.metric("logbell_acknowledgements_total", outcome=outcome) for outcome in ("acknowledged", "repeated")])
        # It outlives the process, and so does the link.
        bell.kill()
        bell.start()
        self.assertEqual("Anna <b>Müller</b> & Söhne", self.seen(bell)["who"])
        self.assertIn("said so at ", self.say(bell, path)[1])
        self.assertEqual([0, 1], [bell.metric("logbell_acknowledgements_total", outcome=outcome) for outcome in ("acknowledged", "repeated")])
        # Who has the token may say so: nobody else may see it.
        token = TOKEN.search(path)[0]
        shown = [bell.said(), self.status(bell), bell.metrics().text] + [bell.get("/api/v1/" + what)[1] for what in ("proof", "sinks", "drills", "alerts")]
        for text in shown:
            self.assertNotIn(token[:20], text)

    def test_acknowledge_a_real_alert_and_a_link_from_before_the_kill(self):
        receiver = self.receiver()
        bell = self.start({"hook": harness.webhook(receiver.url)})
        self.app.write("ERROR boom orders")
        url = wait_for(receiver.bodies, "message", context=bell.tail)[0]["acknowledgeURL"]
        bell.await_metric(1, "logbell_notifications_total", sink="hook", outcome="delivered")
        bell.kill()
        bell.start()
        self.assertEqual(200, self.say(bell, url[len(EXTERNAL):])[0])
        proof = self.seen(bell, sink="hook")
        self.assertEqual(("", "alert"), (proof["who"], proof["by"]))
        self.assertIn("somebody said so by the link", proof["evidence"])

    def test_acknowledge_what_is_none_is_refused(self):
        slack, other = self.slack(), self.receiver()
        bell = self.start({"chat": harness.slack(slack.hook()), "other": harness.webhook(other.url)}, rules=RULES)
        self.assertEqual(0, self.drill(bell)[0])
        (path,) = self.links(slack.messages()[0]["payload"])
        head, tail = path[:-3], path[-3:]
        for what in (head, head + ("AAA" if tail != "AAA" else "BBB"), path + "A", "/ack/lba_", "/ack/x", "/ack/" + "lba_" + "A" * 4000, path.replace("lba_", "lbb_")):
            for method in ("GET", "POST"):
                with self.subTest(what[-8:], method=method):
                    status, page = harness.http_request(bell.url + what, method)
                    self.assertEqual(403, status, page)
                    self.assertIn("not one of this logbell&#39;s", page)
        self.assertEqual(413, harness.http_request(bell.url + path, "POST", "name=" + "x" * 2000)[0])
        self.assertEqual(405, harness.http_request(bell.url + path, "PUT")[0])
        self.assertEqual(14, bell.metric("logbell_acknowledgements_total", outcome="wrong"))
        self.assertIsNone(self.seen(bell))
        # A sink that is another one by now is not proven by what the former was told.
        bell.configure(configuration(self.app.path, PATTERNS, RULES, {"chat": harness.slack(self.slack().hook()), "other": harness.webhook(other.url)}, external_url=EXTERNAL))
        bell.reload()
        wait_for(lambda: self.say(bell, path)[0] == 410, "refusal", context=bell.tail)
        self.assertIsNone(self.seen(bell))
        # Without external_url nothing can be acknowledged, and nothing asks for it.
        bell.configure(configuration(self.app.path, PATTERNS, RULES, {"other": harness.webhook(other.url)}))
        bell.reload()
        self.assertNotIn("SEEN", self.drill(bell)[1])
        code, out, err = self.drill(bell, "--acknowledged")
        self.assertEqual(1, code, out)
        self.assertIn("no message had a link to say so by", err)
        self.assertNotIn("acknowledgeURL", json.dumps(other.bodies()[-1]))

    def test_acknowledge_a_drill_waits_for_it(self):
        slack = self.slack()
        bell = self.start({"chat": harness.slack(slack.hook())})
        code, out, _ = self.drill(bell, "--acknowledged", "--wait", "1s")
        self.assertEqual(1, code, out)
        waiting = subprocess.Popen([harness.binary(), "drill", "--url", bell.url, "--acknowledged"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(waiting.kill)
        (path,) = self.links(wait_for(lambda: len(slack.messages()) == 2 and slack.messages(), "message", context=bell.tail)[1]["payload"])
        self.say(bell, path, "Anna")
        out = waiting.communicate(timeout=30)[0]
        self.assertEqual(0, waiting.returncode, out)
        self.assertRegex(out, r"RULE +SINK .*SEEN")
        self.assertRegex(out, r"Boom +chat .* ms, Anna +receipt: ok")


if __name__ == "__main__":
    harness.main()
