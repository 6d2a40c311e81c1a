# SPDX-License-Identifier: BSD-3-Clause
"""Folders of sockets whose lock somebody holds: sessions, control calls and other devices go on, and the end comes."""

import os
import signal
import socket
from contextlib import suppress

import pytest

from control import Control
from held_folder import held_folder
from vhostuser import BlkDisk, wait_until


@pytest.fixture
def held(folder):
    path = folder / "held"
    path.mkdir()
    return path


@pytest.fixture
def control(vhubd, blk, folder, held):
    vhubd(blk("good", size="8M"), blk("bad", size="8M", socket=held / "bad.sock"),
          args=["--control", str(folder / "control.sock")])
    return lambda: Control(folder / "control.sock")


def add(client, name, keys):
    return client.begin("device_add", kind="blk", name=name, args=f"driver=malloc,size=1M,{keys}")


def check_is_served(path):
    with BlkDisk.open(str(path)) as disk:
        disk.read(0, 4096)


def check_others_go_on(client, folder):
    check_is_served(folder / "good.sock")
    add(client, "new", f"socket={folder}/new.sock")
    assert client.receive()["result"] is True
    check_is_served(folder / "new.sock")
    assert client.call("device_remove", name="new") is True
    assert not (folder / "new.sock").exists()


def state(pid, thread=None):
    with open(f"/proc/{pid}/task/{thread or pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def thread_states(pid):
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):     # it has ended meanwhile
            states.append(state(pid, thread))
    return states


def call(path):
    """A front end that does not wait for room in the backlog."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    sock.connect_ex(str(path))
    return sock


def states(client):
    return {each["name"]: each["state"] for each in client.call("device_list")}


def test_a_socket_that_cannot_be_made_or_removed(control, folder, held):
    with control() as first, control() as second, control() as other, BlkDisk.open(f"{held}/bad.sock") as disk:
        with held_folder(held):
            add(second, "late", f"socket={held}/late.sock")
            first.begin("device_remove", name="bad")
            check_others_go_on(other, folder)
            # Its front end is gone, its disk as well; the name is still in use.
            disk.wire.wait_closed()
            assert states(other) == {"good": "serving", "bad": "destroying", "late": "building"}
        assert first.receive()["result"] is True
        assert second.receive()["result"] is True
        assert not (held / "bad.sock").exists()
        check_is_served(held / "late.sock")


def test_a_socket_that_cannot_be_looked_for(control, folder, held):
    with control() as client:
        with held_folder(held):
            add(client, "dials", f"connect={held}/front.sock")
            assert client.receive()["result"] is True
            check_others_go_on(client, folder)
            # While it dials.
            assert client.call("device_remove", name="dials") is True
            add(client, "dials", f"connect={held}/front.sock")
            assert client.receive()["result"] is True
        with socket.socket(socket.AF_UNIX) as front:
            front.bind(str(held / "front.sock"))
            front.listen()
            front.settimeout(60)
            front.accept()[0].close()


@pytest.mark.parametrize("callers", [0, 100], ids=["", "backlog full"])
def test_a_killed_server_that_cannot_end(vhubd, blk, folder, held, callers):
    """All its fds stay open, also the sockets that listen; the next one takes their place."""
    first = vhubd(blk("good", size="8M"), blk("bad", size="8M", socket=held / "bad.sock"),
                  args=["--control", str(folder / "control.sock")])
    with Control(folder / "control.sock") as client, held_folder(held):
        client.begin("device_remove", name="bad")
        wait_until(lambda: "D" in thread_states(first.pid))
        first.process.send_signal(signal.SIGKILL)
        wait_until(lambda: state(first.pid) == "Z")
        assert "D" in thread_states(first.pid)
        waiting = [call(folder / "good.sock") for _ in range(callers)]
        vhubd(blk("good", size="8M"))
        check_is_served(folder / "good.sock")
    first.process.wait(60)
    for each in waiting:
        each.close()


def test_two_devices_with_one_socket(control, folder):
    """They begin at the same time; the first has it."""
    with control() as first, control() as second:
        add(first, "a", f"socket={folder}/same.sock")
        add(second, "b", f"socket={folder}/same.sock")
        assert first.receive()["result"] is True
        assert "somebody listens there" in second.receive()["error"]["message"]
        check_is_served(folder / "same.sock")


def test_a_path_is_a_devices_until_its_socket_is_removed(control, folder, held):
    """Else the one of the next device there could be removed in its place."""
    with control() as first, control() as second:
        with held_folder(held):
            first.begin("device_remove", name="bad")
            wait_until(lambda: states(second)["bad"] == "destroying")
            add(second, "next", f"socket={held}/bad.sock")
            assert "somebody listens there" in second.receive()["error"]["message"]
        assert first.receive()["result"] is True
        add(second, "next", f"socket={held}/bad.sock")
        assert second.receive()["result"] is True
        check_is_served(held / "bad.sock")


def test_the_end(vhubd, blk, folder, held):
    """But for the thread that removes the socket, which no signal wakes."""
    daemon = vhubd(blk("good", size="8M"), blk("bad", size="8M", socket=held / "bad.sock"),
                   args=["--control", str(held / "control.sock")])
    with held_folder(held):
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: state(daemon.pid) == "Z")
        assert not (folder / "good.sock").exists()
    assert daemon.process.wait(60) == 0
    assert os.listdir(held) == [".held"]
