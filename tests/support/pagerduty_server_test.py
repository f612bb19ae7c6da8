#!/usr/bin/env python3
"""The stand-in for PagerDuty, by itself."""
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pagerduty_server  # noqa: E402
from pagerduty_server import KEY  # noqa: E402


def trigger(dedup_key="a", **payload):
    return {"routing_key": KEY, "event_action": "trigger", "dedup_key": dedup_key,
            "payload": {"summary": "queue is gone", "source": "api-1", "severity": "critical", **payload}}


def action(what, dedup_key="a", key=KEY):
    return {"routing_key": key, "event_action": what, "dedup_key": dedup_key}


class PagerDutyServerTest(unittest.TestCase):
    def setUp(self):
        self.pager = pagerduty_server.PagerDutyServer().start()
        self.addCleanup(self.pager.close)

    def post(self, body, path="/v2/enqueue", method="POST"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.pager.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")

    def states(self):
        return [(one["dedup_key"], one["state"], one["triggers"], one["calls"]) for one in self.pager.incidents()]

    def test_an_incident_is_opened_once_and_resolved(self):
        self.assertEqual((202, {"status": "success", "message": "Event processed", "dedup_key": "a"}), self.post(trigger()))
        self.post(trigger())
        self.assertEqual([("a", "triggered", 2, 1)], self.states())
        self.post(trigger("b"))
        self.assertEqual(202, self.post(action("resolve"))[0])
        self.assertEqual([("a", "resolved", 2, 1), ("b", "triggered", 1, 1)], self.states())
        self.post(trigger())
        self.assertEqual([("a", "resolved", 2, 1), ("b", "triggered", 1, 1), ("a", "triggered", 1, 1)], self.states())

    def test_of_what_is_acknowledged_nobody_hears(self):
        self.post(trigger())
        self.pager.acknowledge("a")
        self.post(trigger())
        self.assertEqual([("a", "acknowledged", 2, 1)], self.states())
        self.post(action("resolve"))
        self.post(trigger())
        self.post(action("acknowledge"))
        self.assertEqual([("a", "resolved", 2, 1), ("a", "acknowledged", 1, 1)], self.states())

    def test_the_end_of_nothing_is_dropped_and_is_a_question(self):
        self.assertEqual(202, self.post(action("resolve", "never"))[0])
        self.assertEqual([], self.states())
        self.assertEqual([], self.pager.events())
        self.assertEqual(1, len(self.pager.probes))
        # Of another key it is nothing as well.
        self.post(trigger())
        other = KEY[::-1]
        self.assertEqual(202, self.post(action("resolve", "a", other))[0])
        self.assertEqual([("a", "triggered", 1, 1)], self.states())

    def test_refusals(self):
        length = "Length of 'routing_key' is incorrect (should be 32 characters)"
        for what, body, word in [
            ("a short key", {**trigger(), "routing_key": "short"}, length),
            ("no key", {"event_action": "resolve", "dedup_key": "a"}, length),
            ("a key with a dash", {**trigger(), "routing_key": "-" * 32}, "'routing_key' cannot contain non-alphanumeric characters."),
            ("no JSON", b"{", "JSON is invalid"),
            ("no object", b"[]", "event is not an object"),
            ("no payload", {k: v for k, v in trigger().items() if k != "payload"}, "'payload' is missing or blank"),
            ("a long summary", trigger(summary="x" * 1025), "Length of 'payload.summary' is incorrect (should be at most 1024 characters)"),
            ("a blank summary", trigger(summary=" "), "'payload.summary' is missing or blank"),
            ("no source", trigger(source=""), "'payload.source' is missing or blank"),
            ("a severity of its own", trigger(severity="page"), "'payload.severity' is invalid"),
            ("no time", trigger(timestamp="today"), "'payload.timestamp' is not in ISO 8601"),
            ("details that are text", trigger(custom_details="x"), "'payload.custom_details' is not an object"),
            ("an unknown field", trigger(severty="x"), "'payload.severty' is not known"),
            ("a long dedup_key", trigger("x" * 256), "Length of 'dedup_key'"),
            ("the end of what", {"routing_key": KEY, "event_action": "resolve"}, "'dedup_key' is missing or blank"),
            ("another action", action("snooze"), "'event_action' is invalid"),
            ("a link that is none", {**trigger(), "links": [{"href": "javascript:x"}]}, "'links' is invalid"),
        ]:
            with self.subTest(what):
                status, answer = self.post(body)
                self.assertEqual((400, "invalid event"), (status, answer["status"]))
                self.assertTrue(any(error.startswith(word) for error in answer["errors"]), answer)
        self.assertEqual([], self.states())
        self.assertEqual(202, self.post(trigger("x" * 255, summary="ü" * 1024, timestamp="2026-05-01T10:00:00.5Z"))[0])
        self.assertEqual(413, self.post(trigger(custom_details={"x": "y" * 512 * 1024}))[0])
        self.assertEqual(404, self.post(trigger(), "/v2/other")[0])
        self.assertEqual(405, self.post(b"", method="PUT")[0])

    def test_revoked_and_unknown_keys_and_a_service_that_is_disabled(self):
        self.pager.revoke()
        self.assertEqual((400, ["Invalid routing key"]), (lambda s, a: (s, a["errors"]))(*self.post(trigger())))
        self.assertEqual(400, self.post(action("resolve", "never"))[0])
        self.pager.restore()
        self.pager.disable()
        self.assertEqual(202, self.post(trigger())[0])
        self.assertEqual([], self.states())
        self.pager.enable()
        self.post(trigger())
        self.assertEqual([("a", "triggered", 1, 1)], self.states())
        self.pager.keys = {KEY[::-1]}
        self.assertEqual(400, self.post(trigger())[0])

    def test_the_limit_is_of_the_last_minute_and_of_each_key(self):
        self.pager.limit = 3
        self.assertEqual([202, 202, 202, 429], [self.post(trigger(str(i)))[0] for i in range(4)])
        self.assertEqual(202, self.post({**trigger(), "routing_key": KEY[::-1]})[0])
        with self.pager.lock:
            self.pager.recent[KEY][0] -= 60
        self.assertEqual([202, 429], [self.post(trigger(str(i)))[0] for i in range(2)])

    def test_scripted_answers(self):
        self.pager.script({"status": 503, "body": "upstream", "times": 2}, {"status": 400, "body": "{}", "probe": True})
        with self.assertRaises(ValueError):
            self.post(trigger())
        self.assertEqual(400, self.post(action("resolve", "never"))[0])
        with self.assertRaises(ValueError):
            self.post(trigger())
        self.assertEqual([], self.states())
        self.assertEqual(202, self.post(trigger())[0])
        self.assertEqual([503, 503, 202], [e["status"] for e in self.pager.events()])

    def test_an_answer_can_be_lost_after_the_event_was_taken(self):
        for mode, taken in (("drop", True), ("half", True), ("close", False), ("reset", False)):
            with self.subTest(mode):
                self.pager.script({"mode": mode})
                with self.assertRaises((http.client.HTTPException, ConnectionError)):
                    self.post(trigger(mode))
                self.assertEqual(taken, mode in [one[0] for one in self.states()])

    def test_it_can_fall_silent_without_holding_others(self):
        self.pager.script({"mode": "never"})
        silent = socket.create_connection(("127.0.0.1", self.pager.port))
        self.addCleanup(silent.close)
        body = json.dumps(trigger("silent")).encode()
        silent.sendall(b"POST /v2/enqueue HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        deadline = time.monotonic() + 5
        while not self.pager.events() and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        self.assertEqual(202, self.post(trigger())[0])
        self.assertEqual([("a", "triggered", 1, 1)], self.states())

    def list(self, query="", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.pager.port, timeout=10)
        self.addCleanup(connection.close)
        wanted = {"Authorization": f"Token token={pagerduty_server.API_TOKEN}", "Accept": pagerduty_server.API_ACCEPT, **headers}
        connection.request("GET", "/incidents" + query, headers=wanted)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")

    def test_incidents_are_listed_with_who_acknowledged_them(self):
        self.post(trigger())
        self.post(trigger("b"))
        status, answer = self.list("?incident_key=a&limit=5&sort_by=created_at%3Adesc")
        self.assertEqual((200, 1, False), (status, len(answer["incidents"]), answer["more"]))
        self.assertEqual(("triggered", None, []), tuple(answer["incidents"][0][key] for key in ("status", "incident_key", "acknowledgements")))
        self.pager.acknowledge("a")
        one = self.list("?incident_key=a")[1]["incidents"][0]
        self.assertEqual(("acknowledged", "Anna Example", "user_reference"),
                         (one["status"], *(one["acknowledgements"][0]["acknowledger"][key] for key in ("summary", "type"))))
        self.pager.resolve("a", "Bob")
        one = self.list("?incident_key=a")[1]["incidents"][0]
        self.assertEqual(("resolved", [], "Bob"), (one["status"], one["acknowledgements"], one["last_status_change_by"]["summary"]))
        self.post(action("acknowledge", "b"))
        self.assertEqual("service_reference", self.list("?incident_key=b")[1]["incidents"][0]["acknowledgements"][0]["acknowledger"]["type"])
        self.post(trigger())
        self.assertEqual([3, 1], [one["incident_number"] for one in self.list("?incident_key=a&sort_by=created_at:desc")[1]["incidents"]])
        self.assertEqual((1, True), (len(self.list("?limit=1")[1]["incidents"]), self.list("?limit=1")[1]["more"]))
        self.assertEqual([], self.list("?incident_key=never")[1]["incidents"])

    def test_the_rest_api_wants_its_headers(self):
        self.assertEqual(401, self.list(Authorization="Bearer x")[0])
        self.assertEqual(400, self.list(Accept="application/json")[0])
        self.assertEqual(400, self.list("?key=a")[0])
        self.pager.script({"api": True, "status": 503})
        self.assertEqual([503, 200], [self.list()[0], self.list()[0]])
        self.assertEqual([401, 400, 400, 503, 200], [one["status"] for one in self.pager.questions])

    def test_control_over_http(self):
        self.assertEqual(200, self.post({"answers": [{"status": 500}], "limit": 7, "disable": KEY[::-1]}, "/_control")[0])
        self.assertEqual((500, None), self.post(trigger()))
        self.assertEqual(7, self.pager.limit)
        self.post(trigger())
        self.post({"acknowledge": "a"}, "/_control")
        self.assertEqual([("a", "acknowledged")], [(one["dedup_key"], one["state"]) for one in self.post(b"", "/_incidents", "GET")[1]])
        self.assertEqual([1], [e["n"] for e in self.post(b"", "/_events?since=1", "GET")[1]])
        self.assertEqual(400, self.post([], "/_control")[0])
        self.post({"revoke": KEY}, "/_control")
        self.assertEqual(400, self.post(trigger())[0])
        self.assertEqual(200, self.post(b"", "/_control", "DELETE")[0])
        self.assertEqual(202, self.post(trigger())[0])


class CommandTest(unittest.TestCase):
    def test_prints_its_url_and_what_becomes_of_incidents(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pagerduty_server.py")
        with subprocess.Popen([sys.executable, script, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
            self.addCleanup(server.kill)
            port = urllib.parse.urlsplit(server.stdout.readline().split()[3].rstrip(",")).port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            self.addCleanup(connection.close)
            connection.request("POST", "/v2/enqueue", json.dumps(trigger()))
            self.assertEqual(202, connection.getresponse().status)
            self.assertIn("triggered    critical a  'queue is gone'", server.stdout.readline())
            server.kill()


if __name__ == "__main__":
    unittest.main()
