# SPDX-License-Identifier: BSD-3-Clause
"""A network port as a guest's driver sees it: packets of all sizes and shapes through every kind of
ring, notifications, the configuration space, MTU, enable and reset.

Bases, memory and restarts are in test_net_rings.py, offloads in test_net_offload.py, the dirty log
in test_net_dirtylog.py.
"""

import struct
import time

import pytest

from scene import expect_refusal
from vhostuser import EventFd, F, NF, NetPort, Queue, Req, ctrl, packets
from vhostuser import net
from vhostuser import protocol as p

FORMATS = {
    "split": {},
    "split-event_idx": {"event_idx": True},
    "split-in_order": {"in_order": True},
    "split-indirect": {"indirect": True},
    "packed": {"packed": True},
    "packed-event_idx": {"packed": True, "event_idx": True},
    "packed-in_order": {"packed": True, "in_order": True},
    "packed-indirect": {"packed": True, "indirect": True},
}
every_format = pytest.mark.parametrize("format_", list(FORMATS.values()), ids=list(FORMATS))
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
either_way = pytest.mark.parametrize("mergeable", [False, True], ids=["whole", "mergeable"])
HEADER = net.NetHeader.SIZE


def returns(session, frame, pair=0, **shape):
    """This frame comes back, and nothing is said of it that was not asked for."""
    packet = session.exchange(frame, pair, **shape)
    assert packet.frame == packets.swapped(frame)
    assert packet.header._replace(num_buffers=0) == net.NetHeader()
    return packet


@every_format
@either_way
def test_frames_of_all_sizes_come_back(port, format_, mergeable):
    session = port(mergeable=mergeable, **format_)
    for size in (14, 15, 59, 60, 61, 64, 255, 256, 257, 1000, 1514, 2035, 2036):
        packet = returns(session, packets.plain(size, size))
        assert packet.lengths == [size + HEADER]
        assert not mergeable or packet.header.num_buffers == 1


@every_format
def test_large_frames_take_as_many_buffers_as_they_need(port, format_):
    session = port(buffers=64, **format_)
    for size in (2037, 4083, 4084, 4085, 9000, 32768, 65000, 65549):
        packet = returns(session, packets.plain(size, size))
        count = -(-(size + HEADER) // 2048)
        assert packet.header.num_buffers == count
        assert packet.lengths == [2048] * (count - 1) + [size + HEADER - 2048 * (count - 1)]


@both_kinds
def test_large_frames_fit_a_large_buffer(port, packed):
    session = port(mergeable=False, packed=packed, buffers=4, buffer_bytes=66000)
    for size in (2037, 9000, 65000):
        assert returns(session, packets.plain(size, size)).lengths == [size + HEADER]


@every_format
@either_way
@pytest.mark.parametrize("pieces", [[12, 1000], [12, 14, 986], [4, 8, 1000], [1] * 11 + [1001],
                                    [1] * 30 + [982], [20, 992]],
                         ids=["apart", "ethernet apart", "header in two", "header in bytes",
                              "all in bytes", "header and some"])
def test_the_layout_of_what_is_sent_does_not_matter(port, format_, mergeable, pieces):
    session = port(mergeable=mergeable, **format_)
    for seed in range(3):
        returns(session, packets.plain(seed, 1000), pieces=pieces)


@every_format
@pytest.mark.parametrize("pieces", [[12, 2036], [100, 1948], [12] + [64] * 20, [1024, 1024]],
                         ids=["apart", "100", "64s", "halves"])
def test_the_layout_of_receive_buffers_does_not_matter(port, format_, pieces):
    session = port(mergeable=False, buffers=5, pieces=pieces, **format_)
    for size in (14, 60, 1000, 1200):
        returns(session, packets.plain(size, size))


@every_format
def test_four_pairs_keep_their_packets(port, format_):
    session = port(pairs=4, **format_)
    for turn in range(8):
        for pair in range(4):
            session.send(packets.plain(100 * turn + pair, 200), pair)
    for pair in range(4):
        for turn in range(8):
            frame = packets.plain(100 * turn + pair, 200)
            assert session.receive(pair).frame == packets.swapped(frame)
        assert session.quiet(pair, 0.005)


@every_format
@either_way
def test_bursts_stay_in_order(port, format_, mergeable):
    session = port(size=256, buffers=128, mergeable=mergeable, **format_)
    for turn in range(4):
        frames = [packets.plain(1000 * turn + i, 60 + 13 * i) for i in range(128)]
        session.submit([session.prepare(frame) for frame in frames])
        for frame in frames:
            assert session.receive().frame == packets.swapped(frame)
        session.reap()


def test_what_there_is_no_room_for_is_dropped_and_nothing_else(port):
    session = port(buffers=0)
    session.post(count=8)
    session.submit([session.prepare(packets.plain(i, 100)) for i in range(20)])
    for i in range(8):
        assert session.receive(again=False).frame == packets.swapped(packets.plain(i, 100))
    assert session.quiet(seconds=0.02)
    session.post(count=8)
    returns(session, packets.plain(99, 100))


@both_kinds
def test_a_frame_larger_than_the_buffers_is_not_given_in_part(port, packed, datapath):
    """Nor does it stop those that come later. (On librte_vhost it does in the same burst, for that
    does not tell a packet that does not fit from a ring that is full.)"""
    session = port(mergeable=False, packed=packed, buffers=4)
    if datapath == "direct":
        session.submit([session.prepare(packets.plain(i, 3000 if i % 2 else 1000)) for i in range(8)])
        for i in range(0, 8, 2):
            assert session.receive().frame == packets.swapped(packets.plain(i, 1000))
    session.wait_sent([session.send(packets.plain(1, 3000))])
    assert session.quiet(seconds=0.01)
    returns(session, packets.plain(2, 1000))
    assert session.quiet(seconds=0.01)


# notifications


@every_format
def test_a_sleeping_daemon_wakes_at_a_kick_and_calls(port, format_):
    """The pauses are longer than an lcore waits before it sleeps."""
    session = port(**format_)
    for turn in range(5):
        time.sleep(0.05)
        receiving = session.receiving()
        receiving.call.count()
        assert not receiving.ring.arm()
        session.send(packets.plain(turn, 300))
        assert receiving.call.wait()
        assert session.receive().frame == packets.swapped(packets.plain(turn, 300))


@both_kinds
def test_no_calls_where_none_are_wanted(port, packed):
    session = port(packed=packed)
    session.receiving().ring.disarm()
    session.sending().ring.disarm()
    session.receiving().call.count()
    session.sending().call.count()
    sent = session.submit([session.prepare(packets.plain(1, 300))])
    session.wait_sent(sent)
    time.sleep(0.005)
    assert session.receiving().call.count() == 0 and session.sending().call.count() == 0
    assert session.receive().frame == packets.swapped(packets.plain(1, 300))


@both_kinds
def test_no_kick_is_wanted_for_new_buffers(port, packed):
    """A port looks for buffers when it has a packet; a system call for each refill would be wasted."""
    session = port(packed=packed)
    returns(session, packets.plain(1, 300))
    for _ in range(3):
        session.put_buffer(session.buffer(), notify=False)
        assert not session.receiving().ring.publish()


@both_kinds
def test_rings_without_fds_are_polled_by_both_sides(port, packed):
    session = port(packed=packed, kick=False, call=False)
    for seed in range(20):
        returns(session, packets.plain(seed, 500))
        time.sleep(0.002 * (seed % 3))


@both_kinds
def test_fds_change_while_the_rings_run(port, packed):
    session = port(packed=packed)
    returns(session, packets.plain(0, 100))
    for turn in range(3):
        for queue in (session.receiving(), session.sending()):
            old = queue.kick, queue.call, queue.err
            queue.kick, queue.call, queue.err = EventFd(), EventFd(), EventFd()
            session.set_vring_kick(queue.index, queue.kick)
            session.set_vring_call(queue.index, queue.call)
            session.set_vring_err(queue.index, queue.err)
            for event in old:
                event.close()
        time.sleep(0.02)
        session.receiving().ring.arm()
        session.send(packets.plain(turn, 100))
        assert session.receiving().call.wait()
        assert session.receive().frame == packets.swapped(packets.plain(turn, 100))


@both_kinds
def test_fds_are_taken_away_and_come_back(port, packed):
    session = port(packed=packed)
    for queue in (session.receiving(), session.sending()):
        for tell, event in ((session.set_vring_call, queue.call),
                            (session.set_vring_err, queue.err)):
            tell(queue.index, None)
            event.count()
    call, session.receiving().call = session.receiving().call, None
    session.receiving().ring.arm()
    returns(session, packets.plain(1, 100))
    time.sleep(0.01)
    assert call.count() == 0
    kick, session.sending().kick = session.sending().kick, None
    session.set_vring_kick(session.sending().index, None)
    returns(session, packets.plain(2, 100))
    session.set_vring_kick(session.sending().index, kick)
    session.set_vring_call(session.receiving().index, call)
    session.sending().kick, session.receiving().call = kick, call
    time.sleep(0.02)
    returns(session, packets.plain(3, 100))
    session.receiving().ring.arm()
    session.send(packets.plain(4, 100))
    assert call.wait()


# enable


@both_kinds
def test_a_disabled_sending_ring_is_consumed_without_effect(port, packed):
    session = port(packed=packed)
    session.set_vring_enable(1, False)
    sent = session.submit([session.prepare(packets.plain(i, 100)) for i in range(10)])
    session.wait_sent(sent)
    assert session.quiet(seconds=0.02)
    session.set_vring_enable(1)
    returns(session, packets.plain(20, 100))


@both_kinds
def test_a_disabled_receiving_ring_gets_nothing(port, packed):
    session = port(packed=packed)
    session.set_vring_enable(0, False)
    sent = session.submit([session.prepare(packets.plain(i, 100)) for i in range(10)])
    session.wait_sent(sent)
    assert session.quiet(seconds=0.02)
    session.set_vring_enable(0)
    returns(session, packets.plain(20, 100))


def test_rings_start_disabled_and_only_the_pair_that_is_enabled_works(port):
    session = port(pairs=2, enable=False)
    for pair in (0, 1):
        session.wait_sent(session.submit([session.prepare(packets.plain(1, 100))], pair), pair)
        assert session.quiet(pair, 0.01)
    session.set_vring_enable(2)
    session.set_vring_enable(3)
    returns(session, packets.plain(2, 100), 1)
    session.wait_sent(session.submit([session.prepare(packets.plain(3, 100))]))
    assert session.quiet(seconds=0.01)


@both_kinds
def test_what_was_sent_before_the_ring_starts_comes_back(port, packed):
    """The ring that receives stands still while the other one starts."""
    session = port(packed=packed, size=64)
    for turn in range(10):
        session.get_vring_base(1)
        sending = session.sending()
        frames = [packets.plain(100 * turn + i, 100) for i in range(20)]
        session.submit([session.prepare(frame) for frame in frames])
        session.start_queue(sending)
        for frame in frames:
            assert session.receive().frame == packets.swapped(frame)
        session.reap()


def test_without_protocol_features_all_rings_are_enabled(port):
    session = port(protocol=(), mergeable=True)
    assert not session.has(F.PROTOCOL_FEATURES)
    returns(session, packets.plain(1, 100))


# configuration


@pytest.fixture
def bare(port_path, opened):
    def open_(name="netplain", **negotiation):
        session = NetPort(port_path(name))
        opened.later(session)
        return session.negotiate(**negotiation)

    return open_


def test_the_configuration_space_of_a_port_with_all(bare):
    session = bare("netwhole")
    assert session.config("mac") == bytes.fromhex("020000000007")
    assert session.config("mtu") == 9000
    assert session.config("max_pairs") == 2
    assert session.config("status") == net.LINK_UP
    for feature in (NF.MAC, NF.MTU, NF.MQ, NF.STATUS):
        assert session.offered >> feature & 1, feature.name


def test_what_a_port_does_not_know_is_not_offered(bare, datapath):
    """The driver echo knows neither its speed nor, by itself, an address or MTU."""
    session = bare()
    for feature in (NF.MAC, NF.MTU, NF.SPEED_DUPLEX, NF.GUEST_ECN, NF.HOST_ECN):
        assert not session.offered >> feature & 1, feature.name
    for feature in ctrl.FEATURES:
        assert bool(session.offered >> feature & 1) == (datapath == "direct"), feature.name
    assert session.protocol_offered & p.bits(p.PF.INFLIGHT_SHMFD, p.PF.CONFIGURE_MEM_SLOTS,
                                              p.PF.MTU) == 0
    assert session.config("max_pairs") == 4
    assert session.config("status") == net.LINK_UP


def test_beyond_its_fields_the_configuration_space_is_zero(bare, datapath):
    """Of hashes: how long a key is, and of what they are."""
    session = bare("netwhole")
    whole = session.get_config(0, 256)
    hashes = struct.pack("<BHI", ctrl.NET_KEY_BYTES, 0, ctrl.ALL_TYPES) if datapath == "direct" else bytes(7)
    assert whole[17:] == hashes + bytes(256 - 24)
    assert session.get_config(250, 8) is None


def test_the_configuration_space_cannot_be_written(bare):
    session = bare("netwhole")
    before = session.get_config(0, 24)
    assert session.set_config(0, b"\1\2\3\4\5\6") != 0
    assert session.get_config(0, 24) == before


def test_the_number_of_queues_is_that_of_pairs(bare):
    assert bare("netplain").ask_u64(Req.GET_QUEUE_NUM) == 4
    assert bare("netwhole").ask_u64(Req.GET_QUEUE_NUM) == 2


def test_a_ring_beyond_the_pairs_is_refused(bare, datapath):
    """Ring 4 is the control queue's, where there is one."""
    session = bare("netwhole")
    first = 5 if datapath == "direct" else 4
    for request in (Req.SET_VRING_NUM, Req.SET_VRING_BASE, Req.SET_VRING_ENABLE):
        assert expect_refusal(session, request, p.VRING_STATE.pack(first, 1)) == "error"


def test_an_mtu_that_the_port_carries_is_taken_and_no_other(bare):
    session = bare("netwhole")
    for mtu in (68, 1500, 9000):
        assert session.ack(Req.NET_SET_MTU, p.U64.pack(mtu)) == 0
    for mtu in (0, 67, 9001, 65535, 65536 + 1500, 1 << 63):
        assert expect_refusal(session, Req.NET_SET_MTU, p.U64.pack(mtu)) == "error"
    assert session.config("mtu") == 9000


def test_an_mtu_of_a_port_without_one_is_refused(bare):
    assert expect_refusal(bare(), Req.NET_SET_MTU, p.U64.pack(1500)) in ("error", "closed")


@both_kinds
def test_frames_longer_than_the_mtu_go_no_further(port, packed):
    """Two VLAN tags are let pass."""
    session = port("netwhole", packed=packed)
    returns(session, packets.plain(1, 9000 + 14 + 8))
    session.send(packets.plain(2, 9000 + 14 + 9))
    session.send(packets.plain(3, 20000))
    returns(session, packets.plain(4, 100))
    assert session.quiet(seconds=0.01)


@both_kinds
@pytest.mark.parametrize("mergeable", [False, True], ids=["whole", "mergeable"])
def test_an_mtu_that_the_guest_was_told_holds_towards_it(port, packed, mergeable):
    """Smaller than the port's: what is longer does not reach the guest (VIRTIO 1.2, 5.1.4.1), until another is told or
    the device is reset."""
    session = port("netwhole", packed=packed, mergeable=mergeable, buffer_bytes=2048 if mergeable else 10000)
    for mtu in (1500, 9000, 68):
        assert session.ack(Req.NET_SET_MTU, p.U64.pack(mtu)) == 0
        for size in (mtu + 23, mtu + 22):
            session.send(packets.plain(size, size))
        assert session.receive().frame == packets.swapped(packets.plain(size, size))
    session.tell(Req.RESET_DEVICE)
    start_again(session)
    returns(session, packets.plain(2, 1500))


# reset


def start_again(session, pairs=1, features=None):
    """What a driver does after a reset: features, new rings, buffers."""
    session.set_features(session.features if features is None else features)
    session.received = {}
    for index in range(2 * pairs):
        if index in session.queues:
            session.queues[index].close()
        session.start_queue(Queue(index, session.new_ring(128)))
    for pair in range(pairs):
        session.post(pair, 32)


@both_kinds
@pytest.mark.parametrize("how", ["RESET_DEVICE", "SET_STATUS"])
def test_a_reset_and_a_new_start(port, packed, how):
    session = port(packed=packed)
    for turn in range(4):
        returns(session, packets.plain(turn, 100))
        if how == "RESET_DEVICE":
            session.tell(Req.RESET_DEVICE)
        else:
            session.set_status(0)
        session.sending().kick.signal()
        start_again(session)
    returns(session, packets.plain(9, 100))


def test_another_format_of_rings_after_a_reset(port):
    session = port(packed=False)
    returns(session, packets.plain(0, 100))
    session.tell(Req.RESET_DEVICE)
    start_again(session, features=session.features | p.bits(F.RING_PACKED))
    returns(session, packets.plain(1, 100))
    session.tell(Req.RESET_DEVICE)
    start_again(session, features=session.features & ~p.bits(NF.MRG_RXBUF, F.RING_PACKED))
    packet = returns(session, packets.plain(2, 100))
    assert packet.lengths == [112]


# many sessions


def test_two_hundred_sessions_leave_nothing(stage, port_path):
    def once(packed):
        with NetPort.open(port_path(), packed=packed, size=32, buffers=4) as session:
            returns(session, packets.plain(1, 100))

    for packed in (False, True, False, True):
        once(packed)
    stage.wait_settled(stage.figures(), 0)
    before = stage.figures()
    for i in range(200):
        once(packed=i % 2 == 1)
    growth = stage.wait_settled(before)
    assert growth == "", growth


def test_sessions_with_two_ports_in_turn(port_path, port):
    """One port's sessions come and go while another's goes on."""
    lasting = port("netwhole", pairs=2)
    for i in range(50):
        with NetPort.open(port_path(), packed=i % 2 == 0, pairs=1 + i % 4,
                          size=64) as session:
            returns(session, packets.plain(i, 300))
            returns(lasting, packets.plain(1000 + i, 300), i % 2)
        returns(lasting, packets.plain(2000 + i, 300), i % 2)
