# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the conformance tests.

One vhubd serves all tests of a run, each of which opens sessions of its own: that nothing is left
of the sessions before is itself a thing to hold. A test that needs to kill or configure a daemon
uses the fixture `vhubd` of the end-to-end tests.

  stage     the daemon, its disks and ports (class Stage in stage.py, the next file)
  plain     opens a session on the disk "plain": plain(packed=True, ...) -> BlkDisk
  datapath  what serves the rings of ports: tests that use one run with each; librte_vhost in the
            plain stage only, for sanitizers see little of it
  port      opens a session on the port "netplain": port(packed=True, ...) -> NetPort
  port_path its socket, and that of other ports
  opened    opens a session on any socket, closed at the end of the test
  log_of    makes a dirty log
  scene, net_scene
            for hostile tests, on disks and on ports: a victim, an innocent neighbour, and what must
            hold afterwards (scene.py)
"""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
E2E = HERE.parent / "e2e"
for each in (HERE, E2E):
    if str(each) not in sys.path:
        sys.path.insert(0, str(each))

_spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
e2e_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(e2e_conftest)

blk = e2e_conftest.blk
bounded = e2e_conftest.bounded
folder = e2e_conftest.folder
slow = e2e_conftest.slow
vhubd = e2e_conftest.vhubd
pytest_configure = e2e_conftest.pytest_configure
pytest_runtest_makereport = e2e_conftest.pytest_runtest_makereport

from scene import NET_SCENES, Scene, expect_refusal  # noqa: E402
from stage import DATAPATHS, Neighbour, Stage  # noqa: E402
from vhostuser import BlkDisk, DirtyLog, NetPort  # noqa: E402


@pytest.fixture(scope="session")
def running_stage():
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def stage(running_stage, request):
    """The daemon, alive before and after the test: a test during which it dies has failed."""
    running_stage.ensure()
    since = len(running_stage.log)
    yield running_stage
    if getattr(request.node, "report_call", None) is None or request.node.report_call.failed:
        print("--- what the daemon said ---\n%s" % running_stage.log[since:][-8000:])
    running_stage.check_alive()


@pytest.fixture
def opened():
    sessions = []

    def open_(path, kind=BlkDisk, **keywords):
        session = kind.open(str(path), **keywords)
        sessions.append(session)
        return session

    open_.later = sessions.append
    yield open_
    for session in sessions:
        session.close()


@pytest.fixture
def plain(stage, opened):
    def open_(**keywords):
        return opened(stage.path("plain"), **keywords)

    return open_


@pytest.fixture(params=["direct", pytest.param("librte_vhost", marks=pytest.mark.plain_only)])
def datapath(request):
    return request.param


@pytest.fixture
def port_path(stage, datapath):
    return lambda name="netplain": stage.path(name + DATAPATHS[datapath])


@pytest.fixture
def port(port_path, opened):
    def open_(name="netplain", **keywords):
        return opened(port_path(name), NetPort, **keywords)

    return open_


@pytest.fixture
def log_of():
    """A dirty log for a session's memory, closed at the end of the test."""
    made = []

    def make(session, offset=0, size_for=None):
        made.append(DirtyLog(size_for or session.mem.max_gpa, offset))
        return made[-1]

    yield make
    for log in made:
        log.close()


@pytest.fixture
def refused():
    """refused(session, request, payload, fds) -> "error" or "closed": see expect_refusal() in
    scene.py."""
    return expect_refusal


@pytest.fixture(scope="module")
def neighbours():
    """Holds the innocent front ends of a module, by the kind of scene: each has one session from its
    first test to its last."""
    held = {}
    yield held
    for neighbour in held.values():
        neighbour.close()


def set_up(kind, stage, neighbours):
    if kind not in neighbours or neighbours[kind].failed:
        device, name = kind.innocent
        neighbours[kind] = Neighbour(device, stage.path(name))
    return kind(stage, neighbours[kind])


@pytest.fixture
def scene(stage, neighbours):
    """A victim to abuse beside an innocent neighbour; what must hold afterwards is checked
    (scene.py)."""
    made = set_up(Scene, stage, neighbours)
    yield made
    made.finish()


@pytest.fixture
def net_scene(stage, neighbours, datapath):
    """The same with ports."""
    made = set_up(NET_SCENES[datapath], stage, neighbours)
    yield made
    made.finish()
