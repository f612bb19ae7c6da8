#!/usr/bin/env python3
"""Syslog by those that really send it: util-linux's logger over every kind of socket, and rsyslogd, which forwards over TCP
and writes a file that the real logrotate rotates."""
import os
import signal
import socket
import subprocess

import harness
from harness import Case, Process, rule, wait_for

SBIN = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
GONE = {"match": r"queue gone", "labels": ["app", "host", "severity", "facility"]}
RULE = rule("QueueGone", "sum by (app, severity) (count_over_time(gone[1m])) >= 2", labels={"priority": "high"},
            annotations={"summary": "{{ $labels.app }} says {{ $labels.severity }}: {{ $value }}"})


class SyslogTest(Case):
    def start(self, sources, patterns, rules):
        slack = self.slack()
        bell = self.bell({"environment": "e2e", "sources": sources, "patterns": patterns, "rules": rules,
                          "sinks": {"ops": harness.slack(slack.hook())}, "route": {"sinks": ["ops"], "group_by": ["alertname"]}})
        return slack, bell

    def ports(self, bell):
        """Of the addresses that the system chose: {"udp": …, "tcp": …}."""
        paths = [stream["path"] for source in bell.api("sources")["sources"] for stream in source["streams"]]
        return {path.split("://")[0]: path.rsplit(":", 1)[1] for path in paths if path.startswith(("udp:", "tcp:"))}

    def logger(self, *args, text=None):
        done = subprocess.run([harness.tool("logger"), "-t", "orders-api", "-p", "local3.err", *args, *([] if text else ["queue gone"])],
                              input=text, capture_output=True, text=True, timeout=20)
        self.assertEqual((0, ""), (done.returncode, done.stderr))

    def test_logger_over_every_socket(self):
        stream, datagrams = self.path("stream.sock"), self.path("dgram.sock")
        slack, bell = self.start(
            [{"name": "net", "syslog": {"listen": ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]}},
             {"name": "local", "syslog": {"listen": [f"unix://{stream}", f"unixgram://{datagrams}"]}}],
            {"gone": GONE, "world": {"match": r"^hello (?P<who>\w+)$", "labels": ["app", "who"]}}, [RULE])
        ports = self.ports(bell)
        remote = ["-n", "127.0.0.1", "-P", ports["udp"], "-d"]
        self.logger(*remote, "--rfc3164")
        self.logger(*remote, "--rfc5424", "--msgid", "ID7", "--sd-id", "zoo@123", "--sd-param", 'tiger="hungry"')
        remote = ["-n", "127.0.0.1", "-P", ports["tcp"], "-T"]
        self.logger(*remote, "--rfc3164")
        self.logger(*remote, "--rfc5424")
        self.logger(*remote, "--rfc3164", "--octet-count")
        self.logger(*remote, "--rfc5424", "--octet-count")
        host = socket.gethostname()
        bell.await_metric(6, "logbell_pattern_matches_total", pattern="gone", app="orders-api", severity="err", facility="local3", host=host)
        # To a unix socket logger writes no host, unless it is RFC 5424.
        self.logger("-u", datagrams)
        self.logger("-u", datagrams, "-d", "--rfc5424", "-i")
        self.logger("-u", stream, "-T")
        bell.await_metric(9, "logbell_pattern_matches_total", pattern="gone", app="orders-api", severity="err", facility="local3")
        self.assertEqual(7, bell.metric("logbell_pattern_matches_total", pattern="gone", host=host))
        # Two records in one connection, in either framing.
        self.logger(*remote, "--octet-count", text="hello one\nhello two\n")
        self.logger(*remote, text="hello three\nhello four\n")
        for who in ("one", "two", "three", "four"):
            bell.await_metric(1, "logbell_pattern_matches_total", pattern="world", who=who, app="orders-api")
        message = wait_for(slack.messages, "message at Slack", context=bell.tail)[0]
        for wanted in ("QueueGone", "orders-api says err"):
            self.assertIn(wanted, message["rendered"])
        # That the other side has ended is noticed after what it said.
        bell.await_metric(6, "logbell_source_connections_closed_total", source="net", reason="ended")
        metrics = bell.metrics()
        for wanted, name, labels in [(10, "lines", {"source": "net"}), (3, "lines", {"source": "local"}), (6, "connections", {"source": "net"}),
                                     (6, "connections_closed", {"source": "net", "reason": "ended"}), (0, "frames_broken", {}),
                                     (0, "datagrams_dropped", {}), (0, "timestamps_rejected", {"reason": "past"}),
                                     (0, "timestamps_rejected", {"reason": "missing"}), (0, "timestamps_rejected", {"reason": "future"})]:
            self.assertEqual(wanted, metrics.get(f"logbell_source_{name}_total", **labels), (name, labels))
        self.assertEqual(0, bell.stop())
        self.assertFalse(os.path.exists(stream) or os.path.exists(datagrams), "a socket's file is left behind")

    def test_rsyslogd_forwards_and_writes_a_file_that_is_rotated(self):
        app = self.log("api.log")  # which rsyslogd follows
        written = self.path("log", "syslog")
        _, bell = self.start(
            [{"name": "net", "syslog": {"listen": "tcp://127.0.0.1:0"}}, {"name": "file", "files": [written], "format": "syslog"}],
            {"net_gone": {**GONE, "sources": ["net"]}, "file_gone": {**GONE, "labels": ["app", "host"], "sources": ["file"]}},
            [rule("Never", "sum(count_over_time(net_gone[1h])) + sum(count_over_time(file_gone[1h])) > 1000000")])
        os.makedirs(self.path("spool"))
        config, pid_file, inlet = self.path("rsyslog.conf"), self.path("rsyslog.pid"), self.path("in.sock")
        with open(config, "w") as file:
            file.write(f"""
global(workDirectory="{self.path('spool')}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{inlet}")
module(load="imfile" mode="inotify")
input(type="imfile" File="{app.path}" Tag="orders-api:" Severity="error" Facility="local3")
action(type="omfwd" target="127.0.0.1" port="{self.ports(bell)['tcp']}" protocol="tcp" TCP_Framing="octet-counted"
       template="RSYSLOG_SyslogProtocol23Format")
action(type="omfile" file="{written}" template="RSYSLOG_FileFormat")
""")
        daemon = self.closing(Process([harness.tool("rsyslogd"), "-n", "-f", config, "-i", pid_file], self.path("rsyslogd.log"), env=SBIN))
        wait_for(lambda: os.path.exists(inlet) and os.path.exists(pid_file), "rsyslogd's socket", context=daemon.tail)
        host = socket.gethostname().split(".")[0]

        def both(count):
            bell.await_metric(count, "logbell_pattern_matches_total", pattern="net_gone", app="orders-api", severity="err", facility="local3", host=host)
            bell.await_metric(count, "logbell_pattern_matches_total", pattern="file_gone", app="orders-api", host=host)

        app.raw("".join(f"queue gone {i}\n" for i in range(200)))
        both(200)
        self.logger("-u", inlet)
        both(201)
        logrotate = self.path("logrotate.conf")
        with open(logrotate, "w") as file:
            file.write(f"{written} {{\n rotate 5\n nocompress\n create\n postrotate\n  kill -HUP $(cat {pid_file})\n endscript\n}}\n")
        os.chmod(logrotate, 0o644)
        for turn in range(1, 4):
            done = subprocess.run([harness.tool("logrotate"), "-f", "-s", self.path("logrotate.state"), logrotate], capture_output=True, text=True,
                                  timeout=30, env=SBIN)
            self.assertEqual(0, done.returncode, done.stderr)
            app.raw("".join(f"queue gone {i}\n" for i in range(100)))
            both(201 + turn * 100)
        daemon.signal(signal.SIGTERM)
        daemon.wait()
        self.assertEqual(0, bell.metric("logbell_source_gaps_total"))


if __name__ == "__main__":
    harness.main()
