# SPDX-License-Identifier: BSD-3-Clause
"""A daemon that the tests of one module share, with its control socket, and what each test sees to.

Used by modules whose tests need other devices than those of the stage (stage.py). They make a class of their
own of ModuleDaemon, with what it can be asked for, and two fixtures:

    @pytest.fixture(scope="module")
    def running_crowd(tmp_path_factory):
        yield from started(Crowd(tmp_path_factory.mktemp("i")))

    @pytest.fixture
    def crowd(running_crowd, request):
        yield from watched(running_crowd, request)
"""

from control import Control
from hold import Hold
from vhubd import Vhubd, build_dir, worker_arguments


class ModuleDaemon:
    """Two workers, disks and ports by name: the rest of their --blk and --net, where {folder} is the daemon's.
    Files for images there, by name: their size."""

    def __init__(self, folder, disks, ports=(), images=(), args=()):
        self.folder = folder
        for name, size in dict(images).items():
            with open(folder / name, "wb") as image:
                image.truncate(size)
        control = folder / "control.sock"
        self.daemon = Vhubd(*self._texts(disks), nets=self._texts(dict(ports)), folder=folder,
                            eal=worker_arguments(2), loads=[build_dir() / "test/tools/unruly.so"],
                            args=["--control", str(control), *args])
        self.daemon.start()
        self.control = Control(control)

    def _texts(self, devices):
        return ["%s,socket=%s,%s" % (name, self.path(name), keys.format(folder=self.folder))
                for name, keys in devices.items()]

    def path(self, name):
        return self.folder / (name + ".sock")

    def hold(self):
        """Keeps the disks with hold={folder}/hold from answering."""
        return Hold(self.folder / "hold")

    def stats(self, name):
        return self.control.call("device_stats", name=name)[0]

    def move(self, name, queue, lcore):
        assert self.control.call("queue_move", name=name, queue=queue, lcore=lcore) is True


def started(made):
    """For a fixture of the module."""
    yield made
    made.control.sock.close()
    made.daemon.stop()


def watched(made, request):
    """For a fixture of each test: the daemon has lived through it, and no sanitizer complains."""
    since = len(made.daemon.log)
    yield made
    if getattr(request.node, "report_call", None) is None or request.node.report_call.failed:
        print("--- what the daemon said ---\n%s" % made.daemon.log[since:][-8000:])
    assert made.daemon.running()
    made.daemon.check_log()
