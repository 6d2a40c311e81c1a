# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest gives space back (blkdiscard, fstrim), has zeroes made (blkdiscard -z), sees
its disk grow, and switches its write cache. test/guest/init has the steps."""

import pytest

from control import Control
from migration import Monitor
from run_guest import Disk, Guest, complaints, features

MIB = 1 << 20
RANGE_MAX = 1 << 30


def allocated(path):
    return path.stat().st_blocks * 512


@pytest.mark.plain_only
def test_a_guest_discards_trims_and_grows(vhubd, blk, folder, slow):
    image = folder / "disk.img"
    with open(image, "wb") as file:
        file.truncate(128 * MIB)
    control_path = folder / "control.sock"
    daemon = vhubd(blk("disk0", driver="uring", path=image), args=["--control", str(control_path)])
    with Guest([Disk(daemon.sockets[0])], "discard,fstrim,console",
               timeout=120 * slow) as guest:
        guest.expect("console", "begin", 120 * slow)
        kept = allocated(image)
        with open(image, "r+b") as file:
            file.truncate(192 * MIB)
        with Control(control_path) as control:
            assert control.call("device_resize", name="disk0") == {"size_bytes": 192 * MIB}
            figures = control.call("device_stats", name="disk0")[0]["figures"]
        assert guest.step("size", timeout=30 * slow)["size_now"] == str(192 * MIB)
        guest.send("")
        results = guest.wait()
    assert not complaints(results), complaints(results)
    assert {"DISCARD", "WRITE_ZEROES", "CONFIG_WCE", "FLUSH"} <= features(results)
    assert results["vda.logical_block_size"] == "512"
    assert results["vda.write_cache"] == "write back"
    assert int(results["vda.discard_max_bytes"]) == RANGE_MAX
    assert int(results["vda.write_zeroes_max_bytes"]) == RANGE_MAX
    assert results["blkdiscard"] == results["blkdiscard_z"] == results["zeroes"] == "ok"
    assert results["fstrim"] == "ok"
    # 4 MiB of a file and the file system stay; the 16 MiB of the deleted file have come back.
    assert 4 * MIB <= kept < 24 * MIB
    assert figures["discard_requests"] > 0 and figures["discard_errors"] == 0
    assert figures["discard_bytes"] > 16 * MIB
    assert figures["write_zeroes_requests"] > 0 and figures["write_zeroes_errors"] == 0


class Put:
    """Has the guest write blocks without a flush, each at a place of its own, and looks whether the disk's
    file has them: only if the disk writes through."""

    def __init__(self, guest, image, slow):
        self.guest, self.image, self.slow = guest, image, slow
        self.place = 0

    def is_durable(self):
        self.place += 1
        assert self.guest.step("put", self.place, timeout=60 * self.slow)["put"] == str(self.place)
        with open(self.image, "rb") as file:
            file.seek(self.place * 4096)
            block = file.read(4096)
        assert block in (bytes(4096), (b"put %d\n" % self.place).ljust(4096, b"\0")), block[:32]
        return any(block)

    def switch(self, how):
        said = self.guest.step("cache", how, timeout=60 * self.slow)
        assert said["cache_now"] == said["cache_believed"] == "write " + how


@pytest.mark.plain_only
def test_write_through_as_a_guest_chose_it_outlives_stop_cont_and_a_kill(vhubd, blk, folder, slow):
    """The guest notices none of that, and QEMU tells vhubd nothing of the cache again."""
    image = folder / "disk.img"
    image.write_bytes(bytes(4 * MIB))
    spec = blk("disk0", size="4M", file=image)
    daemon = vhubd(spec)
    with Guest([Disk(daemon.sockets[0])], "console", timeout=120 * slow,
               qemu=["-qmp", f"unix:{folder}/qmp,server=on,wait=off"]) as guest:
        monitor = Monitor(folder / "qmp")
        guest.expect("console", "begin", 120 * slow)
        put = Put(guest, image, slow)
        assert not put.is_durable()
        put.switch("through")
        assert put.is_durable()
        for _ in range(2):
            monitor.call("stop")
            monitor.call("cont")
            assert put.is_durable()
        daemon.kill()
        daemon = vhubd(spec)
        assert put.is_durable()
        put.switch("back")
        assert not put.is_durable()
        monitor.close()
        guest.send("")
        results = guest.wait()
    assert not complaints(results), complaints(results)
