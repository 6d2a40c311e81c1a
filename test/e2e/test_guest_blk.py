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
    pytest.param("malloc", True, 4, id="malloc-packed-4", marks=PLAIN),
    pytest.param("uring", False, 4, id="uring-split-4"),
    pytest.param("uring", True, 1, id="uring-packed-1", marks=PLAIN),
])
def test_ext4_survives_a_reboot(vhubd, blk, folder, slow, driver, packed, queues):
    """With uring, vhubd too is a new one when the guest comes back. Then O_DIRECT in pieces from one sector to a
    megabyte, compared in the guest."""
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
    second = boot([disk], "verify,raw", slow)
    check_disk(second, queues, packed)
    check_files(sums(first, "written"), sums(second, "read"))
    assert [second[f"raw.{size}"] for size in (512, 4096, 65536, 1048576)] == ["same"] * 4
    daemon.stop()


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
def test_two_disks_of_one_vhubd(vhubd, blk, folder, slow):
    """Each disk has its own socket and its own data. CONFIG_WCE: the guest's driver sees that memory has no cache that is
    lost, and flushes where the front end has told it of no such bit."""
    daemon = vhubd(blk("disk0", size="64M"), blk("disk1", size="128M"))
    disks = [Disk(path, config_wce=wce) for path, wce in zip(daemon.sockets, (True, False))]
    first = boot(disks, "mkfs-write", slow, options={"dev": "vdb"})
    assert (first["vda.size_bytes"], first["vdb.size_bytes"]) == (str(64 << 20), str(128 << 20))
    assert ["CONFIG_WCE" in features(first, name) for name in ("vda", "vdb")] == [True, False]
    assert [first[f"{name}.write_cache"] for name in ("vda", "vdb")] == ["write through", "write back"]
    second = boot(disks[::-1], "verify", slow, options={"dev": "vda"})
    check_files(sums(first, "written"), sums(second, "read"))


@PLAIN
def test_qemu_listens_and_vhubd_connects(vhubd, blk, folder, slow):
    """connect=: the dialer waits for the front end, and dials again when the next one is there."""
    path = folder / "qemu.sock"
    daemon = vhubd(blk("disk0", connect=path, size=f"{DISK_MIB}M"))
    disk = Disk(path, server=True, packed=True)
    first = boot([disk], "mkfs-write", slow)
    check_disk(first, 1, packed=True)
    second = boot([disk], "verify", slow)
    check_files(sums(first, "written"), sums(second, "read"))
    daemon.stop()


@pytest.mark.parametrize("crash, packed", [
    pytest.param(True, True, id="killed-packed"),
    pytest.param(False, False, id="stopped-split", marks=PLAIN),
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
