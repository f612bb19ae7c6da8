"""What every end-to-end test needs: the real binary in a directory of its own, logs that are written and rotated, Debian's
Prometheus and Alertmanager, receivers that keep what they get. Everything listens on loopback, on free ports, and is ended by
its process id. Nothing sleeps for a fixed time: `wait_for` polls a condition until its deadline and then says what it saw.

LOGBELL names the binary (ctest sets it; by default the newest of build/*/engine/cli/logbell).
LOGBELL_E2E_KEEP=1 leaves the directories of failed tests.
"""
import contextlib
import datetime
import glob
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import pagerduty_server  # noqa: E402
import slack_server  # noqa: E402

SlackServer = slack_server.SlackServer
PagerDutyServer = pagerduty_server.PagerDutyServer
DEADLINE = float(os.environ.get("LOGBELL_E2E_DEADLINE", "15"))  # a busy machine is slow, not wrong


def binary():
    named = os.environ.get("LOGBELL")
    if named:
        return os.path.abspath(named)
    built = sorted(glob.glob(os.path.join(ROOT, "build", "*", "engine", "cli", "logbell")), key=os.path.getmtime)
    if not built:
        raise SystemExit("no logbell is built; set LOGBELL to its path")
    return built[-1]


def cleaned(value):
    """As labels show text from a log: without control characters and those that turn or hide what follows."""
    hidden = set(range(0x20)) | set(range(0x7f, 0xa0)) | {0x200b, 0x200c, 0x200d, 0x2060, 0xfeff} | set(range(0x202a, 0x202f)) | set(range(0x2066, 0x206a))
    return "".join(c for c in value if ord(c) not in hidden)


def wait_for(condition, what, deadline=None, context=None):
    """Polls until `condition()` is true and returns its value. An AssertionError in it counts as "not yet"."""
    deadline = deadline or DEADLINE
    began, last, error = time.monotonic(), None, None
    while True:
        try:
            last, error = condition(), None
            if last:
                return last
        except (AssertionError, OSError, http.client.HTTPException, KeyError, IndexError, ValueError) as caught:
            error = caught
        if time.monotonic() - began > deadline:
            seen = f"{type(error).__name__}: {error}" if error else repr(last)
            raise AssertionError(f"no {what} within {deadline:g} s; last seen: {seen[:2000]}" + (f"\n{context()}" if context else ""))
        threading.Event().wait(0.02)


def stays(condition, what, seconds, context=None):
    """The contrary: fails as soon as `condition()` is no longer true within `seconds`. For what must not happen."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        value = condition()
        if not value:
            raise AssertionError(f"{what} did not last {seconds:g} s" + (f"\n{context()}" if context else ""))
        threading.Event().wait(0.05)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def now_text(at=None):
    at = time.time() if at is None else at
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- YAML: only written, and only as much of it as a configuration needs -------------------------------------------------

def yaml(value, indent=0):
    pad = "  " * indent
    if isinstance(value, dict):
        if not value:
            return " {}"
        return "".join(f"\n{pad}{_scalar(key)}:{yaml(inner, indent + 1)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        if not value:
            return " []"
        if not any(isinstance(item, (dict, list, tuple)) for item in value):
            return " [" + ", ".join(_scalar(item) for item in value) + "]"
        out = ""
        for item in value:
            text = yaml(item, indent + 1)
            out += f"\n{pad}-" + (" " + text.lstrip() if isinstance(item, dict) and item else text)
        return out
    return " " + _scalar(value)


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)
    if re.fullmatch(r"[A-Za-z_/][\w./-]*", value) and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n"):
        return value
    if "\n" in value:
        return json.dumps(value)
    return "'" + value.replace("'", "''") + "'"


# --- HTTP ----------------------------------------------------------------------------------------------------------------

def http_request(url, method="GET", body=None, headers=None, timeout=10):
    """(status, text). Refused connections raise."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Metrics:
    """The text format, parsed strictly enough that a broken line is an error."""

    LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*\})? ([-+]?(?:[0-9.]+(?:e[-+]?\d+)?|Inf|NaN|inf|nan))', re.I)
    LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.split("\n"):
            if not line or line.startswith("#"):
                continue
            found = self.LINE.fullmatch(line)
            if not found:
                raise AssertionError(f"no sample: {line!r}")
            labels = {name: re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value)
                      for name, value in self.LABEL.findall(found[2] or "")}
            self.samples.append((found[1], labels, float(found[3])))

    def all(self, name, **labels):
        return [(have, value) for sample, have, value in self.samples
                if sample == name and all(have.get(key) == wanted for key, wanted in labels.items())]

    def get(self, name, **labels):
        """The sum over the series that carry these labels; None when there is none."""
        found = self.all(name, **labels)
        return sum(value for _, value in found) if found else None


# --- processes -----------------------------------------------------------------------------------------------------------

class Process:
    """A child with its output in a file. Ended by its id, at the latest by close()."""

    def __init__(self, argv, output, env=None, stdin=None, user=None, cwd=None):
        self.argv, self.output = argv, output
        self.file = open(output, "ab")
        self.process = subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=self.file, stderr=subprocess.STDOUT,
                                        env=env, user=user, cwd=cwd, extra_groups=[] if user else None)
        self.pid = self.process.pid

    @property
    def code(self):
        return self.process.poll()

    def signal(self, number):
        if self.code is None:
            self.process.send_signal(number)

    def wait(self, deadline=None):
        try:
            return self.process.wait(deadline or DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv[0]} ({self.pid}) did not end; its last words:\n{self.tail()}") from None

    def tail(self, lines=25):
        with open(self.output, "rb") as file:
            return b"\n".join(file.read().split(b"\n")[-lines:]).decode(errors="replace")

    def close(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.file.close()


class Log:
    """A file that an application writes: one write a line, opened for appending, as a logger does."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.file = open(path, "ab", buffering=0)
        self.rotations = 0

    def write(self, *lines, at=None):
        """Lines with the time in front, as most have."""
        self.raw("".join(f"{now_text(at)} {line}\n" for line in lines))

    def raw(self, text):
        self.file.write(text if isinstance(text, bytes) else text.encode())

    def json(self, **fields):
        self.raw(json.dumps({"ts": now_text(), **fields}) + "\n")

    def rename(self):
        """Rotation as logrotate's `create`: moved away, a new one in its place. The application still writes to the old one
        until reopen()."""
        self.rotations += 1
        os.rename(self.path, f"{self.path}.{self.rotations}")
        open(self.path, "ab").close()

    def reopen(self):
        self.file.close()
        self.file = open(self.path, "ab", buffering=0)

    def close(self):
        self.file.close()


class Logbell:
    """`logbell run` in a directory of its own."""

    def __init__(self, directory, config, env=None, args=(), user=None):
        self.directory = directory
        self.path = os.path.join(directory, "logbell.yaml")
        self.output = os.path.join(directory, "logbell.log")
        self.env = {"PATH": os.environ["PATH"], "TZ": "UTC", **(env or {})}
        self.args, self.user, self.process = list(args), user, None
        self.stdin = None
        self.configure(config)

    def configure(self, config):
        """A dict gets a free port and a state directory where it has none; text is taken as it is."""
        if isinstance(config, dict):
            config = dict(config)
            config.setdefault("state_dir", os.path.join(self.directory, "state"))
            if "listen" not in config:
                self.port = getattr(self, "port", None) or free_port()
                config["listen"] = f"127.0.0.1:{self.port}"
            config = yaml(config).lstrip() + "\n"
        if found := re.search(r"^listen: *'?127\.0\.0\.1:(\d+)", config, re.M):
            self.port = int(found[1])
        self.text = config
        with open(self.path + ".new", "w") as file:
            file.write(config)
        os.rename(self.path + ".new", self.path)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, ready=True, deadline=None):
        self.close()
        self.process = Process([binary(), "run", "--config", self.path, *self.args], self.output, self.env, self.stdin, self.user)
        if ready:
            self.await_ready(deadline)
        return self

    def await_ready(self, deadline=None):
        def ready():
            if self.process.code is not None:
                raise SystemExit  # no use in waiting
            return self.get("/-/ready")[0] == 200
        try:
            wait_for(ready, "readiness", deadline, self.tail)
        except SystemExit:
            raise AssertionError(f"logbell ended with {self.process.code}:\n{self.tail()}\n--- of\n{self.text}") from None

    def check(self, *args):
        done = subprocess.run([binary(), "check", *args, self.path], env=self.env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def refused(self, deadline=None):
        """Starts what must not start: (exit code, what it said)."""
        mark = os.path.getsize(self.output) if os.path.exists(self.output) else 0
        self.start(ready=False)
        code = self.process.wait(deadline)
        with open(self.output, "rb") as file:
            file.seek(mark)
            return code, file.read().decode(errors="replace")

    def kill(self):
        self.process.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, deadline=40):
        self.process.signal(signal.SIGTERM)
        return self.process.wait(deadline)

    def restart(self, deadline=None):
        began = time.monotonic()
        self.start(deadline=deadline)
        return time.monotonic() - began

    def close(self):
        if self.process:
            self.process.close()

    def tail(self, lines=25):
        return "--- logbell's last lines\n" + (self.process.tail(lines) if self.process else "(not started)")

    def said(self):
        with open(self.output, errors="replace") as file:
            return file.read()

    # What it shows.

    def get(self, path, **kind):
        return http_request(self.url + path, **kind)

    def api(self, path):
        status, text = self.get("/api/v1/" + path)
        assert status == 200, (path, status, text)
        return json.loads(text)["data"]

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, (status, text)
        return Metrics(text)

    def metric(self, name, **labels):
        return self.metrics().get(name, **labels)

    def alerts(self, alertname=None, state=None, **labels):
        return [a for a in self.api("alerts")["alerts"]
                if (alertname is None or a["labels"]["alertname"] == alertname) and (state is None or a["state"] == state)
                and all(a["labels"].get(key) == value for key, value in labels.items())]

    def firing(self, alertname=None, **labels):
        return self.alerts(alertname, "firing", **labels)

    def await_firing(self, alertname, deadline=None, **labels):
        return wait_for(lambda: self.firing(alertname, **labels), f"firing {alertname} {labels or ''}", deadline, self.tail)

    def await_quiet(self, alertname, deadline=None, **labels):
        wait_for(lambda: not self.firing(alertname, **labels), f"end of {alertname} {labels or ''}", deadline, self.tail)

    def await_metric(self, wanted, name, deadline=None, **labels):
        wait_for(lambda: equal(wanted, self.metric(name, **labels)), f"{name}{labels} of {wanted}", deadline, self.tail)

    def reload(self):
        """POST /-/reload: (status, what it said)."""
        return self.get("/-/reload", method="POST")


def equal(wanted, seen):
    assert wanted == seen, f"{seen!r} where {wanted!r} was expected"
    return True


# --- receivers -----------------------------------------------------------------------------------------------------------

class Receiver:
    """A webhook's other end. Keeps (monotonic time, path, headers, body); `respond` decides the answer:
    a status, or (status, body, headers), or None to hold the request until close()."""

    def __init__(self, respond=None):
        self.lock = threading.Lock()
        self.received = []
        self.respond = respond or (lambda path, body: 200)
        self.stopping = threading.Event()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                at = time.monotonic()
                with owner.lock:
                    owner.received.append((at, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = owner.respond(self.path, body)
                if answer is None:
                    owner.stopping.wait()
                    self.close_connection = True
                    return
                status, text, headers = answer if isinstance(answer, tuple) else (answer, "", {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def bodies(self):
        with self.lock:
            return [json.loads(body) for _, _, _, body in self.received]

    def alerts(self, status=None, **labels):
        """Every alert of every message, in order."""
        return [alert for body in self.bodies() for alert in (body["alerts"] if isinstance(body, dict) else body)
                if (status is None or alert.get("status") == status)
                and all(alert["labels"].get(key) == value for key, value in labels.items())]

    def close(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


def slow_client(port, request=b""):
    """A connection that sends `request` and then nothing."""
    s = socket.create_connection(("127.0.0.1", port), timeout=5)
    if request:
        s.sendall(request)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


# --- Debian's Prometheus and Alertmanager --------------------------------------------------------------------------------

def tool(name):
    path = shutil.which(name)
    if not path:
        raise SystemExit(f"{name} is missing: tests/install test")  # a test that cannot run has not passed
    return path


class Prometheus:
    """Scrapes `targets` every second; `rules` is the text of a rule file."""

    def __init__(self, directory, targets, rules="groups: []\n"):
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "rules.yaml"), "w") as file:
            file.write(rules)
        config = os.path.join(directory, "prometheus.yml")
        with open(config, "w") as file:
            file.write(yaml({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "rule_files": ["rules.yaml"],
                             "scrape_configs": [{"job_name": "logbell", "static_configs": [{"targets": list(targets)}]}]}).lstrip() + "\n")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process([tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
                                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"], os.path.join(directory, "prometheus.log"))
        wait_for(lambda: http_request(self.url + "/-/ready")[0] == 200, "readiness of Prometheus", 30, self.process.tail)

    def query(self, expr):
        status, text = http_request(f"{self.url}/api/v1/query?query={urllib.parse.quote(expr)}")
        assert status == 200, (status, text)
        return [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]]

    def targets(self):
        return json.loads(http_request(self.url + "/api/v1/targets")[1])["data"]["activeTargets"]

    def close(self):
        self.process.close()


class Alertmanager:
    """Without a cluster. `receiver_url` gets its webhooks, so that its own resolves are seen; None: its receiver has no integration.
    `spare`: another receiver has one, to which nothing goes."""

    def __init__(self, directory, receiver_url="http://127.0.0.1:9/", resolve_timeout="5m", spare=False):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        config = os.path.join(directory, "alertmanager.yml")
        with open(config, "w") as file:
            file.write(yaml({"global": {"resolve_timeout": resolve_timeout},
                             "route": {"receiver": "test", "group_wait": "0s", "group_interval": "1s", "group_by": ["alertname"]},
                             "receivers": [{"name": "test", **({"webhook_configs": [{"url": receiver_url, "send_resolved": True}]} if receiver_url else {})},
                                           *([{"name": "spare", "webhook_configs": [{"url": "http://127.0.0.1:9/"}]}] if spare else [])]}).lstrip() + "\n")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = config
        self.start()

    def start(self):
        self.process = Process([tool("prometheus-alertmanager"), f"--config.file={self.config}", f"--storage.path={self.directory}/data",
                                f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address=", "--log.level=warn"],
                               os.path.join(self.directory, "alertmanager.log"))
        wait_for(lambda: http_request(self.url + "/-/ready")[0] == 200, "readiness of Alertmanager", 30, self.process.tail)

    def amtool(self, *args):
        done = subprocess.run([tool("amtool"), f"--alertmanager.url={self.url}", "--output=json", *args],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def alerts(self, alertname=None):
        """The active ones, as amtool shows them."""
        return [a for a in self.amtool("alert", "query") or [] if alertname in (None, a["labels"]["alertname"])]

    def close(self):
        self.process.close()


# --- configurations ------------------------------------------------------------------------------------------------------

def slack(url, **more):
    return {"slack": {"webhook_url": url}, **more}


def slack_app(server, channel="#ops", token=slack_server.TOKEN, **more):
    return {"slack_app": {"token": token, "channel": channel, "api_url": server.api_url}, **more}


def pagerduty(url, key=pagerduty_server.KEY, api_token=None, **more):
    """With `api_token`, incidents are asked for at the same address."""
    return {"pagerduty": {"routing_key": key, "url": url, **({"api_token": api_token, "api_url": url} if api_token else {})}, **more}


def alertmanager(*urls, **more):
    return {"alertmanager": {"urls": list(urls)}, **more}


def webhook(url, **more):
    secret = more.pop("secret", None)
    return {"webhook": {"url": url, **({"secret": secret} if secret else {})}, **more}


def email(server, *to, **more):
    """`server` is an SmtpServer; options of the sink itself are given as `email={…}`."""
    own = {"from": "logbell@example.com", "server": server.url, "starttls": "required" if server.tls in ("starttls", "required") else "none",
           **({"ca_file": server.certificate.file} if server.certificate else {}), **more.pop("email", {})}
    if server.tls == "smtps":
        own.pop("starttls")
    return {"email": {"to": list(to) or ["ops@example.com"], **own}, **more}


def file_sink(path, audience="machine", **more):
    return {"file": {"path": path}, **({"audience": audience} if audience else {}), **more}


def rule(alert, expr=None, **more):
    return {"alert": alert, **({"expr": expr} if expr else {}), **more}


def configuration(log, patterns, rules, sinks, source=None, route=None, **more):
    """One source of text lines, every sink in the route unless `route` says otherwise."""
    return {"environment": "e2e", **more,
            "sources": [{"name": "app", "files": [log], **(source or {})}],
            "patterns": patterns, "rules": rules, "sinks": sinks,
            "route": route or {"sinks": list(sinks), "group_by": ["alertname"], "group_interval": "1s"}}


def json_lines(path):
    """What a file sink wrote; a last line that is not whole yet is left out."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return [json.loads(line) for line in file.read().split(b"\n")[:-1] if line]


# --- the frame of a test -------------------------------------------------------------------------------------------------

class Case(unittest.TestCase):
    """A directory of its own; what it starts is closed in reverse order, and shown if the test failed."""

    maxDiff = 4000

    def setUp(self):
        # Not below build/: a path that logbell prints must not depend on where the repository is.
        self.directory = tempfile.mkdtemp(prefix="logbell-e2e-")
        os.chmod(self.directory, 0o755)
        self.addCleanup(self._remove_directory)
        self.bells = []

    def _remove_directory(self):
        failed = any(error for _, error in getattr(self._outcome, "errors", []) if error) or \
            any(test is self for test, _ in self._outcome.result.failures + self._outcome.result.errors)
        if failed:
            for bell in self.bells:
                sys.stderr.write(f"{self.id()}: {bell.tail(60)}\n")
        if failed and os.environ.get("LOGBELL_E2E_KEEP"):
            sys.stderr.write(f"{self.id()}: left {self.directory}\n")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def closing(self, thing):
        self.addCleanup(thing.close)
        return thing

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def log(self, name="app.log"):
        return self.closing(Log(self.path("log", name)))

    def slack(self, **options):
        return self.closing(SlackServer(**options).start())

    def pager(self, **options):
        return self.closing(PagerDutyServer(**options).start())

    def receiver(self, respond=None):
        return self.closing(Receiver(respond))

    def bell(self, config, start=True, **options):
        bell = self.closing(Logbell(self.directory, config, **options))
        self.bells.append(bell)
        return bell.start() if start else bell


def main():
    unittest.main(verbosity=2)
