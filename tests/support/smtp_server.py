#!/usr/bin/env python3
"""A mail server to test against: aiosmtpd, somebody else's reading of RFC 5321, with STARTTLS or TLS, AUTH, and answers that a test
scripts for each command. It keeps what it takes, parsed by Python's email package as a mail program would.

By hand: tests/support/smtp_server.py --port 2525, and mails are printed as they come.
"""
import argparse
import asyncio
import collections
import email
import email.policy
import logging
import ssl
import subprocess
import sys
import threading
import time

try:
    import aiosmtpd.smtp  # noqa: F401
except ModuleNotFoundError:  # Debian's package, under another python3
    sys.path.append("/usr/lib/python3/dist-packages")
try:
    from aiosmtpd.smtp import SMTP, AuthResult
except ModuleNotFoundError:
    raise SystemExit("aiosmtpd is missing: tests/install test")

logging.getLogger("mail.log").setLevel(logging.CRITICAL)

HANG = "hang"  # no answer until the server ends
CLOSE = "close"  # no answer, the connection closed


class Certificate:
    """A key and a certificate for `host`, made by openssl in `directory`. It is its own authority."""

    def __init__(self, directory, host="localhost", days=1, name="smtp"):
        self.file, self.key = f"{directory}/{name}.pem", f"{directory}/{name}.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={host}",
                        "-addext", f"subjectAltName=DNS:{host}", "-days", str(days), "-keyout", self.key, "-out", self.file],
                       check=True, capture_output=True, timeout=60)

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


class SmtpServer:
    """Thread-safe. Listens from construction on until close().

    tls: None, "starttls" (offered), "required" (nothing before it) or "smtps". users: {name: password}; with them nobody sends who has not
    logged in."""

    def __init__(self, port=0, certificate=None, tls=None, users=None, on_message=None):
        self.lock = threading.Lock()
        self.messages = []  # dicts: mail_from, rcpt_tos, tls, login, at, raw, mail (parsed), text
        self.commands = []  # of all connections: (verb, argument)
        self.scripts = collections.defaultdict(list)
        self.recipients = {}  # address -> answer to its RCPT
        self.users, self.tls, self.on_message = users or {}, tls, on_message
        self.context = certificate.context() if certificate else None
        self.certificate = certificate
        ready = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(port, ready), daemon=True)
        self.thread.start()
        ready.wait(10)

    @property
    def url(self):
        # The name, for the certificate is its.
        return f"{'smtps' if self.tls == 'smtps' else 'smtp'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    def script(self, command, *answers):
        """What is said the next times to GREETING, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, RSET, END (of a message)."""
        with self.lock:
            self.scripts[command] += answers

    def recipient(self, address, answer):
        with self.lock:
            self.recipients[address] = answer

    def verbs(self):
        with self.lock:
            return [verb for verb, _ in self.commands]

    def close(self):
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)

    # For the connections.

    def answer_to(self, command, argument=None):
        with self.lock:
            if command not in ("GREETING", "END"):
                self.commands.append((command, argument or ""))
            if command == "RCPT":
                for address, answer in self.recipients.items():
                    if f"<{address}>" in (argument or ""):
                        return answer
            return self.scripts[command].pop(0) if self.scripts[command] else None

    def authenticate(self, server, session, envelope, mechanism, data):
        known = self.users.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=known, handled=False, auth_data=data)

    def take(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        message = {"mail_from": envelope.mail_from, "rcpt_tos": list(envelope.rcpt_tos),
                   "tls": server.transport.get_extra_info("ssl_object") is not None,
                   "login": session.auth_data and session.auth_data.login.decode(), "at": time.time(), "raw": envelope.content,
                   "mail": mail, "text": mail.get_content()}
        with self.lock:
            self.messages.append(message)
        if self.on_message:
            self.on_message(message)

    def _serve(self, port, ready):
        async def main():
            self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
            plain = self.tls in ("starttls", "required")
            listener = await self.loop.create_server(lambda: _Connection(self, self.context if plain else None), "127.0.0.1", port,
                                                     ssl=self.context if self.tls == "smtps" else None)
            self.port = listener.sockets[0].getsockname()[1]
            ready.set()
            await self.stopping.wait()
            listener.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
        asyncio.run(main())


class _Handler:
    def __init__(self, owner):
        self.owner = owner

    async def handle_DATA(self, server, session, envelope):
        answer = self.owner.answer_to("END")
        if answer is None or answer[0] not in "45":  # the answer may be lost; the message is not
            self.owner.take(server, session, envelope)
        if answer in (HANG, CLOSE):
            await server.play(answer)
            return "250 nobody hears this"
        return answer or f"250 2.0.0 Ok: queued as T{len(self.owner.messages):05d}"


class _Connection(SMTP):
    def __init__(self, owner, context):
        self.owner = owner
        super().__init__(_Handler(owner), hostname="mail.test", ident="ESMTP", tls_context=context, require_starttls=owner.tls == "required",
                         auth_required=bool(owner.users), auth_require_tls=context is not None, loop=owner.loop,
                         authenticator=owner.authenticate if owner.users else None)

    async def play(self, answer):
        if answer == HANG:
            await self.owner.stopping.wait()
        if answer in (HANG, CLOSE):
            self.transport.abort()
        else:
            await self.push(answer)

    async def _handle_client(self):
        answer = self.owner.answer_to("GREETING")
        if answer is not None:
            await self.play(answer)
            self.transport.close()
            return
        await super()._handle_client()


def _scripted(verb):
    usual = getattr(SMTP, f"smtp_{verb}")

    async def method(self, argument):
        # Which mechanism, not the credentials.
        answer = self.owner.answer_to(verb, argument if verb != "AUTH" else (argument or "").split(" ")[0])
        if answer is None:
            await usual(self, argument)
        else:
            await self.play(answer)
    for name in ("__smtp_syntax__", "__smtp_syntax_extended__", "__smtp_syntax_when__"):
        if hasattr(usual, name):
            setattr(method, name, getattr(usual, name))
    return method


for _verb in ("EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "QUIT"):
    setattr(_Connection, f"smtp_{_verb}", _scripted(_verb))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=2525, help="0 takes a free one; it is printed")
    options = parser.parse_args()

    def show(message):
        mail = message["mail"]
        print(f"\n--- to {', '.join(message['rcpt_tos'])}\n{mail['Subject']}\n\n{message['text']}", flush=True)

    server = SmtpServer(options.port, on_message=show)
    print(f"mail server on {server.url}", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.close()


if __name__ == "__main__":
    main()
