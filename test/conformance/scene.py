# SPDX-License-Identifier: BSD-3-Clause
"""The scene of a hostile test: a victim slot to abuse, an innocent neighbour, and what must hold
afterwards.

Made by the fixtures `scene` and `net_scene` in conftest.py. After each test
  - the neighbour's I/O has gone on without a failure or a long gap,
  - the victim's slot takes a well-behaved front end, whose I/O works,
  - the daemon has as many descriptors and mappings as before, and none of the hostile front end's,
and the test itself says with reason() which line of the log it expects.
"""

from vhostuser import PATIENCE, BlkDisk, Closed, NetPort, Wire, packets, pattern


class Scene:
    """On disks."""

    kind = BlkDisk
    victims = "victim"
    innocent = ("blk", "innocent")
    rings = {"queues": 2}               # of the well-behaved front end at the end

    def __init__(self, stage, neighbour):
        self.stage = stage
        self.neighbour = neighbour
        self.name = stage.next_victim(self.victims)
        self.path = stage.path(self.name)
        self.sessions = []
        self.before = stage.figures()
        self.since = len(stage.log)
        self.count = neighbour.count

    def wire(self, timeout=PATIENCE):
        """A connection to the victim's slot on which nothing was said."""
        wire = Wire.connect(self.path, timeout)
        self.sessions.append(wire)
        return wire

    def bare(self, **negotiation):
        """A session without memory and rings; negotiated unless asked not to."""
        session = self.kind(self.path)
        self.sessions.append(session)
        session.negotiate(**negotiation)
        return session

    def open(self, **keywords):
        """A session whose rings run."""
        session = self.kind.open(self.path, **keywords)
        self.sessions.append(session)
        return session

    def reason(self, expression):
        """The log tells, since the scene began, of the victim with a line that matches; its
        text."""
        line = self.stage.wait_log("%s[#:].*(%s)" % (self.name, expression), self.since)
        if line is None:
            said = self.stage.log[self.since:]
            raise AssertionError("no reason like %r in the log:\n%s" % (expression, said))
        return line

    def ended(self, session, expression, patience=None):
        """The session is closed by the daemon, and the log tells why."""
        wire = session if isinstance(session, Wire) else session.wire
        assert wire.wait_closed(patience), "the session goes on"
        return self.reason(expression)

    def broken(self, disk, expression, queue=0):
        """The ring is broken, which its err fd tells, and the session is not; the log tells why."""
        assert disk.queues[queue].err.wait(), "the ring's err fd was not signalled"
        disk.fence()
        return self.reason(expression)

    def goes_on(self, disk, queue=0):
        """This session still works."""
        disk.write(8, pattern(11, 4096), queue=queue)
        assert disk.read(8, 4096, queue=queue) == pattern(11, 4096)

    def finish(self):
        self.stage.check_alive()
        mark = len(self.stage.log)
        try:
            self._finish()
        except BaseException:
            self.stage.spoilt.add(self.name)
            print("--- what the daemon said at the end ---\n%s" % self.stage.log[mark:])
            raise

    def _finish(self):
        for session in self.sessions:
            session.close()
        for packed in (False, True):
            with self.kind.open(self.path, packed=packed, **self.rings) as session:
                for queue in (0, 1):
                    self.goes_on(session, queue)
        growth = self.stage.wait_settled(self.before)
        assert growth == "", growth
        self.neighbour.check(self.count)


class NetScene(Scene):
    """On network ports. A `queue` is a pair of rings here."""

    kind = NetPort
    victims = "netvictim"
    innocent = ("net", "netinnocent")
    rings = {"pairs": 2}

    def goes_on(self, port, queue=0):
        frame = packets.plain(11 + queue, 1000)
        assert port.echo(frame, queue) == packets.swapped(frame)


class LibraryNetScene(NetScene):
    """The same where librte_vhost serves the rings."""

    victims = "netvictim-library"
    innocent = ("net", "netinnocent-library")


NET_SCENES = {"direct": NetScene, "librte_vhost": LibraryNetScene}


def expect_refusal(disk, request, payload=b"", fds=(), **header):
    """Sends it with need_reply. "error": acknowledged with an error; "closed": the session was
    ended. Nothing else will do."""
    try:
        disk.wire.send(request, payload, fds, need_reply=True, **header)
        reply = disk.wire.recv()
    except Closed:
        return "closed"
    reply.close()
    assert reply.request == request and reply.flags & 4, reply
    assert len(reply.payload) in (0, 8), reply
    assert not reply.payload or reply.u64 != 0, "%r: it was accepted" % reply
    return "error"
