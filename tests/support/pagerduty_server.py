#!/usr/bin/env python3
"""A stand-in for PagerDuty's Events API v2, and the part of its REST API that lists incidents, on loopback.

It answers as events.pagerduty.com does (PagerDuty/developer-docs, docs/events-API-v2): 202 for an event that it takes, 400 with
PagerDuty's words for what it refuses, 429 beyond 120 events within a minute and key. Incidents are kept by routing key and
dedup_key: opened by a trigger, silent while somebody has acknowledged them, over with a resolve; a resolve of nothing is dropped
and answered like any other.

  pagerduty_server.py --port 0       prints its URL first and then every incident; events go to URL/v2/enqueue

GET URL/incidents?incident_key=… (developer.pagerduty.com/api-reference, "List incidents") answers whoever says `Authorization:
Token token=…` and `Accept: application/vnd.pagerduty+json;version=2`. Incidents that events opened have child alerts, so they show no
incident_key and are found by it all the same; acknowledgements are listed while the incident is acknowledged.

For tests, over HTTP or as a class in their own process:
  GET    /_events[?since=N]  every request for an event, in order, as JSON
  GET    /_incidents         every incident, the resolved ones too: {"key", "dedup_key", "state", "summary", "severity", "calls",
                             "triggers", …}; `calls` is how often somebody was called
  POST   /_control           {"answers": [{"mode": "answer", "status": 503, "body": "…", "times": 3}, …]}, {"revoke": KEY},
                             {"restore": KEY}, {"disable": KEY}, {"enable": KEY}, {"acknowledge": DEDUP_KEY}, {"resolve": DEDUP_KEY},
                             {"limit": 120}
  DELETE /_control           no scripted answers, no revoked keys, no disabled services, no events remembered for the limit

Modes of a scripted answer: answer (status, body, headers), never (reads, never answers), drop (the event is taken, the answer
lost), half (half an answer), close, reset. A scripted answer is for triggers and their ends; with {"probe": true}, for the resolve
of an incident that never was; with {"api": true}, for GET /incidents. A service that is disabled answers 202 and does nothing (pdpyras issue 94).
"""
import argparse
import collections
import http.server
import json
import re
import select
import socket
import struct
import threading
import time
import urllib.parse

KEY = "0123456789abcdef0123456789abcdeF"
API_TOKEN = "y_NbAkKc66ryYTWUXYEu"  # PagerDuty's own example
API_ACCEPT = "application/vnd.pagerduty+json;version=2"
SERVICE = {"id": "PIJ90N7", "type": "service_reference", "summary": "Orders"}
API_PARAMETERS = {"incident_key", "limit", "offset", "sort_by", "statuses[]", "since", "until", "date_range", "total"}
MAX_EVENT = 512 * 1024
LIMIT, WINDOW = 120, 60.0
KNOWN = {"routing_key", "event_action", "dedup_key", "payload", "links", "images", "client", "client_url"}
PAYLOAD = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}
SEVERITIES = ("critical", "error", "warning", "info")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")


def faults(event):
    """What PagerDuty would list under `errors`. Its words about the key were seen (envato/pagerduty issue 70, tenderduty issue 10);
    the others are in their manner. Unknown fields it ignores; here they are faults, for they would be ours."""
    if not isinstance(event, dict):
        return ["event is not an object"]
    found = []

    def text(what, value, most=None, required=False):
        if value is None or value == "":
            if required:
                found.append(f"'{what}' is missing or blank")
        elif not isinstance(value, str):
            found.append(f"'{what}' is not a string")
        elif required and not value.strip():
            found.append(f"'{what}' is missing or blank")
        elif most is not None and len(value) > most:
            found.append(f"Length of '{what}' is incorrect (should be at most {most} characters)")

    key = event.get("routing_key")
    if not isinstance(key, str) or len(key) != 32:
        found.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    if isinstance(key, str) and not re.fullmatch(r"[A-Za-z0-9]*", key):
        found.append("'routing_key' cannot contain non-alphanumeric characters.")
    action = event.get("event_action")
    if action not in ("trigger", "acknowledge", "resolve"):
        found.append("'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge', 'resolve')")
    text("dedup_key", event.get("dedup_key"), 255, required=action != "trigger")
    found += [f"'{name}' is not known" for name in event if name not in KNOWN]
    text("client", event.get("client"))
    text("client_url", event.get("client_url"))
    if "links" in event:
        links = event["links"] if isinstance(event["links"], list) else [None]
        if not all(isinstance(one, dict) and set(one) <= {"href", "text"} and re.match(r"https?://[^\s]+$", str(one.get("href"))) for one in links):
            found.append("'links' is invalid")
    payload = event.get("payload")
    if action != "trigger" and payload is None:
        return found
    if not isinstance(payload, dict):
        return found + ["'payload' is missing or blank"]
    text("payload.summary", payload.get("summary"), 1024, required=True)
    text("payload.source", payload.get("source"), required=True)
    if payload.get("severity") not in SEVERITIES:
        found.append("'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')")
    if "timestamp" in payload and not TIMESTAMP.fullmatch(str(payload["timestamp"])):
        found.append("'payload.timestamp' is not in ISO 8601")
    for name in ("component", "group", "class"):
        text("payload." + name, payload.get(name))
    if not isinstance(payload.get("custom_details", {}), dict):
        found.append("'payload.custom_details' is not an object")
    return found + [f"'payload.{name}' is not known" for name in payload if name not in PAYLOAD]


def api_error(status, code, message, *errors):
    return status, {"error": {"message": message, "code": code, **({"errors": list(errors)} if errors else {})}}


def iso(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def user(name):
    return {"id": "PXPGF42", "type": "user_reference", "summary": name, "self": "https://api.pagerduty.com/users/PXPGF42"}


def invalid(*errors):
    return 400, {"status": "invalid event", "message": "Event object is invalid", "errors": list(errors)}


class PagerDutyServer:
    """Thread-safe. Listens from construction on, serves from start() (or serve_forever()) to close()."""

    def __init__(self, port=0, keys=None, limit=LIMIT, on_change=None, on_call=None):
        self.on_call = on_call  # acknowledges each incident at once
        self.keys = keys  # None: every key of the right form was issued
        self.limit = limit
        self.on_change = on_change
        self.lock = threading.Lock()
        self.journal = []
        self.opened = []  # every incident, in order
        self.scripts = []
        self.revoked, self.disabled = set(), set()
        self.questions = []  # of the REST API: {"query", "headers", "status"}
        self.recent = collections.defaultdict(collections.deque)  # key -> monotonic times of what was taken
        self.stopping = threading.Event()
        owner = self

        class Handler(_Handler):
            server_owner = owner

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request, client_address):
                pass  # a client that went away; the journal says what arrived

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = None

    def start(self):
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()
        return self

    def serve_forever(self):
        self.server.serve_forever(poll_interval=0.05)

    def close(self):
        self.stopping.set()
        if self.thread:
            self.server.shutdown()
            self.thread.join()
        self.server.server_close()

    # For tests in the same process; over HTTP the same through /_control, /_events and /_incidents.

    def script(self, *answers):
        with self.lock:
            self.scripts += [{"times": 1, **answer} for answer in answers]

    def revoke(self, key=KEY):
        with self.lock:
            self.revoked.add(key)

    def restore(self, key=KEY):
        with self.lock:
            self.revoked.discard(key)

    def disable(self, key=KEY):
        with self.lock:
            self.disabled.add(key)

    def enable(self, key=KEY):
        with self.lock:
            self.disabled.discard(key)

    def acknowledge(self, dedup_key, who="Anna Example", agent=None):
        """As a person does on a phone; `agent` is somebody else, an integration say."""
        self._change(dedup_key, "acknowledged", ("triggered",), agent or user(who))

    def resolve(self, dedup_key, who="Anna Example"):
        """So."""
        self._change(dedup_key, "resolved", ("triggered", "acknowledged"), user(who))

    def _change(self, dedup_key, state, before, agent):
        with self.lock:
            for incident in self.opened:
                if incident["dedup_key"] == dedup_key and incident["state"] in before:
                    incident["state"] = state
                    incident["changed_by"], incident["changed_at"] = agent, time.time()
                    if state == "resolved":
                        incident["resolved_at"] = time.time()

    def reset(self):
        with self.lock:
            self.scripts, self.revoked, self.disabled = [], set(), set()
            self.recent.clear()

    def events(self, action=None, probes=False):
        """What arrived, but for the questions whether anybody is there."""
        with self.lock:
            return [e for e in self.journal if (probes or not e["probe"]) and (action is None or (e["event"] or {}).get("event_action") == action)]

    @property
    def probes(self):
        with self.lock:
            return [e for e in self.journal if e["probe"]]

    def incidents(self, state=None, key=None):
        with self.lock:
            return [dict(one) for one in self.opened if (state is None or one["state"] == state) and (key is None or one["key"] == key)]

    def control(self, wanted):
        if not isinstance(wanted, dict):
            raise ValueError("expected an object")
        self.script(*wanted.get("answers", []))
        for name, act in (("revoke", self.revoke), ("restore", self.restore), ("disable", self.disable), ("enable", self.enable),
                          ("acknowledge", self.acknowledge), ("resolve", self.resolve)):
            if name in wanted:
                act(wanted[name])
        self.limit = wanted.get("limit", self.limit)

    # For the handler; the lock is held.

    def next_script(self, probe, api=False):
        for i, answer in enumerate(self.scripts):
            if bool(answer.get("probe")) == probe and bool(answer.get("api")) == api:
                if answer["times"] > 0:  # a negative number: for ever
                    answer["times"] -= 1
                    if answer["times"] == 0:
                        del self.scripts[i]
                return answer
        return None

    def is_probe(self, event):
        return isinstance(event, dict) and event.get("event_action") == "resolve" and \
            not any(one["dedup_key"] == event.get("dedup_key") for one in self.opened)

    def judge(self, event, size):
        """(status, answer, headers): what PagerDuty says, before it does anything."""
        if size > MAX_EVENT:
            return 413, {"status": "invalid event", "message": "Event is too large"}, {}
        found = faults(event)
        if found:
            return (*invalid(*found), {})
        key = event["routing_key"]
        if key in self.revoked or (self.keys is not None and key not in self.keys):
            return (*invalid("Invalid routing key"), {})
        now, recent = time.monotonic(), self.recent[key]
        while recent and now - recent[0] >= WINDOW:
            recent.popleft()
        if len(recent) >= self.limit:
            return 429, {"status": "throttle exceeded", "message": "Request Limit Exceeded"}, {}
        recent.append(now)
        dedup_key = event.get("dedup_key") or f"made-{len(self.journal)}"
        return 202, {"status": "success", "message": "Event processed", "dedup_key": dedup_key}, {}

    def shown(self, number, incident):
        """As the REST API shows one."""
        state = incident["state"]
        return {"id": f"PT4KH{number:03d}", "type": "incident", "summary": f"[#{number}] {incident['summary']}", "incident_number": number,
                "self": f"https://api.pagerduty.com/incidents/PT4KH{number:03d}", "html_url": f"https://example.pagerduty.com/incidents/PT4KH{number:03d}",
                "created_at": iso(incident["at"]), "status": state, "incident_key": None, "title": incident["summary"],
                "service": SERVICE, "urgency": "high",
                "alert_counts": {"all": 1, "triggered": int(state != "resolved"), "resolved": int(state == "resolved")},
                "acknowledgements": [{"at": iso(incident["changed_at"]), "acknowledger": incident["changed_by"] or SERVICE}] if state == "acknowledged" else [],
                "last_status_change_at": iso(incident.get("changed_at", incident.get("resolved_at", incident["at"]))),
                "last_status_change_by": incident.get("changed_by") or SERVICE}

    def list_incidents(self, query, headers):
        """(status, answer): GET /incidents. PagerDuty's words for what is wrong are in its manner."""
        if headers.get("authorization") != f"Token token={API_TOKEN}":
            return api_error(401, 2006, "Unauthorized")
        if headers.get("accept") != API_ACCEPT:
            return api_error(400, 2001, "Invalid Input Provided", "Accept header is not of version 2")
        unknown = [name for name, _ in query if name not in API_PARAMETERS]
        asked = dict(query)
        limit = int(asked.get("limit", "25"))
        if unknown or not 1 <= limit <= 100 or asked.get("sort_by", "created_at:desc").split(":")[0] not in ("incident_number", "created_at", "resolved_at"):
            return api_error(400, 2001, "Invalid Input Provided", *[f"{name} is not known" for name in unknown])
        found = [self.shown(number, one) for number, one in enumerate(self.opened, 1) if asked.get("incident_key") in (None, one["dedup_key"])]
        if asked.get("sort_by", "").endswith(":desc"):
            found.reverse()
        return 200, {"incidents": found[:limit], "limit": limit, "offset": 0, "total": None, "more": len(found) > limit}

    def act(self, event, dedup_key):
        """What an accepted event does; the incident, or None where it was dropped."""
        key, action = event["routing_key"], event["event_action"]
        if key in self.disabled:
            return None
        open_one = next((one for one in self.opened if one["key"] == key and one["dedup_key"] == dedup_key and one["state"] != "resolved"), None)
        if action == "trigger":
            if open_one is None:
                payload = event["payload"]
                open_one = {"key": key, "dedup_key": dedup_key, "state": "triggered", "triggers": 0, "calls": 0, "at": time.time(),
                            "summary": payload["summary"], "severity": payload["severity"], "payload": payload,
                            "links": event.get("links", [])}
                self.opened.append(open_one)
                open_one["calls"] += 1
                if self.on_call:
                    open_one.update(state="acknowledged", changed_by=user(self.on_call), changed_at=time.time())
            open_one["triggers"] += 1  # of one that is open already nobody hears
        elif open_one is not None:
            open_one["state"] = "resolved" if action == "resolve" else "acknowledged"
            open_one["changed_by"], open_one["changed_at"] = None, time.time()
            if action == "resolve":
                open_one["resolved_at"] = time.time()
        return open_one


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pagerduty-stand-in", ""
    server_owner = None
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=None):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def own(self, url, body):
        owner = self.server_owner
        if url.path == "/_events" and self.command == "GET":
            since = int(urllib.parse.parse_qs(url.query).get("since", ["0"])[0])
            self.answer(200, [e for e in owner.events(probes=True) if e["n"] >= since])
        elif url.path == "/_incidents" and self.command == "GET":
            self.answer(200, owner.incidents())
        elif url.path == "/_control" and self.command == "DELETE":
            owner.reset()
            self.answer(200, {})
        elif url.path == "/_control" and self.command == "POST":
            try:
                owner.control(json.loads(body))
                self.answer(200, {})
            except (ValueError, TypeError, AttributeError) as error:
                self.answer(400, {"error": str(error)})
        else:
            return False
        return True

    def handle_one(self):
        owner, url = self.server_owner, urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.own(url, body):
            return
        if url.path == "/incidents":
            return self.incidents(url)
        if url.path != "/v2/enqueue":
            return self.answer(404, {"status": "not found"})
        if self.command != "POST":
            return self.answer(405, {"status": "method not allowed"})
        try:
            event = json.loads(body.decode())
        except ValueError:
            event = None
        with owner.lock:
            probe = owner.is_probe(event)
            script = owner.next_script(probe)
            mode = script.get("mode", "answer") if script else "answer"
            status, text, headers = owner.judge(event, len(body)) if event is not None else (*invalid("JSON is invalid"), {})
            taken = status == 202 and mode not in ("never", "close", "reset")
            if script and "status" in script:  # what PagerDuty would have said does not matter
                taken = taken and script["status"] == 202 and script.get("effect", True)
                status, text, headers = script["status"], script.get("body", ""), script.get("headers", {})
            incident = owner.act(event, text["dedup_key"] if isinstance(text, dict) else event.get("dedup_key")) if taken else None
            owner.journal.append({"n": len(owner.journal), "at": time.time(), "monotonic": time.monotonic(), "event": event, "size": len(body),
                                  "status": status if mode == "answer" else None, "answer": text, "taken": taken, "mode": mode,
                                  "probe": probe, "headers": {name.lower(): value for name, value in self.headers.items()}})
            shown = dict(incident) if incident else None
        if shown and owner.on_change:
            owner.on_change(shown)
        if mode == "answer":
            return self.answer(status, text, headers)
        self.close_connection = True
        if mode == "never":  # until the client gives up or the server stops
            while not owner.stopping.is_set():
                readable, _, _ = select.select([self.connection], [], [], 0.1)
                if readable and not self.connection.recv(65536):
                    return None
        elif mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif mode == "half":
            data = text.encode() if isinstance(text, str) else json.dumps(text).encode()
            self.wfile.write(b"HTTP/1.1 %d Scripted\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data[:len(data) // 2]))
        return None

    def incidents(self, url):
        owner = self.server_owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = urllib.parse.parse_qsl(url.query, keep_blank_values=True)
        with owner.lock:
            script = owner.next_script(False, True)
            status, answer = owner.list_incidents(query, headers) if self.command == "GET" else api_error(405, 2000, "Method Not Allowed")
            if script and "status" in script:
                status, answer = script["status"], script.get("body", "")
            owner.questions.append({"query": query, "headers": headers, "status": status, "monotonic": time.monotonic()})
        if script and script.get("mode") == "never":
            owner.stopping.wait(30)
            self.close_connection = True
            return None
        return self.answer(status, answer, (script or {}).get("headers"))

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = handle_one


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8061, help="0 takes a free one; it is printed")
    parser.add_argument("--limit", type=int, default=LIMIT, help="events a minute and key")
    options = parser.parse_args()

    def show(incident):
        print(f"{time.strftime('%H:%M:%S')} {incident['state']:12} {incident['severity']:8} {incident['dedup_key']}  {incident['summary']!r}", flush=True)

    server = PagerDutyServer(options.port, limit=options.limit, on_change=show)
    print(f"PagerDuty stand-in on {server.url}, routing key {KEY}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
