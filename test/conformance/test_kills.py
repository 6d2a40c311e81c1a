# SPDX-License-Identifier: BSD-3-Clause
"""`kill -9` of vhubd under write load, again and again: after each restart every request that was in
flight completes once, and whatever was acknowledged is on the disk.

Environment
  VHUB_KILLS   how often each daemon is killed (3); 25 makes 100 in all
"""

import os
import random
import time

import pytest

from hold import wait_taken
from test_inflight import resume, start, tracked
from vhostuser import PATIENCE, GuestMemory, pattern, wait_until
from vhostuser import blk
from vhubd import worker_arguments

KILLS = int(os.environ.get("VHUB_KILLS", 3))
RING = 256
DEPTH = 48                              # requests under way, a queue
BLOCK = 4096
BLOCKS = 512                            # of each queue, places of its own

kinds = pytest.mark.parametrize("packed, queues, lcores", [
    (False, 1, 1), (True, 1, 1), (False, 4, 2), (True, 4, 2),
], ids=["split-1", "packed-1", "split-4", "packed-4"])


class Writer:
    """Keeps a queue full of writes to different places, each with bytes of its own, and knows what
    each place may hold."""

    def __init__(self, disk, queue, seed):
        self.queue = queue
        self.random = random.Random(seed)
        self.at = queue * BLOCKS
        self.seed = 0
        self.holds = {}                 # place: seed of the last write that was acknowledged
        self.under_way = {}             # request: (place, seed)
        self.acknowledged = 0
        self.disk = disk

    def submit(self):
        taken = {place for place, _ in self.under_way.values()}
        batch = []
        while len(self.under_way) < DEPTH:
            place = self.random.randrange(BLOCKS)
            if place in taken:
                continue
            taken.add(place)
            self.seed += 1
            seed = self.queue << 24 | self.seed
            request = self.disk.prepare(blk.T_OUT, (self.at + place) * 8, out=pattern(seed, BLOCK))
            self.under_way[request] = (place, seed)
            batch.append(request)
        if batch:
            self.disk.submit(batch, self.queue)

    def reap(self, timeout):
        """Raises an error for a request that comes back twice, or that was never sent."""
        for request in self.disk.reap(self.queue, timeout):
            place, seed = self.under_way.pop(request)
            assert request.status == blk.S_OK
            self.holds[place] = seed
            self.acknowledged += 1
            self.disk.release(request)

    def taken_over_by(self, disk):
        self.disk = disk
        for request in self.under_way:
            request.disk = disk

    def finish(self):
        """All that was in flight comes back; then nothing more does."""
        deadline = time.monotonic() + PATIENCE
        while self.under_way and time.monotonic() < deadline:
            self.reap(0.2)
        assert not self.under_way, "%d requests never came back" % len(self.under_way)
        assert self.disk.reap(self.queue, timeout=0.02) == []
        wait_taken(self.disk, 0, self.queue)

    def check(self):
        for place, seed in self.holds.items():
            data = self.disk.read((self.at + place) * 8, BLOCK, queue=self.queue)
            assert data == pattern(seed, BLOCK), "place %d lost write %#x" % (place, seed)


def load(writers, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for writer in writers:
            writer.submit()
            writer.reap(0)


@kinds
@pytest.mark.plain_only
@pytest.mark.seconds(600)
def test_kills_under_write_load(vhubd, folder, opened, packed, queues, lcores):
    image, path = folder / "image", folder / "d.sock"
    image.write_bytes(bytes(queues * BLOCKS * BLOCK))
    daemon = vhubd("d,socket=%s,driver=uring,path=%s,queues=%d,lcores=%d" % (path, image, queues, lcores),
                   eal=worker_arguments(lcores))
    mem = GuestMemory(((0, 64 << 20, 0x7e30_0000_0000, 0),))
    disk = tracked(opened, path, packed, size=RING, queues=queues, mem=mem)
    start(disk, queues, RING)
    writers = [Writer(disk, queue, queue) for queue in range(queues)]
    chance = random.Random(queues)
    caught = number = 0
    # Whether one catches a request is chance: then a few more.
    while number < KILLS or (caught == 0 and number < KILLS + 20):
        # The first kill comes among the first requests of the rings, at their first descriptors.
        load(writers, 0.003 if number == 0 else chance.uniform(0.01, 0.15))
        daemon.kill()
        for writer in writers:
            writer.reap(0)
        caught += sum(len(disk.region.inflight(queue)) for queue in range(queues))
        disk.wire.close()
        daemon.start()
        disk = resume(opened, path, disk)
        for writer in writers:
            writer.taken_over_by(disk)
        for writer in writers:
            writer.finish()
        for writer in writers:
            writer.check()
        number += 1
    print("%d kills, %d requests acknowledged, %d were in flight"
          % (number, sum(writer.acknowledged for writer in writers), caught))
    assert caught > 0, "no kill caught a request in flight"


@kinds
def test_the_first_request_of_a_ring_survives(vhubd, folder, opened, packed, queues, lcores):
    """It is in flight for certain when the daemon is killed: its storage takes for ever. The next
    daemon has an image, where it is found."""
    image, path = folder / "image", folder / "d.sock"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    text = "d,socket=%s,queues=%d,lcores=%d," % (path, queues, lcores)
    daemon = vhubd(text + "driver=null,size=8M,latency_us=60000000", eal=worker_arguments(lcores))
    disk = tracked(opened, path, packed, queues=queues)
    start(disk, queues)
    requests = [disk.submit([disk.prepare(blk.T_OUT, 8 * queue, out=pattern(queue, BLOCK))], queue)[0]
                for queue in range(queues)]
    wait_until(lambda: all(len(disk.region.inflight(queue)) == 1 for queue in range(queues)))
    assert [disk.region.inflight(queue) for queue in range(queues)] == [[0]] * queues
    daemon.kill()
    disk.wire.close()
    daemon.blks = [text + "driver=uring,path=%s" % image]
    daemon.start()
    disk = resume(opened, path, disk)
    for queue, request in enumerate(requests):
        request.disk = disk
        disk.wait([request], queue)
        assert request.status == blk.S_OK
        assert disk.reap(queue, timeout=0.05) == []
        assert disk.read(8 * queue, BLOCK, queue=queue) == pattern(queue, BLOCK)
