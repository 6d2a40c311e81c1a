# SPDX-License-Identifier: BSD-3-Clause
"""While vhubd starts: a disk takes its time to make, and signals are served all the same."""

import signal
import time

import pytest


@pytest.mark.plain_only
@pytest.mark.alone
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_daemon_that_still_makes_its_disk(vhubd, blk, slow, sig):
    """Six gigabytes take seconds to find; the disk before it is served already, and goes in order."""
    daemon = vhubd(blk("small"), blk("large", size="6G"), wait=False)
    deadline = time.monotonic() + 30
    while daemon.rss_kb() < 400 * 1024:
        assert time.monotonic() < deadline, "no sign of the large disk"
        time.sleep(0.01)
    assert daemon.sockets[0].is_socket()
    assert "ready" not in daemon.log
    begin = time.monotonic()
    daemon.process.send_signal(sig)
    assert daemon.process.wait(30) == 0
    assert time.monotonic() - begin < slow
    assert not any(path.exists() for path in daemon.sockets)
