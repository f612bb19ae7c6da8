#!/usr/bin/env python3
"""F45, F46: between logbell and a sink stand names and proxies. In namespaces of its own: a network with nothing but loopback,
and an /etc/resolv.conf that leads to a name server of the test's."""
import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import Case, configuration, rule, wait_for

import dns_server
from dns_server import NXDOMAIN, SERVFAIL

BOOM = {"boom": {"match": r"ERROR boom on (?P<queue>\S+)", "labels": ["queue"]}}
RULES = [rule("Boom", "sum by (queue) (count_over_time(boom[1h])) >= 1", labels={"severity": "critical"})]
INSIDE = "LOGBELL_E2E_NAMESPACE"
# Beside 127/8: addresses of a network, and the one where clouds keep their secrets.
ADDRESSES = ["10.9.0.1", "10.9.0.2", "169.254.169.254"]


def enter():
    """Begins again in new namespaces; in a user namespace as well where we are not root."""
    if os.environ.get(INSIDE):
        prepare()
        return
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.execvpe("unshare", ["unshare", *user, "--mount", "--net", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def prepare():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
        for i, address in enumerate(ADDRESSES):
            where = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(s, 0x8916, struct.pack("16s16s", f"lo:{i}".encode(), where))  # SIOCSIFADDR
    directory = tempfile.mkdtemp(prefix="logbell-e2e-names-")
    for over, path in dns_server.resolver_files(directory).items():
        subprocess.run(["mount", "--bind", path, os.path.realpath(over)], check=True)


class Listener:
    """Takes connections, counts them, says nothing."""

    def __init__(self, address, port=0):
        self.socket = socket.create_server((address, port))
        self.port = self.socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.socket.accept()[0].close()
                self.connections += 1

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Proxy:
    """An HTTP proxy: whole requests are passed on, CONNECT is a tunnel, unless `refuse` is a status to answer with. What it was
    asked for is kept. `strips` loses the bodies of requests."""

    def __init__(self):
        self.asked, self.authorizations, self.refuse, self.strips = [], [], None, False
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.socket.accept()[0],), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError, ValueError):
            stream = client.makefile("rb")
            method, target, _ = stream.readline().decode().split(" ", 2)
            headers = {}
            while line := stream.readline().strip().decode():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
            self.asked.append(f"{method} {target}")
            self.authorizations.append(headers.pop("proxy-authorization", None))
            if self.refuse:
                client.sendall(f"HTTP/1.1 {self.refuse} no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                return
            host, _, port = target.partition("://")[2].partition("/")[0].rpartition(":")
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 tunnel\r\n\r\n")
                    self._pump(client, server)
                    return
                if self.strips:
                    body = b""
                path = "/" + target.partition("://")[2].partition("/")[2]
                kept = {**headers, "content-length": str(len(body)), "connection": "close"}
                server.sendall((f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in kept.items()) + "\r\n").encode() + body)
                self._pump(client, server)

    @staticmethod
    def _pump(client, server):
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (server if ready is client else client).sendall(data)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Between(Case):
    def setUp(self):
        super().setUp()
        self.dns = self.closing(dns_server.DnsServer().start())

    def ring(self, sinks, start=True, **options):
        self.app = self.log()
        return self.bell(configuration(self.app.path, BOOM, RULES, sinks, route={"sinks": list(sinks), "group_by": ["..."], "group_interval": "1s"}),
                         start=start, **options)

    def boom(self, queue):
        self.app.write(f"ERROR boom on {queue}")

    def told(self, receiver, queue, deadline=20):
        wait_for(lambda: receiver.alerts("firing", queue=queue), f"word of {queue}", deadline, self.bells[0].tail)

    def attempts(self, outcome, reason, sink="named"):
        return self.bells[0].metric("logbell_notifications_total", sink=sink, outcome=outcome, reason=reason)

    def await_attempt(self, outcome, reason, at_least=1, deadline=20):
        wait_for(lambda: self.attempts(outcome, reason) >= at_least, f"{outcome} because of {reason}", deadline, self.bells[0].tail)


class Names(Between):
    def test_F45_a_resolver_that_fails_or_does_not_know_the_name_is_tried_again(self):
        hook = self.receiver()
        self.dns.say("hook.example", rcode=SERVFAIL)
        self.ring({"named": harness.webhook(f"http://hook.example:{hook.port}/")})
        self.boom("a")
        self.await_attempt("retry", "dns", 1)
        self.dns.say("hook.example", rcode=NXDOMAIN)
        self.await_attempt("retry", "dns", self.attempts("retry", "dns") + 1)
        # The answer too long for UDP: over TCP, as RFC 1035 has it.
        self.dns.say("hook.example", a=["127.0.0.1"], truncated=True)
        self.told(hook, "a")
        self.assertIn("tcp", {how for _, _, how in self.dns.asked("hook.example")})
        self.assertEqual(0, self.attempts("rejected", "blocked"))

    def test_F45_a_resolver_that_is_silent_delays_nobody_and_costs_an_attempt_five_seconds(self):
        other = self.receiver()
        self.dns.say("hook.example", silent=True)
        bell = self.ring({"named": harness.webhook("http://hook.example:9/"), "other": harness.webhook(other.url)})
        for queue in ("a", "b", "c"):
            written = time.monotonic()
            self.boom(queue)
            self.told(other, queue)
            self.assertLess(time.monotonic() - written, 2, "the other lane does not wait")
        self.assertTrue(self.dns.asked("hook.example"))
        self.await_attempt("retry", "dns", deadline=10)  # the resolver itself gives up after 30 s
        self.assertEqual(200, bell.get("/-/healthy", timeout=1)[0])
        self.assertEqual(3, bell.metric("logbell_outbox_pending", sink="named"))
        began = time.monotonic()
        self.assertEqual(0, bell.stop())
        self.assertLess(time.monotonic() - began, 25)

    def test_F45_a_new_address_is_used_as_soon_as_the_old_one_fails(self):
        hook = self.receiver()
        old, new = self.closing(Relay("10.9.0.1", hook.port)), None
        self.dns.say("hook.example", a=["10.9.0.1"])
        self.ring({"named": harness.webhook(f"http://hook.example:{old.port}/")})
        self.assertEqual(1, old.connections, "asked at the start, by another than who delivers")
        self.boom("a")
        self.told(hook, "a")
        self.assertEqual(2, old.connections)
        # The name server is out of order: the connection that stands serves on, and nobody is asked.
        self.dns.say("hook.example", rcode=SERVFAIL)
        asked = len(self.dns.asked())
        self.boom("b")
        self.told(hook, "b")
        self.assertEqual((2, asked), (old.connections, len(self.dns.asked())))
        # The service has moved, and the old machine is gone: not the minute for which a name is remembered.
        new = self.closing(Relay("10.9.0.2", hook.port, old.port))
        self.dns.say("hook.example", a=["10.9.0.2"])
        old.close()
        self.boom("c")
        self.told(hook, "c", 20)
        self.assertGreaterEqual(new.connections, 1)

    def test_F45_an_address_of_a_family_without_a_route(self):
        hook = self.receiver()
        self.dns.say("hook.example", aaaa=["2001:db8::1"])
        self.ring({"named": harness.webhook(f"http://hook.example:{hook.port}/")})
        self.boom("a")
        self.await_attempt("retry", "connect")
        self.dns.say("hook.example", aaaa=["2001:db8::1"], a=["127.0.0.1"])
        self.told(hook, "a")

    def test_F45_a_name_that_turns_into_a_metadata_address_is_not_connected_to(self):
        hook = self.receiver()
        before = self.closing(Relay("10.9.0.1", hook.port))
        secrets = self.closing(Listener("169.254.169.254", before.port))
        self.dns.say("hook.example", a=["10.9.0.1"], ttl=0)
        bell = self.ring({"named": harness.webhook(f"http://hook.example:{before.port}/"), "other": harness.webhook(hook.url + "/other")})
        self.boom("a")
        self.told(hook, "a")
        wait_for(lambda: before.connections, "a delivery by name", context=bell.tail)
        self.dns.say("hook.example", a=["169.254.169.254"], ttl=0)
        before.close()
        self.boom("b")
        self.await_attempt("rejected", "blocked")
        self.assertEqual(0, secrets.connections)
        self.assertEqual(["named"], [a["labels"]["sink"] for a in bell.await_firing("SinkDead")])
        self.assertIn("169.254", "".join(dns_server.lookup("hook.example")), "the name does lead there")

    def test_F45_this_host_on_this_network_is_nobody(self):
        everywhere = self.closing(Listener("0.0.0.0"))
        self.dns.say("hook.example", a=["0.0.0.0"])
        self.ring({"named": harness.webhook(f"http://hook.example:{everywhere.port}/")})
        self.boom("a")
        self.await_attempt("rejected", "blocked")
        self.assertEqual(0, everywhere.connections)


class Relay:
    """A machine of its own: what comes to `address` goes to a receiver on loopback. close() takes it off the network."""

    def __init__(self, address, to, port=0):
        self.socket = socket.create_server((address, port))
        self.port, self.to, self.connections, self.pairs = self.socket.getsockname()[1], to, 0, []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.socket.accept()[0]
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self.to))
                self.pairs += [client, server]
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    @staticmethod
    def _serve(client, server):
        with client, server, contextlib.suppress(OSError, ValueError):
            Proxy._pump(client, server)

    def close(self):
        for s in (self.socket, *self.pairs):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Proxies(Between):
    CLOSE = {"Connection": "close"}  # one request a connection: the proxy is a simple one

    def setUp(self):
        super().setUp()
        self.hook = self.receiver(lambda path, body: (200, "", self.CLOSE))
        self.proxy = self.closing(Proxy())
        self.dns.say("hook.example", a=["10.9.0.1"])
        self.direct = self.closing(Relay("10.9.0.1", self.hook.port))
        self.url = f"http://hook.example:{self.direct.port}/"

    def named(self, url=None, **more):
        return {"named": {"webhook": {"url": url or self.url, **more}}, "other": harness.webhook(self.receiver().url)}

    def test_F46_a_proxy_that_wants_to_know_who_asks_is_a_sink_that_is_dead(self):
        self.proxy.refuse = 407
        bell = self.ring(self.named(proxy=self.proxy.url))
        self.boom("a")
        self.await_attempt("rejected", "proxy")
        bell.await_firing("SinkDead", sink="named")
        self.assertEqual(0, self.direct.connections, "never past the proxy")
        self.assertEqual([], self.dns.asked("hook.example"), "the proxy resolves, not we")
        # The way out that the message of `check` names: who we are, from a file.
        self.proxy.refuse = None
        with open(self.path("proxy_auth"), "w") as file:
            file.write("logbell:open-sesame\n")
        os.chmod(self.path("proxy_auth"), 0o600)
        config = configuration(self.app.path, BOOM, RULES, self.named(proxy=self.proxy.url, proxy_auth_file=self.path("proxy_auth")),
                               route={"sinks": ["named", "other"], "group_by": ["..."], "group_interval": "1s"})
        bell.configure(config)
        self.assertEqual(200, bell.reload()[0])
        self.told(self.hook, "a")
        self.assertEqual("Basic bG9nYmVsbDpvcGVuLXNlc2FtZQ==", self.proxy.authorizations[-1])
        self.assertNotIn("open-sesame", bell.said() + str(bell.api("sinks")))

    def test_F46_a_tunnel_that_is_refused_for_now_is_tried_again(self):
        self.proxy.refuse = 502
        self.ring(self.named(url=f"https://hook.example:{self.direct.port}/", proxy=self.proxy.url))
        self.boom("a")
        self.await_attempt("retry", "proxy", 2)
        self.assertEqual({f"CONNECT hook.example:{self.direct.port}"}, set(self.proxy.asked))
        self.assertEqual(0, self.direct.connections)

    def test_F46_a_proxy_that_is_not_there_is_not_gone_around(self):
        url = self.proxy.url
        self.proxy.close()
        bell = self.ring(self.named(proxy=url))
        self.boom("a")
        self.await_attempt("retry", "proxy", 2)
        self.assertIn("proxy", str(bell.api("sinks")))
        self.assertEqual(0, self.direct.connections)
        self.assertEqual([], self.hook.received)

    def test_F46_the_environments_proxy_is_used_and_its_exceptions_are_kept(self):
        self.ring(self.named(), env={"http_proxy": self.proxy.url})
        self.boom("a")
        self.told(self.hook, "a")
        self.assertEqual([f"HEAD {self.url}", f"POST {self.url}"], self.proxy.asked[:2])
        self.bells[0].stop()
        asked = len(self.proxy.asked)
        bell = self.bells[0]
        bell.env["no_proxy"] = "example"
        bell.start()
        self.boom("b")
        self.told(self.hook, "b")
        self.assertEqual(asked, len(self.proxy.asked))

    def test_F46_none_is_none_whatever_the_environment_says(self):
        self.ring(self.named(proxy="none"), env={"http_proxy": self.proxy.url, "ALL_PROXY": self.proxy.url})
        self.boom("a")
        self.told(self.hook, "a")
        self.assertEqual([], self.proxy.asked)

    def test_F46_a_proxy_that_loses_what_was_said_delivers_nothing(self):
        self.proxy.strips = True
        self.hook.respond = lambda path, body: (200 if body else 400, "", self.CLOSE)
        self.ring(self.named(proxy=self.proxy.url))
        self.boom("a")
        self.await_attempt("rejected", "bad_request")
        self.assertEqual(0, self.attempts("delivered", "ok"))
        self.proxy.strips = False
        self.bells[0].reload()  # as after any mending: it is tried at once
        wait_for(lambda: [body for *_, body in self.hook.received if '"queue":"a"' in body], "word of it, whole", context=self.bells[0].tail)


if __name__ == "__main__":
    enter()
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
