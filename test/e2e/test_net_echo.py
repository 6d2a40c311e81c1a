# SPDX-License-Identifier: BSD-3-Clause
"""Ports whose driver is echo, with DPDK's virtio-user as front end: every packet comes back once, in
order and whole; both sides may be killed and come back. test_net_paths.py, the next file on the way,
has all of virtio-user's rings, restarts of its ports and dpdk-testpmd."""

import pytest

from conftest import stand_in
from testpmd import EchoTestpmd
from vhubd import ProgramError

#: Those that differ most.
RINGS = ["split", "split-one-buffer", "split-any-order", "packed", "packed-vectorised"]
PACKETS = 20000


def both_ways(net, folder, server, **keys):
    """A port and the path at which front ends find it: it listens, or connects to a front end that
    does."""
    path = folder / ("front.sock" if server else "port0.sock")
    return net(**{"connect" if server else "socket": path}, **keys), path


# --- every packet comes back

@pytest.mark.parametrize("kind", RINGS)
def test_every_packet_comes_back_whole_and_in_order(echo, check, net, folder, kind):
    echo(net())
    result = check(folder / "port0.sock", kind, packets=PACKETS).finish()
    assert [flow["received"] for flow in result["flows"]] == [PACKETS]


def test_a_front_end_with_fewer_queues_than_the_port(echo, check, net, folder):
    echo(net(queues=4))
    check(folder / "port0.sock", queues=2, packets=PACKETS).finish()
    check(folder / "port0.sock", queues=1, packets=PACKETS).finish()


def test_ports_beside_each_other_keep_their_packets(echo, check, net, folder):
    echo(net("one", queues=2), net("two", queues=2))
    first = check(folder / "one.sock", "split", queues=2, seconds=0.5)
    second = check(folder / "two.sock", "packed", queues=2, seconds=0.5)
    first.finish()
    second.finish()


# --- offloads

@pytest.mark.skipif(stand_in(), reason="the stand-in carries no offloads")
@pytest.mark.parametrize("guest", [[], ["--guest-offload"]], ids=["plain", "guest"])
@pytest.mark.parametrize("offload", [
    pytest.param(["--csum"], id="checksum"),
    pytest.param(["--tso", "16000"], id="TSO of 16000", marks=pytest.mark.plain_only),
    pytest.param(["--tso", "60000"], id="TSO of 60000"),
])
@pytest.mark.parametrize("kind", ["split", "packed"])
def test_offloads_come_back_as_negotiated(echo, check, net, folder, kind, offload, guest):
    echo(net())
    result = check(folder / "port0.sock", kind, packets=2000, options=offload + guest).finish()
    if guest or offload == ["--csum"]:
        assert (result["whole"], result["segmented"]) == (2000, 0)
    else:
        assert result["whole"] == 0 and result["segmented"] >= 2000 * 11


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
def test_the_checker_notices_what_nobody_has_sent(check, net, folder):
    with EchoTestpmd(net(), folder=folder, forward="txonly"):
        status, result = check(folder / "port0.sock", seconds=0.5,
                               options=["--timeout", "1"]).end()
    assert status == 1
    assert "queue 0 of port 0 got nothing back" in result["error"]
    assert result["corrupt"] > 0


@pytest.mark.plain_only
def test_the_checker_names_the_queue_that_is_silent(check, net, folder):
    with EchoTestpmd(net(queues=2), folder=folder) as peer:
        peer.cmd("stop")
        peer.cmd("port 0 rxq 1 stop")
        front = check(folder / "port0.sock", queues=2, options=["--timeout", "1"])
        with pytest.raises(ProgramError, match="got nothing back"):
            front.finish()
