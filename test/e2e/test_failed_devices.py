# SPDX-License-Identifier: BSD-3-Clause
"""--failed-devices retry: a device that cannot be built at the start keeps nobody from being served, and is there as soon
as what it lacks has come."""

import fcntl
import re
import signal
import socket

import pytest

from control import Control, Refused, vhubctl
from manager import Manager
from test_config import read
from vhostuser import PATIENCE, BlkDisk, Wire, pattern, wait_listens, wait_until
from vhostuser.load import Load
from vhubd import ROOT, build_dir

UNRULY = build_dir() / "test/tools/unruly.so"
IMAGE_BYTES = 8 << 20


@pytest.fixture
def path(folder):
    return folder / "control.sock"


@pytest.fixture
def start(vhubd, path):
    """start(blk(...), ...): a daemon that serves what can be served, once it has said so."""

    def begin(*blks, wait=True, args=(), **keywords):
        daemon = vhubd(*blks, wait=False, args=["--failed-devices", "retry", "--control", str(path), *args], **keywords)
        if wait:
            daemon.wait_log("vhub: ready")
        return daemon

    return begin


@pytest.fixture
def late(blk, folder):
    """The text of a disk whose image is not there, and the image's path."""
    return blk("late", driver="uring", path=folder / "late.img"), folder / "late.img"


def make_image(image):
    """All of it at once, as a mount brings it."""
    beside = image.with_suffix(".new")
    beside.write_bytes(bytes(IMAGE_BYTES))
    beside.rename(image)


def device(control, name):
    return {each["name"]: each for each in control.call("device_list")}[name]


def wait_state(control, name, state):
    wait_until(lambda: device(control, name)["state"] == state, lambda: device(control, name))


def works(path):
    with BlkDisk.open(str(path)) as disk:
        disk.write(8, pattern(1, 4096))
        assert disk.read(8, 4096) == pattern(1, 4096)


def refused(control, code, words, method, **params):
    with pytest.raises(Refused, match=words) as caught:
        control.call(method, **params)
    assert caught.value.code == code


def test_an_image_that_comes_later_is_served_then_and_another_disk_all_the_time(start, blk, late, folder, path):
    spec, image = late
    with Manager(folder / "notify") as manager:
        daemon = start(spec, blk("good"), env=manager.env())
        manager.hear_until("READY=1")
        assert manager.said[-1] == ["READY=1", "STATUS=1 of 2 devices are there"]
        assert "ready: 1 of 2 devices" in daemon.log
        load = Load(folder / "good.sock")
        load.wait_running()
        with Control(path) as control:
            wait_until(lambda: device(control, "late").get("failures", 0) >= 2)
            wait_state(control, "late", "failed")
            shown = device(control, "late")
            assert shown["error"] == f"path={image}: No such file or directory"
            assert "queues" not in shown and "error" not in device(control, "good")
            figures = control.call("device_stats", name="late")[0]
            assert figures["error"] == shown["error"] and figures["session"]["connection"] == "none"
            assert "late.img: No such file" in vhubctl(path, "list").stdout
            assert "late.img: No such file" in vhubctl(path, "stats", "late").stdout
            refused(control, -32003, "late is not served yet: path=.*No such file", "device_resize", name="late")
            # Nobody is kept waiting on a socket.
            with pytest.raises(FileNotFoundError):
                Wire.connect(str(folder / "late.sock"))
            make_image(image)
            wait_state(control, "late", "serving")
            assert "error" not in device(control, "late")
            works(folder / "late.sock")
        load.stop()
        assert manager.hear()[0] == "STATUS="
        assert daemon.log.count("No such file") == 1 and "late is served now" in daemon.log
        daemon.stop()


def test_one_that_never_comes_is_tried_ever_less_often_and_ends_with_vhubd(start, blk, late, path):
    daemon = start(blk("good"), late[0])
    with Control(path) as control:
        wait_until(lambda: device(control, "late").get("failures") == 3)
        works(daemon.sockets[0])
    # That took a second, and two.
    log = daemon.log
    assert log.count("late: ") == 1 and log.count("late cannot be served: the others are") == 1
    daemon.stop()


def test_removed_while_it_has_failed(start, blk, late, folder, path):
    with Manager(folder / "notify") as manager:
        start(blk("good"), late[0], env=manager.env())
        manager.hear_until("READY=1")
        with Control(path) as control:
            wait_state(control, "late", "failed")
            refused(control, -32002, "the name late is in use: that device is", "device_add", kind="blk", name="late",
                    args=f"socket={folder}/late.sock,driver=null")
            assert control.call("device_remove", name="late") is True
            assert control.names() == ["good"]
            assert manager.hear() == ["STATUS="]
            make_image(late[1])
            assert control.call("device_add", kind="blk", name="late", args=late[0].partition(",")[2])
            works(folder / "late.sock")


def test_what_is_saved_has_it_and_the_next_vhubd_tries_it(start, vhubd, blk, late, folder, path):
    saved = folder / "saved.ini"
    first = start(late[0], blk("good", driver="null"))
    with Control(path) as control:
        wait_state(control, "late", "failed")
        control.call("config_save", path=str(saved))
    first.stop()
    second = vhubd(args=["--config", str(saved)], wait=False)
    second.wait_log("ready: 1 of 2 devices")
    with Control(path) as control:
        assert control.names() == ["late", "good"]
        make_image(late[1])
        assert control.call("device_retry", name="late") is True
        works(folder / "late.sock")


def test_it_is_tried_at_once_when_asked_to_be(start, late, folder, path):
    start(late[0])
    with Control(path) as control:
        # Later and later: the next time of its own is not that near.
        wait_until(lambda: device(control, "late").get("failures") == 3)
        refused(control, -32004, "late.img: No such file", "device_retry", name="late")
        assert device(control, "late")["failures"] == 4
        make_image(late[1])
        assert vhubctl(path, "retry", "late").stdout == "late is served\n"
        works(folder / "late.sock")
        assert control.call("device_retry", name="late") is True
        refused(control, -32001, "there is no device none", "device_retry", name="none")


@pytest.mark.parametrize("tries", [1, 2], ids=["first try", "later"])
def test_removed_while_it_is_tried(start, blk, folder, path, tries):
    """Its storage hangs: nobody else waits, and what comes of the try is nobody's any more."""
    stall, image = folder / "stall", folder / "image"
    spec = blk("late", driver="unruly", over="uring", path=image, stall=stall, stall_in="open")
    if tries == 1:
        stall.touch()
    daemon = start(spec, blk("good"), loads=[UNRULY], wait=tries > 1)
    wait_listens(path)
    with Control(path) as control, Control(path) as other:
        if tries > 1:
            wait_state(control, "late", "failed")
            stall.touch()
        wait_state(control, "late", "building")
        refused(control, -32003, "late is building", "device_retry", name="late")
        make_image(image)
        other.begin("device_remove", name="late")
        wait_listens(folder / "good.sock")
        works(folder / "good.sock")
        wait_state(control, "good", "serving")
        refused(control, -32003, "late is being", "device_remove", name="late")
        assert "[blk late]" not in control.call("config_save")["text"]
        stall.unlink()
        assert other.receive()["result"] is True
        assert control.names() == ["good"]
    daemon.wait_log("ready")
    assert not (folder / "late.sock").exists()
    assert "late is removed" in daemon.log
    daemon.stop()


def test_the_end_while_it_is_tried(start, blk, folder, path):
    stall = folder / "stall"
    daemon = start(blk("late", driver="unruly", over="uring", path=folder / "none", stall=stall, stall_in="open"),
                   blk("good"), loads=[UNRULY])
    with Control(path) as control:
        stall.touch()
        wait_state(control, "late", "building")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(PATIENCE) == 0
    assert not (folder / "good.sock").exists()


def test_a_worker_that_is_gone(start, blk, path):
    daemon = start(blk("good"), blk("away", affinity=77))
    with Control(path) as control:
        wait_until(lambda: device(control, "away").get("failures", 0) >= 2)
        assert device(control, "away")["error"].startswith("affinity: there is no worker 77")
        assert device(control, "away")["lcores"] == []
        assert "affinity = 77" in control.call("config_save")["text"]
        works(daemon.sockets[0])
        assert control.call("device_remove", name="away") is True


def test_a_file_that_a_vhubd_that_was_killed_still_has(start, blk, folder, path):
    file = folder / "file"
    file.write_bytes(pattern(7, 4096))
    with open(file, "r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        daemon = start(blk("kept", size="1M", file=file))
        assert "kept: file=" in daemon.log and "is in use: somebody else has locked it" in daemon.log
    with Control(path) as control:
        wait_state(control, "kept", "serving")
    with BlkDisk.open(str(folder / "kept.sock")) as disk:
        assert disk.read(0, 4096) == pattern(7, 4096)
    daemon.stop()


def test_a_folder_of_sockets_that_comes_later(start, blk, folder, path):
    """The disk, which could take long to load, is made once."""
    file = folder / "file"
    spec = blk("late", size="1M", file=file, socket=folder / "none/late.sock")
    daemon = start(spec, blk("good"))
    with Control(path) as control:
        wait_until(lambda: device(control, "late").get("failures", 0) >= 2)
        assert "cannot listen on socket=" in device(control, "late")["error"]
        wait_state(control, "late", "failed")
        assert device(control, "late")["queues"] == 1
        (folder / "none").mkdir()
        wait_state(control, "late", "serving")
        works(folder / "none/late.sock")
        assert control.call("device_remove", name="late") is True
    assert file.read_bytes()[4096:8192] == pattern(1, 4096)
    daemon.stop()


def test_a_port_that_nobody_can_listen_for_is_saved_with_what_its_bridge_has(start, net, folder, path):
    start(nets=[net("a", driver="bridge", bridge="br0", ageing=60),
                net("b", driver="bridge", bridge="br0", socket=folder / "none/b.sock")])
    with Control(path) as control:
        wait_state(control, "b", "failed")
        assert control.call("config_save")["text"].partition("[net b]")[2].count("ageing = 60\n") == 1


def test_an_inherited_socket_waits_for_its_disk(start, blk, late, folder, path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "activated.sock"))
        listener.listen()
        daemon = start(blk("late", driver="uring", path=late[1], fd=listener.fileno()), pass_fds=[listener.fileno()])
    waiting = Wire.connect(str(folder / "activated.sock"))
    with Control(path) as control:
        wait_until(lambda: device(control, "late").get("failures", 0) >= 2)
        make_image(late[1])
        wait_state(control, "late", "serving")
        with BlkDisk.open(wire=waiting) as disk:
            disk.read(0, 4096)
    daemon.stop()


def test_an_uplink_whose_port_is_not_there(start, net, folder, path):
    packets = folder / "packets.pcap"
    daemon = start(args=["--uplink", f"up,bridge=br0,port=[net_pcap0,rx_pcap={packets}]"],
                   nets=[net("port", driver="bridge", bridge="br0")])
    with Control(path) as control:
        wait_until(lambda: device(control, "up").get("failures", 0) >= 2)
        # The header of a file without packets.
        packets.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        wait_state(control, "up", "serving")
        assert [port["name"] for port in control.call("bridge_list")[0]["ports"]] == ["port", "up"]
    daemon.stop()


def test_what_a_late_uplink_says_of_its_bridge_counts_from_the_beginning(start, net, folder, path):
    packets = folder / "packets.pcap"

    def bridge(control):
        return [(each["ageing_s"], each["max_stations"], len(each["ports"])) for each in control.call("bridge_list")]

    daemon = start(args=["--uplink", f"up,bridge=br0,ageing=60,table=1000,port=[net_pcap0,rx_pcap={packets}]"], nets=[net("port", driver="bridge", bridge="br0")])
    with Control(path) as control:
        wait_until(lambda: device(control, "up").get("failures", 0) >= 2)
        assert bridge(control) == [(60, 1000, 1)]
        # Another port that makes the bridge anew, after a failed try.
        spec = f"socket={folder}/again.sock,driver=bridge,bridge=br0"
        control.call("device_remove", name="port")
        with pytest.raises(Refused):
            control.call("device_retry", name="up")
        control.call("device_add", kind="net", name="again", args=spec)
        assert bridge(control) == [(60, 1000, 1)]
        refused(control, -32004, "ageing=70: bridge br0 is there, with ageing=60", "device_add", kind="net",
                name="other", args=spec.replace("again", "other") + ",ageing=70")
        packets.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        wait_state(control, "up", "serving")
        assert bridge(control) == [(60, 1000, 2)]
        # Nothing is left of one that has gone.
        for name in ("up", "again"):
            control.call("device_remove", name=name)
        control.call("device_add", kind="net", name="again", args=spec)
        assert bridge(control) == [(300, 8192, 1)]
    daemon.stop()


def test_the_unit_for_systemd_serves_what_can_be_served(vhubd, blk, late):
    unit = (ROOT / "config/systemd/vhubd.service").read_text()
    words = re.search(r"^ExecStart=\S+/vhubd \$VHUBD_ARGS (.*)$", unit, re.MULTILINE).group(1).split()
    daemon = vhubd(blk("good"), late[0], args=words, wait=False)
    daemon.wait_log("ready: 1 of 2 devices")
    works(daemon.sockets[0])
    daemon.stop()


def test_a_mistake_ends_the_start_all_the_same(start, blk, folder):
    fd = 99
    daemon = start(blk("good"), blk("strange", fd=fd), wait=False)
    assert daemon.process.wait(PATIENCE) == 1
    assert f"strange: cannot use fd={fd}" in daemon.log
    assert not (folder / "good.sock").exists()
    text = f"[vhubd]\nfailed-devices = retry\n[blk d]\nsocket = {folder}/d.sock\ndriver = none\n"
    assert read(folder, text)[0] == 2
    status, said = read(folder, "[vhubd]\nfailed-devices = later\n")
    assert status == 2 and "failed-devices=later: allowed are exit and retry" in said
