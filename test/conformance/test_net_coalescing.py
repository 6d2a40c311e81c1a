# SPDX-License-Identifier: BSD-3-Clause
"""Notifications that a guest wants kept back, by its control queue: fewer of them under load, none lost and each in time,
for all rings of a direction and for single ones; and commands that make no sense.

The port sends everything back with its addresses swapped."""

import os
import struct
import time

import pytest

from vhostuser import PATIENCE, Closed, NF, ctrl, packets
from vhostuser.ctrl import Control, ERR, OK
from vhostuser.frontend import EVENTFD_FULL, make_blocking

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
COALESCING = (NF.CTRL_VQ, NF.NOTF_COAL, NF.VQ_NOTF_COAL)
#: Microseconds: the longest that a device keeps one back, and more than it does.
LONG = 10000
ENOUGH = 1000000


@pytest.fixture
def datapath():
    return "direct"


@pytest.fixture
def control(port):
    def open_(features=COALESCING, pairs=2, **keywords):
        session = port("netwhole", pairs=pairs, features=features, **keywords)
        return session, Control(session)

    return open_


def back(session, seed, pair=0):
    """Sends a packet and looks for it, by memory alone, until it is back."""
    frame = packets.plain(seed, 100)
    session.send(frame, pair)
    deadline = time.monotonic() + PATIENCE
    while not session.received.setdefault(pair, []):
        session.received[pair].extend(session.receiving(pair).ring.used())
        assert time.monotonic() < deadline
    assert session.receive(pair).frame == packets.swapped(frame)


def calls(queue, work):
    """How many notifications of this ring come meanwhile, and after it until none can be left."""
    queue.call.count()
    work()
    time.sleep(LONG / 1e6)
    return queue.call.count()


@both_kinds
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event-idx"])
def test_fewer_notifications_under_load(control, packed, event_idx):
    session, guest = control(packed=packed, event_idx=event_idx)
    queue, sent = session.receiving(), []

    def load():
        for seed in range(64):
            back(session, seed)
            # As a driver that goes to sleep: it wants to be told of the next one.
            queue.ring.arm()
            sent.append(seed)

    assert calls(queue, load) > 40
    guest.coalesce(ctrl.COAL_RX, 16, LONG)
    began = time.monotonic()
    found = calls(queue, load)
    assert 1 <= found <= 64 / 16 + (time.monotonic() - began) * 1e6 / LONG + 1
    guest.coalesce(ctrl.COAL_RX, 0, 0)
    assert calls(queue, load) > 40


@both_kinds
def test_none_is_lost_when_nothing_more_comes(control, packed):
    """Each one waits by itself, and the time ends it, whatever the worker does meanwhile: it would sleep after
    50 microseconds."""
    session, guest = control(packed=packed)
    guest.coalesce(ctrl.COAL_RX, 1000, 300)
    guest.coalesce(ctrl.COAL_TX, 1000, 300)
    for seed in range(100):
        for queue in (session.receiving(), session.sending()):
            queue.call.count()
            queue.ring.arm()
        session.submit([session.prepare(packets.plain(seed, 100))])
        assert session.receiving().call.wait() and session.sending().call.wait()
        assert session.receive().frame == packets.swapped(packets.plain(seed, 100))
        session.reap()
        time.sleep(0.0001 * (seed % 10))


def test_a_ring_that_stops_tells_what_it_has_kept(control):
    session, guest = control()
    guest.coalesce(ctrl.COAL_RX, 1000, ENOUGH)
    queue = session.receiving()
    for seed in range(10):
        back(session, seed)
    queue.call.count()
    queue.ring.arm()
    session.send(packets.plain(99, 100))
    session.get_vring_base(0)
    assert queue.call.wait()


def test_rings_by_themselves(control):
    session, guest = control()
    assert [guest.coalescing(ring) for ring in range(4)] == [(0, 0)] * 4
    guest.coalesce(ctrl.COAL_TX, 7, 70)
    guest.coalesce_ring(2, 16, ENOUGH)
    assert [guest.coalescing(ring) for ring in range(4)] == [(0, 0), (7, 70), (16, ENOUGH), (7, 70)]
    guest.pairs(2)

    def load(pair):
        for seed in range(32):
            back(session, seed, pair)
            session.receiving(pair).ring.arm()

    assert calls(session.receiving(0), lambda: load(0)) > 20
    began = time.monotonic()
    assert calls(session.receiving(1), lambda: load(1)) <= 32 / 16 + (time.monotonic() - began) * 1e6 / LONG + 1
    # Without what is reserved, and with less room than the result needs.
    assert guest.result(ctrl.COAL, ctrl.COAL_GET, struct.pack("<H", 1), 8) == struct.pack("<II", 7, 70)
    guest.begin(ctrl.COAL, ctrl.COAL_GET, struct.pack("<HH", 1, 0), answer=4)
    assert guest.whole_answer() == (bytes((OK,)) + struct.pack("<I", 7)[:3], 4)


def test_a_new_session_knows_nothing_of_it(control, port_path):
    session, guest = control()
    guest.coalesce(ctrl.COAL_RX, 7, 70)
    session.close()
    session, guest = control()
    assert guest.coalescing(0) == (0, 0)


def test_commands_that_make_no_sense(control):
    session, guest = control()
    pair = struct.pack("<II", 1, 1)
    for command, data in ((ctrl.COAL_RX, pair[:7]), (ctrl.COAL_TX, pair + b"x"), (4, pair),
                          (ctrl.COAL_SET, struct.pack("<HH", 4, 0) + pair), (ctrl.COAL_SET, pair),
                          (ctrl.COAL_SET, struct.pack("<HH", 0xffff, 0) + pair),
                          (ctrl.COAL_GET, struct.pack("<HH", 4, 0)), (ctrl.COAL_GET, b"\0"),
                          (ctrl.COAL_GET, bytes(5))):
        assert guest.ask(ctrl.COAL, command, data) == ERR
    assert guest.coalescing(0) == (0, 0)
    session.close()
    session, guest = control(features=(NF.CTRL_VQ,))
    assert guest.ask(ctrl.COAL, ctrl.COAL_RX, pair) == ERR
    assert guest.ask(ctrl.COAL, ctrl.COAL_SET, struct.pack("<HH", 0, 0) + pair) == ERR


def test_rings_that_are_not_enabled_have_none(control, port):
    """Without MQ ring 2 is the control queue, and a ring that was stopped is none until it starts again."""
    data = struct.pack("<II", 1, 1)
    session, guest = control(pairs=1)
    assert guest.ask(ctrl.COAL, ctrl.COAL_SET, struct.pack("<HH", 1, 0) + data) == OK
    for ring in (2, 3):
        assert guest.ask(ctrl.COAL, ctrl.COAL_SET, struct.pack("<HH", ring, 0) + data) == ERR
        assert guest.ask(ctrl.COAL, ctrl.COAL_GET, struct.pack("<HH", ring, 0)) == ERR
    session.get_vring_base(1)
    assert guest.ask(ctrl.COAL, ctrl.COAL_SET, struct.pack("<HH", 1, 0) + data) == ERR
    assert guest.ask(ctrl.COAL, ctrl.COAL_SET, struct.pack("<HH", 0, 0) + data) == OK


def test_a_call_fd_that_blocks_when_its_ring_stops_ends_the_session(control, port):
    """What is kept back is told at the stop at the latest. Who makes an lcore wait for it does so once."""
    session, guest = control()
    guest.coalesce(ctrl.COAL_TX, 1000, ENOUGH)
    queue = session.sending()
    queue.ring.arm()
    session.submit([session.prepare(packets.plain(1, 100))])
    assert queue.call.wait()           # the first one of a ring's life is never kept
    session.reap()
    queue.ring.arm()
    os.eventfd_write(queue.call.fd, EVENTFD_FULL)
    make_blocking(queue.call.fd)
    session.submit([session.prepare(packets.plain(2, 100))])
    time.sleep(0.001)
    with pytest.raises(Closed):
        for _ in range(100):
            session.get_vring_base(1)
            time.sleep(0.01)
    os.set_blocking(queue.call.fd, False)
    # The slot takes nobody for a second.
    port("netwhole")
