# SPDX-License-Identifier: BSD-3-Clause
"""While vhubd starts: a disk takes its time to make, and signals are served all the same. And what a service manager
is told, from then to the end."""

import os
import signal

import pytest

from manager import Manager
from vhostuser import BlkDisk, wait_until
from vhubd import hangups, lcore_places

LARGE_KIB = 6 << 20


@pytest.mark.plain_only
@pytest.mark.alone
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_daemon_that_still_makes_its_disk(vhubd, blk, sig):
    """Six gigabytes take seconds to find; the disk before it is served already, and goes in order. In
    ordinary memory: what is resident does not tell of hugepages."""
    daemon = vhubd(blk("small"), blk("large", size=f"{LARGE_KIB}k"), wait=False)
    wait_until(lambda: daemon.rss_kb() >= 400 * 1024, lambda: "no sign of the large disk")
    assert daemon.sockets[0].is_socket()
    assert "ready" not in daemon.log
    daemon.process.send_signal(sig)
    _, status, usage = os.wait4(daemon.pid, 0)
    daemon.process.returncode = os.waitstatus_to_exitcode(status)
    assert daemon.process.returncode == 0
    assert usage.ru_maxrss < LARGE_KIB * 3 // 4, "the disk was made all the same"
    assert not any(path.exists() for path in daemon.sockets)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_service_manager_hears_when_all_devices_are_there_and_of_the_end(vhubd, blk, folder, kind):
    with Manager(folder / "notify" if kind == "path" else f"@{folder.name}") as manager:
        daemon = vhubd(blk("a"), blk("b", driver="null"), env=manager.env(), wait=False)
        manager.hear_until("READY=1")
        assert all(path.is_socket() for path in daemon.sockets)
        assert manager.said == [["STATUS=0 of 2 devices are there"], ["STATUS=1 of 2 devices are there"],
                                ["READY=1", "STATUS="]]
        daemon.stop()
        assert manager.hear_all()[3:] == [["STOPPING=1", "STATUS=stopping"]]


def test_a_service_manager_hears_of_no_readiness_where_a_device_is_missing(vhubd, blk, folder):
    with Manager(folder / "notify") as manager:
        daemon = vhubd(blk("a"), blk("b", driver="uring", path=folder / "none"), env=manager.env(), wait=False)
        assert daemon.process.wait(60) == 1
        assert not any("READY=1" in lines for lines in manager.hear_all())
        assert ["STOPPING=1", "STATUS=stopping"] in manager.said


def test_a_hangup_is_no_end_under_a_service_manager(vhubd, blk, folder):
    """As scripts that rotate logs send it; whatever was its action before."""
    with Manager(folder / "notify") as manager, hangups(signal.SIG_DFL):
        daemon = vhubd(blk("a"), env=manager.env())
        manager.hear_until("READY=1")
        daemon.process.send_signal(signal.SIGHUP)
        with BlkDisk.open(str(daemon.sockets[0])) as disk:
            disk.read(0, 4096)
        # Signals are read in the order of their numbers, SIGHUP first.
        daemon.stop()
        assert "Terminated: stopping" in daemon.log and "Hangup" not in daemon.log


def test_a_manager_that_has_gone_keeps_nobody_from_serving(vhubd, blk, folder):
    daemon = vhubd(blk("a"), env={"NOTIFY_SOCKET": str(folder / "none")})
    assert "cannot tell the service manager" in daemon.log


def test_a_watchdog_gets_signs_of_life_of_the_control_thread_twice_as_often_as_it_asks(vhubd, blk, folder):
    with Manager(folder / "notify") as manager:
        vhubd(blk("a"), env=manager.env(WATCHDOG_USEC="400000"))
        manager.hear_until("READY=1")
        for _ in range(8):
            manager.hear_until("WATCHDOG=1")
    times = [when for when, said in zip(manager.times, manager.said) if said == ["WATCHDOG=1"]]
    # On a machine that does much else some come late.
    assert 0.19 < min(after - before for before, after in zip(times, times[1:])) < 0.4


@pytest.mark.parametrize("env", [{"WATCHDOG_USEC": "10000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}],
                         ids=["another's", "no time", "none"])
def test_nobody_else_gets_signs_of_life(vhubd, blk, folder, env):
    with Manager(folder / "notify") as manager:
        daemon = vhubd(blk("a"), env=manager.env(**env))
        daemon.stop()
        assert not any("WATCHDOG=1" in lines for lines in manager.hear_all())
        assert ("WATCHDOG_USEC=soon is no time" in daemon.log) == ("soon" in env.values())


def test_arguments_that_eal_refuses_are_answered_with_what_works(vhubd, blk):
    """Those for hugepages, where there are none."""
    arguments = ["--in-memory", "--no-pci", "-m", "128", "--socket-limit", "128", lcore_places(1)]
    daemon = vhubd(blk(), eal=[*arguments, "--no-huge"], wait=False)
    assert daemon.process.wait(60) == 1
    assert "--no-huge in place of --in-memory" in daemon.log
    vhubd(blk(), eal=["--no-huge", *arguments[1:]])
