# SPDX-License-Identifier: BSD-3-Clause
"""What disks in memory hold is in their files when vhubd has ended, also when something is stuck then: storage, the
building, the removal or the end of another device, a descriptor of a front end. And the exit status tells of what is
not."""

import fcntl
import os
import resource
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from control import Control
from lingering import lingering_socket
from vhostuser import BlkDisk, F, Req, Wire, pattern, wait_listens, wait_until
from vhostuser.blk import T_OUT
from vhubd import IN_ORDER, NOT_SAVED, NOT_STARTED, STUCK, build_dir, hangups

MB = 1 << 20
F_ADD_SEALS, F_SEAL_WRITE = 1033, 8

UNRULY = build_dir() / "test/tools/unruly.so"


class Image:
    """The file of a disk in memory, and what a guest has written to the disk without a flush."""

    def __init__(self, path, name="kept"):
        self.path = path / f"{name}.img"
        self.socket = path / f"{name}.sock"

    def write(self):
        """The front end stays."""
        wait_listens(self.socket)
        disk = BlkDisk.open(str(self.socket), features=(F.BLK_FLUSH,))
        disk.write(8, pattern(1, 65536))
        assert not self.is_saved(), "written without a flush, and in the file already"
        return disk

    def is_saved(self):
        with open(self.path, "rb") as file:
            file.seek(4096)
            return file.read(65536) == pattern(1, 65536)


@pytest.fixture
def folder():
    """In memory: a disk that has much to write for others takes a minute for a small file, too."""
    path = Path(tempfile.mkdtemp(prefix="vhub-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def image(folder):
    return Image(folder)


@pytest.fixture
def kept(blk, image):
    """A disk in memory that is saved to the image."""
    return blk("kept", size="8M", file=image.path)


@pytest.fixture
def stall(folder):
    """A file: while it is there, a call of an unruly disk's driver takes its time."""
    path = folder / "stall"
    path.touch()
    return path


@pytest.fixture
def path(folder):
    return folder / "control.sock"


def status_at_the_end(daemon, sig=signal.SIGTERM):
    daemon.process.send_signal(sig)
    return daemon.process.wait(60)


@contextmanager
def no_more_threads(pid):
    """There is no address space for their stacks."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + MB, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_AS, before)


def wait_state(control, name, state):
    wait_until(lambda: [each["state"] for each in control.call("device_list") if each["name"] == name] == [state])


def test_when_the_terminal_goes_away(vhubd, kept, image):
    with hangups(signal.SIG_DFL):
        daemon = vhubd(kept)
    disk = image.write()
    assert status_at_the_end(daemon, signal.SIGHUP) == IN_ORDER
    assert image.is_saved()
    disk.close()


def test_while_another_disk_is_being_built(vhubd, blk, kept, image, stall):
    daemon = vhubd(kept, blk("slow", driver="unruly", over="null", stall=stall, stall_in="place"), loads=[UNRULY],
                   wait=False)
    disk = image.write()
    assert status_at_the_end(daemon) == IN_ORDER
    assert image.is_saved()
    disk.close()


def test_while_another_device_is_being_removed(vhubd, blk, kept, image, stall, path):
    """That one has nothing to save: it is not waited for, and named."""
    daemon = vhubd(kept, blk("other", driver="unruly", over="null", stall=stall), loads=[UNRULY],
                   args=["--control", str(path)])
    disk = image.write()
    with Control(path) as control, Control(path) as other:
        control.begin("device_remove", name="other")
        wait_state(other, "other", "destroying")
        assert status_at_the_end(daemon) == STUCK
    assert image.is_saved()
    assert "other is stuck" in daemon.log
    disk.close()


def test_while_a_descriptor_of_a_front_end_hangs(vhubd, blk, kept, image):
    daemon = vhubd(kept, blk("other"))
    disk = image.write()
    sock, peer = lingering_socket(60)
    wire = Wire.connect(str(daemon.sockets[1]))
    wire.send(Req.GET_FEATURES, fds=[sock.fileno()])
    sock.close()
    assert wire.wait_closed()
    wire.close()
    time.sleep(0.2)
    assert status_at_the_end(daemon) == IN_ORDER
    assert image.is_saved()
    disk.close()
    peer.close()


@pytest.mark.parametrize("call", ["resize", "destroy"])
def test_a_disk_that_is_being_changed_or_removed_is_waited_for(vhubd, blk, image, stall, path, call):
    """However long it takes."""
    daemon = vhubd(blk("kept", driver="unruly", over="malloc", size="8M", file=image.path, stall=stall, stall_in=call),
                   loads=[UNRULY], args=["--control", str(path)])
    disk = image.write()
    with Control(path) as control, Control(path) as other:
        if call == "resize":
            control.begin("device_resize", name="kept", size=16 * MB)
            other.call("version")
        else:
            control.begin("device_remove", name="kept")
            wait_state(other, "kept", "destroying")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("kept has something to save, and is not done yet")
        stall.unlink()
        assert daemon.process.wait(60) == IN_ORDER
    assert image.is_saved()
    disk.close()


# A sanitizer wants address space, too.
@pytest.mark.plain_only
def test_a_removal_that_has_not_begun_is_done_at_the_end(vhubd, blk, kept, image, stall, path):
    """Behind what is stuck, where no more threads can be had."""
    names = [f"d{i}" for i in range(16)]
    daemon = vhubd(*[blk(name, driver="unruly", over="null", stall=stall) for name in names], kept, loads=[UNRULY],
                   args=["--control", str(path)])
    disk = image.write()
    with Control(path) as control, Control(path) as another, Control(path) as other:
        with no_more_threads(daemon.pid):
            for name in names:
                control.begin("device_remove", name=name)
            another.begin("device_remove", name="kept")
            wait_state(other, "kept", "destroying")
            time.sleep(0.1)     # longer than one thread waits for another
            assert not image.is_saved()
        assert status_at_the_end(daemon) == STUCK
    assert image.is_saved()
    assert "d0 is stuck: it is still being removed" in daemon.log
    disk.close()


def slow_disk(blk, name="stuckdisk"):
    return blk(name, driver="null", size="64M", latency_us=3600000000)


def in_flight(folder, name="stuckdisk"):
    """A front end with a request in flight."""
    wait_listens(folder / f"{name}.sock")
    disk = BlkDisk.open(str(folder / f"{name}.sock"))
    disk.submit([disk.prepare(0, 0, in_bytes=512)])
    time.sleep(0.1)
    return disk


def test_while_another_disk_does_not_come_to_rest(vhubd, blk, kept, image, folder):
    daemon = vhubd(kept, slow_disk(blk))
    disks = [image.write(), in_flight(folder)]
    assert status_at_the_end(daemon) == STUCK
    assert image.is_saved()
    assert "stuckdisk does not come to rest" in daemon.log
    for disk in disks:
        disk.close()


@pytest.fixture
def restless(blk, image, folder):
    """A disk in memory that ends nothing while the file "hold" is there."""
    return blk("kept", driver="unruly", over="malloc", size="8M", file=image.path, hold=folder / "hold")


def write_and_hold(image, folder, kind=0, sector=0, **shape):
    """(a front end that has written and stays, the requests that it has in flight then)."""
    disk = image.write()
    (folder / "hold").touch()
    requests = disk.submit([disk.prepare(kind, sector, **shape)])
    time.sleep(0.1)
    return disk, requests


def test_a_disk_that_does_not_come_to_rest_itself(vhubd, restless, image, folder):
    daemon = vhubd(restless, loads=[UNRULY])
    disk, _ = write_and_hold(image, folder, in_bytes=512)
    assert status_at_the_end(daemon) == STUCK
    assert image.is_saved()
    assert "kept does not come to rest" in daemon.log
    disk.close()


def test_what_such_a_disk_completes_late_is_saved_too(vhubd, blk, restless, image, folder, stall):
    """While the end waits for another one."""
    daemon = vhubd(restless,
                   blk("slow", driver="unruly", over="malloc", size="8M", file=folder / "slow.img", stall=stall),
                   loads=[UNRULY])
    disk, late = write_and_hold(image, folder, T_OUT, 1024, out=pattern(2, 4096))
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_log("slow has something to save, and is not done yet")
    assert image.is_saved()
    (folder / "hold").unlink()
    disk.wait(late)
    stall.unlink()
    assert daemon.process.wait(60) == STUCK
    assert image.path.read_bytes()[1024 * 512:][:4096] == pattern(2, 4096)
    disk.close()


def test_a_disk_that_does_not_come_to_rest_and_cannot_be_saved(vhubd, restless, image, folder):
    daemon = vhubd(restless, loads=[UNRULY])
    disk, _ = write_and_hold(image, folder, in_bytes=512)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (32768, 32768))     # larger than the log
    assert status_at_the_end(daemon) == STUCK
    assert f"kept: what was written since the last flush is lost: file={image.path}: File too large" in daemon.log
    disk.close()


def test_while_another_disk_cannot_be_destroyed(vhubd, blk, kept, image, stall):
    """It has nothing to save, and comes first."""
    daemon = vhubd(blk("other", driver="unruly", over="null", stall=stall), kept, loads=[UNRULY])
    disk = image.write()
    assert status_at_the_end(daemon) == STUCK
    assert image.is_saved()
    assert "other is stuck: it is still being removed" in daemon.log
    disk.close()


def test_disks_do_not_wait_for_each_other(vhubd, blk, kept, image, folder, stall):
    """Nor is the one that comes first forgotten."""
    first = Image(folder, "first")
    daemon = vhubd(blk("first", driver="unruly", over="malloc", size="8M", file=first.path, stall=stall), kept,
                   loads=[UNRULY])
    disks = [first.write(), image.write()]
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(image.is_saved)
    daemon.wait_log("first has something to save, and is not done yet")
    stall.unlink()
    assert daemon.process.wait(60) == IN_ORDER
    assert first.is_saved()
    for disk in disks:
        disk.close()


def test_a_start_that_fails_while_a_disk_does_not_come_to_rest(vhubd, blk, kept, image, stall, folder):
    """Lcores go on with what is stuck, so it is given back by nobody."""
    daemon = vhubd(kept, slow_disk(blk), blk("wrong", driver="unruly", over="uring", path=folder / "none", stall=stall,
                                             stall_in="open"), loads=[UNRULY], wait=False)
    disks = [image.write(), in_flight(folder)]
    stall.unlink()
    assert daemon.process.wait(60) == NOT_STARTED
    assert image.is_saved()
    assert "wrong cannot be served" in daemon.log and "stuckdisk does not come to rest" in daemon.log
    for disk in disks:
        disk.close()


@pytest.mark.parametrize("why", ["sealed", "limit"])
@pytest.mark.parametrize("stuck", [False, True], ids=["in order", "while another disk is being built"])
def test_what_a_file_does_not_take_is_told(vhubd, blk, stall, folder, stuck, why):
    memory = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    os.truncate(memory, 8 * MB)
    image = Image(folder)
    image.path = f"/proc/{os.getpid()}/fd/{memory}"
    others = [blk("slow", driver="unruly", over="null", stall=stall, stall_in="place")] if stuck else []
    daemon = vhubd(blk("kept", size="8M", file=image.path), *others, loads=[UNRULY], wait=not stuck)
    disk = image.write()
    if why == "sealed":
        fcntl.fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE)
    else:   # larger than the log
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (32768, 32768))
    assert status_at_the_end(daemon) == NOT_SAVED
    assert f"{image.path}: what was written since the last flush is lost" in daemon.log
    disk.close()
    os.close(memory)
