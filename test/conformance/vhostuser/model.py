# SPDX-License-Identifier: BSD-3-Clause
"""I/O at random that knows what every sector must hold.

Sits on blk.py.
"""

import random

from . import blk


class Model:
    """Writes and reads at random, and knows what every sector must hold."""

    SECTORS = 2048

    def __init__(self, disk, seed, at=0, align=16):
        self.disk = disk
        self.align = align
        self.random = random.Random(seed)
        self.at = at
        disk.write(at, bytes(self.SECTORS * 512))
        self.sectors = [bytes(512)] * self.SECTORS

    def step(self, queue=0, most=6, indirect=None):
        """One batch of requests to different places, published together, then awaited."""
        batch, taken = [], set()
        for _ in range(self.random.randint(1, most)):
            count = self.random.choice((1, 1, 2, 8, 16))
            sector = self.random.randrange(self.SECTORS - count)
            if taken & set(range(sector, sector + count)):
                continue
            taken |= set(range(sector, sector + count))
            size = count * 512
            pieces = [size] if self.random.random() < 0.5 else self._cut(size)
            if self.random.random() < 0.5:
                data = self.random.randbytes(size)
                request = self.disk.prepare(blk.T_OUT, self.at + sector, out=data, pieces=pieces,
                                            align=self.align)
            else:
                data = None
                request = self.disk.prepare(blk.T_IN, self.at + sector, in_bytes=size,
                                            pieces=pieces, align=self.align)
            batch.append((request, sector, count, data))
        self.disk.submit([each[0] for each in batch], queue, indirect=indirect)
        self.disk.wait([each[0] for each in batch], queue)
        for request, sector, count, data in batch:
            assert request.status == blk.S_OK
            if data is None:
                assert request.payload() == b"".join(self.sectors[sector:sector + count])
                assert request.length == count * 512 + 1
            else:
                assert request.length == 1
                for i in range(count):
                    self.sectors[sector + i] = data[512 * i:512 * i + 512]
            self.disk.release(request)

    def _cut(self, size):
        cuts = sorted(self.random.sample(range(1, size), self.random.randint(1, 2)))
        return [end - start for start, end in zip([0] + cuts, cuts + [size])]
