# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest uses vhub's disks: an ext4 is made, mounted, written, unmounted, and after a reboot
holds the same bytes. test/guest/run_guest.py is the next file on the way."""

import pytest

from run_guest import Disk, Guest, complaints, features, run, sums

DISK_MIB = 256
PLAIN = pytest.mark.plain_only
MIN_FILES = 8


def image(folder, name="disk.img", mib=DISK_MIB):
    path = folder / name
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    return path


def disk_spec(blk, folder, driver, queues, **keys):
    if driver == "uring":
        return blk("disk0", driver="uring", path=image(folder), queues=queues, **keys)
    return blk("disk0", driver="malloc", size=f"{DISK_MIB}M", queues=queues, **keys)


def boot(disks, do, slow=1, **keywords):
    results = run(disks, do, timeout=150 * slow, **keywords)
    assert not complaints(results), complaints(results)
    return results


def check_disk(results, queues, packed):
    """The guest's driver got what the command lines of both sides asked for."""
    assert int(results["vda.size_bytes"]) == DISK_MIB << 20
    assert int(results["vda.queues"]) == queues
    assert results["vda.ro"] == "0"
    negotiated = features(results)
    assert ("RING_PACKED" in negotiated) == packed
    assert ("MQ" in negotiated) == (queues > 1)
    assert {"VERSION_1", "EVENT_IDX", "INDIRECT_DESC", "FLUSH", "SEG_MAX", "BLK_SIZE"} <= negotiated


def check_files(written, read):
    assert len(written) >= MIN_FILES
    assert read == written


# Each two of the three in every combination.
@pytest.mark.parametrize("driver, packed, queues", [
    pytest.param("malloc", False, 1, id="malloc-split-1", marks=PLAIN),
    pytest.param("malloc", True, 4, id="malloc-packed-4"),
    pytest.param("uring", False, 4, id="uring-split-4"),
    pytest.param("uring", True, 1, id="uring-packed-1", marks=PLAIN),
])
def test_ext4_survives_a_reboot(vhubd, blk, folder, slow, driver, packed, queues):
    """With uring, vhubd too is a new one when the guest comes back."""
    spec = disk_spec(blk, folder, driver, queues)
    daemon = vhubd(spec)
    disk = Disk(daemon.sockets[0], queues=queues, packed=packed)

    first = boot([disk], "mkfs-write", slow)
    check_disk(first, queues, packed)
    check_files(sums(first, "written"), sums(first, "read"))
    if queues > 1:
        idle = [q for q in range(queues) if int(first.get(f"irq.virtio0-req.{q}", 0)) == 0]
        assert not idle, f"queues that never had a request: {idle}"

    if driver == "uring":
        daemon.stop()
        daemon = vhubd(spec)
    second = boot([disk], "verify", slow)
    check_disk(second, queues, packed)
    check_files(sums(first, "written"), sums(second, "read"))
    daemon.stop()


@pytest.mark.parametrize("driver, packed", [
    pytest.param("malloc", False, id="malloc-split", marks=PLAIN),
    pytest.param("malloc", True, id="malloc-packed", marks=PLAIN),
    pytest.param("uring", False, id="uring-split"),
    pytest.param("uring", True, id="uring-packed", marks=PLAIN),
])
def test_raw_requests_of_all_sizes(vhubd, blk, folder, slow, driver, packed):
    """O_DIRECT in pieces from one sector to a megabyte, compared in the guest."""
    daemon = vhubd(disk_spec(blk, folder, driver, 1))
    results = boot([Disk(daemon.sockets[0], packed=packed)], "raw", slow)
    assert [results[f"raw.{size}"] for size in (512, 4096, 65536, 1048576)] == ["same"] * 4


@PLAIN
def test_read_only_disk(vhubd, blk, folder, slow):
    """ro=on: the guest reads what was written before, and cannot write."""
    path = image(folder)
    daemon = vhubd(blk("disk0", driver="uring", path=path))
    first = boot([Disk(daemon.sockets[0])], "mkfs-write", slow)
    daemon.stop()

    daemon = vhubd(blk("disk0", driver="uring", path=path, ro="on"))
    second = boot([Disk(daemon.sockets[0])], "verify,write-refused,verify", slow)
    assert second["vda.ro"] == "1"
    assert "RO" in features(second)
    assert second["write_refused"] == "yes"
    check_files(sums(first, "written"), sums(second, "read"))


@PLAIN
def test_write_cache_as_the_front_end_says(vhubd, blk, slow):
    """CONFIG_WCE: the guest's driver sees a write-back cache, and may be told that there is no such bit."""
    daemon = vhubd(blk("disk0", size="64M"))
    with_wce = boot([Disk(daemon.sockets[0], config_wce=True)], "info", slow)
    assert "CONFIG_WCE" in features(with_wce)
    without = boot([Disk(daemon.sockets[0], config_wce=False)], "info", slow)
    assert "CONFIG_WCE" not in features(without)
    assert without["vda.write_cache"] == "write back"


@PLAIN
def test_two_disks_of_one_vhubd(vhubd, blk, folder, slow):
    """Each disk has its own socket and its own data."""
    daemon = vhubd(blk("disk0", size="64M"), blk("disk1", size="128M"))
    disks = [Disk(path) for path in daemon.sockets]
    first = boot(disks, "mkfs-write", slow, options={"dev": "vdb"})
    assert (first["vda.size_bytes"], first["vdb.size_bytes"]) == (str(64 << 20), str(128 << 20))
    second = boot(disks[::-1], "verify", slow, options={"dev": "vda"})
    check_files(sums(first, "written"), sums(second, "read"))


@PLAIN
@pytest.mark.parametrize("packed", [
    pytest.param(False, id="split"),
    pytest.param(True, id="packed"),
])
def test_qemu_listens_and_vhubd_connects(vhubd, blk, folder, slow, packed):
    """connect=: the dialer waits for the front end, and dials again when the next one is there."""
    path = folder / "qemu.sock"
    daemon = vhubd(blk("disk0", connect=path, size=f"{DISK_MIB}M"))
    disk = Disk(path, server=True, packed=packed)
    first = boot([disk], "mkfs-write", slow)
    check_disk(first, 1, packed)
    second = boot([disk], "verify", slow)
    check_files(sums(first, "written"), sums(second, "read"))
    daemon.stop()


@pytest.mark.parametrize("crash, packed", [
    pytest.param(True, False, id="killed-split", marks=PLAIN),
    pytest.param(True, True, id="killed-packed"),
    pytest.param(False, False, id="stopped-split", marks=PLAIN),
    pytest.param(False, True, id="stopped-packed", marks=PLAIN),
])
def test_vhubd_restarts_while_the_guest_is_idle(vhubd, blk, folder, slow, crash, packed):
    """QEMU's reconnect=1: the guest notices nothing, and goes on with the same disk and the same data."""
    spec = disk_spec(blk, folder, "uring", 1)
    daemon = vhubd(spec)
    with Guest([Disk(daemon.sockets[0], packed=packed)], "mkfs-write,wait,verify,raw",
               timeout=150 * slow) as guest:
        guest.expect("wait", "begin", 150 * slow)
        if crash:
            daemon.kill()
        else:
            daemon.stop()
        daemon = vhubd(spec)
        guest.send()
        results = guest.wait()
    assert not complaints(results), complaints(results)
    check_files(sums(results, "written"), sums(results, "read"))
    assert results["raw.1048576"] == "same"
    daemon.stop()
