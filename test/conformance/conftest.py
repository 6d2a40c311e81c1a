# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the conformance tests.

One vhubd serves all tests of a run, each of which opens sessions of its own: that nothing is left of the sessions before is
itself a thing to hold. A test that needs to kill or configure a daemon uses the fixture `vhubd` of the end-to-end tests.

  stage     the daemon and its disks (class Stage in stage.py, the next file)
  plain     opens a session on the disk "plain": plain(packed=True, ...) -> BlkDisk
  opened    opens a session on any socket, closed at the end of the test
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

from stage import Stage  # noqa: E402
from vhostuser import BlkDisk, Closed  # noqa: E402
from vhostuser import protocol as p  # noqa: E402


@pytest.fixture(scope="session")
def running_stage():
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def stage(running_stage):
    """The daemon, alive before and after the test: a test during which it dies has failed."""
    running_stage.ensure()
    yield running_stage
    running_stage.check_alive()


@pytest.fixture
def opened():
    sessions = []

    def open_(path, **keywords):
        session = BlkDisk.open(str(path), **keywords)
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


@pytest.fixture
def refused():
    """refused(session, request, payload, fds): the request is sent asking for an acknowledgement, and the answer must be an
    error or the end of that session. Returns "error" or "closed"."""

    def send(session, request, payload=b"", fds=(), **header):
        try:
            session.wire.send(request, payload, fds, need_reply=True, **header)
            reply = session.wire.recv()
        except Closed:
            return "closed"
        reply.close()
        assert reply.request == request
        assert reply.flags & p.FLAG_REPLY
        if request in p.REPLYING:
            # Either an empty payload, or what the specification calls an error for this request.
            assert len(reply.payload) == 0 or reply.u64 != 0, "%r was accepted" % reply
        else:
            assert reply.u64 != 0, "%r was accepted" % reply
        return "error"

    return send
