# SPDX-License-Identifier: BSD-3-Clause
"""What one port's front end does costs another port nothing: broken connections, stalls, ports that
come and go. And what librte_vhost by itself makes of half a message, which is why vhub reads the
sockets itself."""

import os
import time
from functools import partial

import pytest

from control import Control
from testpmd import EchoTestpmd
from vhostuser import Closed, Req, Wire
from vhostuser import protocol as p
from vhostuser.rates import hold
from conftest import stand_in

pytestmark = pytest.mark.plain_only

HEADER = p.HEADER.pack(Req.SET_MEM_TABLE, p.VERSION, 264)
PAUSE = 0.02


def stall(path, seconds):
    """A front end that stops in its payload, in front of it, and in its header; one after the other,
    since a port has one front end."""
    for data in (HEADER + bytes(100), HEADER, HEADER[:7]):
        with held(path, data):
            time.sleep(seconds / 3)


def garbage(path, seconds):
    """Bytes that are no protocol, one connection after the other; not so fast that the making of
    them takes the CPU from the port that is looked at."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with held(path, os.urandom(4096)) as wire:
                wire.wait_closed(PAUSE)
        except (Closed, OSError):
            pass
        time.sleep(PAUSE)


class held:
    """A connection that has sent those bytes and says nothing more."""

    def __init__(self, path, data):
        self.wire = Wire.connect(str(path))
        self.wire.send_raw(data)

    def __enter__(self):
        return self.wire

    def __exit__(self, *_):
        self.wire.close()


@pytest.mark.alone
@pytest.mark.parametrize("disturb", [stall, garbage])
def test_a_neighbour_does_not_slow_a_port(echo, check, net, folder, disturb):
    daemon = echo(net("victim"), net("innocent", queues=2))
    echo(net("elsewhere"))
    front = check(folder / "innocent.sock", queues=2)
    front.wait_running()
    hold(front, *(partial(disturb, folder / f"{name}.sock") for name in ("victim", "elsewhere")))
    front.stop()
    assert daemon.running()
    check(folder / "victim.sock", packets=1000).finish()


def test_a_new_front_end_connects_while_a_neighbour_holds_half_a_message(echo, check, net, folder):
    echo(net("victim"), net("innocent"))
    with held(folder / "victim.sock", HEADER):
        time.sleep(0.3)
        check(folder / "innocent.sock", packets=1000).finish()


def test_with_librte_vhost_alone_it_cannot(check, net, folder):
    """The contrast. One thread of librte_vhost reads the sockets of all ports, and waits there for
    what a header has announced."""
    with EchoTestpmd(net("victim"), net("innocent"), folder=folder):
        check(folder / "innocent.sock", packets=1000).finish()
        with held(folder / "victim.sock", HEADER):
            time.sleep(0.3)
            front = check(folder / "innocent.sock", packets=1000)
            time.sleep(3)
            assert front.running() and not front.samples
        front.finish()


# --- ports that come and go

PORTS = 64
ROUNDS = 20


def figures(daemon):
    return {"fds": len(daemon.fds()), "mappings": daemon.maps(), "RSS in kB": daemon.rss_kb()}


@pytest.mark.skipif(stand_in(), reason="the stand-in has no control socket")
@pytest.mark.seconds(400)
def test_ports_come_and_go_under_traffic(vhubd, check, net, folder):
    daemon = vhubd(nets=[net("innocent", queues=2)], args=["--control", str(folder / "control.sock")])
    front = check(folder / "innocent.sock", "packed", queues=2)
    front.wait_running()
    control = Control(folder / "control.sock")
    names = [f"p{i}" for i in range(PORTS)]
    seen = []
    for turn in range(ROUNDS):
        for name in names:
            control.call("device_add", kind="net", name=name,
                         args={"socket": str(folder / f"{name}.sock"), "driver": "echo"})
        # A few have had a front end when they go, one of them still has it.
        check(folder / f"p{turn}.sock", packets=500).finish()
        last = check(folder / "p63.sock", "packed")
        last.wait_received(500)
        for name in names:
            control.call("device_remove", name=name)
        last.kill()
        assert not [name for name in names if (folder / f"{name}.sock").exists()]
        seen.append(figures(daemon))
    control.sock.close()
    front.stop()
    # What the first rounds allocate stays for the next ones; after that nothing grows.
    early, late = seen[ROUNDS // 4], seen[-1]
    assert late["fds"] <= early["fds"], seen
    assert late["mappings"] <= early["mappings"] + 8, seen
    assert late["RSS in kB"] <= early["RSS in kB"] * 1.05 + 1024, seen
