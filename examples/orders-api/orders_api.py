#!/usr/bin/env python3
"""A small orders API, to have something worth watching.

It serves HTTP and logs JSON lines: requests with status and duration, batches from partners. Orders go to a queue. When
the queue is taken away each order raises QueueNotFoundException and is stored in a local backup, a file each; when it is
back the batch job re-sends them. The partner gets 202 all the while: that nobody notices is the point.

  POST /orders   {"partner": "acme", "items": 3}    one order
  POST /batches  {"partner": "acme", "orders": 5}   a batch from a partner
  GET  /health                                      is the queue there, how many orders wait in the backup
  POST /admin/queue/remove, /admin/queue/restore    takes the queue away, and brings it back
"""
import argparse
import datetime
import http.server
import json
import os
import queue
import random
import signal
import threading
import time
import uuid

QUEUE = "orders-foobar"


class QueueNotFoundException(Exception):
    pass


class Log:
    """JSON lines, one write each, so that whoever follows the file never sees half of one for long."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()

    def __call__(self, level, message, **fields):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"ts": now, "level": level, "msg": message, **fields}) + "\n"
        with self.lock:
            self.file.write(line.encode())


class Backup:
    """What could not be queued: a directory with a file for each order."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)

    def __len__(self):
        return len(self.keys())

    def keys(self):
        return sorted(name[:-5] for name in os.listdir(self.directory) if name.endswith(".json"))

    def path(self, key):
        return os.path.join(self.directory, key + ".json")

    def store(self, order):
        key = f"{time.time_ns():x}"[-8:] + uuid.uuid4().hex[:4]  # in the order of time
        with open(self.path(key) + ".new", "w") as file:
            json.dump(order, file)
        os.rename(self.path(key) + ".new", self.path(key))
        return key

    def load(self, key):
        with open(self.path(key)) as file:
            return json.load(file)

    def remove(self, key):
        os.remove(self.path(key))


class Orders:
    def __init__(self, log, backup):
        self.log = log
        self.queue = queue.Queue(maxsize=10_000)
        self.backup = backup
        self.present = True

    def send(self, order):
        if not self.present:
            raise QueueNotFoundException(f"queue {QUEUE} does not exist")
        try:
            self.queue.get_nowait()  # the consumer, as fast as the producer
        except queue.Empty:
            pass
        self.queue.put(order)

    def accept(self, order):
        try:
            self.send(order)
        except QueueNotFoundException as error:
            self.log("ERROR", f"QueueNotFoundException: {error}", partner=order["partner"])
            key = self.backup.store(order)
            self.log("WARN", f"stored in backup id={key}", partner=order["partner"])

    def resend(self):
        """The batch job: everything in the backup that the queue takes now."""
        for key in self.backup.keys():
            order = self.backup.load(key)
            try:
                self.send(order)
            except QueueNotFoundException:
                return
            self.backup.remove(key)
            self.log("INFO", f"re-sent from backup id={key}", partner=order["partner"])


def handler(orders, log):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body, began):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            took = int((time.monotonic() - began) * 1000)
            log("INFO", f"{self.command} {self.path} status={status} took={took}ms", method=self.command,
                path=self.path, status=status, took_ms=took)

        def do_GET(self):
            began = time.monotonic()
            if self.path == "/health":
                self.answer(200, {"queue": orders.present, "backup": len(orders.backup)}, began)
            else:
                self.answer(404, {"error": "no such path"}, began)

        def do_POST(self):
            began = time.monotonic()
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path in ("/admin/queue/remove", "/admin/queue/restore"):
                orders.present = self.path.endswith("restore")
                self.answer(200, {"queue": orders.present}, began)
                return
            try:
                body = json.loads(data or b"{}")
                partner = str(body["partner"])
                count = int(body.get("orders", 1)) if self.path == "/batches" else 1
            except (ValueError, KeyError, TypeError):
                self.answer(400, {"error": "expected an object with a partner"}, began)
                return
            if self.path == "/batches":
                log("INFO", f"received batch from partner {partner}", partner=partner, orders=count)
            elif self.path != "/orders":
                self.answer(404, {"error": "no such path"}, began)
                return
            for _ in range(count):
                time.sleep(random.uniform(0.001, 0.008))  # what an order takes
                orders.accept({"partner": partner})
            self.answer(202, {"accepted": count}, began)

    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one; it is printed")
    parser.add_argument("--log", required=True, help="the file that the JSON lines are appended to")
    parser.add_argument("--backup", metavar="DIR", help="where orders wait that could not be queued (default: backup, beside the log)")
    parser.add_argument("--traffic", type=float, default=0, metavar="N", help="also place N orders a second, as two partners would")
    options = parser.parse_args()

    log = Log(options.log)
    backup = options.backup or os.path.join(os.path.dirname(os.path.abspath(options.log)), "backup")
    orders = Orders(log, Backup(backup))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler(orders, log))
    server.daemon_threads = True
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: (stop.set(), threading.Thread(target=server.shutdown).start()))

    def batch_job():
        while not stop.wait(1):
            orders.resend()

    def traffic():
        import urllib.request
        partners = ["acme", "globex"]
        while not stop.wait(random.expovariate(options.traffic)):
            path, body = "/orders", {"partner": random.choice(partners)}
            if random.random() < 0.2:
                path, body = "/batches", {**body, "orders": random.randint(2, 4)}
            request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", json.dumps(body).encode())
            try:
                urllib.request.urlopen(request, timeout=5).close()
            except OSError as error:
                if not stop.is_set():
                    log("ERROR", f"client: {error}")

    threading.Thread(target=batch_job, daemon=True).start()
    if options.traffic > 0:
        threading.Thread(target=traffic, daemon=True).start()
    log("INFO", "orders API is up", port=server.server_port)
    print(f"orders API on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    log("INFO", "orders API stops")


if __name__ == "__main__":
    main()
