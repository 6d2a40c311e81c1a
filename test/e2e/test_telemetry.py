# SPDX-License-Identifier: BSD-3-Clause
"""dpdk-telemetry.py shows devices, queues, lcores and sessions."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from control import Control
from vhostuser import PATIENCE, BlkDisk, pattern
from vhubd import build_dir, usable_cpus

pytestmark = pytest.mark.plain_only


def eal(prefix):
    cpus = usable_cpus()
    return ["--no-huge", "--no-shconf", "--no-pci", "--iova-mode=va", "-m", "128", f"--file-prefix={prefix}",
            f"--lcores=0@{cpus[0]},1@{cpus[-1]}"]


@pytest.fixture
def prefix():
    return f"vhubtel{os.getpid()}"


def run_dir(prefix):
    """As EAL chooses it."""
    if os.geteuid() == 0:
        return Path("/run/dpdk" if Path("/run/dpdk").exists() else "/var/run/dpdk") / prefix
    return Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / "dpdk" / prefix


def ask(prefix, *commands):
    """What dpdk-telemetry.py prints for the commands, as Python has it."""
    done = subprocess.run(["dpdk-telemetry.py", "-f", prefix], input="\n".join(commands) + "\n",
                          capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = [line for line in lines if any(key.startswith("/vhub") for key in line)]
    assert len(found) == len(commands), done.stdout
    return [next(iter(each.values())) for each in found]


def test_devices_queues_lcores_and_sessions(vhubd, blk, folder, prefix):
    daemon = vhubd(blk("a", queues=2), blk("b-1", driver="null"), eal=eal(prefix),
                   args=["--control", str(folder / "c.sock")])
    devices, device = ask(prefix, "/vhub/devices", "/vhub/device,a")
    assert devices == ["a", "b-1"] and "latency" not in device
    with BlkDisk.open(str(daemon.sockets[0]), queues=2) as disk, Control(folder / "c.sock") as control:
        disk.write(0, pattern(1, 8192), queue=1)
        control.call("device_latency", name="a", measure=True)
        disk.read(0, 4096)
        control.settle()
        device, queues, second, rings, lcores, sessions, drivers, none, missing = ask(
            prefix, "/vhub/device,a", "/vhub/queues,a", "/vhub/queues,a,1", "/vhub/rings,a,1", "/vhub/lcores",
            "/vhub/sessions", "/vhub/drivers", "/vhub/device,none", "/vhub/queues")
    assert device["kind"] == "blk" and device["figures"]["write_bytes"] == 8192
    assert device["latency"]["measuring"] == 1 and device["latency"]["seconds"] >= 0
    assert list(device["latency"]["latency_ns"]) == ["read"]
    times = device["latency"]["latency_ns"]["read"]
    assert list(times) == ["count", "mean", "p50", "p90", "p99", "p99_9", "p99_99", "max"]
    assert times["count"] == 1 and 0 < times["p50"] <= times["max"] == times["mean"]
    assert device["session"]["connection"] == "running"
    assert device["session"]["peer_pid"] == os.getpid() and "VERSION_1" in device["session"]["feature_names"]
    assert rings == {"0": {"index": 1, "size": 128, "format": "split", "state": "running", "inflight": 0}}
    assert queues["0"]["read_bytes"] == 4096 and queues["1"]["write_requests"] == 1
    assert queues["0"]["started"] == 1 and queues["0"]["lcore"] == 1
    assert list(second) == ["0"] and second["0"]["index"] == 1
    assert lcores["0"]["lcore"] == 1 and 0 <= lcores["0"]["busy_percent"] <= 100
    assert lcores["0"]["devices"] == ["a", "b-1"] and lcores["0"]["busy_cycles"] > 0
    assert (sessions["0"]["name"], sessions["0"]["connected"]) == ("a", 1)
    assert (sessions["1"]["name"], sessions["1"]["connected"]) == ("b-1", 0)
    assert {each["name"] for each in drivers.values()} >= {"malloc", "null", "uring"}
    assert none == {"error": "there is no device none"}
    assert "device's name" in missing["error"]
    daemon.stop()
    assert not run_dir(prefix).exists()


class Telemetry:
    """A client of its own, which does not wait for an answer before the next question."""

    def __init__(self, prefix):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Without a limit of time: with one, connecting fails at once where others wait to be accepted.
        self.sock.connect(str(run_dir(prefix) / "dpdk_telemetry.v2"))
        self.sock.settimeout(30)
        self.sock.recv(1024)

    def ask(self, command):
        self.sock.send(command.encode())
        return self.sock.recv(16384)


def test_devices_that_come_and_go_while_somebody_looks(vhubd, blk, folder, prefix):
    vhubd(blk("a"), eal=eal(prefix), args=["--control", str(folder / "c.sock")])
    over = threading.Event()
    trouble = []

    def look(number):
        client = Telemetry(prefix)
        while not over.is_set():
            for command in ("/vhub/devices", "/vhub/device,d", "/vhub/queues,d", "/vhub/sessions"):
                answer = json.loads(client.ask(command))
                answers[number] += 1
                if "busy" in str(answer):
                    trouble.append(answer)

    answers = [0] * 3
    threads = [threading.Thread(target=look, args=(number,)) for number in range(len(answers))]
    for thread in threads:
        thread.start()
    with Control(folder / "c.sock") as control:
        deadline, rounds = time.monotonic() + PATIENCE, 0
        while rounds < 30 or min(answers) < 20 and time.monotonic() < deadline:
            control.call("device_add", kind="blk", name="d", args=f"socket={folder}/d.sock,driver=null")
            control.call("device_remove", name="d")
            rounds += 1
    over.set()
    for thread in threads:
        thread.join()
    assert not trouble and min(answers) >= 20, (trouble, answers)


def test_questions_up_to_the_end_of_the_process(vhubd, blk, prefix):
    """It ends in order, and leaves nothing behind."""
    daemon = vhubd(blk("a"), eal=eal(prefix))
    client = Telemetry(prefix)

    def look():
        try:
            while client.ask("/vhub/lcores"):
                pass
        except OSError:
            pass

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(0.3)
    daemon.stop(sig=signal.SIGTERM)
    thread.join()
    assert not run_dir(prefix).exists()


@pytest.mark.parametrize("options, there", [([], False), (["--telemetry"], True), (["--telemetry=off"], False)])
def test_without_eal_arguments_it_is_asked_for(folder, blk, options, there):
    """vhubd's own EAL arguments; the prefix is DPDK's own, which another program may use as well."""
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen([build_dir() / "app/vhubd", "--blk", blk("a"), *options], stderr=out)
    try:
        deadline = time.monotonic() + PATIENCE
        while "ready" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        listening = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()
                     if "dpdk_telemetry" in line}
        inodes = {os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
        ours = [line for line in Path("/proc/net/unix").read_text().splitlines()
                if f"socket:[{line.split()[6]}]" in inodes and "dpdk_telemetry" in line]
        assert bool(ours) == there, listening
        assert "TELEMETRY" not in log.read_text()
    finally:
        process.terminate()
        assert process.wait(60) == 0
    for line in ours:
        assert not Path(line.split()[-1]).exists()
