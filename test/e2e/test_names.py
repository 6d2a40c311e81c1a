# SPDX-License-Identifier: BSD-3-Clause
"""Users and groups by name: whoever knows them may take as long as it likes."""

import os

import pytest

from control import Control, Refused
from vhostuser import BlkDisk
from vhubd import build_dir

# What is loaded before vhubd would need the sanitizer before that.
pytestmark = pytest.mark.plain_only


@pytest.fixture
def stall(folder):
    """While this file is there, no user is found."""
    return folder / "stall"


@pytest.fixture
def control(vhubd, blk, folder, stall):
    vhubd(blk("good", size="8M"), args=["--control", str(folder / "control.sock")],
          env={"LD_PRELOAD": str(build_dir() / "test/tools/slow_names.so"), "SLOW_NAMES": str(stall)})
    return lambda: Control(folder / "control.sock")


def add(client, folder, name, keys):
    return client.begin("device_add", kind="blk", name=name,
                        args=f"socket={folder}/{name}.sock,driver=malloc,size=1M,{keys}")


def test_a_name_that_is_not_found_yet_holds_up_nobody(control, folder, stall):
    stall.touch()
    with control() as waits, control() as other:
        add(waits, folder, "named", "owner=someone")
        add(other, folder, "numbered", "owner=4712,peer_user=0")
        assert other.receive()["result"] is True
        for name in ("good", "numbered"):
            with BlkDisk.open(f"{folder}/{name}.sock") as disk:
                disk.read(0, 4096)
        assert (folder / "numbered.sock").stat().st_uid == 4712
        assert not (folder / "named.sock").exists()
        stall.unlink()
        assert waits.receive()["result"] is True
        assert (folder / "named.sock").stat().st_uid == 4711


def test_a_name_that_there_is_not(control, folder):
    with control() as client:
        add(client, folder, "named", "peer_user=nobody-of-that-name")
        error = client.receive()["error"]
        assert "peer_user=nobody-of-that-name is neither a user's name nor a number" in error["message"]
        with pytest.raises(Refused, match="owner is empty"):
            client.call("device_add", kind="blk", name="empty", args=f"socket={folder}/e.sock,driver=null,owner=")
        assert client.call("device_list")[0]["name"] == "good"
        assert os.listdir(folder).count("named.sock") == 0
