#!/usr/bin/env python3
"""What the other tests rest on, by itself: no logbell takes part."""
import http.server
import json
import socket
import threading

import harness
from harness import Case, Log, Metrics, http_request, wait_for


class HarnessTest(Case):
    def test_yaml_quotes_what_would_be_read_otherwise(self):
        text = harness.yaml({"a": "no", "re": r"queue (?P<q>\S+): 'x'", "count": 3, "flag": True, "list": ["a b", 1], "none": [],
                             "deep": [{"x": {"inner": "z"}, "k": "0x"}]}).lstrip()
        self.assertEqual("a: 'no'\nre: 'queue (?P<q>\\S+): ''x'''\ncount: 3\nflag: true\nlist: ['a b', 1]\nnone: []\n"
                         "deep:\n  - x:\n      inner: z\n    k: '0x'", text)

    def test_metrics_are_parsed_strictly(self):
        metrics = Metrics('# HELP a b\na{x="1",y="q\\"\\\\\\n}"} 2\na{x="2"} 3\nb 1e+06\nc NaN\n')
        self.assertEqual((5, 2, 1e6, None), (metrics.get("a"), metrics.get("a", x="1"), metrics.get("b"), metrics.get("d")))
        self.assertEqual('q"\\\n}', metrics.all("a", x="1")[0][0]["y"])
        for broken in ('a{x="1"2"} 1', "a", 'a{x="\n"} 1', "a b"):
            with self.subTest(broken), self.assertRaises(AssertionError):
                Metrics(broken)

    def test_waiting_says_what_it_saw(self):
        with self.assertRaisesRegex(AssertionError, "no sunrise within 0.1 s; last seen: 0"):
            wait_for(lambda: 0, "sunrise", 0.1)
        with self.assertRaisesRegex(AssertionError, "2 where 1 was expected"):
            wait_for(lambda: harness.equal(1, 2), "agreement", 0.1)

    def test_a_renamed_log_is_still_written_until_it_is_reopened(self):
        log = self.closing(Log(self.path("log", "a.log")))
        log.raw("one\n")
        log.rename()
        log.raw("two\n")
        log.reopen()
        log.raw("three\n")
        with open(log.path + ".1") as old, open(log.path) as new:
            self.assertEqual(("one\ntwo\n", "three\n"), (old.read(), new.read()))

    def test_processes_are_ended_by_their_id(self):
        process = harness.Process(["sh", "-c", "echo hello; exec sleep 100"], self.path("out"))
        wait_for(lambda: "hello" in process.tail(), "words")
        process.close()
        self.assertNotEqual(None, process.code)

    def test_a_receiver_keeps_what_it_gets(self):
        receiver = self.receiver(lambda path, body: (503, "later", {"Retry-After": "1"}) if path == "/busy" else 200)
        body = json.dumps({"alerts": [{"status": "firing", "labels": {"alertname": "A"}}]})
        self.assertEqual((200, ""), http_request(receiver.url + "/x", "POST", body))
        self.assertEqual((503, "later"), http_request(receiver.url + "/busy", "POST", body))
        self.assertEqual(2, len(receiver.alerts("firing", alertname="A")))
        self.assertEqual([], receiver.alerts("resolved"))

    def test_half_open_clients(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            harness.reset(harness.slow_client(server.getsockname()[1], b"GET"))


class PeersTest(Case):
    def test_prometheus_scrapes_every_second(self):


        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"answers 42\n")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        prometheus = self.closing(harness.Prometheus(self.path("prometheus"), [f"127.0.0.1:{server.server_port}"]))
        wait_for(lambda: prometheus.query("answers")[0][1] == 42, "a scraped sample")
        self.assertEqual(1, prometheus.query("up")[0][1])

    def test_alertmanager_keeps_and_forwards(self):
        receiver = self.receiver()
        alertmanager = self.closing(harness.Alertmanager(self.path("alertmanager"), receiver.url))
        alert = {"labels": {"alertname": "A", "queue": "q"}, "startsAt": harness.now_text()}
        self.assertEqual(200, http_request(alertmanager.url + "/api/v2/alerts", "POST", json.dumps([alert]),
                                           {"Content-Type": "application/json"})[0])
        wait_for(lambda: [a["labels"]["queue"] for a in alertmanager.alerts("A")] == ["q"], "alert in amtool")
        wait_for(lambda: receiver.alerts("firing", alertname="A"), "webhook of Alertmanager")


if __name__ == "__main__":
    harness.main()
