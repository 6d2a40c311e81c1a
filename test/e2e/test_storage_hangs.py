# SPDX-License-Identifier: BSD-3-Clause
"""Storage that does not answer, under as many disks as there are threads for work that does not wait for storage, and
more: other devices are built, serve new front ends and go, whatever hangs."""

import signal
from pathlib import Path

import pytest

from control import Control, Refused
from vhostuser import PATIENCE, PF, BlkDisk, Queue, Req, pattern, wait_listens, wait_until
from vhubd import build_dir

UNRULY = build_dir() / "test/tools/unruly.so"

#: The most that there are for work that does not wait for storage (vhub_work.h).
WORK_THREADS = 64
NAMES = [f"d{i}" for i in range(WORK_THREADS + 2)]


@pytest.fixture
def path(folder):
    return folder / "control.sock"


@pytest.fixture
def mount(folder):
    """While this file is there, the storage does not answer."""
    return folder / "stall"


@pytest.fixture
def dead(blk, mount):
    """The text of a disk on it: dead(name, call), where the call of the driver hangs."""
    return lambda name, call: blk(name, driver="unruly", over="malloc", size="1M", stall=mount, stall_in=call)


def work_threads(pid):
    return [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/comm")].count("vhub-work\n")


def check_is_served(path):
    with BlkDisk.open(str(path)) as disk:
        disk.write(8, pattern(1, 4096))
        assert disk.read(8, 4096) == pattern(1, 4096)


def saved(folder):
    return (folder / "saved").read_text()


def check_others_go_on(path, folder):
    check_is_served(folder / "good.sock")
    with Control(path) as control:
        assert control.call("device_add", kind="blk", name="new",
                            args=f"socket={folder}/new.sock,driver=malloc,size=8M")
        check_is_served(folder / "new.sock")
        assert control.call("device_resize", name="new", size=16 << 20) == {"size_bytes": 16 << 20}
        assert control.call("config_save", path=str(folder / "saved")) == {"path": str(folder / "saved")}
        assert control.call("device_remove", name="new")


def start(folder, name):
    """A front end that waits for no answer."""
    disk = BlkDisk.open(str(folder / f"{name}.sock"), queues=0, drop=(PF.REPLY_ACK,))
    disk.start_queue(Queue(0, disk.new_ring(8)))
    return disk


@pytest.mark.parametrize("locked", [True, False], ids=["taken", "given back"])
def test_locks_of_images(vhubd, blk, dead, mount, folder, path, locked):
    daemon = vhubd(blk("good", size="8M"), *[dead(name, "lock") for name in NAMES], loads=[UNRULY],
                   args=["--control", str(path)])
    if locked:
        mount.touch()
    disks = [start(folder, name) for name in NAMES]
    if not locked:
        for disk in disks:
            disk.ask_u64(Req.GET_FEATURES)   # answered after the start of its ring
        mount.touch()
        for disk in disks:
            disk.close()
    wait_until(lambda: work_threads(daemon.pid) >= WORK_THREADS)
    check_others_go_on(path, folder)
    mount.unlink()
    for name, disk in zip(NAMES, disks):
        disk.close()
        check_is_served(folder / f"{name}.sock")


def test_the_end_waits_until_an_image_is_given_back(vhubd, dead, mount, folder, path):
    """And nothing is saved then, where devices are gone already."""
    daemon = vhubd(dead("slow", "lock"), loads=[UNRULY], args=["--control", str(path)])
    disk = start(folder, "slow")
    disk.ask_u64(Req.GET_FEATURES)   # answered after the start of its ring
    mount.touch()
    daemon.process.terminate()
    daemon.wait_log("slow is giving its image back.*waiting for it")
    with Control(path) as control:
        for where in ({"path": str(folder / "saved")}, {}):
            with pytest.raises(Refused, match="vhubd is stopping") as refused:
                control.call("config_save", **where)
            assert refused.value.code == -32005
    assert not (folder / "saved").exists()
    mount.unlink()
    assert daemon.process.wait(PATIENCE) == 0
    disk.close()


@pytest.mark.parametrize("call", ["resize", "destroy"])
def test_changes_and_removals(vhubd, blk, dead, mount, folder, path, call):
    daemon = vhubd(blk("good", size="8M"), *[dead(name, call) for name in NAMES], loads=[UNRULY],
                   args=["--control", str(path)])
    mount.touch()
    with Control(path) as control:
        for name in NAMES:
            if call == "resize":
                control.begin("device_resize", name=name, size=2 << 20)
            else:
                control.begin("device_remove", name=name)
        wait_until(lambda: work_threads(daemon.pid) >= WORK_THREADS)
        check_others_go_on(path, folder)
        mount.unlink()
        for _ in NAMES:
            assert "result" in control.receive()


def test_devices_that_are_added(vhubd, blk, mount, folder, path):
    """A port is not held up either, and the order of adding is that of the list."""
    names = NAMES[:8]
    vhubd(blk("good", size="8M"), loads=[UNRULY], args=["--control", str(path)])
    mount.touch()
    with Control(path) as control, Control(path) as other:
        for name in names:
            control.begin("device_add", kind="blk", name=name,
                          args=f"socket={folder}/{name}.sock,driver=unruly,over=malloc,size=1M,stall={mount},stall_in=open")
        wait_until(lambda: names[-1] in other.names())
        check_others_go_on(path, folder)
        assert other.call("device_add", kind="net", name="port", args=f"socket={folder}/port.sock,driver=echo")
        # They may fail yet.
        assert "[blk good]" in saved(folder) and "[blk d0]" not in saved(folder)
        states = [(each["name"], each["state"]) for each in other.call("device_list")]
        assert states == [("good", "serving"), *((name, "building") for name in names), ("port", "serving")]
        with pytest.raises(Refused, match="d0 is being added") as refused:
            other.call("device_remove", name="d0")
        assert refused.value.code == -32003
        mount.unlink()
        for _ in names:
            assert control.receive()["result"] is True
    for name in names:
        check_is_served(folder / f"{name}.sock")


def test_devices_of_the_start(vhubd, blk, net, dead, mount, folder, path):
    """Those behind them, too; and vhubd is ready when all are served."""
    names = NAMES[:8]
    mount.touch()
    daemon = vhubd(*[dead(name, "open") for name in names], blk("good", size="8M"), nets=[net("port", driver="echo")],
                   loads=[UNRULY], args=["--control", str(path)], wait=False)
    wait_listens(folder / "good.sock", folder / "port.sock")
    check_others_go_on(path, folder)
    assert all(f"[blk {name}]" in saved(folder) for name in (*names, "good"))
    assert "ready" not in daemon.log
    mount.unlink()
    daemon.wait_log("ready")
    for name in names:
        check_is_served(folder / f"{name}.sock")


def test_the_end_while_devices_of_the_start_hang(vhubd, blk, dead, mount, folder):
    mount.touch()
    daemon = vhubd(*[dead(name, "open") for name in NAMES[:8]], blk("good", size="8M"), loads=[UNRULY], wait=False)
    wait_listens(folder / "good.sock")
    check_is_served(folder / "good.sock")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    assert not (folder / "good.sock").exists()


def test_a_device_that_cannot_be_built_while_others_hang(vhubd, blk, dead, mount, folder):
    mount.touch()
    daemon = vhubd(*[dead(name, "open") for name in NAMES[:8]], blk("wrong", driver="uring", path=folder / "none"),
                   loads=[UNRULY], wait=False)
    assert daemon.process.wait(60) == 1
    assert "wrong cannot be served" in daemon.log
