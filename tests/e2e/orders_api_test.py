#!/usr/bin/env python3
"""The orders API of the examples, by itself: it must be the story that the quickstart tells."""
import json
import os
import re
import sys
import time

import harness
from harness import Case, http_request, wait_for


class OrdersApiTest(Case):
    def setUp(self):
        super().setUp()
        self.log = self.path("log", "api.log")
        os.mkdir(self.path("log"))
        self.api = self.closing(harness.Process(
            [sys.executable, os.path.join(harness.ROOT, "examples/orders-api/orders_api.py"), "--port", "0", "--log", self.log], self.path("out")))
        wait_for(lambda: "http://" in self.api.tail(), "its URL", context=self.api.tail)
        self.url = re.search(r"http://\S+", self.api.tail())[0]

    def lines(self):
        with open(self.log) as file:
            return [json.loads(line) for line in file]

    def said(self, words):
        return [line["msg"] for line in self.lines() if words in line["msg"]]

    def post(self, path, **body):
        status, text = http_request(self.url + path, "POST", json.dumps(body))
        return status, json.loads(text)

    def test_the_story(self):
        self.assertEqual((202, {"accepted": 1}), self.post("/orders", partner="acme", items=3))
        self.assertEqual((202, {"accepted": 5}), self.post("/batches", partner="globex", orders=5))
        self.assertEqual(400, self.post("/orders")[0])
        self.assertEqual(404, self.post("/nowhere", partner="x")[0])
        self.assertEqual((404, 200), (http_request(self.url + "/x")[0], http_request(self.url + "/health")[0]))
        self.assertEqual(["received batch from partner globex"], self.said("received batch"))
        # The API answers before it logs, each request on a thread of its own.
        wait_for(lambda: len([line for line in self.lines() if "status" in line]) == 6, "six requests in the log")
        requests = [line for line in self.lines() if "status" in line]
        self.assertEqual([200, 202, 202, 400, 404, 404], sorted(line["status"] for line in requests))
        for line in requests:
            self.assertRegex(line["msg"], r"^(GET|POST) \S+ status=\d{3} took=\d+ms$")
            self.assertEqual({"ts", "level", "msg", "method", "path", "status", "took_ms"}, set(line))
        self.assertLess(abs(time.time() - time.mktime(time.strptime(requests[0]["ts"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone), 60)

        self.assertEqual((200, {"queue": False}), self.post("/admin/queue/remove"))
        self.assertEqual((202, {"accepted": 3}), self.post("/batches", partner="acme", orders=3), "the partner notices nothing")
        self.assertEqual(["QueueNotFoundException: queue orders-foobar does not exist"] * 3, self.said("QueueNotFound"))
        stored = [re.fullmatch(r"stored in backup id=(\w+)", words)[1] for words in self.said("stored in backup")]
        self.assertEqual(sorted(f"{key}.json" for key in stored), sorted(os.listdir(self.path("log", "backup"))))
        self.assertEqual({"queue": False, "backup": 3}, json.loads(http_request(self.url + "/health")[1]))
        self.assertEqual([], self.said("re-sent"))
        self.post("/admin/queue/restore")
        wait_for(lambda: sorted(self.said("re-sent")) == sorted(f"re-sent from backup id={key}" for key in stored), "the batch job")
        self.assertEqual([], os.listdir(self.path("log", "backup")))
        self.api.process.terminate()
        self.assertEqual(0, self.api.wait())


if __name__ == "__main__":
    harness.main()
