# SPDX-License-Identifier: BSD-3-Clause
"""config_save on storage that takes its time: later saves to that file follow, in their order, and what is killed then
leaves nothing for good."""

import select

import pytest

from control import Control, Refused
from vhostuser import wait_until
from vhubd import build_dir

# What is loaded before vhubd would need the sanitizer before that.
pytestmark = pytest.mark.plain_only

#: For so long nothing comes where nothing is to come.
QUIET = 0.3


@pytest.fixture
def stall(folder):
    """While this file is there, the first save is not done."""
    return folder / "stall"


@pytest.fixture
def start(vhubd, blk, folder, stall):
    return lambda: vhubd(blk("good", size="8M"), args=["--control", str(folder / "control.sock")],
                         env={"LD_PRELOAD": str(build_dir() / "test/tools/held_fsync.so"), "HELD_FSYNC": str(stall)})


@pytest.fixture
def control(folder):
    return lambda: Control(folder / "control.sock")


def add(client, folder, name):
    client.call("device_add", kind="blk", name=name, args=f"socket={folder}/{name}.sock,driver=null")


def test_a_file_never_gets_what_is_older_than_what_it_has(start, control, folder, stall):
    path = folder / "saved.ini"
    start()
    stall.touch()
    with control() as first, control() as second, control() as other:
        first.begin("config_save", path=str(path))
        wait_until((folder / "stall.held").exists)
        add(other, folder, "new")
        second.begin("config_save", path=str(path))
        second.begin("config_save", path=str(path))
        assert select.select([first.sock, second.sock], [], [], QUIET)[0] == []
        # What is asked for meanwhile is in what comes after.
        add(other, folder, "newer")
        text = other.call("config_save")["text"]
        stall.unlink()
        assert first.receive()["result"] == {"path": str(path)}
        assert [second.receive()["result"] for _ in range(2)] == 2 * [{"path": str(path)}]
        assert path.read_text() == text and "[blk new]" in text and "[blk newer]" in text


def test_one_that_hangs_holds_up_none_to_another_file(start, control, folder, stall):
    path, beside = folder / "saved.ini", folder / "beside.ini"
    start()
    stall.touch()
    with control() as first, control() as other:
        first.begin("config_save", path=str(path))
        wait_until((folder / "stall.held").exists)
        add(other, folder, "new")
        assert other.call("config_save", path=str(beside)) == {"path": str(beside)}
        with pytest.raises(Refused, match="/none/x.ini"):
            other.call("config_save", path="/none/x.ini")
        assert "[blk new]" in beside.read_text() and not path.exists()
        stall.unlink()
        assert first.receive()["result"] == {"path": str(path)}
        assert "[blk new]" not in path.read_text()


def test_what_a_vhubd_that_was_killed_has_left_goes_with_the_next_save(start, control, folder, stall):
    path = folder / "saved" / "vhubd.ini"
    path.parent.mkdir()
    path.write_text("before")
    daemon = start()
    stall.touch()
    with control() as client:
        client.begin("config_save", path=str(path))
        wait_until((folder / "stall.held").exists)
        daemon.kill()
    assert path.read_text() == "before" and len(list(path.parent.iterdir())) == 2
    stall.unlink()
    start()
    with control() as client:
        client.call("config_save", path=str(path))
        assert path.read_text() == client.call("config_save")["text"]
    assert list(path.parent.iterdir()) == [path]
