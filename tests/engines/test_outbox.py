"""What leaves by an outbox leaves in order, after what must come before, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from allod.engines.outbox import Outbox


class Transport:
    """Notes what becomes of it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def test_it_leaves_in_order_at_the_end_of_the_turn() -> None:
    async def go() -> None:
        box, a, b = Outbox(), Transport(), Transport()
        for transport, data in ((a, b"1"), (b, b"2"), (a, b"3")):
            box.put(transport, data)
        assert (a.written, b.written) == ([], [])
        await asyncio.sleep(0)
        assert (a.written, b.written) == ([b"1", b"3"], [b"2"])
        box.put(a, b"4")
        box.flush()
        assert a.written[-1] == b"4"
        await asyncio.sleep(0)
        assert a.written == [b"1", b"3", b"4"]

    asyncio.run(go())


def test_a_transport_that_was_closed_meanwhile_gets_nothing() -> None:
    async def go() -> None:
        box, gone, there = Outbox(), Transport(), Transport()
        box.put(gone, b"x")
        box.put(there, b"y")
        gone.abort()
        await asyncio.sleep(0)
        assert (gone.written, there.written) == ([], [b"y"])

    asyncio.run(go())


def test_I3_nothing_leaves_before_what_it_rests_on_is_recorded() -> None:
    async def go() -> None:
        box, transport = Outbox(), Transport()
        order: list[str] = []
        box.before = lambda: order.append(f"recorded before {len(transport.written)} writes")
        box.put(transport, b"x")
        await asyncio.sleep(0)
        assert order == ["recorded before 0 writes"]
        assert transport.written == [b"x"]

    asyncio.run(go())


def test_I3_what_cannot_be_recorded_breaks_the_connections_that_rest_on_it() -> None:
    async def go() -> None:
        box, transport = Outbox(), Transport()

        def full() -> None:
            raise OSError(28, "No space left on device")

        box.before = full
        box.put(transport, b"x")
        with pytest.raises(OSError, match="No space"):
            box.flush()
        assert transport.closed
        assert transport.written == []
        box.before = None
        await asyncio.sleep(0)
        assert transport.written == []

    asyncio.run(go())
