# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest gives space back (blkdiscard, fstrim), has zeroes made (blkdiscard -z), switches the
write cache, and sees its disk grow. test/guest/init has the steps."""

import pytest

from control import Control
from run_guest import Disk, Guest, complaints, features

MIB = 1 << 20
RANGE_MAX = 1 << 30


def allocated(path):
    return path.stat().st_blocks * 512


@pytest.mark.plain_only
def test_a_guest_discards_trims_switches_its_cache_and_grows(vhubd, blk, folder, slow):
    image = folder / "disk.img"
    with open(image, "wb") as file:
        file.truncate(128 * MIB)
    control_path = folder / "control.sock"
    daemon = vhubd(blk("disk0", driver="uring", path=image), args=["--control", str(control_path)])
    with Guest([Disk(daemon.sockets[0])], "discard,cache:through,cache:back,fstrim,console",
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
