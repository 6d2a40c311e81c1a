# SPDX-License-Identifier: BSD-3-Clause
"""The dirty log of a network port: the pages of receive buffers and of the rings that the device
wrote, all of them, and no others ("Migration" in the specification)."""

import pytest

from scene import expect_refusal
from vhostuser import F, NetPort, Req, packets, pages_of, wait_until
from vhostuser import protocol as p
from vhostuser.dirtylog import start_logging, stop_logging
from vhostuser.flow import Flow, flow

FORMATS = {
    "split": {},
    "split-event_idx": {"event_idx": True},
    "split-in_order": {"in_order": True},
    "packed": {"packed": True},
    "packed-event_idx": {"packed": True, "event_idx": True},
    "packed-in_order": {"packed": True, "in_order": True},
}
every_format = pytest.mark.parametrize("format_", list(FORMATS.values()), ids=list(FORMATS))
either_way = pytest.mark.parametrize("mergeable", [False, True], ids=["whole", "mergeable"])
PAGE = p.LOG_PAGE


def lone_buffers(session, count, size=2048):
    """Receive buffers at the end of a page each, with an unused page between two."""
    made = []
    for _ in range(count):
        buffer = session.buffer(64)
        buffer.parts = [(session.mem.alloc(4 * PAGE, PAGE) + 2 * PAGE - size // 2, size)]
        made.append(session.put_buffer(buffer, notify=False))
    session.receiving().notify()
    return made


def ring_pages(session):
    """What of the rings the device writes: used rings, or descriptor rings."""
    return set().union(*(pages_of(queue.ring.log_gpa, queue.ring.used_bytes)
                         for queue in session.queues.values()))


def event_pages(session):
    """What a device writes when it asks for kicks; librte_vhost does not mark that, and the guest
    reads it again whenever it has put something into the ring."""
    return {queue.ring.device_gpa // PAGE for queue in session.queues.values()
            if queue.ring.packed}


def written(packet, buffers):
    """The pages of this packet's bytes in the buffers."""
    return set().union(*(pages_of(buffer.parts[0][0], length)
                         for buffer, length in zip(buffers, packet.lengths)))


@every_format
@either_way
@pytest.mark.parametrize("size", [14, 200, 1011, 1012, 1013, 2036])
def test_just_the_pages_of_the_packet_and_of_the_rings_are_marked(port, log_of, format_, mergeable,
                                                                  size):
    """Copies of up to 256 bytes and longer ones take different ways through the library."""
    session = port(size=64, buffers=0, mergeable=mergeable, **format_)
    log = log_of(session)
    start_logging(session, log)
    buffers = lone_buffers(session, 6)
    for buffer in buffers:
        log.clear()
        session.send(packets.plain(1, size))
        packet = session.receive(again=False)
        assert packet.frame == packets.swapped(packets.plain(1, size))
        expected = written(packet, [buffer]) | ring_pages(session)
        found = log.pages()
        assert found >= written(packet, [buffer])
        assert found <= expected | event_pages(session)


@every_format
def test_all_buffers_of_a_large_packet_are_marked(port, log_of, format_):
    session = port(size=64, buffers=0, **format_)
    log = log_of(session)
    start_logging(session, log)
    buffers = lone_buffers(session, 16)
    log.clear()
    session.send(packets.plain(1, 20000))
    packet = session.receive(again=False)
    pages = written(packet, buffers)
    assert len(packet.lengths) == 10 and len(pages) == 20
    assert pages <= log.pages() <= pages | ring_pages(session) | event_pages(session)


@every_format
def test_used_rings_are_marked(port, log_of, format_):
    session = port(size=64, buffers=8, **format_)
    log = log_of(session)
    start_logging(session, log)
    log.clear()
    flow(session, 10, most=4)
    session.reap()
    for queue in session.queues.values():
        assert log.pages() & pages_of(queue.ring.log_gpa, queue.ring.used_bytes)


@every_format
def test_a_packet_that_is_sent_marks_only_its_ring(port, log_of, format_):
    session = port(size=64, buffers=0, **format_)
    # The first look at the ring that receives asks for no kicks.
    session.wait_sent(session.submit([session.prepare(packets.plain(0, 1000))]))
    log = log_of(session)
    start_logging(session, log)
    log.clear()
    session.wait_sent(session.submit([session.prepare(packets.plain(1, 1000))]))
    ring = session.sending().ring
    assert log.pages() <= pages_of(ring.log_gpa, ring.used_bytes) | event_pages(session)
    assert log.pages()


@every_format
def test_nothing_is_marked_before_and_after(port, log_of, format_):
    session = port(size=64, **format_)
    log = log_of(session)
    session.set_log(log)
    flow(session, 20)
    assert not log.pages()
    start_logging(session, log)
    flow(session, 20)
    assert log.pages()
    stop_logging(session)
    log.clear()
    flow(session, 20)
    assert not log.pages()


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_logging_begins_and_ends_while_packets_flow(port, log_of, packed):
    """In the middle of a migration's life: each packet's pages are marked while it is on."""
    session = port(size=64, packed=packed)
    with Flow(session) as flowing:
        for _ in range(10):
            log = log_of(session)
            start_logging(session, log)
            log.clear()
            flowing.more()
            marked = log.pages()
            assert marked & pages_of(session.receiving().ring.log_gpa, 1)
            stop_logging(session)
            log.clear()
            flowing.more()
            assert not log.pages()


def test_a_new_log_takes_over_while_packets_flow(port, log_of):
    session = port(size=64)
    first = log_of(session)
    start_logging(session, first)
    with Flow(session) as flowing:
        for _ in range(10):
            second = log_of(session)
            session.set_log(second)
            first.clear()
            flowing.more()
            assert second.pages() and not first.pages()
            first = second


def test_without_the_flag_of_the_ring(port, log_of):
    """librte_vhost marks the used ring at guest address 0 then: pages too many, none too few."""
    session = port(size=64, buffers=0)
    log = log_of(session)
    start_logging(session, log, used=False)
    (buffer,) = lone_buffers(session, 1)
    log.clear()
    session.send(packets.plain(1, 300))
    pages = written(session.receive(again=False), [buffer])
    assert pages <= log.pages() <= pages | pages_of(0, 6 + 8 * 64)


def test_a_log_that_begins_within_its_file_is_served_by_the_direct_path_alone(port, log_of, datapath):
    session = port()
    log = log_of(session, 4096)
    start_logging(session, log_of(session))
    reply = session.ask(Req.SET_LOG_BASE, log.payload, [log.fd])
    assert (reply.u64 == 0) == (datapath == "direct")
    log.clear()
    flow(session, 10)
    assert bool(log.pages()) == (datapath == "direct") and not any(log.before())


@pytest.mark.plain_only
def test_logging_does_not_begin_in_a_log_that_begins_within_its_file(stage, opened, log_of):
    """On librte_vhost."""
    session = opened(stage.path("netplain-library"), NetPort)
    log = log_of(session, 4096)
    session.stop()
    session.set_log(log)
    for queue in session.queues.values():
        session.start_queue(queue)
    flow(session, 10)
    since = len(stage.log)
    features = p.U64.pack(session.features | p.bits(F.LOG_ALL))
    assert expect_refusal(session, Req.SET_FEATURES, features) == "error"
    assert stage.wait_log("no dirty log that begins within its file", since)
    flow(session, 10)
    assert not any(log.before()) and not log.pages()


def test_a_log_that_is_too_short_is_not_written_beyond(port, log_of):
    """Buffers above what the log covers: as from every other back end, nothing is marked there."""
    session = port(size=64, buffers=0, regions=(0, 0, 0))
    log = log_of(session, size_for=session.mem.regions[0].end)
    start_logging(session, log)
    buffer = session.buffer(64)
    buffer.parts = [(session.mem.regions[2].gpa + 0x10000, 2048)]
    session.put_buffer(buffer)
    log.clear()
    session.send(packets.plain(1, 300))
    session.receive(again=False)
    assert log.pages() <= ring_pages(session)


def test_descriptors_are_marked_where_the_log_has_the_address_of_the_event_suppression(port, log_of):
    """As QEMU gives it for packed rings."""
    session = port(size=64, packed=True, buffers=0)
    log = log_of(session)
    start_logging(session, log)
    for index, queue in session.queues.items():
        session.set_vring_addr(index, queue.ring, p.VRING_F_LOG, queue.ring.device_gpa)
    buffers = lone_buffers(session, 1)
    log.clear()
    session.send(packets.plain(1, 200))
    packet = session.receive(again=False)
    expected = written(packet, buffers) | ring_pages(session)
    # What is in a ring is marked right after the guest sees it.
    wait_until(lambda: expected <= log.pages())
    assert log.pages() <= expected | event_pages(session)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_log_that_does_not_cover_a_used_ring_is_refused(port, log_of, packed):
    session = port(size=64, packed=packed, regions=(2, 2, 2))
    log = log_of(session, size_for=session.mem.regions[0].end)
    session.set_log(log)
    session.set_features(session.features | p.bits(F.LOG_ALL))
    ring = session.receiving().ring
    payload = p.VRING_ADDR.pack(0, p.VRING_F_LOG, *ring.addresses(), ring.log_gpa)
    assert expect_refusal(session, Req.SET_VRING_ADDR, payload) == "error"
    flow(session, 10)
