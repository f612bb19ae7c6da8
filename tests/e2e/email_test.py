#!/usr/bin/env python3
"""Mail, against aiosmtpd: what arrives is read by Python's email package, as a mail program would. F40: a dead sink's fallback is mail.
F43: the answer to a message is lost. F44: certificates. F52: is anybody there."""
import subprocess
import sys
import time

import harness
from harness import Case, configuration, rule, wait_for

import smtp_server  # noqa: E402  (harness knows where)

BOOM = {"boom": {"match": "ERROR boom on (?P<queue>\\w+)", "labels": ["queue"], "examples": ["ERROR boom on orders"]}}
LOGIN = {"username": "logbell", "password": "right-or-wrong"}


class EmailTest(Case):
    def server(self, **options):
        return self.closing(smtp_server.SmtpServer(**options))

    def certificate(self, **options):
        return smtp_server.Certificate(self.directory, **options)

    def config(self, log, sinks, *, window="1h", of_the_rule=None, **more):
        boom = rule("Boom", f"sum by (queue) (count_over_time(boom[{window}])) >= 1", labels={"severity": "critical"},
                    annotations={"summary": "Boom on {{ $labels.queue }}"}, sinks=of_the_rule or list(sinks))
        return configuration(log.path, BOOM, [boom], sinks, **more)

    def rings(self, bell, server, count=1, name="Boom"):
        def mails():
            found = [m for m in list(server.messages) if name in m["mail"]["Subject"]]
            return found if len(found) >= count else None
        return wait_for(mails, f"{count} mails about {name}", context=bell.tail)

    def test_email_one_mail_over_starttls_and_its_end_in_the_same_thread(self):
        log = self.log()
        server = self.server(certificate=self.certificate(), tls="required", users={"logbell": "right-or-wrong"})
        bell = self.bell(self.config(log, {"mail": harness.email(server, "ops@example.com", "oncall@example.com", email=LOGIN)}, window="2s"))
        verification = bell.api("sinks")["sinks"][0]["lanes"][0]["verification"]
        self.assertEqual(("live", "L3", f"RCPT TO 2 of 2 recipients -> taken; its certificate ends {verification['certificate_ends']}"),
                         tuple(verification[k] for k in ("verdict", "level", "evidence")))
        self.assertAlmostEqual(time.time() + 24 * 3600, bell.metric("logbell_sink_tls_not_after_timestamp_seconds", sink="mail"), delta=300)
        self.assertIn("the certificate that sink mail shows ends at ", bell.get("/-/ready")[1])
        self.assertIn("have it renewed", bell.check("--probe")[1])
        self.assertEqual([], server.messages)
        wait_for(lambda: server.verbs()[-2:] == ["RSET", "QUIT"], "the question called off", context=bell.tail)
        log.write("ERROR boom on orders")
        fired, over = self.rings(bell, server, 2)
        for message in (fired, over):
            self.assertEqual((True, "logbell", "logbell@example.com"), (message["tls"], message["login"], message["mail_from"]))
            self.assertEqual(["ops@example.com", "oncall@example.com"], message["rcpt_tos"])
            self.assertEqual("auto-generated", message["mail"]["Auto-Submitted"])
            self.assertEqual([], message["mail"].defects)
        self.assertEqual(("[FIRING, critical] Boom · e2e", "[RESOLVED] Boom · e2e"), (fired["mail"]["Subject"], over["mail"]["Subject"]))
        self.assertIn("FIRING: Boom on orders\n", fired["text"].replace("\r\n", "\n"))
        self.assertIn("ERROR boom on orders", fired["text"])
        self.assertEqual(fired["mail"]["References"], over["mail"]["References"])
        self.assertNotEqual(fired["mail"]["Message-ID"], over["mail"]["Message-ID"])
        bell.await_metric(2, "logbell_notifications_total", sink="mail", outcome="delivered")
        self.assertEqual(2, len(server.messages))
        self.assertRegex(bell.said(), r"receipt=.*250 2\.0\.0 Ok: queued as T00001")

    def test_email_a_drill_is_one_mail_that_says_so(self):
        log, server = self.log(), self.server()
        bell = self.bell(self.config(log, {"mail": harness.email(server)}))
        ended = subprocess.run([harness.binary(), "drill", "--url", bell.url], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(0, ended.returncode, ended.stdout + ended.stderr)
        mail = self.rings(bell, server)[0]
        self.assertEqual("[DRILL] Boom · e2e", mail["mail"]["Subject"])
        self.assertIsNone(mail["mail"]["Importance"])
        self.assertIn("A drill: nothing is wrong.", mail["text"])
        self.assertNotIn("FIRING", mail["text"])
        self.assertEqual(1, len(server.messages))

    def test_email_smtps(self):
        log, server = self.log(), self.server(certificate=self.certificate(), tls="smtps")
        bell = self.bell(self.config(log, {"mail": harness.email(server)}))
        log.write("ERROR boom on orders")
        self.assertTrue(self.rings(bell, server)[0]["tls"])

    def test_F44_a_certificate_that_cannot_be_trusted_gets_nothing(self):
        log = self.log()
        for name, certificate, own, said in (("unknown", self.certificate(name="unknown"), {"ca_file": self.certificate(name="other").file}, "tls"),
                                             ("elsewhere", self.certificate(name="elsewhere", host="mail.example.com"), {}, "tls")):
            for tls in ("starttls", "smtps"):
                with self.subTest(f"{name} {tls}"):
                    server = self.server(certificate=certificate, tls=tls, users={"logbell": "right-or-wrong"})
                    bell = self.bell(self.config(log, {"mail": harness.email(server, email={**LOGIN, **own})}), start=False)
                    for code, text in (bell.check("--probe"), bell.refused()):
                        self.assertEqual(78, code, text)
                        self.assertIn("it would reach nobody: mail is dead", text)
                    self.assertNotIn("AUTH", server.verbs())
                    self.assertNotIn("MAIL", server.verbs())

    def test_F44_without_starttls_nothing_is_sent_in_plain_text(self):
        log, server = self.log(), self.server(users={"logbell": "right-or-wrong"})
        bell = self.bell(self.config(log, {"mail": harness.email(server, email={**LOGIN, "starttls": "required"})}), start=False)
        code, said = bell.refused()
        self.assertEqual(78, code, said)
        self.assertIn("the mail server does not offer STARTTLS", said)
        self.assertEqual({"EHLO"}, set(server.verbs()))

    def test_F52_a_wrong_password_stops_the_start(self):
        log = self.log()
        server = self.server(certificate=self.certificate(), tls="starttls", users={"logbell": "another"})
        bell = self.bell(self.config(log, {"mail": harness.email(server, email=LOGIN)}), start=False)
        for code, said in (bell.check("--probe"), bell.refused()):
            self.assertEqual(78, code, said)
            self.assertIn("it would reach nobody: mail is dead (AUTH -> 535", said)
            self.assertNotIn(LOGIN["password"], said)
        self.assertEqual(0, bell.check()[0])
        asked = len(server.verbs())
        bell.refused()
        self.assertEqual(asked, len(server.verbs()), "a supervisor that starts it again and again locks nobody out")
        self.assertEqual([], server.messages)

    def test_F52_of_two_recipients_one_is_refused_and_the_other_hears_of_it(self):
        log, server = self.log(), self.server()
        server.recipient("bob@example.com", "550 5.1.1 no such user")
        bell = self.bell(self.config(log, {"mail": harness.email(server, "ops@example.com", "bob@example.com")}), start=False)
        code, said = bell.check("--probe")
        self.assertEqual(0, code, said)
        self.assertRegex(said, r'logbell\.yaml:\d+:\d+: warning: sink "mail": not everybody behind it would hear: .*bob@example\.com -> 550')
        self.assertNotIn("DATA", server.verbs())
        bell.start()
        mail = self.rings(bell, server, name="SinkUnverified")[0]
        self.assertEqual(["ops@example.com"], mail["rcpt_tos"])
        log.write("ERROR boom on orders")
        mail = self.rings(bell, server)[0]
        self.assertIn("Note: The mail server refuses bob@example.com (550 5.1.1 no such user): nobody is told there.", mail["text"])
        server.recipient("ops@example.com", "550 5.1.1 no such user")
        code, said = bell.check("--probe")
        self.assertEqual(78, code, said)

    def test_F43_the_answer_is_lost_and_the_second_mail_says_so(self):
        log, server = self.log(), self.server()
        bell = self.bell(self.config(log, {"mail": harness.email(server)}))
        server.script("END", smtp_server.CLOSE)
        log.write("ERROR boom on orders")
        first, second = self.rings(bell, server, 2)
        self.assertEqual(first["mail"]["Message-ID"], second["mail"]["Message-ID"])
        self.assertNotIn("duplicate", first["text"])
        self.assertIn("This may be a duplicate", second["text"])
        bell.await_metric(1, "logbell_notifications_total", sink="mail", outcome="delivered")

    def test_F40_a_dead_sinks_fallback_is_mail(self):
        log, server, chat = self.log(), self.server(), self.slack()
        bell = self.bell(self.config(log, {"ops": harness.slack(chat.hook(), fallback=["mail"]), "mail": harness.email(server)}, of_the_rule=["ops"]))
        chat.revoke(chat.hook())
        log.write("ERROR boom on orders")
        mail = self.rings(bell, server)[0]
        self.assertIn('In place of the sink "ops"', mail["text"])


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1][:1] in "Fe":
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
