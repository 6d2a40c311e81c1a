# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf blk: every kind of ring and of load, with disks of vhubd and of qemu-storage-daemon."""

import os
import socket
import struct
import subprocess

import pytest
from perf import Perf, cheapest, vhub_perf, wait_for_work
from stage import Qsd
from vhostuser import wait_until
from vhubd import Vhubd, build_dir

RINGS = {
    "split": [],
    "indirect": ["--indirect"],
    "event-idx": ["--event-idx"],
    "in-order": ["--in-order", "--indirect"],
    "poll": ["--poll"],
    "queues": ["--numjobs", "4"],
    "deep": ["--iodepth", "128", "--indirect", "--event-idx"],
    "packed": ["--packed"],
    "packed-indirect": ["--packed", "--indirect"],
    "packed-event-idx": ["--packed", "--event-idx", "--ring-size", "100"],
    "packed-in-order": ["--packed", "--in-order"],
    "packed-poll": ["--packed", "--poll", "--numjobs", "4"],
}

LOADS = {
    "read": ["--rw", "read"],
    "write": ["--rw", "write", "--touch"],
    "randread": ["--rw", "randread", "--touch", "--bs", "512"],
    "randwrite": ["--rw", "randwrite", "--bs", "64k", "--size", "8M", "--offset", "1M"],
    "rw": ["--rw", "rw", "--rwmixread", "30"],
    "flush": ["--rw", "flush", "--iodepth", "1"],
    "discard": ["--rw", "discard", "--bs", "64k"],
    "zeroes": ["--rw", "zeroes"],
    "segments": ["--rw", "write", "--bs", "8M", "--iodepth", "1"],
    "rate": ["--rw", "randread", "--rate", "2k"],
}

PARAMETERS = {"sockets", "runtime_s", "ramp_s", "rate", "queues", "ring", "ring_size", "in_order", "event_idx",
              "indirect", "poll", "features", "protocol_features", "hugepages",
              "rw", "rwmixread", "bs", "offset", "size", "capacity", "iodepth", "touch", "verify", "inflight",
              "suspend_s"}


@pytest.fixture(scope="module")
def disks(place):
    """One vhubd with a disk of each driver; their sockets by name."""
    image = place / "image"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    kinds = {"null": "driver=null", "malloc": "driver=malloc,size=64M", "uring": f"driver=uring,path={image}",
             "readonly": "driver=null,ro=on"}
    daemon = Vhubd(*(f"{name},socket={place}/{name}.sock,queues=4,{keys}" for name, keys in kinds.items()),
                   folder=place)
    daemon.start()
    yield {name: place / f"{name}.sock" for name in kinds}
    daemon.stop()


def check_good(run):
    report = run.report
    assert run.status == 0 and report["ok"], run
    assert report["items"] > 0 and report["iops"] > 0, run
    assert not any(report["errors"].values()), run
    assert report["items"] == report["counts"]["reads"] + report["counts"]["others"], run
    latency = report["lat_ns"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"], run
    assert 0 < report["busy"] <= 1 and report["cycles_per_item"] > 0, run
    assert sum(queue["items"] for queue in report["queues"]) == report["items"], run
    return report


@pytest.mark.parametrize("ring", RINGS)
def test_rings(disks, ring):
    report = check_good(vhub_perf("blk", "--socket", disks["malloc"], "--rw", "randrw", *RINGS[ring]))
    assert report["counts"]["reads"] > 0 and report["counts"]["others"] > 0
    assert report["parameters"]["ring"] == ("packed" if "--packed" in RINGS[ring] else "split")
    assert all(queue["items"] > 0 for queue in report["queues"])
    assert len(report["queues"]) == (4 if "--numjobs" in RINGS[ring] else 1)


@pytest.mark.plain_only
@pytest.mark.parametrize("load", LOADS)
def test_loads(disks, load):
    report = check_good(vhub_perf("blk", "--socket", disks["malloc"], *LOADS[load]))
    reads, others = report["counts"]["reads"], report["counts"]["others"]
    assert (reads > 0) == (load in ("read", "randread", "rw", "rate"))
    assert (others > 0) == (load not in ("read", "randread", "rate"))
    if load == "rate":
        # What is due is sent, and nothing else: a stall before may add a burst.
        assert report["items"] <= 2000 * (report["seconds"] + 1)


def test_disks_together(disks):
    """Devices and queues of several drivers in one run, over two lcores on one CPU each where there are."""
    cpus = sorted(os.sched_getaffinity(0))
    report = check_good(vhub_perf("blk", "--socket", disks["null"], "--socket", disks["uring"], "--queues", "2",
                                  "--cpus", ",".join(str(cpu) for cpu in cpus[:2])))
    assert [(queue["device"], queue["queue"]) for queue in report["queues"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(queue["items"] > 0 for queue in report["queues"])
    assert [lcore["cpu"] for lcore in report["lcores"]] == cpus[:2]


def test_the_report_has_every_parameter_of_the_guide(disks):
    report = check_good(vhub_perf("blk", "--socket", disks["malloc"], "--offset", "1M", "--touch"))
    parameters = report["parameters"]
    assert set(parameters) == PARAMETERS
    assert (parameters["offset"], parameters["size"], parameters["capacity"]) == (1 << 20, 63 << 20, 64 << 20)
    assert (parameters["rw"], parameters["bs"], parameters["iodepth"]) == ("randread", 4096, 32)
    assert (parameters["ring_size"], parameters["touch"], parameters["verify"]) == (128, True, False)
    assert set(report["errors"]) == {"io_error", "unsupported", "unknown_status", "status_not_written", "short_read",
                                     "mismatch"}
    assert set(report["counts"]) == {"reads", "others", "checked", "reconnects", "suspensions", "left_in_flight",
                                     "suspend_us"}


def test_table_for_people(disks):
    done = subprocess.run([build_dir() / "app/vhub-perf", "blk", f"--socket={disks['null']}", "--runtime=300ms"],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("randread", "4k, depth 32, split", "IOPS", "p99.9", "errors       none"):
        assert word in done.stdout


@pytest.mark.parametrize("args, said", [
    (["--rw", "randwrite", "--socket", "readonly"], "the disk is read-only"),
    (["--numjobs", "9", "--socket", "null"], "the disk has 4 queues"),
    (["--bs", "1000", "--socket", "null"], "not a multiple of 512"),
    (["--size", "2G", "--socket", "null"], "the disk has 1073741824 bytes"),
    (["--ring-size", "64", "--iodepth", "100", "--socket", "null"], "a larger --ring-size, or --indirect"),
    (["--ring-size", "100", "--socket", "null"], "a power of two"),
    (["--in-order", "--socket", "null"], "add --indirect"),
    (["--rw", "sideways", "--socket", "null"], "allowed are read, write"),
    (["--cpus", "1000", "--socket", "null"], "--cpus takes numbers"),
    (["--patience", "100", "--socket", "nobody"], "is the back end running"),
    (["--patience", "100", "--listen", "--socket", "nobody"], "no back end connected"),
    ([], "--socket PATH is missing"),
])
def test_what_cannot_be_is_told(disks, place, args, said):
    """One line that names the thing and what to do; exit status 2."""
    words = [str(disks.get(arg, place / arg)) if before == "--socket" else arg
             for before, arg in zip(["", *args], args)]
    run = vhub_perf("blk", *words)
    assert run.status == 2 and said in run.said and run.report is None, run


@pytest.mark.parametrize("answer, said", [
    (b"", "no answer to GET_FEATURES within 300 ms"),
    (None, "is the back end running"),
    (struct.pack("=III", 1, 5, 4) + bytes(4), "GET_FEATURES was answered with request 1, flags 0x5, 4 bytes"),
    (struct.pack("=III", 9, 5, 8) + bytes(8), "GET_FEATURES was answered with request 9"),
    (struct.pack("=IIIQ", 1, 5, 8, 1 << 30), "does not offer VERSION_1"),
], ids=["silent", "gone", "short", "other", "old"])
def test_a_stranger_at_the_socket_is_told(folder, answer, said):
    path = folder / "stranger.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        perf = Perf("blk", "--socket", path, "--patience", "300")
        connection, _ = listening.accept()
        with connection:
            assert len(connection.recv(12)) == 12
            if answer:
                connection.sendall(answer)
            elif answer is None:
                connection.close()
                listening.close()
            run = perf.finish()
    assert run.status == 2 and said in run.said, run


def test_failed_requests_are_counted(vhubd, blk, folder):
    """An image that was cut short under the disk: what lies beyond its end fails."""
    image = folder / "image"
    image.write_bytes(bytes(8 << 20))
    daemon = vhubd(blk(driver="uring", path=image))
    os.truncate(image, 1 << 20)
    run = vhub_perf("blk", "--socket", daemon.sockets[0])
    assert run.status == 1 and not run.report["ok"], run
    assert run.report["errors"]["io_error"] > 0 and run.report["items"] > 0, run
    assert run.report["errors"]["status_not_written"] == 0, run


def test_back_end_that_dies_is_told(vhubd, blk):
    daemon = vhubd(blk(driver="null"))
    perf = Perf("blk", "--socket", daemon.sockets[0], runtime="30")
    wait_for_work(daemon)
    daemon.kill()
    run = perf.finish()
    assert run.status == 1 and "hung up" in run.error, run


def test_back_end_that_connects(vhubd, folder):
    """--listen: the back end is the client."""
    path = folder / "perf.sock"
    daemon = vhubd(f"d0,connect={path},driver=null", wait=False)
    check_good(vhub_perf("blk", "--listen", "--socket", path))
    assert daemon.running() and not path.exists()


@pytest.mark.parametrize("command", ["blk", "net"])
def test_waiting_for_a_back_end_can_be_broken_off(folder, command):
    """Ctrl-C: the socket that was bound goes with it."""
    path = folder / "nobody.sock"
    perf = Perf(command, "--listen", "--socket", path, "--patience", "30000")
    wait_until(path.exists, lambda: "it does not listen")
    perf.interrupt()
    run = perf.finish()
    assert run.status == 2 and not path.exists(), run


def test_qemu_storage_daemon(folder):
    """A back end that is not ours: split rings, kicks, several queues."""
    path = folder / "qsd.sock"
    peer = Qsd(folder, {"d0": path})
    peer.start()
    try:
        for args in ([], ["--indirect", "--event-idx", "--rw", "randrw", "--numjobs", "4"], ["--rw", "discard"]):
            check_good(vhub_perf("blk", "--socket", path, *args))
        run = vhub_perf("blk", "--socket", path, "--packed")
        assert run.status == 2 and "does not offer RING_PACKED" in run.said, run
        # It sleeps until it is kicked, so nothing comes back, and that is told.
        run = vhub_perf("blk", "--socket", path, "--poll", "--patience", "2000")
        assert run.status == 1 and "32 requests did not come back" in run.error, run
    finally:
        peer.kill()


@pytest.mark.parametrize("args", [[], ["--packed"]], ids=["split", "packed"])
def test_cheapest_back_end(folder, args):
    """The one that tells what vhub-perf itself can reach."""
    path = folder / "cheapest.sock"
    with cheapest("blk", path) as served:
        report = check_good(vhub_perf("blk", "--socket", path, "--poll", *args))
    assert served[0] >= report["items"]
