# SPDX-License-Identifier: BSD-3-Clause
"""How vhubd ends: on SIGTERM, SIGINT and SIGHUP, with storage that is stuck, with options that are
wrong."""

import os
import signal
import subprocess
import time

import pytest

from hold import Hold, wait_taken
from test_inflight import start, tracked
from vhostuser import PATIENCE, BlkDisk, Inflight, Queue, Wire, pattern, wait_until
from vhostuser import blk as requests
from vhubd import IN_ORDER, STUCK, build_dir, hangups, seconds_until


#: Less than whatever a daemon waits for, front ends that do not answer among it (5 s), as seconds_until() counts, of
#: which a machine that does much else takes none. What is stuck for a second by
#: its own clock gives it another status than 0.
SOON = 4


def end(daemon, sig=signal.SIGTERM):
    """(seconds, exit status)"""
    daemon.process.send_signal(sig)
    seconds = seconds_until(lambda: daemon.process.poll() is not None)
    return seconds, daemon.process.returncode


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_an_idle_daemon_within_a_second(vhubd, blk, sig):
    daemon = vhubd(blk("a"), blk("b"))
    seconds, status = end(daemon, sig)
    assert status == 0
    assert seconds < SOON
    assert not any(path.exists() for path in daemon.sockets)


def test_a_daemon_that_was_started_to_outlive_its_terminal_does(vhubd, blk):
    with hangups(signal.SIG_IGN):
        daemon = vhubd(blk("a"))
    daemon.process.send_signal(signal.SIGHUP)
    _, status = end(daemon)
    assert status == 0
    assert "Terminated: stopping" in daemon.log and "Hangup" not in daemon.log


def test_a_signal_ends_a_daemon_with_idle_front_ends(vhubd, blk):
    daemon = vhubd(blk("a"), blk("b"))
    disks = [BlkDisk.open(str(path)) for path in daemon.sockets]
    silent = Wire.connect(str(daemon.sockets[0]))
    for disk in disks:
        disk.read(0, 512)
    seconds, status = end(daemon)
    assert status == 0
    assert seconds < SOON
    assert not any(path.exists() for path in daemon.sockets)
    for disk in disks:
        assert disk.wire.wait_closed()
        disk.close()
    silent.close()


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_signal_under_load_drains_the_queues(vhubd, blk, folder, packed):
    hold = Hold(folder / "hold")
    daemon = vhubd(blk("busy", queues=4), blk("slow", driver="unruly", over="null", size="64M", hold=hold.path),
                   loads=[build_dir() / "test/tools/unruly.so"])
    busy = BlkDisk.open(str(daemon.sockets[0]), queues=4, packed=packed, size=256)
    late = tracked(BlkDisk.open, str(daemon.sockets[1]), packed)
    start(late)
    with hold:
        sent = late.submit([late.prepare(requests.T_IN, i, in_bytes=512) for i in range(8)])
        wait_taken(late, 8)
        many = [busy.submit([busy.prepare(requests.T_OUT, 8 * i, out=pattern(i, 4096))
                             for i in range(64)], queue=queue)
                for queue in range(4)]
        with hold.let_go_meanwhile():
            seconds, status = end(daemon)
    assert status == 0
    assert seconds < SOON
    # Taken and finished, or not taken at all: whatever the status byte says, the used ring says
    # too.
    late.reap(timeout=0)
    assert all(request.done and request.status == requests.S_OK for request in sent)
    for queue in range(4):
        busy.reap(queue, timeout=0)
        for request in many[queue]:
            assert request.done == (request.status == requests.S_OK)
    busy.close()
    late.close()


def test_a_signal_during_the_negotiation_ends_the_daemon(vhubd, blk):
    daemon = vhubd(blk())
    wire = Wire.connect(str(daemon.sockets[0]))
    wire.send_raw(b"\5\0\0\0\1\0\0\0\10\1\0\0half")
    time.sleep(0.05)
    seconds, status = end(daemon)
    assert status == 0
    assert seconds < SOON
    wire.close()


def test_two_signals_are_as_good_as_one(vhubd, blk):
    daemon = vhubd(blk("slow", driver="null", size="64M", latency_us=400000))
    disk = BlkDisk.open(str(daemon.sockets[0]))
    disk.submit([disk.prepare(requests.T_IN, 0, in_bytes=512)])
    time.sleep(0.05)
    daemon.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    seconds, status = end(daemon, signal.SIGINT)
    assert status == 0
    assert seconds < SOON
    disk.close()


def test_stuck_storage_is_named_after_a_second_and_the_inflight_region_holds_the_rest(
        vhubd, blk):
    daemon = vhubd(blk("good"), blk("stuckdisk", driver="null", size="64M", latency_us=3600000000))
    good = BlkDisk.open(str(daemon.sockets[0]))
    stuck = BlkDisk.open(str(daemon.sockets[1]), queues=0)
    region = stuck.get_inflight(1, 64)
    stuck.set_inflight(region)
    stuck.start_queue(Queue(0, stuck.new_ring(64)))
    made = stuck.submit([stuck.prepare(requests.T_OUT, i, out=bytes(512)) for i in range(5)])
    good.read(0, 512)
    wait_until(lambda: len(region.inflight(0)) == 5)
    seen, begin = len(daemon.log), time.monotonic()
    seconds, status = end(daemon)
    assert status not in (0, -signal.SIGABRT, -signal.SIGSEGV) and status > 0
    assert time.monotonic() - begin > 0.5 and seconds < SOON
    told = [line for line in daemon.log[seen:].splitlines() if "stuckdisk" in line]
    assert told, daemon.log[seen:]
    assert not any("good" in line and "rest" in line for line in daemon.log[seen:].splitlines())
    assert not any(path.exists() for path in daemon.sockets)
    assert len(region.inflight(0)) == 5
    assert not any(request.done for request in made)
    assert isinstance(region, Inflight)
    region.close()
    for disk in (good, stuck):
        disk.close()


def status_of_one_that_stood_still(daemon, hold):
    """How a daemon ends that stands still for a second while it waits for its storage, which answers meanwhile. None
    when we stood still before, while it ran, and it has little left of its time."""
    disk = tracked(BlkDisk.open, str(daemon.sockets[0]), False)
    start(disk)
    with hold:
        disk.submit([disk.prepare(requests.T_IN, i, in_bytes=512) for i in range(8)])
        wait_taken(disk, 8)
        begin = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("stopping")
        daemon.process.send_signal(signal.SIGSTOP)
        in_time = time.monotonic() - begin < 0.5
        time.sleep(1)
    daemon.process.send_signal(signal.SIGCONT)
    status = daemon.process.wait(60)
    disk.close()
    return status if in_time else None


def test_nobody_is_stuck_on_a_machine_that_stands_still(vhubd, blk, folder):
    """The second that storage has at the end is one in which the daemon runs."""
    hold, status = Hold(folder / "hold"), None
    for _ in range(5):
        daemon = vhubd(blk(driver="unruly", over="null", size="64M", hold=hold.path),
                       loads=[build_dir() / "test/tools/unruly.so"])
        status = status_of_one_that_stood_still(daemon, hold)
        if status is not None:
            break
    assert status == 0


def test_storage_that_was_slow_but_is_idle_is_not_stuck(vhubd, blk):
    daemon = vhubd(blk("slow", driver="null", size="64M", latency_us=200000))
    disk = BlkDisk.open(str(daemon.sockets[0]))
    disk.read(0, 512)
    seconds, status = end(daemon)
    assert status == 0 and seconds < SOON
    disk.close()


def status_after(daemon, stall, seconds):
    """Of one with a device whose end takes so long."""
    with stall:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("stopping")
        time.sleep(seconds)
        assert daemon.running()
    return daemon.process.wait(PATIENCE)


def test_a_disk_whose_end_takes_longer_than_a_second_is_waited_for(vhubd, blk, folder):
    stall = Hold(folder / "stall")
    daemon = vhubd(blk("slow", driver="unruly", over="null", size="8M", stall=stall.path),
                   loads=[build_dir() / "test/tools/unruly.so"])
    assert status_after(daemon, stall, 1.5) == IN_ORDER


def test_a_port_whose_end_takes_longer_than_that_of_a_disk_is_waited_for(vhubd, blk, net, folder):
    """As the end of a TAP interface does where CPUs are busy. The disk that hangs meanwhile is named for itself."""
    port, disk = Hold(folder / "port"), Hold(folder / "disk")
    daemon = vhubd(blk("slow", driver="unruly", over="null", size="8M", stall=disk.path),
                   nets=[net(driver="faulty", stall=port.path)],
                   loads=[build_dir() / "test/tools/unruly.so", build_dir() / "test/tools/faulty_net.so"])
    with disk:
        assert status_after(daemon, port, 5) == STUCK
    assert "slow is stuck: it is still being removed" in daemon.log
    assert "port0 is stuck" not in daemon.log


# wrong options


def run(*words, folder):
    """(status, stdout, stderr lines) of a vhubd that should end by itself."""
    done = subprocess.run([str(build_dir() / "app/vhubd"), *map(str, words)],
                          stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, cwd=folder)
    return done.returncode, done.stdout, done.stderr.splitlines()


GOOD = "good,socket={folder}/good.sock,driver=malloc,size=16M"

#: what is given after the good disk, and what the line must name: the option, the value, something
#: that is allowed
WRONG = {
    "unknown option": (["--speed", "fast"], ["--speed", "--help"]),
    "idle policy": (["--idle", "lazy"], ["--idle", "lazy", "poll", "adaptive"]),
    "log level": (["--log-level", "loud"], ["--log-level", "loud", "debug"]),
    "idle time": (["--idle-us", "-1"], ["--idle-us", "-1", "1000000"]),
    "no value": (["--idle"], ["--idle"]),
    "no name": (["--blk", ",socket={folder}/x,driver=null"], ["--blk", "name"]),
    "name": (["--blk", "a b,socket={folder}/x,driver=null"], ["--blk", "a b"]),
    "driver": (["--blk", "d,socket={folder}/x,driver=floppy"],
               ["--blk", "floppy", "malloc", "uring", "null"]),
    "no driver": (["--blk", "d,socket={folder}/x"], ["--blk", "driver", "malloc"]),
    "size is no number": (["--blk", "d,socket={folder}/x,driver=malloc,size=big"],
                          ["--blk", "size=big"]),
    "size is nothing": (["--blk", "d,socket={folder}/x,driver=malloc,size=0"], ["--blk", "size=0"]),
    "size is odd": (["--blk", "d,socket={folder}/x,driver=null,size=1000"],
                    ["--blk", "size=1000", "512"]),
    "size overflows": (["--blk", "d,socket={folder}/x,driver=null,size=99999999999T"],
                       ["--blk", "size=99999999999T"]),
    "no size": (["--blk", "d,socket={folder}/x,driver=malloc"], ["--blk", "size"]),
    "queues 0": (["--blk", "d,socket={folder}/x,driver=null,queues=0"],
                 ["--blk", "queues=0", "128"]),
    "queues 129": (["--blk", "d,socket={folder}/x,driver=null,queues=129"],
                   ["--blk", "queues=129", "128"]),
    "queues text": (["--blk", "d,socket={folder}/x,driver=null,queues=many"],
                    ["--blk", "queues=many"]),
    "ro": (["--blk", "d,socket={folder}/x,driver=null,ro=perhaps"],
           ["--blk", "ro=perhaps", "on", "off"]),
    "latency": (["--blk", "d,socket={folder}/x,driver=null,latency_us=-5"],
                ["--blk", "latency_us=-5"]),
    "unknown key": (["--blk", "d,socket={folder}/x,driver=null,colour=red"],
                    ["--blk", "colour=red", "size"]),
    "key of another driver": (["--blk", "d,socket={folder}/x,driver=malloc,size=1M,path=/x"],
                              ["--blk", "path=/x"]),
    "key of the socket, wrong": (["--blk", "d,sock={folder}/x,driver=null"],
                                 ["--blk", "sock=", "socket", "peer_group"]),
    "comma in a value": (["--net", "n,socket={folder}/x,driver=ethdev,port=net_tap0,iface=tap0"],
                         ["--net", "iface=tap0", "goes into brackets"]),
    "key twice": (["--blk", "d,socket={folder}/x,driver=null,size=1M,size=2M"], ["--blk", "size"]),
    "no path": (["--blk", "d,socket={folder}/x,driver=uring"], ["--blk", "path"]),
    "no socket": (["--blk", "d,driver=null"], ["--blk", "socket", "fd", "connect"]),
    "two ways": (["--blk", "d,socket={folder}/x,fd=3,driver=null"],
                 ["--blk", "socket", "fd", "connect"]),
    "fd": (["--blk", "d,fd=three,driver=null"], ["--blk", "fd=three"]),
    "long path": (["--blk", "d,socket={folder}/" + "x" * 108 + ",driver=null"], ["--blk", "107"]),
    "mode": (["--blk", "d,socket={folder}/x,driver=null,mode=rw"], ["--blk", "mode=rw", "0660"]),
    "owner": (["--blk", "d,socket={folder}/x,driver=null,owner="], ["--blk", "owner"]),
    "mode without socket": (["--blk", "d,connect={folder}/x,driver=null,mode=0600"],
                            ["--blk", "mode", "socket"]),
    "same name": (["--blk", "good,socket={folder}/x,driver=null"], ["--blk", "good"]),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_wrong_option_is_told_in_one_line_and_leaves_nothing_behind(folder, case):
    words, named = WRONG[case]
    fill = [word.format(folder=folder) for word in ["--blk", GOOD, *words]]
    status, output, errors = run(*fill, folder=folder)
    assert status == 2
    assert output == ""
    assert len(errors) == 1, errors
    for name in named:
        assert name in errors[0], errors[0]
    assert list(folder.iterdir()) == []


def test_no_device_at_all_is_told(folder):
    status, output, errors = run(folder=folder)
    assert (status, output, len(errors)) == (2, "", 1)
    assert "--blk" in errors[0]


@pytest.mark.parametrize("option, text", [("--help", "--blk"), ("--version", "vhubd")])
def test_help_and_version_are_no_errors(folder, option, text):
    status, output, errors = run(option, folder=folder)
    assert (status, errors) == (0, [])
    assert text in output


#: right in form, but it cannot be: the device that is wrong, and what the message must name
IMPOSSIBLE = {
    "image is not there": ("d,socket={folder}/x.sock,driver=uring,path={folder}/none",
                           "{folder}/none"),
    "image is a directory": ("d,socket={folder}/x.sock,driver=uring,path={folder}", "{folder}"),
    "no folder for the socket": ("d,socket={folder}/no/x.sock,driver=malloc,size=1M",
                                 "{folder}/no/x.sock"),
    "no such user": ("d,socket={folder}/x.sock,driver=malloc,size=1M,owner=nobody-of-that-name", "nobody-of-that-name"),
    "no such group": ("d,socket={folder}/x.sock,driver=malloc,size=1M,peer_group=nobody-of-that-name",
                      "nobody-of-that-name"),
    "fd is not open": ("d,fd=77,driver=malloc,size=1M", "fd=77"),
    "more memory than there is": ("d,socket={folder}/x.sock,driver=malloc,size=900T", "900T"),
}


@pytest.mark.parametrize("case", list(IMPOSSIBLE))
def test_a_device_that_cannot_be_made_is_named_and_leaves_nothing_behind(vhubd, blk, folder, case):
    text, named = (part.format(folder=folder) for part in IMPOSSIBLE[case])
    daemon = vhubd(blk("good"), text, wait=False)
    assert daemon.process.wait(60) > 0
    assert [line for line in daemon.log.splitlines() if named in line], daemon.log
    assert list(folder.iterdir()) == [daemon.log_path]


def test_an_image_is_not_served_twice(vhubd, blk, folder):
    """The lock is taken when rings start, so that a migration's two ends can hand over. One line tells who has it."""
    image = folder / "image"
    image.write_bytes(bytes(1 << 20))
    first = vhubd(blk("a", driver="uring", path=image), blk("c", driver="uring", path=image))
    second = vhubd(blk("b", driver="uring", path=image))
    with BlkDisk.open(str(first.sockets[0])) as disk:
        disk.write(0, pattern(1, 512))
        for daemon, name, who in ((first, "c", "in use by the disk a"), (second, "b", "another process")):
            with pytest.raises(Exception):
                with BlkDisk.open(str(folder / f"{name}.sock")) as other:
                    other.timeout = 1
                    other.read(0, 512)
            daemon.wait_log(f"{name}#1: SET_VRING_KICK .* {who}.*: {image}")
            assert daemon.log.count("in use") == 1
        disk.write(1, pattern(2, 512))
        disk.stop()
        # Suspended: now the other end may.
        with BlkDisk.open(str(second.sockets[0])) as other:
            assert other.read(0, 512) == pattern(1, 512)


def test_environment_and_standard_descriptors_do_not_matter(folder):
    """Started with closed standard input and an empty environment, as a supervisor may do."""
    path = folder / "d.sock"
    with open(folder / "log", "wb") as log:
        from vhubd import no_huge, no_huge_arguments
        eal = [*no_huge_arguments(256), "--"] if no_huge() else []
        process = subprocess.Popen([str(build_dir() / "app/vhubd"), *eal, "--blk",
                                    "d,socket=%s,driver=null" % path],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={},
                                   close_fds=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        disk = None
        while disk is None:
            try:
                disk = BlkDisk.open(str(path))
            except OSError:
                assert time.monotonic() < deadline
        disk.read(0, 512)
        disk.close()
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert not os.path.exists(path)
