# SPDX-License-Identifier: BSD-3-Clause
"""A guest that has switched its disk to write-through ("writeback" of the config space is 0) sends no
flushes any more, and front ends tell the field once: QEMU keeps it for itself, resets the disk when the
guest is stopped and goes on (SET_STATUS 0), and reconnects after a crash, and the guest sees none of that.
So the field never becomes 1 again but by SET_CONFIG.

What a disk in memory with a file (driver=malloc, file=) was told to write is in the file at once when it
writes through, else after the next flush: that tells what a write's acknowledgement is worth.
"""

import os

import pytest

from test_inflight import resume, start, tracked
from test_reset import resets, start_again
from vhostuser import BlkDisk, F, GuestMemory, Inflight, PF, Queue, Req, pattern
from vhostuser import protocol as p

MB = 1 << 20
WCE = 32
CACHE = (F.BLK_CONFIG_WCE, F.BLK_FLUSH)
BLOCK = 4096

pytestmark = pytest.mark.plain_only
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


class Storage:
    """A daemon with one such disk, and its file."""

    def __init__(self, vhubd, folder, **keys):
        self.image, self.path = folder / "image", folder / "d.sock"
        self.image.write_bytes(bytes(4 * MB))
        keys = "".join(",%s=%s" % key for key in keys.items())
        self.daemon = vhubd("d,socket=%s,driver=malloc,file=%s,queues=2%s" % (self.path, self.image, keys))
        self.seed = 0

    def writes_through(self, disk):
        """Whether an acknowledged write is in the file. Each goes to a place of its own."""
        self.seed += 1
        disk.write(self.seed * BLOCK // 512, pattern(self.seed, BLOCK))
        with open(self.image, "rb") as file:
            file.seek(self.seed * BLOCK)
            return file.read(BLOCK) == pattern(self.seed, BLOCK)


@pytest.fixture
def storage(vhubd, folder):
    return lambda **keys: Storage(vhubd, folder, **keys)


def switch(disk, writeback):
    assert disk.set_config(WCE, bytes((writeback,))) == 0
    assert disk.config("writeback") == writeback


def test_the_field_says_what_an_acknowledged_write_is_worth(storage, opened):
    disks = storage()
    disk = opened(disks.path, features=CACHE)
    assert disk.config("writeback") == 1
    assert not disks.writes_through(disk)
    switch(disk, 0)
    assert disks.writes_through(disk)
    switch(disk, 1)
    assert not disks.writes_through(disk)


@resets
def test_a_reset_keeps_write_through(storage, opened, reset):
    """QEMU's stop and cont: the guest goes on, and believes what it has chosen."""
    disks = storage()
    disk = opened(disks.path, features=CACHE)
    switch(disk, 0)
    for _ in range(2):
        reset(disk)
        assert disk.config("writeback") == 0
        start_again(disk)
        assert disk.config("writeback") == 0
        assert disks.writes_through(disk)
    switch(disk, 1)
    assert not disks.writes_through(disk)
    reset(disk)
    start_again(disk)
    assert disk.config("writeback") == 1, "nobody has chosen write-through since"


def test_a_new_session_inherits_write_through(storage, opened):
    """It may be the same guest after a reconnect. One that knows nothing of it reads the field, and is
    told the truth."""
    disks = storage()
    disk = opened(disks.path, features=CACHE)
    switch(disk, 0)
    disk.close()
    disk = opened(disks.path, features=CACHE)
    assert disk.config("writeback") == 0
    assert disks.writes_through(disk)
    switch(disk, 1)
    assert not disks.writes_through(disk)
    disk.close()
    disk = opened(disks.path, features=CACHE)
    assert disk.config("writeback") == 1


@pytest.mark.parametrize("value", [0, 1])
def test_a_driver_may_choose_before_its_features_are_told(storage, opened, value):
    """FreeBSD's does so when it attaches. QEMU passes that on at once, and the features when DRIVER_OK is set."""
    disks = storage(writeback="off" if value else "on")
    disk = BlkDisk(str(disks.path))
    opened.later(disk)
    disk.offered = disk.ask_u64(Req.GET_FEATURES)
    disk.tell(Req.SET_PROTOCOL_FEATURES, p.U64.pack(p.bits(PF.MQ, PF.CONFIG, PF.REPLY_ACK)))
    disk.protocol = p.bits(PF.MQ, PF.CONFIG, PF.REPLY_ACK)
    disk.tell(Req.SET_OWNER)
    switch(disk, value)
    disk.set_features(p.bits(F.VERSION_1, F.PROTOCOL_FEATURES, *CACHE))
    disk.set_mem_table(GuestMemory())
    disk.start_queue(Queue(0, disk.new_ring(64)))
    assert disk.config("writeback") == value
    assert disks.writes_through(disk) == (value == 0)


def test_a_driver_may_choose_whatever_the_one_before_it_had_negotiated(storage, opened):
    """A front end without STATUS stops the rings in between, and says no more: firmware has gone, and a system
    attaches."""
    disks = storage()
    disk = opened(disks.path, features=(F.BLK_FLUSH,))
    assert disk.set_config(WCE, b"\0") != 0
    assert not disks.writes_through(disk)
    disk.stop()
    switch(disk, 0)
    disk.set_features(p.bits(F.VERSION_1, F.PROTOCOL_FEATURES, *CACHE))
    disk.start_queue(Queue(0, disk.new_ring(64)))
    assert disks.writes_through(disk)


@resets
def test_write_back_does_not_outlive_a_reset_of_a_disk_that_is_to_write_through(storage, opened, reset):
    disks = storage(writeback="off")
    disk = opened(disks.path, features=CACHE)
    assert disk.config("writeback") == 0
    switch(disk, 1)
    assert not disks.writes_through(disk)
    reset(disk)
    assert disk.config("writeback") == 0
    start_again(disk)
    assert disks.writes_through(disk)


@both_kinds
@pytest.mark.parametrize("when", ["before", "running"])
def test_write_through_outlives_a_kill(storage, opened, packed, when):
    """The front end keeps the inflight region and gives it to the next vhubd; no more is told it."""
    disks = storage()
    if when == "before":
        disk = opened(disks.path, features=CACHE, packed=packed)
        switch(disk, 0)
        disk.close()
    disk = tracked(opened, disks.path, packed, features=CACHE, queues=2)
    if when == "before":
        start(disk, 2)
    else:
        start(disk, 2)
        switch(disk, 0)
    for _ in range(2):
        assert disks.writes_through(disk)
        disks.daemon.kill()
        disk.wire.close()
        disks.daemon.start()
        disk = resume(opened, disks.path, disk)
        assert disk.config("writeback") == 0
    assert disks.writes_through(disk)
    switch(disk, 1)
    disks.daemon.kill()
    disk.wire.close()
    disks.daemon.start()
    disk = resume(opened, disks.path, disk)
    assert disk.config("writeback") == 1
    assert not disks.writes_through(disk)


def test_a_region_of_another_make_keeps_nothing_and_is_not_written_behind(storage, opened):
    disks = storage()
    disk = opened(disks.path, queues=0, features=CACHE)
    own = Inflight.create(1, 16)
    fd = os.memfd_create("fe-inflight", os.MFD_CLOEXEC)
    os.ftruncate(fd, own.mmap_size + 4096)
    os.pwrite(fd, b"\xa5" * 4096, own.mmap_size)
    region = Inflight(p.INFLIGHT.pack(own.mmap_size + 4096, 0, 1, 16), fd)
    disk.set_inflight(region)
    disk.start_queue(Queue(0, disk.new_ring(16)))
    assert disk.config("writeback") == 1
    switch(disk, 0)
    assert disks.writes_through(disk)
    assert region.read_header(0)[1:3] == (1, 16)
    assert os.pread(fd, 4096, own.mmap_size) == b"\xa5" * 4096
    own.close()
    region.close()


def test_whatever_a_front_end_writes_there_makes_a_disk_no_less_safe(storage, opened):
    disks = storage()
    disk = opened(disks.path, queues=0, features=CACHE)
    switch(disk, 0)
    region = disk.get_inflight(1, 64)
    behind = region.behind
    assert (len(behind), bytes(behind[:8])) == (64, b"vhubkept")
    for byte in range(256):
        behind[8:] = bytes((byte,)) * 56
        disk.set_inflight(region)
        assert disk.config("writeback") == 0
        behind[8] = 1                   # the version that is known
        disk.set_inflight(region)
        assert disk.config("writeback") == 0
    disk.start_queue(Queue(0, disk.new_ring(64)))
    assert disks.writes_through(disk)
    region.close()
