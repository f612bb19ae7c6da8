"""What both halves of the benchmark need."""
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))


def run(command):
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{' '.join(command)} failed")


def build():
    """The Release binary, unless LOGBELL names another; from then on LOGBELL names it."""
    if os.environ.get("LOGBELL"):
        return
    run(["cmake", "--preset", "release"])
    run(["cmake", "--build", "build/release", "--target", "logbell", "-j", str(os.cpu_count())])
    os.environ["LOGBELL"] = os.path.join(ROOT, "build/release/engine/cli/logbell")


def machine(smoke):
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*: (.*)", file.read())
    return (f"{os.cpu_count()} cores, {cpu[1] if cpu else 'unknown processor'}, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}"
            + (" (smoke: these figures mean nothing)" if smoke else ""))
