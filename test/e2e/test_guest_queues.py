# SPDX-License-Identifier: BSD-3-Clause
"""A guest's file system under load, every byte verified, while the disk's queues are handed from lcore
to lcore, and while vhubd is killed again and again. test_guest_migrates.py has the guest itself move.

Environment; one that is set has its test run with both formats of rings
  VHUB_QUEUE_MOVES   seconds of moves (6)
  VHUB_GUEST_KILLS   how often vhubd is killed under a guest (2)
"""

import os
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
            assert control.call("queue_move", name="disk0", queue=moves % QUEUES,
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
            daemon.wait_log("front end connected", timeout=60, since=seen)
        results = guest.wait()
    churned(results, QUEUES)
