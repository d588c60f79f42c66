"""Talking to the running gateway of this home, with a key of a few minutes made for one command."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec

from allod.domain.errors import Invalid, Unavailable
from allod.gateway.cli.options import now_ms
from allod.store.database import Database
from allod.store.keys import create_key, digest_of, revoke_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from allod.gateway.compose import Setting

KEY_LIFE_MS = 300_000
KEY_VISIBLE_S = 3.0
ANSWER_LIMIT_S = 600
UNKNOWN_KEY = 401


class Answered(msgspec.Struct, frozen=True):
    """What came back: status, headers in lower case, body as received."""

    status: int
    headers: dict[str, str]
    raw: bytes

    def json(self) -> dict[str, Any]:
        """Return the body as an object.

        Raises:
            Unavailable: it is none, so what answered is no gateway.

        """
        try:
            value = json.loads(self.raw)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Unavailable("what answered is no gateway", f"status {self.status}, body is no JSON object")
        return value


def database(setting: Setting) -> contextlib.closing[Database]:
    """Open the tables of the home for one command."""
    return contextlib.closing(Database.lite_file(setting.home.database))


class Client:
    """One command's link to the gateway; its key is ``ALLOD_KEY`` or one that is revoked at the end."""

    def __init__(self, setting: Setting, app: str) -> None:
        self._setting, self._app = setting, app
        self._key = os.environ.get("ALLOD_KEY", "").strip()
        self._made = False
        from allod.gateway import compose, gap  # noqa: PLC0415 (only when it runs)

        server = setting.config.server
        self._host, self._port = gap.here(server.host), server.port
        if setting.fleet.tenant.air_gapped:
            gap.reachable(compose.addresses(setting), self._host, self._port)

    def __enter__(self) -> Self:
        if not self._key:
            with database(self._setting) as tables:
                now = now_ms()
                self._key = create_key(tables, self._app, at_ms=now, expires_at_ms=now + KEY_LIFE_MS)
            self._made = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made:
            with database(self._setting) as tables:
                revoke_keys(tables, at_ms=now_ms(), digest=digest_of(self._key))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answered:
        """Send one request; a key made this instant may take a second to be known.

        Raises:
            Unavailable: nobody listens, or what listens is no HTTP server.

        """
        until = time.monotonic() + KEY_VISIBLE_S
        while True:
            answered = self._once(method, path, body, headers or {})
            if answered.status != UNKNOWN_KEY or not self._made or time.monotonic() > until:
                return answered
            time.sleep(0.1)

    @contextlib.contextmanager
    def stream(self, path: str, body: bytes) -> Iterator[http.client.HTTPResponse]:
        """Send one request and hand out the answer as it comes; ``ask`` first, so that a new key is known.

        Raises:
            Unavailable: nobody listens, or the answer broke off.

        """
        link = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_LIMIT_S)
        heads = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        try:
            link.request("POST", path, body, heads)
            yield link.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the answer from {self._host}:{self._port} broke off",
                f"{type(error).__name__}: {error}",
                "see the gateway's log",
                kind="failed",
            ) from error
        finally:
            link.close()

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answered:
        link = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_LIMIT_S)
        heads = {"authorization": f"Bearer {self._key}", "content-type": "application/json", **headers}
        try:
            link.request(method, path, body, heads)
            response = link.getresponse()
            return Answered(
                response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
            )
        except ConnectionRefusedError as error:
            raise Unavailable(
                f"no gateway listens on {self._host}:{self._port}",
                "the connection was refused",
                "start it: `allod up`",
                kind="down",
            ) from error
        except ValueError:
            raise Invalid(
                "the request cannot be written as HTTP",
                "the key in ALLOD_KEY or a label holds what no header may hold",
                "correct it",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"what listens on {self._host}:{self._port} did not answer as a gateway",
                f"{type(error).__name__}: {error}",
                "see which program has the port",
                kind="failed",
            ) from error
        finally:
            link.close()
