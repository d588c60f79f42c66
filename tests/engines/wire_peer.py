"""A peer on a raw socket that says exactly what a test wants."""

from __future__ import annotations

import asyncio

import uvloop

from allod.engines.contract import EngineFault
from allod.engines.wire import Wire

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LOOPS = [uvloop.run, asyncio.run]


def allow(_host, _port):
    return True


class Peer:
    """Answers every request with the bytes given; ``None`` closes, a float pauses."""

    def __init__(self, *answers, ssl_context=None):
        self.answers, self.requests, self.connections, self.lost = list(answers), [], 0, 0
        self._ssl = ssl_context

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for part in answer if isinstance(answer, list | tuple) else [answer]:
                    if part is None:
                        return
                    if isinstance(part, float):
                        await writer.drain()
                        await asyncio.sleep(part)
                    else:
                        writer.write(part)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
        finally:
            writer.close()


def wire(port, **more):
    return Wire(f"http://127.0.0.1:{port}", **{"allow_address": allow, **more})


async def ask(way, path="/x", body=b"", *, method="POST", headers=(), read=True, **limits):
    given = {"first_byte_ms": 500, "idle_ms": 500, "total_ms": 2000, **limits}
    response = await way.request(method, path, list(headers), body, **given)
    return (response, await response.read()) if read else response


async def fault_of(coroutine):
    try:
        await coroutine
    except EngineFault as fault:
        return fault
    raise AssertionError("no fault")


def with_peer(*answers, run=uvloop.run, **more):
    def decorate(scenario):
        async def inside():
            async with Peer(*answers) as peer:
                way = wire(peer.port, **more)
                try:
                    return await scenario(peer, way)
                finally:
                    await way.close()

        return run(inside())

    return decorate
