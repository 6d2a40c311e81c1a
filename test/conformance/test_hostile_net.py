# SPDX-License-Identifier: BSD-3-Clause
"""Front ends of network ports that lie about packets, cut off what they have shared, block, storm,
and say things out of order while packets flow. Each costs its own session at most; the neighbour's
packets never stop.

What is in the rings is in test_hostile_net_rings.py.
"""

import itertools
import os
import random
import re
import threading
import time
from contextlib import suppress

import pytest

from scene import expect_refusal
from vhostuser import (BackendChannel, Closed, DirtyLog, F, GuestMemory, NF, NetHeader, NetPort,
                       Queue, Region, Req, Wire, packets, pattern)
from vhostuser import net
from vhostuser import protocol as p
from vhostuser.dirtylog import start_logging
from vhostuser.flow import Flow, flow
from vhostuser.frontend import EVENTFD_FULL, make_blocking
from vhostuser.packets import ETHER, TCP, UDP

MB = 1 << 20
LOST = r"truncate|SIGBUS|bus error|vanish|lost|gone|fault"
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
SENDS = (NF.CSUM, NF.HOST_TSO4, NF.HOST_TSO6, NF.HOST_UFO)
TAKES = (NF.GUEST_CSUM, NF.GUEST_TSO4, NF.GUEST_TSO6, NF.GUEST_UFO)
taking = pytest.mark.parametrize("takes", [(), (NF.GUEST_CSUM,), TAKES],
                                 ids=["nothing", "checksums", "all"])


def silent_about(session, header, frame, **sending):
    """It is sent; whatever happens to it, the port goes on with the next one."""
    session.send(frame, header=header, **sending)
    mark = packets.plain(77, 100)
    session.send(mark)
    found = []
    for _ in range(300):
        found.append(session.receive())
        if found[-1].frame == packets.swapped(mark):
            return found[:-1]
    raise AssertionError("the port has not gone on")


# packets that lie


def bad_headers():
    """What makes no sense. librte_vhost takes it for no offload at all, and the packet goes on as it
    is; the direct path drops it, but for sums of another kind than TCP's and UDP's, which it carries
    and completes wherever they are, as the specification has it (VIRTIO 1.2, 5.1.6.2)."""
    made = packets.segment(4, TCP, pattern(1, 3000), gso_size=1400)
    good = made.header
    yield "sum behind the packet", good._replace(gso_type=0, csum_start=len(made.frame))
    yield "sum far behind the packet", good._replace(gso_type=0, csum_start=0xffff)
    yield "sum field behind the packet", good._replace(gso_type=0, csum_offset=0xffff)
    yield "sum field half behind the packet", good._replace(
        gso_type=0, csum_offset=len(made.frame) - made.l4 - 1)
    yield "both", good._replace(gso_type=0, csum_start=0xffff, csum_offset=0xffff)
    yield "sum in the Ethernet header", good._replace(gso_type=0, csum_start=0, csum_offset=0)
    yield ODD_SUM + " in the first byte", good._replace(gso_type=0, csum_offset=0)
    yield ODD_SUM + " in the last two bytes", good._replace(
        gso_type=0, csum_offset=len(made.frame) - made.l4 - 2)
    yield ODD_SUM + " of another protocol", good._replace(gso_type=0, csum_offset=6)
    yield "segments of nothing", good._replace(gso_size=0)
    yield "unknown segments", good._replace(gso_type=2)
    yield "UDP segments of TCP", good._replace(gso_type=net.GSO_UDP)
    yield "segments without a sum", good._replace(flags=0)
    yield "segments with another sum", good._replace(csum_offset=6)
    yield "all bits", NetHeader(255, 255, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)


ODD_SUM = "odd sum"
#: librte_vhost does not ask for a sum where segmentation is asked for.
LENIENT = ("segments without a sum", "segments with another sum")


@taking
@pytest.mark.parametrize("name,header", list(bad_headers()), ids=[name for name, _ in bad_headers()])
def test_offloads_that_make_no_sense(net_scene, datapath, takes, name, header):
    session = net_scene.open(features=SENDS + takes, buffers=64)
    made = packets.segment(4, TCP, pattern(1, 3000), gso_size=1400)
    found = silent_about(session, header, made.frame)
    if datapath == "direct" and not name.startswith(ODD_SUM):
        assert not found
    elif name not in LENIENT:
        (packet,) = found
        carried = datapath == "direct" and takes
        completed = datapath == "direct" and not takes
        wanted = summed(made, header) if completed else made.frame
        assert packet.frame == packets.swapped(wanted)
        shown = header._replace(gso_size=0, hdr_len=0) if carried else NetHeader()
        assert packet.header._replace(num_buffers=0) == shown
    net_scene.goes_on(session)


def summed(made, header):
    """The frame with the sum in it for which this header asks."""
    at = header.csum_start + header.csum_offset
    total = packets.sum16(made.frame[header.csum_start:]) ^ 0xffff
    return changed(made, at, (total or 0xffff).to_bytes(2, "big"))


def changed(made, at, value):
    return made.frame[:at] + value + made.frame[at + len(value):]


def lying_frames():
    """Frames whose headers do not agree with their length or with what is asked for them."""
    for version, protocol, gso_size in itertools.product((4, 6), (TCP, UDP), (0, 1400)):
        made = packets.segment(version, protocol, pattern(1, 3000), gso_size=gso_size)
        for size in (0, 1, 13, 14, 15, 33, 34, 35, 41, 42, 53, 54, 55, 61, 62, 73, 74):
            yield made.header, made.frame[:size]
        for value in (b"\0\0", b"\0\x14", b"\xff\xff"):
            yield made.header, changed(made, ETHER + (2 if version == 4 else 4), value)
        for value in range(16):
            yield made.header, changed(made, ETHER, bytes(((made.frame[ETHER] & 0xf0) | value,)))
            if protocol == TCP:
                yield made.header, changed(made, made.l4 + 12, bytes((value << 4,)))
        for value in (b"\0\0", b"\0\1", b"\0\7", b"\xff\xff"):
            yield made.header, changed(made, made.l4 + 4, value)
        for kind in (0, 1, 6, 17, 41, 58, 132, 255):
            yield made.header, changed(made, ETHER + (9 if version == 4 else 6), bytes((kind,)))
        for ethertype in (b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", b"\0\0"):
            yield made.header, changed(made, 12, ethertype)
        for size in (1, 7, 8, 9, 65535):
            yield made.header._replace(gso_size=size), made.frame
        yield made.header._replace(gso_type=made.header.gso_type | net.GSO_ECN), made.frame
        if version == 4:
            yield made.header, changed(made, ETHER + 6, b"\x20\0")
            yield made.header, changed(made, ETHER + 6, b"\x1f\xff")


@taking
def test_frames_that_are_not_what_they_say(net_scene, takes):
    session = net_scene.open(features=SENDS + takes, buffers=200, size=256)
    for header, frame in lying_frames():
        silent_about(session, header, frame)
    net_scene.goes_on(session)


def test_segments_of_tcp_whose_header_is_too_short_are_dropped(net_scene):
    """Their pieces would have no room for what is written into each."""
    for takes in ((), TAKES):
        session = net_scene.open(features=SENDS + takes, buffers=64)
        made = packets.segment(4, TCP, pattern(1, 3000), gso_size=1400)
        for words in range(5):
            frame = changed(made, made.l4 + 12, bytes((words << 4,)))
            assert not silent_about(session, made.header, frame)
        session.close()


@taking
def test_packets_longer_than_any_ip_packet_are_dropped(net_scene, takes):
    """Also those that are to be segmented."""
    session = net_scene.open(features=SENDS + takes, buffers=64, size=256)
    for gso_size in (0, 1400):
        for version in (4, 6):
            made = packets.segment(version, TCP, pattern(1, 1000), gso_size=gso_size)
            frame = made.frame + bytes(65536 + 22 - len(made.frame))
            assert not silent_about(session, made.header, frame)


@taking
@pytest.mark.parametrize("seed", range(3))
def test_headers_of_noise(net_scene, takes, seed):
    chance = random.Random(seed)
    session = net_scene.open(features=SENDS + takes, buffers=200, size=256)
    bases = [packets.segment(version, protocol, pattern(seed, size), gso_size=1400)
             for version, protocol, size in itertools.product((4, 6), (TCP, UDP), (0, 30, 5000))]
    for _ in range(400):
        made = chance.choice(bases)
        header = list(made.header)
        for _ in range(chance.randrange(4)):
            at = chance.randrange(6)
            header[at] = chance.choice((0, 1, 2, 3, 14, 34, 0xff, chance.getrandbits(16)))
            header[at] &= 0xff if at < 2 else 0xffff
        frame = bytearray(made.frame)
        for _ in range(chance.randrange(4)):
            frame[chance.randrange(12, min(80, len(frame)))] = chance.getrandbits(8)
        silent_about(session, NetHeader(*header), bytes(frame))
    net_scene.goes_on(session)


def test_sums_tell_nothing_of_what_others_have_sent(net_scene):
    """Packet buffers are those of all ports. The sum over the second one of a frame goes into the first one."""
    former = net_scene.open(buffers=64)
    secret = packets.THERE + packets.HERE + b"\x88\xb5" + bytes(range(1, 251)) * 4
    for _ in range(400):
        former.send(secret)
        former.receive()
    former.close()
    session = net_scene.open(features=(NF.CSUM,), buffers=64)
    for start in range(2062, 2110, 2):
        frame = packets.plain(3, 2048) + bytes(start + 2 - 2048)
        header = NetHeader(1, csum_start=start, csum_offset=(100 - start) & 0xffff)
        for found in silent_about(session, header, frame, pieces=[12 + 2048, len(frame) - 2048]):
            assert found.frame[100:102] in (packets.swapped(frame)[100:102], b"\0\0", b"\xff\xff")


# files that are cut


@both_kinds
@pytest.mark.parametrize("which", ["sending", "receiving"])
def test_buffers_are_cut_off(net_scene, packed, which):
    session = net_scene.open(packed=packed, regions=(0, 0, 0), buffers=0)
    region = session.mem.regions[2]
    session.mem.write(region.gpa, bytes(region.size))
    buffer = session.buffer(2048)
    if which == "receiving":
        buffer.parts = [(region.gpa + 65536, 2048)]
    sent = session.prepare(packets.plain(1, 1000))
    if which == "sending":
        sent.parts = [(region.gpa + 65536, 1012)]
    region.truncate(0)
    session.put_buffer(buffer)
    session.submit([sent])
    net_scene.ended(session, LOST)


@both_kinds
@pytest.mark.parametrize("cut", [0, 3 * MB])
@pytest.mark.parametrize("delay", [0, 0.001, 0.01])
def test_memory_is_cut_under_a_flow(net_scene, packed, cut, delay):
    session = net_scene.open(packed=packed, pairs=2, size=256, regions=(0, 0, 0), buffers=0)
    region = session.mem.regions[2]
    for pair in (0, 1):
        for i in range(128):
            buffer = session.buffer(64)
            buffer.parts = [(region.end - (i + 1) * 2048, 2048)]
            session.put_buffer(buffer, pair, False)
        session.receiving(pair).notify()
        session.submit([session.prepare(packets.plain(i, 1500)) for i in range(100)], pair)
    time.sleep(delay)
    region.truncate(cut)
    for pair in (0, 1):
        session.submit([session.prepare(packets.plain(i, 1500)) for i in range(28)], pair)
        session.sending(pair).kick.signal()
    net_scene.ended(session, LOST)


#: Packed or not, which part, of the ring that sends or not. The device area of a packed ring that
#: receives is not there: nobody writes to it while the ring runs.
PARTS = {"%s-%s-%s" % ("packed" if packed else "split", name, "sending" if sending else "receiving"):
         (packed, part, sending)
         for packed in (False, True) for sending in (False, True)
         for part, name in enumerate(("descriptors", "available", "used"))
         if (packed, part, sending) != (True, 2, False)}


@pytest.mark.parametrize("packed, part, sending", PARTS.values(), ids=PARTS.keys())
def test_one_part_of_a_ring_is_cut_off(net_scene, packed, part, sending):
    """Of the ring that receives, too, which is looked at when a packet comes for it."""
    regions = [0, 0, 0]
    regions[part] = 2
    session = net_scene.bare(features=(F.EVENT_IDX,) + ((F.RING_PACKED,) if packed else ()))
    session.set_mem_table(GuestMemory())
    for index in (0, 1):
        where = tuple(regions) if (index == 1) == sending else (0, 0, 0)
        session.start_queue(Queue(index, session.new_ring(64, regions=where)))
    session.post(0, 8)
    flow(session, 4)
    time.sleep(0.03)
    queue = session.sending()
    buffer = session.prepare(packets.plain(1, 100))
    queue.ring.add([(gpa, length, False) for gpa, length in buffer.parts], buffer)
    session.mem.regions[2].truncate(0)
    shown_in = 0 if packed else 1
    if not (sending and part == shown_in):      # we would touch what is lost ourselves
        queue.ring.show()
    queue.kick.signal()
    net_scene.ended(session, LOST)


@both_kinds
def test_rings_are_gone_before_they_start(net_scene, packed):
    """Between SET_MEM_TABLE and the start: it is the library's thread that looks first."""
    session = net_scene.bare(features=(F.RING_PACKED,) if packed else ())
    session.set_mem_table(GuestMemory())
    for index in (0, 1):
        queue = Queue(index, session.new_ring(64, regions=(2, 2, 2)))
        session.queues[index] = queue
        session.set_vring_num(index, 64)
        session.set_vring_base(index, queue.ring.base)
        session.set_vring_addr(index, queue.ring)
    session.mem.regions[2].truncate(0)
    with suppress(Closed):  # the first look ends the session
        for index in (0, 1):
            session.wire.send(Req.SET_VRING_KICK, p.U64.pack(index),
                              [session.queues[index].kick.fd], need_reply=True)
            session.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(index, 1), need_reply=True)
    net_scene.ended(session, LOST)


@both_kinds
@pytest.mark.parametrize("then", ["stop", "table", "address", "log"])
def test_rings_are_gone_when_something_changes(net_scene, packed, then):
    """The session ends, then or with the next look at the ring."""
    session = net_scene.open(packed=packed, regions=(2, 2, 2))
    flow(session, 4)
    time.sleep(0.03)
    session.mem.regions[2].truncate(0)
    with suppress(Closed):
        if then == "stop":
            session.wire.send(Req.GET_VRING_BASE, p.VRING_STATE.pack(0, 0))
        elif then == "table":
            payload, fds = session.mem.table()
            session.wire.send(Req.SET_MEM_TABLE, payload, fds)
        elif then == "address":
            session.set_vring_addr(1, session.sending().ring)
        else:
            start_logging(session, DirtyLog(session.mem.max_gpa))
    session.sending().kick.signal()
    net_scene.ended(session, LOST + "|file is shorter")


def test_memory_on_a_file_that_is_too_short(net_scene):
    session = net_scene.bare()
    memory = GuestMemory()
    memory.regions[1].truncate(4096)
    payload, fds = memory.table()
    assert expect_refusal(session, Req.SET_MEM_TABLE, payload, fds) == "error"
    net_scene.reason("shorter than the memory region")
    memory.close()


@both_kinds
@pytest.mark.parametrize("flowing", [False, True], ids=["idle", "flowing"])
def test_the_dirty_log_is_cut_off(net_scene, packed, flowing):
    session = net_scene.open(packed=packed)
    log = DirtyLog(session.mem.max_gpa)
    start_logging(session, log)
    flow(session, 4)
    if not flowing:
        os.ftruncate(log.fd, 0)
        session.send(packets.plain(1, 1000))
    else:
        session.submit([session.prepare(packets.plain(i, 1000)) for i in range(60)])
        os.ftruncate(log.fd, 0)
        session.submit([session.prepare(packets.plain(i, 1000)) for i in range(60)])
    net_scene.ended(session, LOST)
    log.close()


def test_the_dirty_log_is_gone_before_it_is_used(net_scene):
    session = net_scene.open()
    log = DirtyLog(session.mem.max_gpa)
    session.set_log(log)
    os.ftruncate(log.fd, 0)
    with suppress(Closed):
        session.set_features(session.features | p.bits(F.LOG_ALL))
        session.send(packets.plain(1, 1000))
    net_scene.ended(session, LOST)
    log.close()


# notifications


@both_kinds
@pytest.mark.parametrize("index", [0, 1], ids=["receiving", "sending"])
def test_a_call_fd_that_blocks_ends_its_session_and_nothing_else(net_scene, packed, index):
    session = net_scene.open(packed=packed)
    flow(session, 4)
    queue = session.queues[index]
    queue.ring.disarm()
    queue.call.count()
    os.eventfd_write(queue.call.fd, EVENTFD_FULL)
    make_blocking(queue.call.fd)
    queue.ring.arm()
    count = net_scene.neighbour.count
    session.send(packets.plain(1, 100))
    net_scene.ended(session, r"block")
    net_scene.neighbour.check(count)
    os.set_blocking(queue.call.fd, False)
    # The slot takes nobody for a second: those who come are closed.
    with NetPort.open(net_scene.path) as again:
        net_scene.goes_on(again)


@both_kinds
def test_a_storm_of_kicks_for_nothing(net_scene, packed):
    session = net_scene.open(packed=packed, pairs=2)
    count = net_scene.neighbour.count
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        for _ in range(100):
            session.sending(0).kick.signal()
            session.receiving(1).kick.signal()
    net_scene.neighbour.check(count)
    net_scene.goes_on(session)


# state


def test_features_cannot_change_while_rings_run(net_scene):
    session = net_scene.open()
    flow(session, 4)
    for change in (p.bits(F.RING_PACKED), p.bits(NF.MRG_RXBUF), p.bits(NF.CSUM), p.bits(F.EVENT_IDX),
                   1 << 63, p.bits(NF.GUEST_ECN)):
        assert expect_refusal(session, Req.SET_FEATURES,
                              p.U64.pack(session.features ^ change)) == "error"
    flow(session, 8)


def test_rings_of_nonsense_do_not_start(net_scene):
    """Sizes, bases and addresses: refused with a reason, and a start as it should be then works."""
    for packed in (False, True):
        session = net_scene.bare(features=(F.RING_PACKED,) if packed else ())
        session.set_mem_table(GuestMemory())
        queue = Queue(0, session.new_ring(64))
        session.queues[0] = queue
        desc, used, avail = queue.ring.addresses()
        start = (Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd])
        assert expect_refusal(session, *start) == "error"
        for size in (0, 32769, 65535, 65536, 0xffffffff):
            assert expect_refusal(session, Req.SET_VRING_NUM, p.VRING_STATE.pack(0, size)) == "error"
        sizes = (3, 100) if not packed else ()
        for size in sizes:
            session.set_vring_num(0, size)
            session.set_vring_addr(0, queue.ring)
            assert expect_refusal(session, *start) == "error"
        session.set_vring_num(0, 64)
        for base in (65536, 0xffffffff) if not packed else (64, 0x8040, 64 << 16, 0xffffffff):
            session.set_vring_base(0, base)
            assert expect_refusal(session, *start) == "error"
        session.set_vring_base(0, queue.ring.base)
        for bad in ((desc + 8, used, avail), (desc, used + 2, avail), (desc, used, avail + 1),
                    (0, 0, 0), ((1 << 64) - 16, used, avail), (desc, used, (1 << 64) - 2)):
            session.tell(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, 0, *bad, 0))
            assert expect_refusal(session, *start) == "error"
        session.set_vring_addr(0, queue.ring)
        session.set_vring_call(0, queue.call)
        session.set_vring_kick(0, queue.kick)
        session.start_queue(Queue(1, session.new_ring(64)))
        session.set_vring_enable(0)
        session.post(0, 8)
        net_scene.goes_on(session)
        session.close()


def test_bases_are_asked_for_all_the_time_while_packets_flow(net_scene):
    session = net_scene.open(pairs=2, size=64)
    with Flow(session, 1):
        for turn in range(150):
            session.get_vring_base(0)
            session.get_vring_base(0)
            session.get_vring_base(1)
            for index in (0, 1):
                session.start_queue(session.queues[index])
    net_scene.goes_on(session)
    net_scene.goes_on(session, 1)


def test_everything_changes_at_once_while_packets_flow(net_scene):
    """In no order that makes sense; what is refused is refused."""
    session = net_scene.open(pairs=2, size=64)
    log = DirtyLog(session.mem.max_gpa)
    extra = Region(0x2_0000_0000, MB, 0x7e90_0000_0000)
    chance = random.Random(5)
    table, fds = session.mem.table()
    state = p.VRING_STATE.pack
    steps = [
        lambda: session.ack(Req.SET_MEM_TABLE, table, fds),
        lambda: session.ack(Req.ADD_MEM_REG, p.U64.pack(0) + extra.payload(), [extra.fd]),
        lambda: session.ack(Req.REM_MEM_REG, p.U64.pack(0) + extra.payload()),
        lambda: session.ask(Req.SET_LOG_BASE, log.payload, [log.fd]).close(),
        lambda: session.ack(Req.SET_FEATURES, p.U64.pack(session.features | p.bits(F.LOG_ALL))),
        lambda: session.ack(Req.SET_FEATURES, p.U64.pack(session.features)),
        lambda: session.ack(Req.SET_VRING_ENABLE, state(chance.randrange(2), chance.randrange(2))),
        lambda: session.ack(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(
            0, 0, *session.receiving().ring.addresses(), 0)),
        lambda: session.ack(Req.SET_VRING_BASE, state(chance.randrange(2), chance.getrandbits(32))),
        lambda: session.ack(Req.SET_VRING_NUM, state(chance.randrange(2), 64)),
        lambda: session.ack(Req.NET_SET_MTU, p.U64.pack(chance.getrandbits(17))),
    ]
    with Flow(session, 1) as flowing:
        for _ in range(150):
            chance.choice(steps)()
            if chance.random() < 0.2:
                flowing.more(1)
    session.fence()
    log.close()
    extra.close()


def test_what_is_for_other_devices_is_refused(net_scene):
    session = net_scene.open()
    for request, payload in ((Req.GET_INFLIGHT_FD, p.INFLIGHT.pack(0, 0, 2, 64)),
                             (Req.SEND_RARP, p.U64.pack(0)),
                             (Req.IOTLB_MSG, p.IOTLB.pack(0, 4096, 0, 3, 2))):
        other = net_scene.bare() if False else session
        if expect_refusal(other, request, payload) == "closed":
            session = net_scene.open()
    net_scene.goes_on(session)


# connections


@both_kinds
def test_hanging_up_in_the_middle_of_bursts(net_scene, packed):
    for turn in range(30):
        session = net_scene.open(packed=packed, pairs=2, size=256, buffers=64)
        for pair in (0, 1):
            session.submit([session.prepare(packets.plain(i, 1500)) for i in range(200)], pair)
        if turn % 3:
            time.sleep(0.0003 * (turn % 3))
        session.close()
    assert net_scene.stage.wait_unmapped(net_scene.before) == []


def test_hanging_up_at_each_step_of_the_start(net_scene):
    """Each message of a start is the last one of some session."""
    memory = GuestMemory()
    for last in range(40):
        wire = Wire.connect_served(net_scene.path)
        session = Counted(wire, last)
        net_scene.sessions.append(session)
        try:
            session.negotiate((NF.MRG_RXBUF,))
            session.set_mem_table(memory)
            for index in (0, 1):
                session.start_queue(Queue(index, session.new_ring(64)))
            session.mem = None
            break
        except Enough:
            session.mem = None
            session.close()
            for region in memory.regions:
                region.next_free = region.gpa
    else:
        raise AssertionError("a start has more messages than this test knows")
    memory.close()


class Enough(Exception):
    """As many messages as were wanted."""


class Counted(NetPort):
    """A session that hangs up behind a number of messages, without waiting for their answers."""

    def __init__(self, wire, last):
        super().__init__(wire=wire)
        self.left = last
        send = wire.send

        def counted(*arguments, **keywords):
            send(*arguments, **keywords)
            self.left -= 1
            if self.left < 0:
                raise Enough

        wire.send = counted


# the log


def test_what_hostile_front_ends_cause_is_not_a_flood(net_scene):
    """Neither our lines nor the library's: at most 10 at once and one more each second, a slot."""
    begin = time.monotonic()
    chance = random.Random(1)
    for turn in range(40):
        session = net_scene.open(buffers=0)
        for ring, sending in ((session.sending().ring, True), (session.receiving().ring, False)):
            for _ in range(20):
                ring.add([(chance.getrandbits(64), 512, not sending)])
        session.receiving().notify()
        for _ in range(20):
            session.sending().kick.signal()
        for _ in range(10):
            expect_refusal(session, Req.SET_VRING_NUM, p.VRING_STATE.pack(99, 1))
        session.close()
    seconds = time.monotonic() - begin
    said = net_scene.stage.log[net_scene.since:]
    assert "VHOST" not in said
    about = [line for line in said.splitlines()
             if re.search(r"\b%s\b" % net_scene.name, line)
             and not re.search(r"front end (dis)?connected", line)]
    assert 1 <= len(about) <= 10 + seconds + 1, "\n".join(about)


def test_sessions_alone_do_not_flood_the_log(net_scene):
    """Nor does the library tell of each of its devices."""
    for _ in range(20):
        net_scene.open().close()
    assert "VHOST" not in net_scene.stage.log[net_scene.since:]
