# SPDX-License-Identifier: BSD-3-Clause
"""Disks that are changed while front ends use them, through the control socket and vhubctl."""

import os

import pytest

from control import Control, Refused, vhubctl
from vhostuser import BackendChannel, BlkDisk, Req, pattern
from vhostuser.load import Load

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
        refused(control, -32004, "port is no disk", "device_resize", name="port", size=MB)
        refused(control, -32004, "multiple of a block", "device_resize", name="memory", size=1000)
        refused(control, -32004, "can grow up to", "device_resize", name="memory", size=1 << 40)
        refused(control, -32602, "size=-1", "device_resize", name="memory", size=-1)
        refused(control, -32602, "size", "device_resize", name="memory", size="big")
        refused(control, -32004, "size of its image", "device_resize", name="file", size=16 * MB)
        assert disk.capacity == 8 * MB // 512


def test_vhubctl_changes_a_size_and_the_new_one_is_saved(vhubd, blk, folder, path):
    vhubd(blk("disk", driver="malloc", size="8M"), args=["--control", str(path)])
    out = vhubctl(path, "resize", "disk", "16M")
    assert out.returncode == 0 and "16.0 MiB" in out.stdout, out
    assert vhubctl(path, "resize", "disk", "big").returncode == 2
    assert vhubctl(path, "resize", "disk", "1000T").returncode == 1
    saved = vhubctl(path, "save").stdout
    assert "size = 16777216" in saved and "size = 8M" not in saved
