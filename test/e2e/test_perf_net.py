# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf net: every mode and kind of ring, with ports of vhubd; a driver that errs on purpose
(test/tools/faulty_net/faulty_net.c) shows that nothing which is lost, doubled, late or damaged goes unnoticed."""

import json
import os
import signal
import time
from contextlib import contextmanager

import pytest

from perf import Perf, cheapest, wait_for_work
from perf_net import EVERYWHERE, RINGS, came_back, exchanged, good, perf
from vhubd import Vhubd, build_dir

FAULTS = {                      # what the driver does: (what is counted, options)
    "drop": ("lost", []),
    "duplicate": ("duplicate", []),
    "reorder": ("reordered", []),
    "corrupt": ("corrupt", ["--touch", "--size", "200"]),
    "truncate": ("corrupt", ["--size", "200"]),
    "length": ("corrupt", []),
    "misdirect": ("misdirected", []),
}
EVERY = 100
SOURCE_RATE = 20000             # packets a second and queue pair
SOURCE_BURST = 64               # VHUB_NET_BURST
LATENCIES = {"p50", "p90", "p99", "p99.9", "max", "mean", "count"}
KEYS = {"schema", "version", "command", "ok", "start", "seconds", "items", "mpps", "bytes_per_s", "lat_ns",
        "cycles_per_item", "busy", "pauses", "tsc_hz", "errors", "counts", "lcores", "queues", "parameters"}
PARAMETERS = {"sockets", "runtime_s", "ramp_s", "rate", "queues", "ring", "ring_size", "in_order", "event_idx",
              "indirect", "poll", "features", "protocol_features", "hugepages",
              "peers", "mode", "size", "mergeable", "offloads", "rx_buffer", "burst", "window", "touch", "idle"}


@pytest.fixture(scope="module")
def ports(place):
    """One vhubd for all tests: a port of each kind; the path of one's socket by its name."""
    specs = {"echo": "driver=echo,queues=2", "echo2": "driver=echo", "sink": "driver=null,queues=2",
             "source": f"driver=null,rate={SOURCE_RATE},queues=2",
             "here": "driver=patch,patch=wire,queues=2", "there": "driver=patch,patch=wire,queues=2",
             "left": "driver=bridge,bridge=b", "right": "driver=bridge,bridge=b"}
    specs.update({fault: f"driver=faulty,fault={fault},every={EVERY}" for fault in FAULTS})
    daemon = Vhubd(nets=[f"{name},socket={place}/{name}.sock,{keys}" for name, keys in specs.items()],
                   folder=place, memory_mb=256, loads=[build_dir() / "test/tools/faulty_net.so"])
    daemon.start()
    yield lambda name: place / f"{name}.sock"
    daemon.stop()


# --- every mode, every ring

@pytest.mark.parametrize("ring", [ring if ring in EVERYWHERE else pytest.param(ring, marks=pytest.mark.plain_only)
                                  for ring in RINGS])
def test_packets_come_back_from_vhubd(ports, ring):
    came_back(perf("--socket", ports("echo"), *RINGS[ring]))


@pytest.mark.plain_only
@pytest.mark.parametrize("ring", [[], ["--packed"]], ids=["split", "packed"])
def test_packets_come_back_from_the_cheapest_back_end(folder, ring):
    """The one that tells what vhub-perf itself can reach."""
    path = folder / "cheapest.sock"
    with cheapest("net", path) as served:
        report = came_back(perf("--socket", path, "--poll", "--mergeable", "off", "--size", "imix", *ring))
    assert served[0] >= report["items"]


@pytest.mark.plain_only
@pytest.mark.parametrize("ring", ["small-buffers", "queues", "packed"])
def test_a_pair_exchanges_packets_through_vhubd(ports, ring):
    """Two ports that are wired to each other."""
    exchanged([ports("here"), ports("there")], ring)


@pytest.mark.plain_only
@pytest.mark.parametrize("ring", ["small-buffers", "packed"])
def test_a_pair_exchanges_packets_through_a_switch(ports, ring):
    """Which learns from them where both are."""
    exchanged([ports("left"), ports("right")], ring)


@pytest.mark.parametrize("ring", ["queues", "packed"])
def test_a_sink_takes_packets(ports, ring):
    report = good(perf("--mode", "tx", "--socket", ports("sink"), *RINGS[ring]))
    assert report["lat_ns"] is None and report["counts"]["sent"] > 0 == report["counts"]["received"]


@pytest.mark.parametrize("ring", ["one-buffer", "queues", "packed"])
def test_a_source_sends_packets(ports, ring):
    begin = time.monotonic()
    report = good(perf("--mode", "rx", "--socket", ports("source"), *RINGS[ring]))
    seconds = time.monotonic() - begin
    assert report["lat_ns"] is None and report["counts"]["received"] == report["items"]
    assert report["counts"]["sent"] == 0
    # What had no room when the machine stood still is a gap: no more than the source has made, in the
    # measured time or before it.
    made = report["parameters"]["queues"] * (SOURCE_RATE * seconds + SOURCE_BURST)
    assert report["items"] + report["counts"]["gaps"] <= made


# --- rates, devices, reports

def test_a_rate_is_kept_and_latency_counts_from_when_a_packet_was_due(ports):
    report = came_back(perf("--socket", ports("echo"), "--rate", "2k"))
    # A machine that stands still may not have caught up with the schedule; nobody is ahead of it.
    assert 0 < report["counts"]["sent"] <= 2000 * report["seconds"] + 2
    assert report["parameters"]["rate"] == 2000


def test_a_stall_of_the_back_end_is_felt_by_all_that_was_due_in_it(ports, place):
    """A window of one packet at a rate that it cannot keep: who waits, waits since it was due."""
    report = came_back(perf("--socket", ports("echo"), "--rate", "100M", "--window", "1",
                                 runtime="0.2"))
    # What is sent last was due all but the whole time ago; by itself each takes microseconds. (If the machine
    # stands still, most may have been sent before that.)
    assert report["lat_ns"]["max"] > 0.02e9
    assert report["lat_ns"]["p50"] > 0.001e9


def test_devices_share_an_lcore_and_idle_ones_get_nothing(ports):
    report = came_back(perf("--socket", ports("echo"), "--socket", ports("echo2"),
                                 "--socket", ports("sink"), "--idle", "1"))
    assert [each["device"] for each in report["queues"]] == [0, 1]
    assert sum(each["items"] for each in report["queues"]) == report["items"]
    assert len(report["parameters"]["sockets"]) == 3 and report["parameters"]["idle"] == 1


def test_lcores_without_a_queue_are_left_out(ports):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    done = perf("--socket", ports("echo"), "--cpus", ",".join(str(cpu) for cpu in cpus))
    assert [lcore["cpu"] for lcore in done.report["lcores"]] == cpus[:1], done
    assert done.report["counts"]["received"] > 0, done


def test_the_report_has_every_key_of_the_guide(ports):
    report = came_back(perf("--socket", ports("echo"), "--queues", "2", "--in-order"))
    assert set(report) == KEYS and report["schema"] == 1 and report["command"] == "net"
    assert set(report["lat_ns"]) == LATENCIES
    assert set(report["errors"]) == {"lost", "duplicate", "reordered", "corrupt", "misdirected"}
    assert set(report["counts"]) == {"sent", "received", "gaps", "kicks", "untaken"}
    assert set(report["parameters"]) == PARAMETERS
    for queue in report["queues"]:
        assert set(queue) == {"device", "queue", "items", "mpps", "bytes_per_s", "lat_ns", "errors", "counts"}
    for lcore in report["lcores"]:
        assert set(lcore) == {"cpu", "busy", "items", "cycles_per_item", "pauses"}
    pauses = report["pauses"]
    assert pauses == report["lcores"][0]["pauses"] and set(pauses) == {"count", "total_ns", "longest_ns"}
    assert (pauses["count"] > 0) == (pauses["longest_ns"] >= 20000)
    assert pauses["longest_ns"] <= pauses["total_ns"] <= report["seconds"] * 1e9
    parameters = report["parameters"]
    assert parameters["ring"] == "split" and parameters["in_order"] and parameters["mergeable"]
    assert int(parameters["features"], 16) >> 35 & 1 == 1
    assert (parameters["window"], parameters["ring_size"], parameters["size"]) == (128, 256, "64")


def test_phases_are_told_to_who_waits_for_them(ports):
    """So that nobody needs to look now and then, which takes a CPU from what is measured."""
    reading, writing = os.pipe()
    front = Perf("net", "--socket", ports("echo"), "--phases", writing, pass_fds=[writing])
    os.close(writing)
    with open(reading, encoding="ascii") as phases:
        told = phases.read().split()
    good(front.finish())
    assert told == ["ramp", "measure", "drain"]


def test_nobody_has_to_wait_for_phases(ports):
    reading, writing = os.pipe()
    os.close(reading)
    front = Perf("net", "--socket", ports("echo"), "--phases", writing, pass_fds=[writing])
    os.close(writing)
    good(front.finish())


@contextmanager
def stopped(process):
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def perf_phases(path, *options, **keywords):
    """A front end, and the lines that it writes as its phases begin."""
    reading, writing = os.pipe()
    front = Perf("net", "--socket", path, "--phases", writing, *options, pass_fds=[writing], **keywords)
    os.close(writing)
    with open(reading, encoding="ascii") as phases:
        yield front, (line.strip() for line in phases)


def wait_for(phases, wanted):
    assert wanted in phases


@pytest.mark.plain_only
def test_time_in_which_it_stood_still_is_not_measured(ports):
    """A second within a sleep of the main thread."""
    with perf_phases(ports("echo"), runtime="0.5") as (front, phases):
        wait_for(phases, "measure")
        with stopped(front.process):
            time.sleep(1)
        report = good(front.finish())
    assert report["seconds"] >= 0.5 + report["pauses"]["longest_ns"] / 1e9 - 0.1


@pytest.mark.plain_only
def test_nothing_is_lost_while_both_sides_stand_still(vhubd, net, folder):
    """At the end of a run the front end wakes before the back end, which still has a window of packets."""
    daemon = vhubd(nets=[net("p")])
    with perf_phases(folder / "p.sock", runtime="0.1") as (front, phases):
        wait_for(phases, "measure")
        time.sleep(0.05)
        with stopped(daemon.process):
            wait_for(phases, "drain")
            with stopped(front.process):
                time.sleep(2.1)
            time.sleep(0.05)
        report = good(front.finish())
    assert report["counts"]["untaken"] == 0


def test_packets_that_the_back_end_never_took_are_told_from_dropped_ones(vhubd, net, folder):
    daemon = vhubd(nets=[net("p")])
    with perf_phases(folder / "p.sock", runtime="60") as (front, phases):
        wait_for(phases, "measure")
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        daemon.kill()
        done = front.finish()
    assert done.status == 1 and done.report["counts"]["untaken"] > 0, done


def test_people_get_a_table_and_programs_a_file(ports, place):
    path = place / "report.json"
    done = perf("--socket", ports("echo"), "--json", path)
    assert done.status == 0 and done.report is None, done
    for word in ("net echo, size 64", "Mpps", "p99.9", "cycles a packet", "errors       none"):
        assert word in done.out
    assert json.loads(path.read_text())["ok"]


# --- what goes wrong

@pytest.mark.parametrize("packed", [[], pytest.param(["--packed"], marks=pytest.mark.plain_only)],
                         ids=["split", "packed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed_every_time(ports, fault, packed):
    counted, options = FAULTS[fault]
    done = perf("--socket", ports(fault), *options, *packed)
    assert done.status == 1 and not done.report["ok"], done
    errors, sent = dict(done.report["errors"]), done.report["counts"]["sent"]
    found = errors.pop(counted)
    if fault == "misdirect":
        # A frame of another flow does not tell whether it was sent before the measured time.
        assert found >= errors["lost"], done
        found = errors.pop("lost")
    if fault == "reorder":
        # The last of a burst has nobody to change places with.
        assert 0 < found <= sent / EVERY + 1, done
    else:
        assert abs(found - sent / EVERY) <= 1, done
    assert not any(errors.values()), done


def test_what_finds_no_room_on_the_way_back_is_lost(ports):
    """Two queues' worth of packets for one ring: without a window the front end sends whenever it can."""
    done = perf("--socket", ports("echo"), "--window", "none", "--ring-size", "1024", "--burst", "1",
                     "--rx-buffer", "128", "--size", "1518")
    errors, counts = done.report["errors"], done.report["counts"]
    assert counts["sent"] == counts["received"] + errors["lost"]
    assert done.status == (1 if errors["lost"] else 0)


@pytest.mark.plain_only
def test_a_sink_where_an_echo_was_expected_ends_with_a_reason(ports):
    done = perf("--socket", ports("sink"), "--patience", "300")
    assert done.status == 1 and "no packet in the measured time" in done.report["error"], done
    assert done.report["lat_ns"] is None and done.report["errors"]["lost"] == done.report["counts"]["sent"] > 0


def test_a_back_end_that_dies_is_told(place):
    victim = Vhubd(nets=[f"v,socket={place}/v.sock,driver=echo"], folder=place, name="victim").start()
    front = Perf("net", "--socket", place / "v.sock", runtime="40")
    try:
        wait_for_work(victim)
    finally:
        victim.kill()
        done = front.finish()
    assert done.status == 1 and "has hung up" in done.error, done


@pytest.mark.parametrize("options, said", [
    (["--size", "63"], "--size 63: allowed are 64 to 1518 bytes"),
    (["--size", "100-64"], "--size 100-64: allowed are 64 to 1518 bytes"),
    (["--mode", "ping"], "--mode ping: allowed are echo, tx, rx, pair"),
    (["--window", "0"], "--window 0: allowed are 1 to 32768, and none"),
    (["--mode", "pair"], "--peer: 0 given, --mode pair takes 1"),
    (["--peer", "/x"], "--peer: 1 given, --mode echo takes 0"),
    (["--idle", "1"], "--idle 1: of 1 sockets one at least gets packets"),
    (["--mergeable", "off", "--rx-buffer", "256", "--size", "imix"], "--rx-buffer 256: a frame of 1518 bytes"),
    (["--rx-buffer", "130"], "--rx-buffer 130: allowed are multiples of 4"),
    (["--ring-size", "8", "--rx-buffer", "128", "--size", "1518"], "--ring-size 8: a frame takes 12 buffers"),
    (["--phases", "1000"], "--phases 1000: no such descriptor is open"),
    (["--mode", "rx", "--rate", "5"], "--rate: with --mode rx the back end sets the rate"),
])
def test_wrong_options_are_told(options, said):
    done = perf("--socket", "/nowhere.sock", *options)
    assert done.status == 2 and said in done.said, done


def test_more_queues_than_the_back_end_has_are_refused(ports):
    done = perf("--socket", ports("echo2"), "--queues", "2")
    assert done.status == 2 and "--queues 2: the back end has 1" in done.said, done
