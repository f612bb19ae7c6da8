"""DnsServer: a name server (RFC 1035, over UDP and TCP) that answers what a test tells it, name by name.

    dns = DnsServer("127.0.0.1", 53).start()
    dns.say("hook.example", a=["10.9.0.1"], ttl=5)      # or aaaa=[…], rcode=SERVFAIL, silent=True, truncated=True
    dns.asked("hook.example")                           # how often, and for which types

A name that nobody spoke of does not exist (NXDOMAIN). Standard library only; thread-safe.
"""
import ipaddress
import socket
import socketserver
import struct
import threading

A, AAAA, CLASS_IN = 1, 28, 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
MAX_UDP = 512  # §4.2.1


def read_question(message):
    """(id, flags, name, type, class, the question's own bytes) of a query with one question; §4.1."""
    ident, flags, questions, *_ = struct.unpack_from("!6H", message)
    if flags & QR or questions != 1:
        raise ValueError("no query of one question")
    at, labels = 12, []
    while length := message[at]:
        if length > 63:
            raise ValueError("a pointer or an unknown kind of label in a question")
        labels.append(message[at + 1:at + 1 + length].decode("ascii"))
        at += 1 + length
    kind, klass = struct.unpack_from("!HH", message, at + 1)
    return ident, flags, ".".join(labels).lower(), kind, klass, message[12:at + 5]


def write_answer(ident, flags, question, rcode, addresses=(), ttl=0, truncated=False):
    """Header, the question again, an answer for each address with a pointer to the question's name (§4.1.4)."""
    said = QR | AA | RA | (flags & (RD | 0x7800)) | (TC if truncated else 0) | rcode
    out = struct.pack("!6H", ident, said, 1, len(addresses), 0, 0) + question
    for address in addresses:
        packed = ipaddress.ip_address(address).packed
        out += struct.pack("!HHHIH", 0xC000 | 12, A if len(packed) == 4 else AAAA, CLASS_IN, ttl, len(packed)) + packed
    return out


class DnsServer:
    def __init__(self, host="127.0.0.1", port=53):
        self.lock = threading.Lock()
        self.names, self.queries = {}, []
        owner = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                message, sock = self.request
                if answer := owner.answer(message, udp=True):
                    sock.sendto(answer, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                while len(size := self.rfile.read(2)) == 2:  # §4.2.2: each message behind its length
                    answer = owner.answer(self.rfile.read(struct.unpack("!H", size)[0]), udp=False)
                    if answer:
                        self.wfile.write(struct.pack("!H", len(answer)) + answer)

        class UdpServer(socketserver.UDPServer):
            allow_reuse_address = True

        class TcpServer(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

        self.servers = [UdpServer((host, port), Udp), TcpServer((host, port), Tcp)]
        self.port = port

    def start(self):
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def say(self, name, a=(), aaaa=(), rcode=NOERROR, ttl=300, silent=False, truncated=False):
        """`truncated`: over UDP only the header, with TC: the asker has to come over TCP."""
        with self.lock:
            self.names[name.lower()] = {A: list(a), AAAA: list(aaaa), "rcode": rcode, "ttl": ttl, "silent": silent, "truncated": truncated}

    def asked(self, name=None):
        """[(name, type, "udp" or "tcp")], in order."""
        with self.lock:
            return [query for query in self.queries if name in (None, query[0])]

    def answer(self, message, udp):
        try:
            ident, flags, name, kind, klass, question = read_question(message)
        except (ValueError, IndexError, struct.error, UnicodeDecodeError):
            return struct.pack("!6H", *struct.unpack("!H", message[:2].ljust(2, b"\0")), QR | FORMERR, 0, 0, 0, 0)
        with self.lock:
            self.queries.append((name, kind, "udp" if udp else "tcp"))
            known = self.names.get(name)
        if flags & 0x7800 or klass != CLASS_IN:
            return write_answer(ident, flags, question, NOTIMP)
        if known is None:
            return write_answer(ident, flags, question, NXDOMAIN)
        if known["silent"]:
            return None
        out = write_answer(ident, flags, question, known["rcode"], known.get(kind, ()) if known["rcode"] == NOERROR else (), known["ttl"])
        if udp and (known["truncated"] or len(out) > MAX_UDP):
            return write_answer(ident, flags, question, NOERROR, truncated=True)
        return out


def resolver_files(directory, options="timeout:30 attempts:1"):
    """What to mount over /etc/resolv.conf and /etc/nsswitch.conf for getaddrinfo to ask 127.0.0.1 and nobody else."""
    paths = {}
    for name, text in {"resolv.conf": f"nameserver 127.0.0.1\noptions {options}\n", "nsswitch.conf": "hosts: files dns\n"}.items():
        paths[f"/etc/{name}"] = f"{directory}/{name}"
        with open(paths[f"/etc/{name}"], "w") as file:
            file.write(text)
    return paths


def lookup(name):
    """As a program of its own would see it."""
    return sorted({info[4][0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
