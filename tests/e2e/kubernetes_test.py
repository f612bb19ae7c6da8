#!/usr/bin/env python3
"""Kubernetes as it is, on one machine: each container has a mount namespace of its own with a root that is read-only and has no
/tmp, a user without a name, no HOME and no capability; its volumes come as kubelet brings them.

ConfigMaps and Secrets are written as by AtomicWriter (kubernetes/pkg/volume/util/atomic_writer.go): the visible names are links to
..data/NAME, ..data is a link to a directory named ..YYYY_MM_DD_HH_MM_SS.NNN, and an update writes a new such directory, makes the
link ..data_tmp, renames it over ..data, and removes the old directory. They are mounted read-only, a Secret from a tmpfs. An
emptyDir belongs to root and is 0777, with fsGroup 2775 and the group's.

Needs root, for the mounts and for a user that is not ours; as root it never skips."""
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import harness
from harness import Case, Log, Process, rule, stays, wait_for

USER, FS_GROUP = 65532, 2000  # nobody's name
SECRET = "/run/secrets/logbell/slack"
OWN_MOUNTS = "LOGBELL_E2E_OWN_MOUNTS"

# The container's root: the machine's programs and libraries, and nothing that can be written. $1 is where, the rest is
# FROM TO MODE for each volume, then "--", then the command.
CONTAINER = r"""
set -e
root=$1; shift
[ -z "$POD_IP" ] || { ip link set lo up; ip addr add "$POD_IP/32" dev lo; }
mount -t tmpfs -o mode=755 root "$root"
for d in bin sbin lib lib64; do
  if [ -L /$d ]; then cp -P /$d "$root/"; elif [ -d /$d ]; then mkdir "$root/$d"; mount --bind /$d "$root/$d"; fi
done
mkdir -p "$root/usr" "$root/proc" "$root/dev" "$root/etc"
mount --bind /usr "$root/usr"
mount --rbind /proc "$root/proc"
touch "$root/dev/null"; mount --bind /dev/null "$root/dev/null"
for f in hosts nsswitch.conf ld.so.cache; do [ ! -e /etc/$f ] || cp /etc/$f "$root/etc/"; done
cp "$LOGBELL" "$root/logbell"; chmod 755 "$root/logbell"
while [ "$1" != -- ]; do
  mkdir -p "$root$2"; mount --bind "$1" "$root$2"; mount -o "remount,bind,$3" "$root$2"
  shift 3
done
shift
mount -o remount,ro "$root"
unset LOGBELL
exec chroot "$root" "$@"
"""


class Volume:
    """A ConfigMap's or a Secret's, as AtomicWriter writes it."""

    def __init__(self, path, files, mode=0o644, group=0):
        self.path, self.mode, self.group, self.current = path, mode, group, None
        self.updates = itertools.count()
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)
        self.update(files)

    def update(self, files, mode=None):
        mode = self.mode if mode is None else mode
        fresh = f"..2026_05_01_10_00_{next(self.updates):02}.987654321"
        os.mkdir(self.at(fresh), 0o755)
        for name, text in files.items():
            with open(self.at(fresh, name), "w") as file:
                file.write(text)
            os.chown(self.at(fresh, name), 0, self.group)
            os.chmod(self.at(fresh, name), mode)
        os.symlink(fresh, self.at("..data_tmp"))
        os.rename(self.at("..data_tmp"), self.at("..data"))
        for name in files:
            if not os.path.lexists(self.at(name)):
                os.symlink(f"..data/{name}", self.at(name))
        for name in os.listdir(self.path):
            if not name.startswith("..") and name not in files:
                os.unlink(self.at(name))
        if self.current:
            shutil.rmtree(self.at(self.current))
        self.current = fresh

    def at(self, *names):
        return os.path.join(self.path, *names)


class Pod(harness.Logbell):
    """One pod: its volumes, and logbell's container in it. The API's container is Log's writes."""

    def __init__(self, case, name="orders-api-7d9c-x2x4k", config=None, secret=None, args=("--on-refusal=stay",), state=None, log=None,
                 fs_group=None, secret_mode=0o644, pod_ip="", listen="0.0.0.0"):
        self.case, self.name, self.args, self.fs_group, self.pod_ip, self.listen = case, name, list(args), fs_group, pod_ip, listen
        self.directory = case.path(name)
        os.makedirs(self.directory)
        os.makedirs(self.at("root"))
        self.output = self.at("logbell.log")
        self.process, self.text, self.port = None, "", harness.free_port()
        self.env = {"PATH": os.environ["PATH"], "POD_NAME": name, "POD_IP": pod_ip, "LOGBELL": harness.binary()}
        self.secret = self.volume("secret", {"slack": secret or case.chat.hook()}, secret_mode, tmpfs=True)
        self.state = state or self.empty_dir("state")
        self.log = log or self.empty_dir("log")
        self.config = self.volume("config", {"logbell.yaml": self.with_port(config or case.config())})
        case.bells.append(self)
        case.closing(self)

    def at(self, *names):
        return os.path.join(self.directory, *names)

    def with_port(self, config):
        return config if isinstance(config, str) else harness.yaml({"listen": f"{self.listen}:{self.port}", **config}).lstrip() + "\n"

    def configure(self, config):
        self.config.update({"logbell.yaml": self.with_port(config)})

    def volume(self, name, files, mode=0o644, tmpfs=False):
        if tmpfs:
            os.makedirs(self.at(name))
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "secret", self.at(name)], check=True)
            self.case.addCleanup(subprocess.run, ["umount", "-l", self.at(name)])
        return Volume(self.at(name), files, mode, self.fs_group or 0)

    def empty_dir(self, name):
        path = self.at(name)
        os.makedirs(path)
        os.chown(path, 0, self.fs_group or 0)
        os.chmod(path, 0o2775 if self.fs_group else 0o777)
        return path

    def argv(self):
        volumes = [self.config.path, "/etc/logbell", "ro", self.secret.path, "/run/secrets/logbell", "ro",
                   self.log, "/var/log/api", "ro", self.state, "/var/lib/logbell", "rw"]
        groups = f"--groups={self.fs_group}" if self.fs_group else "--clear-groups"
        return ["unshare", "--mount", "--propagation=private", *(["--net"] if self.pod_ip else []), "sh", "-c", CONTAINER, "sh",
                self.at("root"), *volumes, "--", "setpriv", f"--reuid={USER}", f"--regid={USER}", groups, "--no-new-privs",
                "--bounding-set=-all", "--inh-caps=-all", "env", "-u", "PATH", "-u", "PWD", "/logbell", "run", *self.args]

    def start(self, ready=True, deadline=None):
        self.close()
        self.process = Process(self.argv(), self.output, self.env)
        if ready:
            self.await_ready(deadline)
        return self

    def lives(self):
        return self.process.code is None


@unittest.skipUnless(os.geteuid() == 0, "needs root: namespaces, mounts and a user that is not ours")
class KubernetesTest(Case):
    def setUp(self):
        super().setUp()
        self.chat = self.slack()

    def config(self, rules=("Boom",), **more):
        return {"environment": "e2e", "instance": "${POD_NAME}", "state_dir": "/var/lib/logbell",
                "sources": [{"name": "api", "files": ["/var/log/api/*.log"]}], "patterns": {"boom": {"match": "ERROR boom"}},
                "rules": [rule(name, "count_over_time(boom[1h]) >= 1", labels={"severity": "critical"}) for name in rules],
                "sinks": {"ops": {"slack": {"webhook_url_file": SECRET}}},
                "route": {"sinks": ["ops"], "group_by": ["alertname"], "group_interval": "1s"}, **more}

    def bad(self):
        """The founding story: a rule whose sink is missing."""
        config = self.config()
        config["rules"].append(rule("Critical", "count_over_time(boom[1h]) >= 1", sinks=["oncall"]))
        return config

    def api_log(self, pod):
        return self.closing(Log(os.path.join(pod.log, "api.log")))

    def told(self, hook=None):
        return [m["rendered"] for m in self.chat.messages(hook)]

    def rings(self, pod, log):
        before = len(self.told())
        log.write("ERROR boom")
        wait_for(lambda: [t for t in self.told()[before:] if "Boom" in t], "a message", context=pod.tail)

    # --- as whom, and where to

    def test_a_user_without_a_name_a_read_only_root_and_volumes_of_root(self):
        for what, options in [("an emptyDir open to all, a Secret 0644", {"secret_mode": 0o644}),
                              ("an emptyDir open to all, a Secret 0444", {"secret_mode": 0o444}),
                              ("fsGroup: the group's emptyDir, a Secret 0440", {"secret_mode": 0o440, "fs_group": FS_GROUP})]:
            with self.subTest(what):
                pod = Pod(self, name=f"pod-{options['secret_mode']:o}", **options)
                pod.start()
                with open(f"/proc/{pod.process.pid}/status") as file:
                    status = file.read()
                self.assertIn(f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}", status)
                self.assertRegex(status, r"CapEff:\t0+\n")
                self.assertIn("NoNewPrivs:\t1", status)
                self.assertNotRegex(pod.said(), r"warning|level=(warn|error)", "that is how they come in a pod")
                self.rings(pod, self.api_log(pod))
                pod.kill()
                pod.start()
                pod.await_firing("Boom", instance=pod.name)
                self.assertEqual(0, pod.stop())
                inside = os.path.join(pod.state, "logbell")
                self.assertEqual(0o700, os.stat(inside).st_mode & 0o777)
                self.assertEqual({USER}, {os.stat(os.path.join(inside, name)).st_uid for name in os.listdir(inside)})

    def test_a_secret_that_others_can_read_is_still_said_where_kubelet_did_not_write_it(self):
        pod = Pod(self)
        pod.secret.update({})
        with open(pod.secret.at("slack"), "w") as file:
            file.write(self.chat.hook())
        os.chmod(pod.secret.at("slack"), 0o644)
        pod.start()
        self.assertIn(f"the secret's file {SECRET} can be read by others; chmod 600 {SECRET}", pod.said())

    def test_a_secret_that_may_not_be_read_parks_and_is_taken_once_it_may(self):
        pod = Pod(self, secret_mode=0o400)
        pod.start()
        pod.await_metric(1, "logbell_plan_refused")
        self.assertRegex(pod.said(), rf"{SECRET} cannot be read: Permission denied.*fsGroup")
        pod.secret.update({"slack": self.chat.hook()}, mode=0o444)
        pod.await_metric(0, "logbell_plan_refused")
        self.rings(pod, self.api_log(pod))

    def test_a_state_directory_that_cannot_be_written_is_explained(self):
        pod = Pod(self, args=[])
        os.chmod(pod.state, 0o755)
        code, said = pod.refused()
        self.assertEqual(74, code, said)
        for words in ["/var/lib/logbell cannot be written: Permission denied", "belongs to user 0, group 0, mode 0755", f"this process is user {USER}", "fsGroup"]:
            self.assertIn(words, said)
        # A sidecar that exits takes the API out of service: told to stay, it answers, says so, and waits for it to be mended.
        pod.args = ["--on-refusal=stay"]
        pod.start()
        self.assertIn("nothing is watched", pod.get("/-/ready")[1])
        pod.await_metric(1, "logbell_plan_refused")
        wait_for(lambda: [t for t in self.told() if "fsGroup" in t], "word at Slack of what is wrong", context=pod.tail)
        os.chmod(pod.state, 0o777)
        pod.process.signal(signal.SIGHUP)
        pod.await_metric(0, "logbell_plan_refused")
        self.rings(pod, self.api_log(pod))

    # --- the configuration

    def test_a_config_map_that_changes_is_loaded_without_being_asked(self):
        pod = Pod(self).start()
        log = self.api_log(pod)
        self.rings(pod, log)
        since = pod.firing("Boom")[0]["activeAt"]
        pod.configure(self.config(rules=["Boom", "Second"]))
        pod.await_firing("Second")
        self.assertEqual(since, pod.firing("Boom")[0]["activeAt"])
        self.assertRegex(pod.said(), r"changed=/etc/logbell/logbell.yaml.*has changed on disk")
        # A secret that is rotated.
        pod.secret.update({"slack": self.chat.hook("ROTATED")})
        wait_for(lambda: f"changed={SECRET}" in pod.said() and pod.said().count("was accepted") == 2, "the second reload", context=pod.tail)
        pod.configure(self.config(rules=["Boom", "Second", "Third"]))
        wait_for(lambda: [t for t in self.told(self.chat.hook("ROTATED")) if "Third" in t], "word over the new webhook", context=pod.tail)
        self.assertEqual(3, pod.said().count("has changed on disk"))

    def test_not_by_itself_where_that_is_not_wanted(self):
        pod = Pod(self, args=["--no-watch-config"]).start()
        self.rings(pod, self.api_log(pod))
        pod.configure(self.config(rules=["Boom", "Second"]))
        stays(lambda: not pod.firing("Second"), "the old configuration", 1.5, pod.tail)
        pod.process.signal(signal.SIGHUP)
        pod.await_firing("Second")

    def test_a_refused_configuration_leaves_the_pod_serving_and_says_so(self):
        pod = Pod(self).start()
        log = self.api_log(pod)
        self.rings(pod, log)

        def refused_and_loud(pod):
            pod.await_metric(1, "logbell_plan_refused")
            self.assertEqual(0, pod.metric("logbell_config_last_reload_successful"))
            self.assertEqual(200, pod.get("/-/healthy")[0])
            status, text = pod.get("/-/ready")
            self.assertEqual(200, status)
            self.assertRegex(text, "degraded.*\n.*refused")
            self.assertRegex(pod.said(), r'/etc/logbell/logbell.yaml:\d+:\d+: rule "Critical": its sink "oncall" is not defined')

        # Swapped in beneath the running one: the old one goes on, and nothing is tried again while nothing changes.
        pod.configure(self.bad())
        refused_and_loud(pod)
        stays(lambda: pod.said().count("was refused; the old one goes on") == 1, "one try", 1.5, pod.tail)
        # The container is started again (its state lies in the emptyDir): the last good one goes on, and people are told.
        pod.stop()
        pod.start()
        refused_and_loud(pod)
        pod.await_firing("Boom")
        wait_for(lambda: [t for t in self.told() if "oncall" in t], "word at Slack of the refusal", context=pod.tail)
        # A pod that never had a good one parks.
        fresh = Pod(self, name="fresh", config=self.bad(), log=pod.log).start()
        refused_and_loud(fresh)
        self.assertIn("Parked", fresh.said())
        self.assertEqual(1, fresh.metric("logbell_rules_without_sink"))
        # Mended: both take over by themselves.
        for each in (pod, fresh):
            each.configure(self.config(rules=["Boom", "Mended"]))
        for each in (pod, fresh):
            each.await_metric(0, "logbell_plan_refused")
            each.await_metric(1, "logbell_config_last_reload_successful")
            wait_for(lambda: "refused" not in each.get("/-/ready")[1], "readiness of the new one", context=each.tail)
        log.write("ERROR boom")
        for each in (pod, fresh):
            each.await_firing("Mended", instance=each.name)
        self.assertTrue(pod.lives() and fresh.lives())

    @unittest.skipUnless(os.environ.get("LOGBELL_E2E_SLOW"), "waits for a minute; LOGBELL_E2E_SLOW=1")
    def test_a_reload_that_stays_refused_is_told(self):
        pod = Pod(self).start()
        pod.configure("rules: [\n")  # names no sink: those that run are told
        wait_for(lambda: [t for t in self.told() if "refuse" in t.lower()], "word at Slack", 90, pod.tail)

    # --- probes

    def test_probes_over_the_address_of_the_pod(self):
        pod = Pod(self, pod_ip="10.42.0.7")
        pod.start(ready=False)

        def ask(path, *args):
            done = subprocess.run(["nsenter", f"--net=/proc/{pod.process.pid}/ns/net", "curl", "-sS", "-m", "5", "-w", "\n%{http_code}", *args,
                                   f"http://10.42.0.7:{pod.port}{path}"], capture_output=True, text=True, timeout=20)
            text, _, code = done.stdout.rpartition("\n")
            return int(code or 0), text
        wait_for(lambda: ask("/-/ready")[0] == 200, "readiness", context=pod.tail)
        self.assertEqual(200, ask("/-/healthy")[0])
        self.assertIn("logbell_plan_refused 0", ask("/metrics")[1])
        status, said = ask("/-/reload", "-X", "POST")
        self.assertEqual(403, status)
        self.assertIn("nothing is changed from here", said)
        self.assertNotIn("accepted", pod.said())

    # --- the end

    def test_F50_term_what_the_api_wrote_last_is_still_evaluated(self):
        pod = Pod(self).start()
        log = self.api_log(pod)
        log.raw("".join(f"{harness.now_text()} INFO nothing {i}\n" for i in range(20000)))
        log.write("ERROR boom")
        began = time.monotonic()
        self.assertEqual(0, pod.stop(30))
        self.assertLess(time.monotonic() - began, 10, "well before kubelet kills")
        self.assertEqual(1, len([t for t in self.told() if "Boom" in t]), pod.tail())
        self.assertRegex(pod.said(), r"undelivered=0 msg=Stopped")

    def test_F49_a_second_term_ends_at_once(self):
        hanging = self.receiver(lambda path, body: None)
        config = self.config()
        config["sinks"]["ops"] = harness.webhook(hanging.url)
        pod = Pod(self, config=config).start()
        self.api_log(pod).write("ERROR boom")
        wait_for(lambda: hanging.received, "the request that hangs", context=pod.tail)
        pod.process.signal(signal.SIGTERM)
        wait_for(lambda: "Stopping" in pod.said(), "the first TERM's effect", context=pod.tail)
        pod.process.signal(signal.SIGTERM)
        self.assertEqual(-signal.SIGTERM, pod.process.wait(3))

    # --- two at a time

    def test_a_rolling_restart_over_the_same_state(self):
        old = Pod(self, name="old").start()
        log = self.api_log(old)
        log.write("ERROR boom")
        old.await_firing("Boom")
        new = Pod(self, name="new", state=old.state, log=old.log)
        new.start()  # ready, or the old one would never be told to end
        self.assertIn("takes over when it ends", new.get("/-/ready")[1])
        self.assertEqual(200, new.get("/-/healthy")[0])
        log.write(*["ERROR boom"] * 10)
        old.await_metric(11, "logbell_pattern_matches_total", pattern="boom")
        log.write(*["ERROR boom"] * 5)  # while nobody may be reading
        self.assertEqual(0, old.stop())
        log.write(*["ERROR boom"] * 5)
        new.await_metric(21, "logbell_pattern_matches_total", pattern="boom")
        self.assertNotIn("takes over", new.get("/-/ready")[1])
        new.await_firing("Boom")
        stays(lambda: len([t for t in self.told() if "FIRING" in t.upper() or "Boom" in t]) == 1, "having been told once", 1.5, new.tail)
        # One that waits hears TERM.
        third = Pod(self, name="third", state=old.state, log=old.log).start()
        began = time.monotonic()
        self.assertEqual(0, third.stop(5))
        self.assertLess(time.monotonic() - began, 2)
        self.assertTrue(new.lives())

    def test_replicas_are_told_apart_by_instance(self):
        """Alertmanager knows an alert by its labels: with the pod's name in `instance` each replica's is one of its own, grouped into
        one notification; the same replica again is the same alert; without it all replicas would be one, resolved by whoever resolves
        first."""
        receiver = self.receiver()
        peer = self.closing(harness.Alertmanager(self.path("alertmanager"), receiver.url))
        config = self.config(sinks={"am": harness.alertmanager(peer.url)}, route={"sinks": ["am"]})
        pods = [Pod(self, name=f"orders-api-{i}", config=config).start() for i in range(2)]
        for pod in pods:
            self.api_log(pod).write("ERROR boom")
        names = {"orders-api-0", "orders-api-1"}
        wait_for(lambda: {a["labels"]["instance"] for a in peer.alerts("Boom")} == names, "an alert of each replica in amtool", context=pods[0].tail)
        wait_for(lambda: any({a["labels"]["instance"] for a in body["alerts"]} == names for body in receiver.bodies()), "both in one notification")
        pods[0].kill()
        pods[0].start()
        pods[0].await_firing("Boom")
        self.assertEqual(2, len(peer.alerts("Boom")))
        # What happens without: two that say the same are one.
        same = [Pod(self, name=f"same-{i}", config={**config, "instance": "orders-api"}).start() for i in range(2)]
        for pod in same:
            self.api_log(pod).write("ERROR boom")
        for pod in same:
            wait_for(lambda pod=pod: pod.metric("logbell_notifications_total", sink="am", outcome="delivered") == 1, "both told it", context=pod.tail)
        self.assertEqual(1, len([a for a in peer.alerts("Boom") if a["labels"]["instance"] == "orders-api"]))


if __name__ == "__main__":
    if os.geteuid() == 0 and not os.environ.get(OWN_MOUNTS):
        # What is mounted here is gone with this process, whatever happens to it.
        os.environ[OWN_MOUNTS] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation=private", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    if len(sys.argv) > 1 and sys.argv[1].startswith("F"):
        sys.argv[1:] = ["-k", f"test_{sys.argv[1]}_"]
    harness.main()
