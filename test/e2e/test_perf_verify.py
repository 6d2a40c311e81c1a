# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf blk --verify: it finds what a disk does wrong, and nothing where all is right, also when the
back end is killed and comes again."""

import os
import random
import time

import pytest
from perf import Perf, vhub_perf, wait_for_work
from vhubd import build_dir

#: Of each kind of ring; VHUB_KILLS=25 makes 100 of those with --inflight and one or four queues.
KILLS = int(os.environ.get("VHUB_KILLS", 2))
SMALL = ["--verify", "--rw", "randrw", "--size", "512k", "--iodepth", "8"]


@pytest.fixture
def faulty(vhubd, blk, folder):
    """The socket of a disk on which every 20th write goes wrong in that way."""

    def make(fault):
        module = build_dir() / "test/tools/faulty.so"
        assert module.is_file(), f"{module} is not there: build first"
        # What is loaded has to come before what needs it.
        vhubd(args=["--load", str(module), "--blk", blk(driver="faulty", size="1M", fault=fault, every=20)])
        return folder / "disk0.sock"

    return make


@pytest.mark.parametrize("fault, said", [
    ("drop", "expected its generation"),
    pytest.param("swap", "of sector", marks=pytest.mark.plain_only),
    pytest.param("tear", "got its generation", marks=pytest.mark.plain_only),
    ("delay", "got its generation"),
])
def test_planted_errors_are_found(faulty, fault, said):
    """With rings and loads of several kinds; each run on its own has to find something."""
    socket = faulty(fault)
    for args in ([], ["--packed", "--rw", "rw"], ["--bs", "16k", "--rwmixread", "80"]):
        run = vhub_perf("blk", "--socket", socket, *SMALL, *args, runtime="0.5")
        assert run.status == 1 and not run.report["ok"], run
        assert run.report["errors"]["mismatch"] > 0, run
        assert said in run.said, run
        assert run.report["errors"]["io_error"] == 0, run


def test_nothing_is_found_where_all_is_right(faulty):
    socket = faulty("none")
    for args in ([], ["--packed", "--in-order"], ["--rw", "write", "--bs", "512"]):
        run = vhub_perf("blk", "--socket", socket, *SMALL, *args, runtime="0.5")
        assert run.status == 0 and run.report["counts"]["checked"] > 0, run


def test_a_failed_write_may_be_there_or_not(faulty):
    """Half of it is stored, and an error is told: that is an error, and no mismatch."""
    run = vhub_perf("blk", "--socket", faulty("fail"), *SMALL, runtime="0.5")
    assert run.status == 1 and run.report["errors"]["io_error"] > 0, run
    assert run.report["errors"]["mismatch"] == 0, run


@pytest.fixture
def ends(vhubd, blk, folder):
    """Two vhubd with one disk: the first one's storage is slower than any patience, or it is not."""

    def make(delay_us):
        image = folder / "image"
        image.write_bytes(bytes(8 << 20))
        vhubd(args=["--load", str(build_dir() / "test/tools/unruly.so"), "--blk",
                    blk("slow", driver="unruly", over="uring", path=image, queues=4, delay_us=delay_us, shuffle="on")])
        vhubd(blk("fast", driver="uring", path=image, queues=4))
        return folder / "slow.sock", folder / "fast.sock"

    return make


SUSPEND = ["--verify", "--inflight", "--rw", "randrw", "--size", "4M", "--suspend", "0.05"]


@pytest.mark.parametrize("args", [[], ["--packed", "--numjobs", "4", "--in-order"]], ids=" ".join)
def test_rings_that_are_suspended_under_verified_load(ends, args):
    """What is in flight stays there, comes back once when the rings go on, and is right."""
    run = vhub_perf("blk", "--socket", ends(20000)[0], *SUSPEND, *args, runtime="1")
    counts = run.report["counts"]
    assert run.status == 0 and counts["checked"] > 0, run
    assert counts["suspensions"] > 3 and counts["left_in_flight"] > 0, run


@pytest.mark.parametrize("args", [[], ["--packed", "--indirect"], ["--numjobs", "4", "--event-idx"],
                                  ["--packed", "--numjobs", "4", "--in-order"]], ids=" ".join)
def test_requests_in_flight_that_move_to_another_back_end(ends, args):
    """The first one would not be done with any of them for a minute, and is waited for 5 s at most."""
    slow, fast = ends(60000000)
    run = vhub_perf("blk", "--socket", slow, "--hand-over", fast, *SUSPEND, *args, runtime="1")
    counts = run.report["counts"]
    assert run.status == 0 and counts["checked"] > 0, run
    # Every second time, all that is in flight; towards the end that is less than the depth.
    depth = 32 * (4 if "--numjobs" in args else 1)
    assert counts["left_in_flight"] >= depth * (counts["suspensions"] // 4) > 0, run


@pytest.mark.parametrize("args", [
    [],
    pytest.param(["--inflight"], marks=pytest.mark.plain_only),
    pytest.param(["--packed"], marks=pytest.mark.plain_only),
    ["--packed", "--inflight", "--indirect"],
    ["--inflight", "--numjobs", "4", "--event-idx"],
    pytest.param(["--packed", "--inflight", "--numjobs", "4"], marks=pytest.mark.plain_only),
], ids=" ".join)
@pytest.mark.seconds(60 + 12 * KILLS)
def test_a_back_end_that_is_killed(vhubd, blk, folder, args):
    """What was acknowledged before is there after it, and every request comes back once."""
    image = folder / "image"
    image.write_bytes(bytes(8 << 20))
    daemon = vhubd(blk(driver="uring", path=image, queues=4))
    perf = Perf("blk", "--socket", daemon.sockets[0], "--verify", "--rw", "randrw", "--patience", "20000", *args,
                runtime=str(60 + 12 * KILLS))
    for _ in range(KILLS):
        wait_for_work(daemon)
        time.sleep(random.uniform(0, 0.02))         # at any moment of what it does
        daemon.kill()
        daemon.start()
    wait_for_work(daemon)
    perf.interrupt()
    run = perf.finish()
    assert run.status == 0 and run.report["ok"], run
    assert run.report["counts"]["reconnects"] == KILLS and run.report["counts"]["checked"] > 0, run
