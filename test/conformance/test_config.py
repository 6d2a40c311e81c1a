# SPDX-License-Identifier: BSD-3-Clause
"""The configuration space of a block device: reading, the one writable field, and what is answered
with an error."""

import pytest

from vhostuser import F
from vhostuser import blk
from vhostuser import protocol as p

WCE = 32                                # offset of "writeback", the only field a driver may write


def test_capacity_is_the_size_of_the_disk_in_sectors(plain, stage, opened):
    assert plain().config("capacity") == (64 << 20) // 512
    assert opened(stage.path("victim0")).config("capacity") == (4 << 20) // 512


def test_fields_that_depend_on_features_are_sensible(plain):
    disk = plain()
    assert disk.config("blk_size") in (512, 4096)
    assert disk.config("seg_max") >= 1
    assert disk.config("size_max") >= 4096
    assert disk.config("num_queues") == 4
    assert disk.config("physical_block_exp") < 16
    assert disk.config("alignment_offset") == 0


def test_any_part_of_the_space_reads_as_the_same_bytes(plain):
    disk = plain()
    whole = disk.get_config(0, 60)
    for offset, size in ((0, 1), (1, 7), (8, 4), (20, 16), (59, 1), (0, 60)):
        assert disk.get_config(offset, size) == whole[offset:offset + size]


def test_the_space_may_be_read_as_if_it_began_at_0x100(plain):
    """Where rust-vmm has it; the answer names the offset that was asked for."""
    disk = plain()
    for offset, size in ((0, 60), (0, 256), (32, 1), (255, 1)):
        assert disk.get_config(0x100 + offset, size) == disk.get_config(offset, size)


def test_reading_does_not_depend_on_what_the_request_carries(plain):
    disk = plain()
    expected = disk.get_config(0, 60)
    reply = disk.ask(24, p.CONFIG_HEADER.pack(0, 60, 0) + b"\xff" * 60)
    assert reply.payload[12:] == expected


def test_the_flag_for_migration_reads_the_same(plain):
    disk = plain()
    assert disk.get_config(0, 60, p.CONFIG_MIGRATION) == disk.get_config(0, 60)


@pytest.mark.parametrize("offset, size", [(255, 2), (1, 256), (257, 256), (511, 2), (512, 1), (4096, 4),
                                          (0xffffffff, 2), (0xffffff00, 256)])
def test_a_read_beyond_the_space_is_answered_with_an_empty_payload(plain, offset, size):
    disk = plain()
    disk.wire.send(24, p.CONFIG_HEADER.pack(offset, size, 0) + bytes(size))
    reply = disk.wire.recv_reply(24)
    assert reply.payload == b""
    assert disk.config("capacity") == (64 << 20) // 512
    disk.read(0, 512)


@pytest.mark.parametrize("size, carried", [(8, 0), (8, 4), (4, 8), (60, 61), (257, 256),
                                           (0xffffffff, 256), (257, 257)])
def test_a_read_whose_sizes_disagree_is_answered_without_a_byte_too_many(plain, size, carried):
    """The front end's request has room for what it asks for; if not, an error is the answer, or
    just the bytes asked for."""
    disk = plain()
    disk.wire.send(24, p.CONFIG_HEADER.pack(0, size, 0) + bytes(carried))
    try:
        reply = disk.wire.recv_reply(24)
    except Exception as error:
        assert type(error).__name__ == "Closed"
        return
    assert len(reply.payload) in (0, p.CONFIG_HEADER.size + size)


def test_write_back_can_be_switched_by_the_driver(plain):
    disk = plain(features=(F.BLK_CONFIG_WCE, F.BLK_FLUSH))
    first = disk.config("writeback")
    assert first in (0, 1)
    for value in (1 - first, first):
        assert disk.set_config(WCE, bytes((value,))) == 0
        assert disk.config("writeback") == value
        disk.write(0, bytes((value,)) * 512)
        disk.flush()
        assert disk.read(0, 512) == bytes((value,)) * 512


def test_write_back_has_two_values(plain):
    disk = plain(features=(F.BLK_CONFIG_WCE, F.BLK_FLUSH))
    before = disk.config("writeback")
    assert disk.set_config(WCE, b"\2") != 0 or disk.config("writeback") in (0, 1)
    disk.set_config(WCE, bytes((before,)))
    assert disk.config("writeback") == before


def test_a_new_session_inherits_write_through(plain):
    """It may be the same guest after a reconnect, which has stopped to flush when it chose that.
    test_write_through.py has more."""
    disk = plain(features=(F.BLK_CONFIG_WCE, F.BLK_FLUSH))
    assert disk.set_config(WCE, b"\0") == 0
    disk.close()
    assert plain(features=(F.BLK_CONFIG_WCE, F.BLK_FLUSH)).config("writeback") == 0


@pytest.mark.parametrize("name", [name for name in blk.CONFIG if name != "writeback"])
def test_a_read_only_field_cannot_be_written(plain, name):
    disk = plain(features=(F.BLK_CONFIG_WCE,))
    before = disk.get_config(0, 60)
    assert disk.set_config(blk.CONFIG[name][0], b"\x11\x22") != 0
    assert disk.get_config(0, 60) == before


@pytest.mark.parametrize("offset, size", [(31, 2), (32, 2), (32, 4), (0, 60), (0, 256), (256, 1),
                                          (0xffffffff, 1)])
def test_a_write_that_changes_more_than_the_writable_field_changes_nothing(plain, offset, size):
    disk = plain(features=(F.BLK_CONFIG_WCE,))
    before = disk.get_config(0, 256)
    data = bytearray(before[offset:offset + size] or bytes(size))
    data[-1 if offset == WCE else 0] ^= 0x40
    assert disk.set_config(offset, bytes(data)) != 0
    assert disk.get_config(0, 256) == before
    disk.read(0, 512)


def test_without_reply_ack_a_refused_write_is_not_obeyed(plain):
    disk = plain(features=(F.BLK_CONFIG_WCE,))
    before = disk.get_config(0, 60)
    disk.wire.send(25, p.CONFIG_HEADER.pack(0, 8, 0) + bytes(8))
    try:
        assert disk.get_config(0, 60) == before
    except Exception as error:          # ending the session is the only way to tell
        assert type(error).__name__ == "Closed"
    disk.close()
    assert plain().config("capacity") == (64 << 20) // 512
