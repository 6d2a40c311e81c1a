# SPDX-License-Identifier: BSD-3-Clause
"""While vhubd starts: a disk takes its time to make, and signals are served all the same."""

import os
import signal

import pytest

from vhostuser import wait_until

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
