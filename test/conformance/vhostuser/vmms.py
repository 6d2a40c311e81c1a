# SPDX-License-Identifier: BSD-3-Clause
"""Front ends that are particular VMMs: what each sends, in its order and with its flags, for what differs
from QEMU's way, which frontend.py goes.

Sits on blk.py.
"""

from . import protocol as p
from .blk import BlkDisk
from .dirtylog import DirtyLog
from .frontend import Queue
from .protocol import F, PF, Req


class CloudHypervisor(BlkDisk):
    """A disk of Cloud Hypervisor's (virtio-devices/src/vhost_user/{blk,vu_common_ctrl}.rs, on rust-vmm's vhost),
    which asks for an acknowledgement with every request once that is agreed. The guest's driver is the test."""

    PROTOCOL = (PF.CONFIG, PF.MQ, PF.CONFIGURE_MEM_SLOTS, PF.REPLY_ACK, PF.INFLIGHT_SHMFD, PF.LOG_SHMFD)
    CONFIG_OFFSET = 0x100               # rust-vmm's VHOST_USER_CONFIG_OFFSET, up to v50
    CONFIG_BYTES = 60                   # its struct VirtioBlockConfig
    CONFIG_FLAGS = 1                    # rust-vmm's VhostUserConfigFlags::WRITABLE

    @classmethod
    def connect(cls, path):
        """What it says when the VM is made."""
        disk = cls(str(path))
        disk.tell(Req.SET_OWNER)
        disk.offered = disk.ask_u64(Req.GET_FEATURES)
        agreed = p.bits(*cls.PROTOCOL) & disk.ask_u64(Req.GET_PROTOCOL_FEATURES)
        disk.tell(Req.SET_PROTOCOL_FEATURES, p.U64.pack(agreed))
        disk.protocol = agreed
        disk.ask_u64(Req.GET_QUEUE_NUM)
        disk.space = disk.get_config(cls.CONFIG_OFFSET, cls.CONFIG_BYTES, cls.CONFIG_FLAGS)
        return disk

    def ask(self, request, payload=b"", fds=(), need_reply=False, timeout=None):
        return super().ask(request, payload, fds, bool(self.protocol >> PF.REPLY_ACK & 1), timeout)

    def driver(self, *features):
        """The bits of a driver that knows these."""
        return p.bits(F.VERSION_1, F.PROTOCOL_FEATURES, *features) & self.offered

    def activate(self, mem, rings, features):
        """A driver has set DRIVER_OK, or the VM is restored: `rings` are its."""
        self.set_features(features)
        self.set_mem_table(mem)
        for index, ring in enumerate(rings):
            self.set_vring_num(index, ring.size)
        self.region = self.get_inflight(len(rings), rings[0].size)
        self.set_inflight(self.region)
        for queue in self.queues.values():
            queue.close()
        self.queues = {index: Queue(index, ring) for index, ring in enumerate(rings)}
        for index, queue in self.queues.items():
            self.set_vring_addr(index, queue.ring)
            # As the driver's available ring in guest memory says, wherever the device may be.
            self.set_vring_base(index, queue.ring.avail[1])
            self.set_vring_call(index, queue.call)
            self.set_vring_kick(index, queue.kick)
        self.resume()

    def enable(self, enable):
        for index in self.queues:
            self.set_vring_enable(index, enable)

    def pause(self):
        self.enable(False)

    def resume(self):
        self.enable(True)

    # A driver has written 0 to the status, by version; activate() comes next.

    def reset_by_disabling(self):
        """Of 2021 and 2022."""
        self.enable(False)

    def reset_owner(self):
        """Of 2020 and 2021."""
        self.enable(False)
        self.tell(Req.RESET_OWNER)

    def reset_by_base(self):
        """Since 2022."""
        for index in self.queues:
            self.set_vring_enable(index, False)
            self.get_vring_base(index)

    def start_dirty_log(self):
        self.log = None
        self.dirty_log()
        self.set_features(self.features | p.bits(F.LOG_ALL))
        for index, queue in self.queues.items():
            self.set_vring_addr(index, queue.ring, p.VRING_F_LOG, queue.ring.log_gpa)

    def dirty_log(self):
        """The pages marked since the last time: a new log takes the old one's place."""
        old, self.log = self.log, DirtyLog(self.mem.max_gpa)
        self.set_log(self.log)
        pages = old.pages() if old is not None else set()
        if old is not None:
            old.close()
        return pages

    def close(self):
        super().close()
        for each in (getattr(self, "log", None), getattr(self, "region", None)):
            if each is not None:
                each.close()


class OpenVmm(BlkDisk):
    """A disk of OpenVMM's (vm/devices/virtio/vhost_user_frontend). The guest's driver is the test."""

    PROTOCOL = (PF.MQ, PF.REPLY_ACK, PF.CONFIG, PF.RESET_DEVICE)

    @classmethod
    def connect(cls, path):
        disk = cls(str(path))
        disk.offered = disk.ask_u64(Req.GET_FEATURES)
        disk.tell(Req.SET_FEATURES, p.U64.pack(disk.offered | p.bits(F.PROTOCOL_FEATURES)))
        agreed = p.bits(*cls.PROTOCOL) & disk.ask_u64(Req.GET_PROTOCOL_FEATURES)
        disk.tell(Req.SET_PROTOCOL_FEATURES, p.U64.pack(agreed))
        disk.wire.send(Req.SET_OWNER)   # not yet with need_reply
        disk.protocol = agreed
        disk.ask_u64(Req.GET_QUEUE_NUM)
        disk.space = bytearray(disk.get_config(0, 256))
        return disk

    def activate(self, mem, rings, *features):
        self.set_mem_table(mem)
        self.set_features(p.bits(F.VERSION_1, F.PROTOCOL_FEATURES, *features) & self.offered)
        for index, ring in enumerate(rings):
            queue = self.queues[index] = Queue(index, ring)
            self.set_vring_num(index, ring.size)
            self.set_vring_addr(index, ring)
            self.set_vring_base(index, 0)
            self.set_vring_kick(index, queue.kick)
            self.set_vring_call(index, queue.call)
            self.set_vring_enable(index)

    def write_byte(self, offset, value):
        """The guest writes a byte of the config space, for which there are registers of four bytes. The
        acknowledgement; whatever it is, the guest reads what it has written."""
        at = offset & ~3
        self.space[offset] = value
        return self.set_config(at, bytes(self.space[at:at + 4]))
