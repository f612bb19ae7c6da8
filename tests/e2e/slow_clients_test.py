#!/usr/bin/env python3
"""200 clients that mean no good, or do not mean anything any more, keep nobody from asking whether it is healthy."""
import threading
import time

import harness
from harness import Case, configuration, rule, wait_for


class SlowClientsTest(Case):
    def test_health_is_answered_within_a_second(self):
        log, slack = self.log(), self.slack()
        bell = self.bell(configuration(log.path, {"boom": {"match": "ERROR boom"}}, [rule("Boom", "count_over_time(boom[1h]) >= 1")],
                                       {"ops": harness.slack(slack.hook())}))
        requests = [b"",  # connected, and nothing
                    b"GET /metrics HTT",  # half a request line
                    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ",  # half a header
                    b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nx",  # half a body
                    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20]  # asks and does not read
        clients = [self.closing(harness.slow_client(bell.port, requests[i % len(requests)])) for i in range(200)]
        stop = threading.Event()

        def drip():  # a byte every now and then keeps them from being idle
            while not stop.wait(0.5):
                for client in clients[2::5]:
                    try:
                        client.send(b"a")
                    except OSError:
                        pass
        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        self.addCleanup(dripping.join)
        self.addCleanup(stop.set)
        slowest = 0.0
        for path in ["/-/healthy", "/-/ready", "/metrics"] * 10:
            began = time.monotonic()
            status, _ = bell.get(path, timeout=5)
            slowest = max(slowest, time.monotonic() - began)
            self.assertEqual(200, status, path)
            threading.Event().wait(0.1)  # over three seconds: as the clients are being dropped, too
        self.assertLess(slowest, 1)
        log.write("ERROR boom")
        wait_for(slack.messages, "message meanwhile", context=bell.tail)


if __name__ == "__main__":
    harness.main()
