# SPDX-License-Identifier: BSD-3-Clause
"""Disks that are changed while front ends use them, through the control socket and vhubctl."""

import os
import time

import pytest

from control import Control, Refused, vhubctl
from vhostuser import BackendChannel, BlkDisk, F, Inflight, Queue, Req, pattern, wait_until
from vhostuser.blk import RANGE, T_WRITE_ZEROES
from vhostuser.load import Load
from vhostuser.protocol import VRING_STATE
from test_idle import cpu_ns

CONFIG_CHANGE = 2                       # VHOST_USER_BACKEND_CONFIG_CHANGE_MSG
MB = 1 << 20


@pytest.fixture
def path(folder):
    return folder / "control.sock"


def with_channel(disk):
    channel = BackendChannel()
    disk.tell(Req.SET_BACKEND_REQ_FD, b"", [channel.remote_fd])
    channel.handed_over()
    return channel


def refused(control, code, words, method, **params):
    with pytest.raises(Refused, match=words) as caught:
        control.call(method, **params)
    assert caught.value.code == code


@pytest.mark.parametrize("driver", ["malloc", "null", "uring"])
def test_a_guest_sees_its_disk_grow_and_shrink(vhubd, blk, folder, path, driver):
    options = {"driver": driver, "size": "8M"}
    if driver == "uring":
        with open(folder / "disk.img", "wb") as image:
            image.truncate(8 * MB)
        options = {"driver": driver, "path": folder / "disk.img"}
    vhubd(blk("disk", **options), args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "disk.sock")) as disk:
        channel = with_channel(disk)
        for size in (32 * MB, 4 * MB, 8 * MB):
            if driver == "uring":
                os.truncate(folder / "disk.img", size)
                result = control.call("device_resize", name="disk")
            else:
                result = control.call("device_resize", name="disk", size=size)
            assert result == {"size_bytes": size}
            message = channel.recv()
            assert (message.request, message.payload) == (CONFIG_CHANGE, b"")
            assert disk.capacity == size // 512
            disk.write(size // 512 - 8, pattern(size, 4096))
            if driver != "null":
                assert disk.read(size // 512 - 8, 4096) == pattern(size, 4096)
            assert disk.run(0, size // 512, in_bytes=512)[0] == 1
        # Nothing to tell when nothing changes.
        assert control.call("device_resize", name="disk") == {"size_bytes": 8 * MB}
        assert channel.wire.silent(0.1)
        channel.close()


def test_a_disk_grows_under_load(vhubd, blk, folder, path):
    vhubd(blk("disk", driver="malloc", size="4M"), args=["--control", str(path)])
    load = Load(folder / "disk.sock", depth=16)
    with Control(path) as control:
        for size in range(5 * MB, 25 * MB, MB):
            control.call("device_resize", name="disk", size=size)
            load.check()
    load.stop()
    assert load.samples[-1][1] > 0
    with BlkDisk.open(str(folder / "disk.sock")) as disk:
        assert disk.capacity == 24 * MB // 512


def test_what_cannot_be_is_refused_and_changes_nothing(vhubd, blk, net, folder, path):
    with open(folder / "disk.img", "wb") as image:
        image.truncate(8 * MB)
    vhubd(blk("memory", driver="malloc", size="8M"), blk("file", driver="uring", path=folder / "disk.img"),
          nets=[net("port")], args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "memory.sock")) as disk:
        refused(control, -32001, "nowhere", "device_resize", name="nowhere", size=MB)
        refused(control, -32602, "port is no disk", "device_resize", name="port", size=MB)
        refused(control, -32602, "multiple of a block", "device_resize", name="memory", size=1000)
        refused(control, -32602, "can grow up to", "device_resize", name="memory", size=1 << 40)
        refused(control, -32602, "size=-1", "device_resize", name="memory", size=-1)
        refused(control, -32602, "size", "device_resize", name="memory", size="big")
        refused(control, -32602, "size of its image", "device_resize", name="file", size=16 * MB)
        assert disk.capacity == 8 * MB // 512
        # Nor is the removal that follows a failure.
        assert control.call("device_remove", name="file") is True


def test_vhubctl_changes_a_size_and_the_new_one_is_saved(vhubd, blk, folder, path):
    vhubd(blk("disk", driver="malloc", size="8M"), args=["--control", str(path)])
    out = vhubctl(path, "resize", "disk", "16M")
    assert out.returncode == 0 and "16.0 MiB" in out.stdout, out
    assert vhubctl(path, "resize", "disk", "big").returncode == 2
    assert vhubctl(path, "resize", "disk", "1000T").returncode == 1
    saved = vhubctl(path, "save").stdout
    assert "size = 16777216" in saved and "size = 8M" not in saved


# ---- limits

def seconds_of(disk, count, size=512):
    """How long `count` reads take, all of them in the ring at once."""
    requests = [disk.prepare(0, 0, in_bytes=size) for _ in range(count)]
    begin = time.monotonic()
    disk.wait(disk.submit(requests), timeout=60)
    for request in requests:
        disk.release(request)
    return time.monotonic() - begin


def test_a_limit_holds_its_disk_and_no_other(vhubd, blk, folder, path):
    daemon = vhubd(blk("slow", driver="malloc", size="8M", iops=100, iops_burst=1),
                   blk("fast", driver="malloc", size="8M"), args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "slow.sock")) as slow, \
            BlkDisk.open(str(folder / "fast.sock")) as fast:
        requests = slow.submit([slow.prepare(0, 0, in_bytes=512) for _ in range(30)])
        # The other disk has its answers before the first has all of its own.
        for sector in range(20):
            fast.write(sector, pattern(sector, 512))
        begin = time.monotonic()
        used = cpu_ns(daemon.pid)
        slow.wait(requests)
        took = time.monotonic() - begin
        # The worker of a disk that is held sleeps until a request is due, and wakes then.
        assert cpu_ns(daemon.pid) - used < 0.6e9 * took
        figures = control.call("device_stats", name="slow")[0]["figures"]
        assert figures["held"] > 0 and figures["read_requests"] == 30
        assert control.call("device_stats", name="fast")[0]["figures"]["held"] == 0
        assert seconds_of(slow, 10) >= 9 / 100 - 0.001
        control.call("device_set_qos", name="slow", iops=0)
        slow.wait(slow.submit([slow.prepare(0, 0, in_bytes=512) for _ in range(30)]))
        assert control.call("device_stats", name="slow")[0]["figures"]["held"] >= figures["held"]


def test_limits_change_while_requests_wait(vhubd, blk, folder, path):
    vhubd(blk("disk", driver="malloc", size="8M", bytes_per_s="4k", bytes_burst=4096),
          args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "disk.sock")) as disk:
        requests = disk.submit([disk.prepare(0, 0, in_bytes=65536) for _ in range(12)])
        # A minute of debt; then none.
        disk.reap(timeout=0.3)
        assert sum(request.done for request in requests) < 12
        now = control.call("device_set_qos", name="disk", bytes_per_s=0, iops=1000000)
        assert now == {"iops": 1000000, "iops_burst": 0, "bytes_per_s": 0, "bytes_burst": 4096}
        disk.wait(requests, timeout=60)
        assert all(request.status == 0 for request in requests)


def test_zeroes_are_written_at_the_rate_of_writes(vhubd, blk, folder, path):
    daemon = vhubd(blk("disk", driver="malloc", size="8M", bytes_per_s="4M", bytes_burst=4096),
                   args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "disk.sock"), features=[F.BLK_WRITE_ZEROES]) as disk:
        disk.write(0, pattern(1, 4096))
        begin = time.monotonic()
        used = cpu_ns(daemon.pid)
        # A piece of 1 MiB goes at once, three are waited for, and then the last one before anything else.
        assert disk.ranges(T_WRITE_ZEROES, [(0, 4 * 2048)]) == 0
        disk.read(0, 512)
        took = time.monotonic() - begin
        assert took >= 4 / 4 - 0.01
        assert cpu_ns(daemon.pid) - used < 0.6e9 * took
        assert disk.read(0, 4096) == bytes(4096)
        figures = control.call("device_stats", name="disk")[0]["figures"]
        assert figures["write_zeroes_requests"] == 1 and figures["write_zeroes_bytes"] == 4 << 20


def test_zeroes_of_a_ring_that_is_disabled_wait_no_longer(vhubd, blk, folder, path):
    vhubd(blk("disk", driver="malloc", size="8M", bytes_per_s="512k", bytes_burst=4096),
          args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "disk.sock"), features=[F.BLK_WRITE_ZEROES]) as disk:
        def figures():
            return control.call("device_stats", name="disk")[0]["figures"]

        zeroes = disk.submit([disk.prepare(T_WRITE_ZEROES, out=RANGE.pack(0, 8 * 2048, 0))])
        while figures()["in_flight"] == 0:
            time.sleep(0.01)
        # 16 s of the limit.
        assert figures()["write_zeroes_requests"] == 0
        disk.set_vring_enable(0, False)
        disk.fence()
        disk.wait(zeroes)
        disk.stop(timeout=10)
        assert figures()["write_zeroes_requests"] == 1 and figures()["write_zeroes_bytes"] == 8 << 20
        # The disk owes them, in the ring's next life, too.
        disk.start_queue(disk.queues[0], base=1)
        requests = disk.submit([disk.prepare(0, 0, in_bytes=512)])
        assert disk.reap(timeout=2) == []
        control.call("device_set_qos", name="disk", bytes_per_s=0)
        disk.wait(requests)


def forged(path, count):
    """A front end whose region says that so many large reads are in flight, of which a limit holds most."""
    disk = BlkDisk.open(str(path), queues=0)
    ring = disk.new_ring(64)
    disk.region = Inflight.create(1, 64, False)
    disk.region.write_header(0, 0, 1, 64, 0, 0)
    requests = [disk.prepare(0, 0, in_bytes=65536) for _ in range(count)]
    for counter, request in enumerate(requests):
        disk.region.write_desc(0, ring.add(disk.chain(request), request).head, 1, 0, counter + 1)
    ring.publish()
    disk.set_inflight(disk.region)
    disk.start_queue(Queue(0, ring))
    wait_until(lambda: disk.reap(timeout=0))
    return disk, requests


@pytest.fixture
def limited(vhubd, blk, path):
    """A limit at which 64 KiB take two minutes."""
    return vhubd(blk("disk", size="8M", bytes_per_s=512, bytes_burst=512), args=["--control", str(path)])


@pytest.mark.parametrize("asks", [False, True], ids=["idle", "while it waits for its ring"])
def test_nobody_waits_for_what_a_front_end_that_has_gone_left_in_flight(limited, folder, path, asks):
    disk, requests = forged(folder / "disk.sock", 12)
    if asks:
        disk.wire.send(Req.GET_VRING_BASE, VRING_STATE.pack(0, 0))
        time.sleep(0.05)
    disk.wire.close()
    with Control(path, timeout=10) as control:
        wait_until(lambda: not control.call("device_stats")[0]["session"]["connected"])
        disk.reap(timeout=0)
        left = disk.region.inflight(0)
        # What is done is not in the region, and the rest is.
        assert 0 < len(left) == sum(not request.done for request in requests) < 12
        # All of it is done once it may be.
        control.call("device_set_qos", name="disk", bytes_per_s=0)
        again = BlkDisk(str(folder / "disk.sock"))
        again.negotiate([bit for bit in range(64) if disk.features >> bit & 1 and bit != 30])
        again.set_mem_table(disk.mem)
        again.set_inflight(disk.region)
        again.queues[0] = disk.queues[0]
        again.start_queue(again.queues[0])
        again.wait([request for request in requests if not request.done])
        assert disk.region.inflight(0) == [] and again.reap(timeout=0.1) == []
        disk.queues, disk.mem = {}, None
        again.close()


def test_a_disk_whose_limit_holds_a_forged_region_can_be_removed(limited, folder, path):
    disk, _ = forged(folder / "disk.sock", 12)
    disk.wire.send(Req.GET_VRING_BASE, VRING_STATE.pack(0, 0))
    time.sleep(0.05)
    with Control(path, timeout=10) as control:
        assert control.call("device_remove", name="disk") is True
    disk.close()


def test_a_front_end_that_is_there_has_all_that_was_left_in_flight(limited, folder, path):
    disk, requests = forged(folder / "disk.sock", 12)
    with Control(path) as control:
        disk.wire.send(Req.GET_VRING_BASE, VRING_STATE.pack(0, 0))
        assert disk.wire.silent(0.5)
        control.call("device_set_qos", name="disk", bytes_per_s=0)
        assert VRING_STATE.unpack(disk.wire.recv().payload) == (0, 12)
        disk.reap(timeout=0)
        assert all(request.done for request in requests) and disk.region.inflight(0) == []
    disk.close()


def test_limits_are_checked_shown_and_saved(vhubd, blk, net, folder, path):
    vhubd(blk("disk", driver="null", iops="1M"), nets=[net("port")], args=["--control", str(path)])
    with Control(path) as control:
        refused(control, -32602, "iops=-1", "device_set_qos", name="disk", iops=-1)
        refused(control, -32602, "bytes_per_s=100", "device_set_qos", name="disk", bytes_per_s=100)
        refused(control, -32602, "port is no disk", "device_set_qos", name="port", iops=5)
        refused(control, -32001, "nowhere", "device_set_qos", name="nowhere", iops=5)
        assert control.call("device_set_qos", name="disk") == {
            "iops": 1000000, "iops_burst": 0, "bytes_per_s": 0, "bytes_burst": 0}
    out = vhubctl(path, "qos", "disk", "--iops", "5k", "--bytes-per-s", "10M")
    assert out.returncode == 0 and "iops=5000" in out.stdout and "bytes_per_s=10485760" in out.stdout
    saved = vhubctl(path, "save").stdout
    assert "iops = 5000" in saved and "bytes_per_s = 10485760" in saved


def test_a_disk_in_memory_comes_back_from_its_file(vhubd, blk, folder):
    """What was flushed after a crash, and all of it after an end in order."""
    spec = blk("disk", driver="malloc", size="8M", file=folder / "disk.img", queues=2)
    socket = str(folder / "disk.sock")
    daemon = vhubd(spec)
    with BlkDisk.open(socket, features=(F.BLK_FLUSH,), queues=2) as disk:
        disk.write(0, pattern(1, 65536), queue=1)
        disk.flush()
        disk.write(1000, pattern(2, 4096))
    daemon.kill()
    daemon = vhubd(spec)
    with BlkDisk.open(socket, features=(F.BLK_FLUSH,), packed=True) as disk:
        assert disk.read(0, 65536) == pattern(1, 65536)
        disk.write(1000, pattern(3, 4096))
    daemon.stop()
    image = (folder / "disk.img").read_bytes()
    assert len(image) == 8 * MB
    assert image[:65536] == pattern(1, 65536) and image[1000 * 512:1000 * 512 + 4096] == pattern(3, 4096)
    # A guest that knows no flush has each write in the file when it is acknowledged.
    daemon = vhubd(spec)
    with BlkDisk.open(socket) as disk:
        disk.write(2000, pattern(4, 512))
        assert (folder / "disk.img").read_bytes()[2000 * 512:2001 * 512] == pattern(4, 512)
    daemon.kill()
    # Who has the file keeps others from it.
    daemon = vhubd(spec)
    other = vhubd(blk("other", driver="malloc", file=folder / "disk.img"), wait=False)
    other.process.wait(60)
    assert other.process.returncode == 1 and "in use" in other.log
    daemon.stop()
