#!/usr/bin/env python3
"""The mail server of the tests, asked by Python's own client: what a script says happens, and nothing else does."""
import os
import smtplib
import ssl
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import smtp_server  # noqa: E402

MAIL = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: =?utf-8?B?wrc=?=\r\n\r\n.dot\r\n"


class SmtpServerTest(unittest.TestCase):
    def server(self, **options):
        server = smtp_server.SmtpServer(**options)
        self.addCleanup(server.close)
        return server

    def client(self, server):
        client = smtplib.SMTP("localhost", server.port, timeout=10)
        self.addCleanup(client.close)
        return client

    def test_it_keeps_what_it_takes(self):
        server = self.server()
        self.assertEqual({}, self.client(server).sendmail("a@example.com", ["b@example.com", "c@example.com"], MAIL))
        message, = server.messages
        self.assertEqual(("a@example.com", ["b@example.com", "c@example.com"]), (message["mail_from"], message["rcpt_tos"]))
        self.assertEqual(("·", ".dot\n"), (message["mail"]["Subject"], message["text"].replace("\r\n", "\n")))
        self.assertEqual((False, None), (message["tls"], message["login"]))

    def test_a_script_is_used_up_and_a_recipient_stays_refused(self):
        server = self.server()
        server.script("MAIL", "450 4.3.0 later")
        server.recipient("bob@example.com", "550 5.1.1 no such user")
        client = self.client(server)
        with self.assertRaises(smtplib.SMTPSenderRefused):
            client.sendmail("a@example.com", ["b@example.com"], MAIL)
        for _ in range(2):
            self.assertEqual(["bob@example.com"], list(client.sendmail("a@example.com", ["bob@example.com", "b@example.com"], MAIL)))
        server.script("END", "554 5.7.1 no")
        with self.assertRaises(smtplib.SMTPDataError):
            client.sendmail("a@example.com", ["b@example.com"], MAIL)
        self.assertEqual(2, len(server.messages))

    def test_a_greeting_that_refuses_and_answers_that_are_lost(self):
        server = self.server()
        server.script("GREETING", "421 4.3.2 busy")
        with self.assertRaises(smtplib.SMTPConnectError):
            self.client(server)
        server.script("END", smtp_server.CLOSE)
        with self.assertRaises(smtplib.SMTPServerDisconnected):
            self.client(server).sendmail("a@example.com", ["b@example.com"], MAIL)
        self.assertEqual(1, len(server.messages), "the message is not lost, its answer is")

    def test_starttls_and_a_password(self):
        with tempfile.TemporaryDirectory() as directory:
            certificate = smtp_server.Certificate(directory)
            server = self.server(certificate=certificate, tls="required", users={"logbell": "right"})
            client = self.client(server)
            with self.assertRaises(smtplib.SMTPException):
                client.sendmail("a@example.com", ["b@example.com"], MAIL)
            client = self.client(server)
            client.starttls(context=ssl.create_default_context(cafile=certificate.file))
            with self.assertRaises(smtplib.SMTPAuthenticationError):
                client.login("logbell", "wrong")
            client.login("logbell", "right")
            client.sendmail("a@example.com", ["b@example.com"], MAIL)
            self.assertEqual((True, "logbell"), (server.messages[0]["tls"], server.messages[0]["login"]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
