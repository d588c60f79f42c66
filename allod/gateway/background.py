"""The shape of ``background: true`` (OpenAI Responses): ids, what is shown while it waits, how it ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.gateway.http import JSON, JSON_LINE
from allod.gateway.surfaces import faults
from allod.gateway.surfaces.contract import Parsed, core_of
from allod.gateway.surfaces.responses import ResponsesSurface
from allod.gateway.surfaces.responses_answer import ResponsesEcho, response_object
from allod.gateway.surfaces.sse import ENCODE

if TYPE_CHECKING:
    from allod.domain.chat import UsageReport, Whole
    from allod.domain.errors import AllodError
    from allod.engines.outbox import Outbox
    from allod.gateway.http import Header
    from allod.store.deferred import Status

_ID: Final = re.compile(r"(?:resp|r)_([0-9a-f]{8}_[0-7][0-9A-HJKMNP-TV-Z]{25})", re.ASCII)
_BUDGET: Final = 429
_NO_ECHO: Final = ResponsesEcho(fields={"background": True, "store": True, "metadata": {}}, summary=False)


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came: its body, and the ``Allod-*`` headers."""

    raw: bytes
    labels: tuple[tuple[bytes, bytes], ...] = ()


def name_of(response: str) -> str | None:
    """Return the id a request is kept by (``r_...``) of the one its caller knows (``resp_...``)."""
    found = _ID.fullmatch(response)
    return None if found is None else "r_" + found[1]


def no_response(response: str) -> Invalid:
    """Return the error for an id that is nobody's, or somebody else's: the same for both."""
    return Invalid(
        f"there is no response {response[:64]!r} for this app",
        "only what was asked with 'background' is kept, by the app that asked, for a while",
        "",
        kind="model",
        param="response_id",
    )


class Laid(ResponsesSurface):
    """The surface of a request that has waited: its answer carries the id its caller knows.

    Args:
        name: the id it is kept by. created_s: when it came, Unix seconds.

    """

    def __init__(self, name: str, created_s: int) -> None:
        super().__init__(background=True)
        self._name, self._created_s = name, created_s
        self._parsed: Parsed | None = None

    def parse(self, raw: bytes) -> Parsed:
        """Validate as when it came (raises ``Rejected``)."""
        self._parsed = super().parse(raw)
        return self._parsed

    def whole(
        self,
        parsed: Parsed,
        answer: Whole,
        report: UsageReport | None,
        *,
        receipt: str,  # noqa: ARG002 (of the run, which may be a later one)
        created_s: int,  # noqa: ARG002
    ) -> bytes:
        """Write the ``Response`` (raises ``Unavailable``)."""
        return super().whole(parsed, answer, report, receipt=self._name, created_s=self._created_s)

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Write a ``Response`` that failed: whoever fetches it gets 200, and the reason in it."""
        status, inner = faults.openai_error(error, receipt)
        code = "rate_limit_exceeded" if status == _BUDGET else "server_error"
        failure: dict[str, Any] = {"code": code, "message": inner["message"]}
        if "allod" in inner:
            failure["allod"] = inner["allod"]
        return 200, self.shown("failed", failure)

    def shown(self, status: Status, error: dict[str, Any] | None = None) -> bytes:
        """Write the ``Response`` of what has no answer."""
        parsed = self._parsed
        return ENCODE(
            response_object(
                _NO_ECHO if parsed is None else parsed.echo,
                core=core_of(self._name),
                created_s=self._created_s,
                model="" if parsed is None else parsed.model,
                status=status,
                output=[],
                usage=None,
                error=error,
            )
        )


class Taken:
    """A client that keeps what it is given: head and body of an answer nobody waits for."""

    outbox: Outbox | None = None

    def __init__(self) -> None:
        self.status, self.head, self.body = 0, b"", b""

    def start(self, status: int, lines: bytes, length: int | None) -> None:  # noqa: ARG002 (it is whole)
        """Keep the head."""
        self.status, self.head = status, lines

    def write(self, data: bytes, *, more: bool) -> None:  # noqa: ARG002 (it is all kept)
        """Keep bytes."""
        self.body += data


def ended_as(body: bytes) -> Status:
    """Return the status a ``Response`` says."""
    status: Status = msgspec.json.decode(body)["status"]
    return status


def still(shown: bytes, status: str) -> bytes:
    """Return the ``Response`` of a request without an answer, as it is now."""
    return ENCODE({**msgspec.json.decode(shown), "status": status})


def lines_of(receipt: str) -> bytes:
    """Return the head of what has no answer."""
    return JSON_LINE + f"allod-receipt: {receipt}\r\n".encode()


def headers_of(lines: bytes) -> tuple[Header, ...]:
    """Return header lines as pairs."""
    pairs = (line.split(b": ", 1) for line in lines.split(b"\r\n") if line)
    return tuple((name, value) for name, value in pairs) or (JSON,)
