# SPDX-License-Identifier: BSD-3-Clause
"""Ports whose driver is echo, with DPDK's virtio-user as front end: every packet comes back once, in
order and whole, on each kind of ring; dpdk-testpmd gets along with them too; both sides may be
killed and come back."""

import time

import pytest

from conftest import stand_in
from testpmd import EchoTestpmd, ProgramError, Testpmd, front_end

#: virtio-user takes a path of its own for each of these.
RINGS = ["split", "split-one-buffer", "split-any-order", "packed", "packed-vectorised"]
PACKETS = 20000


def both_ways(net, folder, server, **keys):
    """A port and the path at which front ends find it: it listens, or connects to a front end that
    does."""
    path = folder / ("front.sock" if server else "port0.sock")
    return net(**{"connect" if server else "socket": path}, **keys), path


def run(echo, check, net, folder, kind, *, queues=1, sizes="mix", server=False, datapath="auto",
        **keywords):
    port, path = both_ways(net, folder, server, queues=queues, datapath=datapath)
    echo(port)
    return check(path, kind, queues=queues, sizes=sizes, server=server, packets=PACKETS,
                 **keywords).finish()


# --- every packet comes back

@pytest.mark.parametrize("server", [False, True], ids=["connects", "listens"])
@pytest.mark.parametrize("kind", RINGS)
def test_every_packet_comes_back_whole_and_in_order(echo, check, net, folder, kind, server):
    queues, sizes = (2, "64,1518") if server else (1, "mix")
    result = run(echo, check, net, folder, kind, queues=queues, sizes=sizes, server=server)
    assert [flow["received"] for flow in result["flows"]] == [PACKETS] * queues


@pytest.mark.plain_only
@pytest.mark.parametrize("kind", RINGS)
def test_the_same_by_way_of_librte_vhost(echo, check, net, folder, kind):
    result = run(echo, check, net, folder, kind, queues=2, datapath="librte_vhost")
    assert [flow["received"] for flow in result["flows"]] == [PACKETS] * 2


@pytest.mark.plain_only
@pytest.mark.parametrize("kind, queues, sizes, queue_size", [
    ("split", 1, "64", 1024), ("split", 2, "1518", 256), ("split-one-buffer", 2, "mix", 1024),
    ("split-any-order", 2, "64", 256), ("split-vectorised", 2, "mix", 256),
    ("packed", 1, "1518", 1024), ("packed-in-order", 2, "mix", 256),
    ("packed-vectorised", 1, "64", 256), ("packed-vectorised", 2, "1518", 1024)])
def test_other_sizes_and_queues(echo, check, net, folder, kind, queues, sizes, queue_size):
    run(echo, check, net, folder, kind, queues=queues, sizes=sizes, queue_size=queue_size)


def test_a_front_end_with_fewer_queues_than_the_port(echo, check, net, folder):
    echo(net(queues=4))
    check(folder / "port0.sock", queues=2, packets=PACKETS).finish()
    check(folder / "port0.sock", queues=1, packets=PACKETS).finish()


def test_ports_beside_each_other_keep_their_packets(echo, check, net, folder):
    echo(net("one", queues=2), net("two", queues=2))
    first = check(folder / "one.sock", "split", queues=2, seconds=2)
    second = check(folder / "two.sock", "packed", queues=2, seconds=2)
    first.finish()
    second.finish()


# --- offloads

@pytest.mark.skipif(stand_in(), reason="the stand-in carries no offloads")
@pytest.mark.parametrize("guest", [[], ["--guest-offload"]], ids=["plain", "guest"])
@pytest.mark.parametrize("offload", [["--csum"], ["--tso", "16000"], ["--tso", "60000"]],
                         ids=["checksum", "TSO of 16000", "TSO of 60000"])
@pytest.mark.parametrize("kind", ["split", "packed"])
def test_offloads_come_back_as_negotiated(echo, check, net, folder, kind, offload, guest):
    echo(net())
    result = check(folder / "port0.sock", kind, packets=2000, options=offload + guest).finish()
    if guest or offload == ["--csum"]:
        assert (result["whole"], result["segmented"]) == (2000, 0)
    else:
        assert result["whole"] == 0 and result["segmented"] >= 2000 * 11


# --- testpmd as the front end

@pytest.mark.parametrize("kind", RINGS)
def test_testpmd_gets_back_what_it_sends(echo, net, folder, kind):
    echo(net())
    with Testpmd(front_end(folder / "port0.sock", kind), folder=folder, name="front",
                 args=["--forward-mode=io"]) as front:
        bursts = start_circling(front)
        deadline = time.monotonic() + 20
        while front.port_stats()[0]["RX-packets"] < PACKETS and time.monotonic() < deadline:
            time.sleep(0.1)
        front.cmd("stop")
        port, forward = front.port_stats()[0], front.fwd_stats()[0]
        front.stop()
    assert port["RX-packets"] >= PACKETS
    assert 0 <= port["TX-packets"] - port["RX-packets"] <= 32 * bursts
    assert port["RX-errors"] == port["TX-errors"] == port["RX-nombuf"] == 0
    assert forward["RX-dropped"] == forward["TX-dropped"] == 0


def start_circling(front):
    """One burst of 32 packets goes round and round. A back end may discard what comes before it has
    both rings, so it may take more than one; the number of bursts."""
    for bursts in range(1, 20):
        front.cmd("start tx_first")
        time.sleep(0.1)
        before = front.port_stats()[0]["RX-packets"]
        time.sleep(0.1)
        if front.port_stats()[0]["RX-packets"] > before:
            return bursts
        front.cmd("stop")
    raise AssertionError("nothing comes back\n" + front.log[-4000:])


# --- coming back

@pytest.mark.parametrize("server", [False, True], ids=["connects", "listens"])
def test_a_killed_front_end_is_followed_by_another(echo, check, net, folder, server):
    port, path = both_ways(net, folder, server, queues=2)
    daemon = echo(port)
    for kind in ("split", "packed", "split-any-order", "packed-vectorised"):
        victim = check(path, kind, queues=2, server=server)
        victim.wait_received(1000)
        victim.kill()
    check(path, "packed", queues=2, server=server, packets=PACKETS).finish()
    assert daemon.running()


@pytest.mark.parametrize("datapath, kind", [
    ("auto", "split"), ("auto", "split-one-buffer"), ("auto", "packed"), ("auto", "packed-vectorised"),
    *(pytest.param("librte_vhost", kind, marks=pytest.mark.plain_only) for kind in ("split", "packed"))])
def test_a_front_end_that_listens_outlives_the_back_end(echo, check, net, folder, datapath, kind):
    port, path = both_ways(net, folder, True, queues=2, datapath=datapath)
    daemon = echo(port)
    front = check(path, kind, queues=2, server=True, reconnect=True)
    front.wait_received(1000)
    for end in (daemon.kill, daemon.stop, daemon.kill):
        end()
        time.sleep(0.2)
        daemon.start()
        front.wait_received(front.samples[-1][1] + 1000)
    result = front.stop()
    assert result["reconnects"] == 3
    # No more than was under way at each of them.
    assert result["lost_at_reconnect"] <= 3 * 2 * 32


@pytest.mark.plain_only                 # virtio-user races with itself there; a sanitizer makes it abort
def test_a_front_end_that_connected_is_started_anew_with_the_back_end(echo, check, net, folder):
    daemon = echo(net(queues=2))
    front = check(folder / "port0.sock", queues=2)
    front.wait_received(1000)
    daemon.kill()
    status, result = front.end()
    assert status == 1 and "went down" in result["error"]
    daemon.start()
    check(folder / "port0.sock", queues=2, packets=PACKETS).finish()


# --- what the tests themselves rely on

@pytest.mark.plain_only
@pytest.mark.parametrize("forward, wrong", [("io", "corrupt"), ("rxonly", None), ("txonly", "corrupt")])
def test_the_checker_notices(check, net, folder, forward, wrong):
    with EchoTestpmd(net(), folder=folder, forward=forward):
        status, result = check(folder / "port0.sock", seconds=0.5,
                               options=["--timeout", "1"]).end()
    assert status == 1
    assert "queue 0 of port 0 got nothing back" in result["error"]
    assert wrong is None or result[wrong] > 0


@pytest.mark.plain_only
def test_the_checker_names_the_queue_that_is_silent(check, net, folder):
    with EchoTestpmd(net(queues=2), folder=folder) as peer:
        peer.cmd("stop")
        peer.cmd("port 0 rxq 1 stop")
        front = check(folder / "port0.sock", queues=2, options=["--timeout", "1"])
        with pytest.raises(ProgramError, match="got nothing back"):
            front.finish()
