#!/usr/bin/env python3
"""A stand-in for healthchecks.io's ping endpoints, on loopback (https://healthchecks.io/docs/http_api/; SINKS.md §12).

A check is known by its UUID: /UUID is a success, /UUID/start, /UUID/fail, /UUID/log and /UUID/<exit status> are what they say.
HEAD, GET and POST count alike; a body is kept up to its limit. Known checks are answered `OK`, others 404 `not found`, with
old=True 200 `OK (not found)` as the service did; ever more than five pings a minute of one check are dropped, answered 200 `OK
(rate limited)`. `answers` takes scripted ones.

  with HeartbeatServer() as server:
      server.url()       the ping URL of its check
      server.pings       what counted: [{"kind": "success", "at": monotonic seconds, "body": …}, …]

As a program it prints the ping URL of its check, then a line for each ping that counts: its kind, and its body on one line.
"""
import http.server
import re
import threading
import time
import uuid

PING = re.compile(r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/(start|fail|log|[0-9]{1,3}))?")
MAX_BODY = 10_000


class HeartbeatServer:
    def __init__(self, port=0, a_minute=None, old=False):
        self.check, self.a_minute, self.old = str(uuid.uuid4()), a_minute, old
        self.pings, self.answers, self.requests, self.shown = [], [], [], False
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _ping(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, text = outer._take(self.path, body.decode(errors="replace"))
                answer = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_POST = do_HEAD = _ping

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def _take(self, path, body):
        with self._lock:
            self.requests.append(path)
            if self.answers:
                return self.answers.pop(0)
            found = PING.fullmatch(path.split("?")[0])
            if not found or found.group(1) != self.check:
                return (200, "OK (not found)") if self.old and found else (404, "not found")
            now = time.monotonic()
            if self.a_minute and sum(1 for ping in self.pings if ping["at"] > now - 60) >= self.a_minute:
                return 200, "OK (rate limited)"
            word = found.group(2) or "success"
            if word.isdigit():
                if int(word) > 255:
                    return 400, "invalid url format"
                word = "success" if int(word) == 0 else "fail"
            self.pings.append({"kind": word, "at": now, "body": body[:MAX_BODY]})
            if self.shown:
                print(word, " ".join(body[:MAX_BODY].split()), flush=True)
            return 200, "OK"

    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self.check}"

    def kinds(self):
        with self._lock:
            return [ping["kind"] for ping in self.pings]

    def of(self, kind):
        with self._lock:
            return [ping for ping in self.pings if ping["kind"] == kind]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


if __name__ == "__main__":
    with HeartbeatServer() as only:
        only.shown = True
        print(only.url(), flush=True)
        threading.Event().wait()
