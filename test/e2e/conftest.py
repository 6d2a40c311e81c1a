# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the end-to-end tests.

  folder   a short temporary directory (a Unix socket's path has 107 characters at most)
  place    one for all tests of a module
  vhubd    starts daemons: vhubd("disk0,driver=malloc,size=64M,socket=...", ...) -> Vhubd, ready;
           whatever still runs at the end of the test is stopped, and must stop well
  blk      the text of one --blk argument with a socket in `folder`
  net      the text of one --net argument, likewise
  echo     starts a daemon that echoes packets: echo(net("p0"), ...) -> ready. With
           VHUB_NET_PEER=testpmd in the environment it is dpdk-testpmd instead of vhubd: a second
           opinion while writing tests, no way to run the whole suite
  check    starts the checking front end: check(path, "packed", ...) -> NetCheck, running

vhubd.py, the next file on the way, has the class and the environment variables.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for each in (HERE, HERE.parent / "guest", HERE.parent / "conformance"):
    if str(each) not in sys.path:
        sys.path.insert(0, str(each))

from testpmd import EchoTestpmd, NetCheck  # noqa: E402
from vhubd import Vhubd, sanitized  # noqa: E402

TEST_SECONDS = 240
GUEST_SECONDS = 400           # of those that boot guests


def boots_guests(item):
    return item.path.name.startswith("test_guest_")


@pytest.fixture(autouse=True)
def bounded(request):
    """No test may hang: after TEST_SECONDS, GUEST_SECONDS, or the seconds of @pytest.mark.seconds(N), it fails."""
    mark = request.node.get_closest_marker("seconds")
    default = GUEST_SECONDS if boots_guests(request.node) else TEST_SECONDS
    seconds = mark.args[0] if mark else default

    def too_long(*_):
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_configure(config):
    if threading.current_thread() is not threading.main_thread():
        # execnet 1.9 has lost a race that only begins with -v: xdist then runs code before the tests.
        raise pytest.UsageError("tests run beside the main thread, where they cannot be stopped when they "
                                "hang; with -n, leave out -v")
    config.addinivalue_line("markers", "seconds(n): how long the test may take")
    config.addinivalue_line("markers", "plain_only: run once, in ordinary memory and without sanitizers, "
                                       "because it shows elsewhere only what another test shows too")
    config.addinivalue_line("markers", "alone: run without another test beside it, because it measures "
                                       "rates or times")


def pytest_collection_modifyitems(items):
    """Tests that boot guests first: they are the longest, and where tests run side by side the last ones
    should be short."""
    items.sort(key=lambda item: not boots_guests(item))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Lets fixtures see how the test itself went."""
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


def temporary():
    path = Path(tempfile.mkdtemp(prefix="vhub-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


folder = pytest.fixture(temporary)
place = pytest.fixture(temporary, scope="module")


@pytest.fixture
def slow():
    """How many times longer things may take: 1, or more under a sanitizer."""
    return 5 if sanitized() else 1


def device_text(folder, name, keys):
    if not {"socket", "fd", "connect"} & set(keys):
        keys["socket"] = folder / f"{name}.sock"
    return ",".join([name, *(f"{key}={value}" for key, value in keys.items())])


@pytest.fixture
def blk(folder):
    def make(name="disk0", **keys):
        keys.setdefault("driver", "malloc")
        if keys["driver"] == "malloc":
            keys.setdefault("size", "64M")
        return device_text(folder, name, keys)

    return make


@pytest.fixture
def net(folder):
    def make(name="port0", **keys):
        keys.setdefault("driver", "echo")
        return device_text(folder, name, keys)

    return make


@pytest.fixture
def vhubd(request, folder):
    started = []

    def start(*blks, wait=True, **keywords):
        keywords.setdefault("name", f"vhubd{len(started)}")
        daemon = Vhubd(*blks, folder=keywords.pop("folder", folder), **keywords)
        started.append(daemon)
        return daemon.start() if wait else daemon.spawn()

    yield start
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    trouble = []
    for daemon in started:
        try:
            if daemon.running() and not failed:
                daemon.stop()
            else:
                daemon.kill()
                daemon.check_log()
        except AssertionError as err:
            daemon.kill()
            trouble.append(str(err))
        if failed:
            print(f"--- {daemon.log_path.name} ---\n{daemon.log[-8000:]}")
    assert not trouble, "\n".join(trouble)


def stand_in():
    return os.environ.get("VHUB_NET_PEER") == "testpmd"


@pytest.fixture
def echo(vhubd, folder):
    started = []

    def start(*nets, wait=True, **keywords):
        if not stand_in():
            return vhubd(nets=nets, wait=wait, **keywords)
        started.append(EchoTestpmd(*nets, folder=folder, name=f"echo{len(started)}"))
        return started[-1].start() if wait else started[-1].spawn()

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def check(folder):
    started = []

    def start(path, *arguments, **keywords):
        keywords.setdefault("name", f"check{len(started)}")
        started.append(NetCheck(path, *arguments, folder=folder, **keywords))
        return started[-1].start()

    yield start
    for each in started:
        each.kill()
