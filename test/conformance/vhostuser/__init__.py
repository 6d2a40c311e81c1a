# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user front end in plain Python, for the tests: complete, readable, and able to misbehave
on request.

    protocol   numbers and layouts of the specification
    wire       messages on a socket, also broken ones
    memory     guest memory in several files
    ring, split, packed   virtqueues, seen by the driver
    inflight, dirtylog, channel   what a session shares besides memory
    frontend   one session
    blk, net   drivers of virtio-blk and virtio-net
    vmms       front ends as particular VMMs are
    ctrl       the control queue of the latter
    packets    Ethernet frames, their checksums and segments
    model      random I/O that is checked
    meanwhile  what a thread does while a test does something else
    flow       frames that never stop
    load       a load generator with a figure per time window
    rates      rates of a load, and whether a neighbour disturbs it

Only the standard library is used.
"""

from .blk import BlkDisk, IoError
from .channel import BackendChannel
from .dirtylog import DirtyLog, pages_of
from .frontend import EventFd, Frontend, Queue, Refused, pattern, vring_addr
from .inflight import Inflight
from .memory import GuestMemory, Region
from .model import Model
from .net import NetHeader, NetPort
from .packed import PackedRing
from .protocol import F, NF, PF, Req, Status
from .split import SplitRing
from .vmms import CloudHypervisor, OpenVmm
from .wire import PATIENCE, Closed, Message, ProtocolError, Wire, wait_listens, wait_until
