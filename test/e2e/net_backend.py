# SPDX-License-Identifier: BSD-3-Clause
"""A back end between a guest and a TAP interface, both ends of it in a network namespace.

Used by test_guest_net.py. With VHUB_NET_PEER=testpmd in the environment the back end is dpdk-testpmd
with net_vhost and net_tap instead of vhubd: a second opinion while writing tests. It offers no TSO.
"""

import subprocess

from run_guest import dies_with_us

TAP = "tap0"
HOST = "10.77.0.1"
GUEST = "10.77.0.2/24"

# A restarted back end is the same neighbour to the guest.
TAP_PORT = f"net_tap0,iface={TAP},mac=fixed"


class Backend:
    """What both have in common. `keys` are those of vhubd's --net."""

    tso = True

    def __init__(self, netns, socket, connect=False, **keys):
        self.netns = netns
        self.socket = socket
        self.connect = connect
        self.keys = keys

    def start(self):
        self.spawn()
        self.netns.configure(TAP, f"{HOST}/24")
        return self


class VhubdBackend(Backend):
    """vhubd with the driver ethdev; `vhubd` is the fixture that starts one."""

    def __init__(self, vhubd, *args, **keywords):
        super().__init__(*args, **keywords)
        self.vhubd = vhubd
        self.daemon = None

    def spawn(self):
        where = "connect" if self.connect else "socket"
        keys = {where: self.socket, "driver": "ethdev", "port": f"[{TAP_PORT}]", **self.keys}
        net = ",".join(["net0", *(f"{key}={value}" for key, value in keys.items())])
        self.daemon = self.vhubd(nets=[net], prefix=self.netns.prefix, memory_mb=512)

    def kill(self):
        self.daemon.kill()


class TestpmdBackend(Backend):
    """The stand-in."""

    __test__ = False
    tso = False

    def __init__(self, folder, *args, **keywords):
        super().__init__(*args, **keywords)
        self.log = folder / "testpmd.log"
        self.process = None

    def spawn(self):
        if not self.connect:
            self.socket.unlink(missing_ok=True)     # it does not take over what a killed one has left
        queues = self.keys.get("queues", 1)
        vhost = {"iface": self.socket, "queues": queues, "tso": 0, "client": int(self.connect),
                 "iommu-support": int(self.keys.get("iommu") == "on")}
        command = [*self.netns.prefix, "dpdk-testpmd", "--no-huge", "-m", "512", "--no-pci", "--no-telemetry",
                   f"--file-prefix={self.netns.name}",
                   "--vdev", ",".join(["net_vhost0", *(f"{key}={val}" for key, val in vhost.items())]),
                   "--vdev", TAP_PORT, "--", "-i", "--forward-mode=io", "--auto-start",
                   "--total-num-mbufs=16384", f"--rxq={queues}", f"--txq={queues}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(dies_with_us(command), stdin=subprocess.PIPE, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()
