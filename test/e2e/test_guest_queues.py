# SPDX-License-Identifier: BSD-3-Clause
"""A guest's file system under load, every byte verified, while the disk's queues are handed from lcore
to lcore, while vhubd is killed again and again, and while the guest migrates from one vhubd to another.

Environment; one that is set has its test run with both formats of rings
  VHUB_QUEUE_MOVES   seconds of moves (6)
  VHUB_GUEST_KILLS   how often vhubd is killed under a guest (2)
  VHUB_MIGRATIONS    how often the guest migrates (not at all)

Known fault: under TCG a busy guest does not live through every migration. In some its memory was wrong
afterwards, which QEMU's own virtio-blk has not shown; in some it hung, which that one has shown too. The
cause is not known, and an unlogged write of ours not excluded. Until it is, that test is there only when
it is asked for.
"""

import json
import os
import socket
import time

import pytest

from control import Control
from run_guest import Disk, Guest, complaints
from vhubd import worker_arguments

KIB = 1024
QUEUES = 4
BOOT = 200      # seconds, on a machine that does much else


def formats(option, usual):
    """The ring format that the suite takes; both when the option asks for more."""
    kinds = {"split": False, "packed": True}
    names = list(kinds) if option in os.environ else [usual]
    return pytest.mark.parametrize("packed", [kinds[name] for name in names], ids=names)


def image(folder, mib=64):
    path = folder / "disk.img"
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    return path


def churned(results, cpus):
    """The load ran on every CPU to its end, and nobody has complained."""
    assert not complaints(results), complaints(results)
    rounds = [int(results[f"churn.cpu{cpu}"]) for cpu in range(cpus)]
    print(f"rounds: {rounds}")
    assert min(rounds) > 0


@pytest.mark.plain_only
@pytest.mark.seconds(900)
@formats("VHUB_QUEUE_MOVES", "packed")
def test_queues_are_handed_over_under_a_guest(vhubd, blk, folder, packed):
    """Four queues on two workers, moved all the while: both complete requests, and the guest's data are
    right."""
    control_path = folder / "control.sock"
    daemon = vhubd(blk("disk0", driver="uring", path=image(folder), queues=QUEUES, lcores=2),
                   eal=worker_arguments(2), args=["--control", str(control_path)])
    moves, seconds = 0, int(os.environ.get("VHUB_QUEUE_MOVES", 6))
    with Guest([Disk(daemon.sockets[0], queues=QUEUES, packed=packed)], f"mkfs,churn:{seconds + 2}",
               timeout=2 * BOOT + seconds,
               options={"kib": KIB}) as guest, Control(control_path) as control:
        guest.expect("churn", "begin", BOOT)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert control.call("queue_move", device="disk0", queue=moves % QUEUES,
                                lcore=1 + (moves + moves // QUEUES) % 2) is True
            moves += 1
            time.sleep(0.02)
        figures = control.call("device_stats", name="disk0")[0]
        results = guest.wait()
    churned(results, QUEUES)
    done = {each["lcore"]: each["completions"] for each in figures["lcores"]}
    print(f"{moves} moves, completions of the lcores: {done}")
    assert moves >= 20 and len(done) == 2
    assert min(done.values()) > 0
    assert all(queue["write_requests"] > 0 for queue in figures["queues"])


@pytest.mark.plain_only
@pytest.mark.seconds(900)
@formats("VHUB_GUEST_KILLS", "split")
def test_vhubd_is_killed_under_a_guest_that_writes(vhubd, blk, folder, packed):
    kills = int(os.environ.get("VHUB_GUEST_KILLS", 2))
    daemon = vhubd(blk("disk0", driver="uring", path=image(folder), queues=QUEUES, lcores=2),
                   eal=worker_arguments(2))
    seconds = 4 + 4 * kills
    with Guest([Disk(daemon.sockets[0], queues=QUEUES, packed=packed)], f"mkfs,churn:{seconds}",
               timeout=2 * BOOT + 8 * kills, options={"kib": KIB}) as guest:
        guest.expect("churn", "begin", BOOT)
        for number in range(kills):
            time.sleep(1 + 0.37 * (number % 5))
            daemon.kill()
            seen = len(daemon.log)
            daemon.start()
            daemon.wait_log("front end connected", timeout=20, since=seen)
        results = guest.wait()
    churned(results, QUEUES)


# --- migration

class Monitor:
    """QEMU's monitor (QMP)."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.sock.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.sock.settimeout(30)
        self.file = self.sock.makefile("rw")
        assert "QMP" in json.loads(self.file.readline())
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]

    def migrate(self, path, timeout=60):
        """To the QEMU that listens there; its figures."""
        self.call("migrate", uri=f"unix:{path}")
        deadline = time.monotonic() + timeout
        while True:
            state = self.call("query-migrate")
            if state.get("status") in ("completed", "failed", "cancelled"):
                assert state["status"] == "completed", state
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.05)

    def close(self):
        self.file.close()
        self.sock.close()


@formats("VHUB_MIGRATIONS", "packed")
def migrate_under_load(vhubd, blk, folder, packed):
    """Between two vhubd that share an image, there and back again: the image's lock goes along."""
    times = int(os.environ.get("VHUB_MIGRATIONS", 2))
    path = image(folder)
    daemons = [vhubd(blk(f"disk{i}", driver="uring", path=path, queues=2, serial="disk")) for i in (0, 1)]
    steps = f"mkfs,churn:{4 + 5 * times}"

    def guest(number, *qemu):
        disk = Disk(daemons[number % 2].sockets[0], queues=2, packed=packed)
        return Guest([disk], steps, timeout=2 * BOOT + 12 * times, options={"kib": KIB},
                     qemu=["-qmp", f"unix:{folder}/qmp{number},server=on,wait=off", *qemu])

    here = guest(0).start()
    try:
        here.expect("churn", "begin", BOOT)
        for number in range(1, times + 1):
            there = guest(number, "-incoming", f"unix:{folder}/migrate{number}").start()
            try:
                source, target = Monitor(folder / f"qmp{number - 1}"), Monitor(folder / f"qmp{number}")
                time.sleep(0.5)
                here.alive()
                figures = source.migrate(folder / f"migrate{number}")
                there.alive()
                print(f"migration {number}: {figures['downtime']} ms down, "
                      f"{figures['ram']['transferred'] >> 10} KiB")
                source.close()
                target.close()
            finally:
                here.kill()
                here = there
            daemons[number % 2].wait_log("front end connected")
        results = here.wait()
    finally:
        here.kill()
    assert "error" not in results
    churned(results, 2)


if "VHUB_MIGRATIONS" in os.environ:
    test_a_guest_migrates_under_load = pytest.mark.plain_only(pytest.mark.seconds(900)(migrate_under_load))
