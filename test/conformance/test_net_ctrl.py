# SPDX-License-Identifier: BSD-3-Clause
"""The control queue of a port on the direct data path: which frames reach its guest, by which pairs,
with which offloads; its address and its announcement; and commands that make no sense.

The port sends everything back with its addresses swapped, so what a frame is sent from is what it comes
back to. On a bridge: test_net_bridge.py.
"""

import struct
import time
import threading

import pytest

from vhostuser import BackendChannel, F, GuestMemory, NF, NetPort, PF, Queue, Req, packets
from vhostuser import ctrl, net
from vhostuser import protocol as p
from vhostuser.ctrl import Control, ERR, OK
from vhostuser.packets import TCP, UDP

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
MINE = bytes.fromhex("020000000007")
OTHER = bytes.fromhex("020000000008")
GROUP = bytes.fromhex("01005e000001")
BROADCAST = b"\xff" * 6
ANNOUNCE = 2                            # in the status of the configuration space


@pytest.fixture
def datapath():
    return "direct"


@pytest.fixture
def control(port):
    """A session with all features of the control queue, on the port whose address is MINE."""
    def open_(name="netwhole", pairs=2, features=(), without=(), **keywords):
        want = [each for each in ctrl.FEATURES if each not in without] + [NF.STATUS]
        if name == "netwhole":
            want += [NF.MAC]
        session = port(name, pairs=pairs, features=tuple(want) + tuple(features), **keywords)
        return session, Control(session)

    return open_


def frame_for(mac, vlan=None, seed=1):
    """A frame that comes back to this address."""
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return OTHER + mac + tag + packets.plain(seed, 100)[12:]


MARKS = iter(range(1000, 1 << 30))


def reaches(session, frame, pair=0):
    """Whether this frame comes back; those of MINE do, and tell where it would have been."""
    session.send(frame, pair)
    mark = frame_for(MINE, seed=next(MARKS))
    session.send(mark, pair)
    found = session.receive(pair).frame
    if found == packets.swapped(mark):
        return False
    assert found == packets.swapped(frame)
    assert session.receive(pair).frame == packets.swapped(mark)
    return True


# which frames


@both_kinds
def test_everything_reaches_the_guest_until_it_says_otherwise(control, packed):
    session, _ = control(packed=packed)
    for mac in (MINE, OTHER, GROUP, BROADCAST):
        assert reaches(session, frame_for(mac))
    assert reaches(session, frame_for(OTHER, vlan=5))


@both_kinds
def test_by_its_address_and_its_table(control, packed):
    session, guest = control(packed=packed)
    guest.mode(ctrl.PROMISC, False)
    assert reaches(session, frame_for(MINE)) and reaches(session, frame_for(BROADCAST))
    assert not reaches(session, frame_for(OTHER)) and not reaches(session, frame_for(GROUP))
    guest.table([OTHER], [GROUP])
    assert reaches(session, frame_for(OTHER)) and reaches(session, frame_for(GROUP))
    guest.table([bytes(5) + b"\2"], [])
    assert not reaches(session, frame_for(OTHER)) and not reaches(session, frame_for(GROUP))
    guest.mode(ctrl.PROMISC, True)
    assert reaches(session, frame_for(OTHER)) and reaches(session, frame_for(GROUP))


@pytest.mark.parametrize("mode, on, off", [
    (ctrl.ALLMULTI, {GROUP: True, OTHER: False}, {GROUP: False}),
    (ctrl.ALLUNI, {OTHER: True, GROUP: False}, {OTHER: False}),
    (ctrl.NOBCAST, {BROADCAST: False}, {BROADCAST: True}),
], ids=["allmulti", "alluni", "nobcast"])
def test_modes(control, mode, on, off):
    session, guest = control()
    guest.mode(ctrl.PROMISC, False)
    for switch, expected in ((True, on), (False, off)):
        guest.mode(mode, switch)
        for mac, comes in expected.items():
            assert reaches(session, frame_for(mac)) == comes, mac


def test_modes_that_leave_out_what_is_in_the_table(control):
    session, guest = control()
    guest.mode(ctrl.PROMISC, False)
    guest.table([OTHER], [GROUP])
    guest.mode(ctrl.NOMULTI, True)
    assert not reaches(session, frame_for(GROUP)) and reaches(session, frame_for(BROADCAST))
    guest.mode(ctrl.NOUNI, True)
    session.send(frame_for(MINE))
    assert session.exchange(frame_for(BROADCAST)).frame == packets.swapped(frame_for(BROADCAST))


def test_a_table_with_more_than_there_is_room_for_lets_all_in(control):
    session, guest = control()
    guest.mode(ctrl.PROMISC, False)
    many = [b"\2\0\0\1" + struct.pack("!H", i) for i in range(300)]
    guest.do(ctrl.MAC, 0, ctrl.table(many, [GROUP]), pieces=[1, 1, 700, 2 + 300 * 6 + 4 + 6 - 700 + 2])
    assert reaches(session, frame_for(OTHER)) and reaches(session, frame_for(GROUP))
    guest.table(many[:64])
    assert reaches(session, frame_for(many[63])) and not reaches(session, frame_for(OTHER))
    assert not reaches(session, frame_for(GROUP))


def test_vlans(control):
    session, guest = control()
    guest.mode(ctrl.PROMISC, False)
    assert not reaches(session, frame_for(MINE, vlan=5))
    assert reaches(session, frame_for(MINE, vlan=0)) and reaches(session, frame_for(MINE))
    guest.vlan(5)
    guest.vlan(4095)
    assert reaches(session, frame_for(MINE, vlan=5)) and reaches(session, frame_for(MINE, vlan=4095))
    assert not reaches(session, frame_for(MINE, vlan=6))
    guest.vlan(5, False)
    assert not reaches(session, frame_for(MINE, vlan=5))
    guest.mode(ctrl.PROMISC, True)
    assert reaches(session, frame_for(MINE, vlan=5))


def test_who_filters_no_vlans_gets_them_all(control):
    session, guest = control(without=[NF.CTRL_VLAN])
    guest.mode(ctrl.PROMISC, False)
    assert reaches(session, frame_for(MINE, vlan=5))
    assert guest.ask(ctrl.VLAN, 0, struct.pack("<H", 5)) == ERR


def test_a_port_without_an_address_does_not_filter_by_it(control):
    session, guest = control("netplain", pairs=1)
    guest.mode(ctrl.PROMISC, False)
    assert reaches(session, frame_for(OTHER)) and not reaches(session, frame_for(GROUP))
    guest.address(MINE)
    assert not reaches(session, frame_for(OTHER)) and reaches(session, frame_for(MINE))


def test_what_is_left_out_is_counted_and_costs_no_buffer(control):
    session, guest = control(buffers=4)
    guest.mode(ctrl.PROMISC, False)
    session.wait_sent([session.send(frame_for(OTHER)) for _ in range(20)])
    assert reaches(session, frame_for(MINE))


# the guest's address


def test_an_address_that_the_guest_gives_itself(control):
    session, guest = control()
    guest.mode(ctrl.PROMISC, False)
    assert session.config("mac") == MINE
    guest.address(OTHER)
    assert session.config("mac") == OTHER
    session.send(frame_for(MINE))
    assert session.exchange(frame_for(OTHER)).frame == packets.swapped(frame_for(OTHER))
    for wrong in (bytes(6), BROADCAST, GROUP):
        assert guest.ask(ctrl.MAC, 1, wrong) == ERR
    assert session.config("mac") == OTHER
    session.tell(Req.RESET_DEVICE)
    assert session.config("mac") == MINE


# pairs


@both_kinds
def test_the_control_queue_stops_in_the_middle_of_a_command(control, packed):
    """It waits for pairs that do not run to open; nobody wakes a worker that has fallen asleep over that."""
    session, guest = control(packed=packed)
    for ring in (2, 3):
        session.get_vring_base(ring)
    for count in range(5):
        guest.begin(ctrl.MQ, 0, struct.pack("<H", 2 - count % 2))
        time.sleep(0.0002 * count)      # before it is taken, or afterwards
        base = session.get_vring_base(guest.index)
        session.start_queue(guest.queue, base=base)
        assert guest.answer() == OK


@both_kinds
def test_packets_come_by_as_many_pairs_as_the_guest_has_asked_for(control, packed):
    session, guest = control(packed=packed)
    frame = frame_for(MINE)
    assert session.echo(frame) == packets.swapped(frame)
    session.wait_sent([session.send(frame, pair=1)], pair=1)
    assert session.quiet(1, 0.01)
    guest.pairs(2)
    for pair in (0, 1):
        assert session.echo(frame, pair) == packets.swapped(frame)
    guest.pairs(1)
    session.wait_sent([session.send(frame, pair=1)], pair=1)
    assert session.quiet(1, 0.01)
    for wrong in (0, 3, 0x8000, 0xffff):
        assert guest.ask(ctrl.MQ, 0, struct.pack("<H", wrong)) == ERR


def test_without_a_control_queue_the_front_end_says_which_pairs(port):
    """As QEMU and virtio-user do, which keep the control queue to themselves."""
    session = port("netwhole", pairs=2, features=ctrl.FEATURES)
    for pair in (0, 1):
        assert session.echo(frame_for(MINE), pair) == packets.swapped(frame_for(MINE))


def test_with_one_pair_alone_the_control_queue_is_the_third_ring(control):
    session, guest = control(pairs=1)
    assert guest.index == 2 and not session.has(NF.MQ)
    guest.mode(ctrl.PROMISC, False)
    assert not reaches(session, frame_for(OTHER))
    assert guest.ask(ctrl.MQ, 0, struct.pack("<H", 1)) == ERR


# offloads


@both_kinds
def test_offloads_are_switched(control, packed):
    takes = (NF.GUEST_CSUM, NF.GUEST_TSO4)
    session, guest = control(packed=packed, features=takes + (NF.CSUM, NF.HOST_TSO4))
    large = packets.segment(4, TCP, bytes(4000), gso_size=1000)
    small = packets.segment(4, TCP, bytes(700))

    def comes():
        """As how many packets the large one comes, and how much is left to be done for the small one."""
        session.send(large.frame, header=large.header)
        session.send(small.frame, header=small.header)
        count = 1
        while len((packet := session.receive()).frame) != len(small.frame):
            assert (packet.header.gso_type == net.GSO_TCPV4) == (len(packet.frame) > 1500)
            count += 1
        return count - 1, packet.header.flags

    assert comes() == (1, net.NEEDS_CSUM)
    guest.offloads(NF.GUEST_CSUM)
    assert comes() == (4, net.NEEDS_CSUM)
    guest.offloads()
    assert comes() == (4, 0)
    guest.offloads(*takes)
    assert comes() == (1, net.NEEDS_CSUM)
    for wrong in (1 << NF.GUEST_TSO6, 1 << NF.GUEST_USO4, 1 << NF.CSUM, 1 << 63):
        assert guest.ask(ctrl.OFFLOADS, 0, struct.pack("<Q", wrong)) == ERR


# hashes


@both_kinds
@pytest.mark.parametrize("mergeable", [False, True], ids=["whole", "mergeable"])
def test_a_packet_tells_its_hash(control, packed, mergeable):
    session, guest = control(packed=packed, mergeable=mergeable, buffer_bytes=300 if mergeable else 2048,
                             features=(NF.HASH_REPORT, NF.CSUM, NF.GUEST_CSUM))
    assert session.header_size == 20

    def told(frame, header=net.NetHeader()):
        packet = session.exchange(frame, header=header)
        assert packet.frame == packets.swapped(frame)
        assert packet.header._replace(num_buffers=0) == header
        return packet.hash

    for version, at, size, of_addresses in ((4, 26, 8, ctrl.IPV4), (6, 22, 32, ctrl.IPV6)):
        for protocol, of_ports in ((TCP, of_addresses << 1), (UDP, of_addresses << 2)):
            made = packets.segment(version, protocol, bytes(1000))
            addresses, ports = made.frame[at:at + size], made.frame[at + size:at + size + 4]
            guest.do(ctrl.MQ, 2, ctrl.hashes())
            report = of_ports.bit_length()
            assert told(made.frame, made.header) == (ctrl.toeplitz(addresses + ports), report)
            guest.do(ctrl.MQ, 2, ctrl.hashes(of_addresses, ctrl.KEY[:37]))
            wanted = ctrl.toeplitz(addresses, ctrl.KEY[:37] + bytes(3))
            assert told(made.frame, made.header) == (wanted, of_addresses.bit_length())
            guest.do(ctrl.MQ, 2, ctrl.hashes(ctrl.ALL_TYPES & ~of_addresses & ~of_ports))
            assert told(made.frame, made.header) == (0, 0)
    guest.do(ctrl.MQ, 2, ctrl.hashes())
    assert told(frame_for(MINE)) == (0, 0)
    for wrong in (ctrl.hashes(0x40), ctrl.hashes(key=bytes(41)), ctrl.hashes()[:-1], ctrl.hashes() + b"\0"):
        assert guest.ask(ctrl.MQ, 2, wrong) == ERR


def test_hashes_without_a_control_queue_that_runs(port):
    """As QEMU, which keeps it to itself and passes HASH_REPORT on."""
    session = port(features=(NF.HASH_REPORT,) + ctrl.FEATURES)
    for pieces in (None, [20, 100], [10, 10, 100], [1] * 20 + [100]):
        frame = frame_for(MINE)
        assert session.exchange(frame, pieces=pieces and pieces[:-1] + [len(frame)]).hash == (0, 0)


# announcement


def status(session):
    return session.config("status")


@both_kinds
def test_a_guest_that_comes_from_elsewhere_is_asked_to_announce_itself(port_path, opened, packed):
    features = (NF.STATUS,) + ctrl.FEATURES
    session = opened(port_path(), NetPort, packed=packed, features=features)
    channel = BackendChannel()
    session.tell(Req.SET_BACKEND_REQ_FD, b"", [channel.remote_fd])
    channel.handed_over()
    guest = Control(session)
    assert status(session) == net.LINK_UP
    guest.mode(ctrl.ALLMULTI, True)
    base = session.get_vring_base(guest.index)
    assert channel.wire.silent(0.02)
    session.start_queue(guest.queue, base=base)
    assert channel.recv().request == p.BackendReq.CONFIG_CHANGE_MSG
    assert status(session) == net.LINK_UP | ANNOUNCE
    assert guest.ask(ctrl.ANNOUNCE, 1) == ERR
    guest.do(ctrl.ANNOUNCE, 0)
    assert status(session) == net.LINK_UP
    channel.close()


# a stop, a reset


def test_what_was_asked_for_holds_after_a_stop_and_not_after_a_reset(control):
    session, guest = control()
    guest.mode(ctrl.PROMISC, False)
    bases = session.stop()
    for queue in session.queues.values():
        session.start_queue(queue, base=bases[queue.index])
    assert not reaches(session, frame_for(OTHER)) and reaches(session, frame_for(MINE))
    session.tell(Req.RESET_DEVICE)
    session.set_features(session.features)
    session.received = {}
    for index in (0, 1):
        session.start_queue(Queue(index, session.new_ring(128)))
    session.post(0, 32)
    assert reaches(session, frame_for(OTHER))


@both_kinds
def test_what_was_asked_for_holds_when_features_are_said_again_but_not_for_another_driver(control, packed):
    """Which begins with the same ones, and without a reset: its control queue begins anew."""
    session, guest = control(packed=packed)
    guest.mode(ctrl.PROMISC, False)
    bases = session.stop()
    session.set_features(session.features)
    for queue in session.queues.values():
        session.start_queue(queue, base=bases[queue.index])
    assert not reaches(session, frame_for(OTHER)) and reaches(session, frame_for(MINE))
    session.stop()
    session.set_features(session.features)
    session.received = {}
    for index in (0, 1):
        session.start_queue(Queue(index, session.new_ring(128)))
    session.post(0, 32)
    guest = Control(session)
    assert reaches(session, frame_for(OTHER))
    guest.mode(ctrl.PROMISC, False)
    assert not reaches(session, frame_for(OTHER)) and reaches(session, frame_for(MINE))


@both_kinds
def test_what_another_back_end_was_told_is_not_filtered_by(control, packed):
    """A driver that goes on says its modes and its table again with each change, its VLANs never, and its address when
    that changes."""
    session, guest = control(packed=packed)
    guest.vlan(5)
    guest.address(OTHER)
    bases = session.stop()
    session.tell(Req.RESET_DEVICE)      # forgets it all; the driver has not begun anew
    session.set_features(session.features)
    for queue in session.queues.values():
        session.start_queue(queue, base=bases[queue.index])
    guest.mode(ctrl.PROMISC, False)
    for vlan in (None, 5, 6):
        assert reaches(session, frame_for(OTHER, vlan)) and reaches(session, frame_for(MINE, vlan))
    assert not reaches(session, frame_for(GROUP))
    guest.address(OTHER)
    for vlan in (None, 5, 6):
        session.send(frame_for(MINE, vlan))
        frame = frame_for(OTHER, vlan)
        assert session.exchange(frame).frame == packets.swapped(frame)


# commands in all shapes


@pytest.mark.parametrize("shape", [
    {}, {"packed": True}, {"indirect": True}, {"packed": True, "indirect": True}, {"in_order": True},
    {"event_idx": True}, {"packed": True, "event_idx": True}], ids=lambda shape: "-".join(shape) or "split")
def test_commands_in_descriptors_of_any_shape(control, shape):
    session, guest = control(**shape)
    data = ctrl.table([OTHER], [GROUP])
    guest.mode(ctrl.PROMISC, False)
    for pieces in (None, [2, len(data)], [1, 1, 3, len(data) - 3], [1] * (len(data) + 2)):
        guest.table()
        assert not reaches(session, frame_for(GROUP))
        guest.do(ctrl.MAC, 0, data, pieces=pieces, answer=1 if pieces is None else 3)
        assert reaches(session, frame_for(GROUP)) and reaches(session, frame_for(OTHER))


@both_kinds
def test_many_commands_at_once_are_carried_out_in_their_order(control, packed):
    session, guest = control(packed=packed)
    for i in range(30):
        guest.begin(ctrl.RX, ctrl.PROMISC, bytes((i % 2,)))
    assert [guest.answer() for _ in range(30)] == [OK] * 30
    assert reaches(session, frame_for(OTHER))
    guest.mode(ctrl.PROMISC, False)
    assert not reaches(session, frame_for(OTHER))


def test_a_sleeping_daemon_wakes_for_a_command(control):
    session, guest = control()
    threading.Event().wait(0.05)
    guest.mode(ctrl.PROMISC, False)
    assert not reaches(session, frame_for(OTHER))


@both_kinds
def test_rings_that_were_left_alone_heed_what_a_control_queue_asks_for(port, packed):
    """It starts when nothing has come for a while; and then nothing comes for it."""
    session = port("netwhole", pairs=2, packed=packed, features=ctrl.FEATURES + (NF.MAC,))
    for _ in range(2):
        threading.Event().wait(0.05)
        for pair in (0, 1):
            assert session.echo(frame_for(MINE), pair) == packets.swapped(frame_for(MINE))
    threading.Event().wait(0.05)
    guest = Control(session)
    for count in (1, 2, 1):
        threading.Event().wait(0.05)
        guest.pairs(count)
        session.wait_sent([session.send(frame_for(MINE), pair=1)], pair=1)
        if count == 1:
            assert session.quiet(1, 0.01)
        else:
            assert session.receive(1).frame == packets.swapped(frame_for(MINE))
        assert session.echo(frame_for(MINE)) == packets.swapped(frame_for(MINE))


NONSENSE = [
    (ctrl.RX, 0, b""), (ctrl.RX, 0, b"\1\1"), (ctrl.RX, 6, b"\1"), (ctrl.RX, 255, b"\1"),
    (ctrl.MAC, 0, b""), (ctrl.MAC, 0, struct.pack("<I", 1)), (ctrl.MAC, 0, struct.pack("<I", 0xffffffff)),
    (ctrl.MAC, 0, struct.pack("<I", 65) + bytes(64 * 6)), (ctrl.MAC, 0, ctrl.table([MINE]) + b"\0"),
    (ctrl.MAC, 0, struct.pack("<II", 0, 0x2aaaaaab)), (ctrl.MAC, 1, MINE[:5]), (ctrl.MAC, 1, MINE + b"\0"),
    (ctrl.MAC, 2, MINE), (ctrl.VLAN, 0, b"\5"), (ctrl.VLAN, 0, struct.pack("<H", 4096)),
    (ctrl.VLAN, 2, struct.pack("<H", 5)), (ctrl.ANNOUNCE, 0, b"\0"), (ctrl.MQ, 0, b"\2"),
    (ctrl.MQ, 7, b"\2\0"), (ctrl.OFFLOADS, 0, bytes(7)), (ctrl.OFFLOADS, 1, bytes(8)), (99, 0, b"\0"),
]


@both_kinds
def test_commands_that_make_no_sense_change_nothing(control, packed):
    session, guest = control(packed=packed)
    guest.mode(ctrl.PROMISC, False)
    for class_, command, data in NONSENSE:
        assert guest.ask(class_, command, data) == ERR, (class_, command, data)
    assert guest.ask(ctrl.RX, 0, b"", pieces=[1, 1]) == ERR
    guest.begin(ctrl.RX, 0, b"", pieces=[1])
    assert guest.answer() == ERR
    assert session.config("mac") == MINE
    assert reaches(session, frame_for(MINE)) and not reaches(session, frame_for(OTHER))


def test_commands_of_features_that_were_not_agreed_are_refused(port):
    session = port("netwhole", pairs=1, features=(NF.CTRL_VQ,))
    guest = Control(session)
    for class_, command, data in ((ctrl.RX, 0, b"\0"), (ctrl.RX, 2, b"\0"), (ctrl.MAC, 0, ctrl.table()),
                                  (ctrl.MAC, 1, OTHER), (ctrl.VLAN, 0, b"\1\0"), (ctrl.ANNOUNCE, 0, b""),
                                  (ctrl.MQ, 0, b"\1\0"), (ctrl.OFFLOADS, 0, bytes(8))):
        assert guest.ask(class_, command, data) == ERR, (class_, command)


def test_a_disabled_control_queue_refuses_everything(control):
    session, guest = control()
    session.set_vring_enable(guest.index, False)
    assert guest.ask(ctrl.RX, ctrl.PROMISC, b"\0") == ERR
    assert reaches(session, frame_for(OTHER))
    session.set_vring_enable(guest.index)
    guest.mode(ctrl.PROMISC, False)
    assert not reaches(session, frame_for(OTHER))


@both_kinds
def test_a_command_without_room_for_its_answer_breaks_its_ring_and_no_other(net_scene, packed):
    session = net_scene.open(packed=packed, features=ctrl.FEATURES)
    guest = Control(session)
    guest.begin(ctrl.RX, 0, b"\1", answer=0)
    net_scene.broken(session, "vring %d .*request" % guest.index, queue=guest.index)
    net_scene.goes_on(session)


def test_a_bad_address_breaks_the_control_queue_and_no_other(net_scene):
    session = net_scene.open(features=ctrl.FEATURES)
    guest = Control(session)
    guest.queue.ring.add([(0xdead_0000_0000, 3, False), (session.mem.alloc(64), 1, True)], None)
    guest.queue.notify()
    net_scene.broken(session, "vring %d .*outside of guest memory" % guest.index, queue=guest.index)
    net_scene.goes_on(session)


def test_a_control_queue_that_was_not_agreed_does_not_start(port, refused):
    session = port("netwhole", pairs=2)
    queue = Queue(4, session.new_ring(64))
    session.set_vring_num(4, 64)
    session.set_vring_base(4, 0)
    session.set_vring_addr(4, queue.ring)
    assert refused(session, Req.SET_VRING_KICK, p.U64.pack(4), [queue.kick.fd]) == "error"
    queue.close()
    assert session.echo(frame_for(MINE)) == packets.swapped(frame_for(MINE))


def test_the_answer_is_in_the_dirty_log(port, log_of):
    session = port(features=ctrl.FEATURES, pairs=1)
    guest = Control(session)
    log = log_of(session)
    session.set_log(log)
    session.set_features(session.features | p.bits(F.LOG_ALL))
    mem, blocks = session.mem, []
    (text, _), = session.cut(blocks, 3)
    (room, _), = session.cut(blocks, 1, align=4096)
    mem.scatter([(text, 3)], bytes((ctrl.RX, ctrl.PROMISC, 1)))
    guest.queue.ring.add([(text, 3, False), (room, 1, True)], "command")
    guest.queue.notify()
    assert guest.queue.wait_used() == [("command", 1)]
    assert room // 4096 in log.pages()


# RARP


def rarp(mac):
    return p.U64.pack(int.from_bytes(mac, "little"))


def test_rarp_is_sent_as_if_by_the_guest(port):
    """The port sends it back, with its addresses swapped."""
    session = port()
    assert session.protocol_offered >> PF.RARP & 1
    for _ in range(3):
        assert session.ack(Req.SEND_RARP, rarp(OTHER)) == 0
        frame = session.receive().frame
        assert frame[:14] == OTHER + BROADCAST + b"\x80\x35" and len(frame) >= 60
        assert frame[14:42] == struct.pack("!HHBBH", 1, 0x800, 6, 4, 3) + OTHER + bytes(4) + OTHER + bytes(4)
    for wrong in (bytes(6), BROADCAST, GROUP):
        assert session.ack(Req.SEND_RARP, rarp(wrong)) != 0
    assert session.quiet(seconds=0.01)


def test_rarp_that_comes_before_the_rings_is_sent_when_they_run(port_path, opened):
    session = NetPort(port_path())
    opened.later(session)
    session.negotiate(protocol={PF.REPLY_ACK, PF.RARP})
    session.set_mem_table(GuestMemory())
    assert session.ack(Req.SEND_RARP, rarp(OTHER)) == 0
    session.start_queue(Queue(0, session.new_ring(64)))
    session.post(0, 4)
    session.start_queue(Queue(1, session.new_ring(64)))
    assert session.receive().frame[:14] == OTHER + BROADCAST + b"\x80\x35"
