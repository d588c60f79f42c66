"""What an operator's HTTP answer says went wrong, as one ``EngineFault``.

The detail of a fault goes into receipts and logs, so no text of the operator's message is kept: operators
quote the request in it. Only the status and a short error code (an identifier) are.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from allod.engines.contract import EngineFault, FaultKind

MAX_RETRY_AFTER_MS: Final = 24 * 3600 * 1000
"""A longer wish to wait is cut here: it is a number an operator chose."""

_MAX_ERROR_BODY_BYTES: Final = 256 * 1024
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}\Z")
_TOO_LONG_CODES: Final = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded", "request_too_large"}
)
_TOO_LONG_TEXT: Final = re.compile(
    r"maximum context length|context[ _](?:length|window|size)|prompt is too long|input (?:is )?too long"
    r"|exceeds? the (?:available context|model'?s? max)|max_model_len|maximum (?:input|prompt) length"
    r"|too many (?:input )?tokens|input token count",
    re.IGNORECASE,
)
_KIND_OF_STATUS: Final[Mapping[int, FaultKind]] = {
    401: "auth", 402: "auth", 403: "auth", 407: "auth",
    408: "timeout", 413: "too_long", 429: "rate", 503: "overloaded", 504: "timeout", 529: "overloaded",
}  # fmt: skip
_MAY_BE_TOO_LONG: Final = frozenset({400, 413, 422, 500})


def error_object(body: bytes) -> dict[str, Any] | None:
    """Return the error object of a JSON body in any of the known shapes, or None.

    Shapes: ``{"error": {...}}``, ``{"error": "text"}``, ``{"object": "error", ...}``, ``{"detail": ...}``,
    ``{"message": ...}``.
    """
    if not body or len(body) > _MAX_ERROR_BODY_BYTES:
        return None
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]
    return _shaped(value) if isinstance(value, dict) else None


def _shaped(value: dict[str, Any]) -> dict[str, Any] | None:
    error = value.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {**value, "message": error}
    if value.get("object") == "error" or "detail" in value or "message" in value:
        return value
    return None


def error_code(error: Mapping[str, Any] | None) -> str | None:
    """Return the error's code or type if it is a plain identifier, never its message."""
    if error is None:
        return None
    for key in ("code", "type", "status"):
        value = error.get(key)
        if isinstance(value, str) and _IDENTIFIER.match(value) and value != "error":
            return value
    return None


def is_too_long(error: Mapping[str, Any] | None) -> bool:
    """Tell whether an error object says that the context does not hold the request."""
    if error is None:
        return False
    for key in ("code", "type"):
        value = error.get(key)
        if isinstance(value, str) and value in _TOO_LONG_CODES:
            return True
    for key in ("message", "detail"):
        text = error.get(key)
        if isinstance(text, str) and _TOO_LONG_TEXT.search(text[:4096]):
            return True
    return False


def retry_after_ms(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Read how long the operator asks to wait, in milliseconds within 0..24 h.

    ``retry-after-ms`` wins over ``Retry-After`` (RFC 9110 section 10.2.3: seconds or a date). A date is read
    against the answer's own ``Date`` where it has one, so that a wrong clock on either side does not matter.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in (b"retry-after", b"retry-after-ms", b"date"):
            found.setdefault(lower, value.decode("latin-1").strip())
    plain = found.get(b"retry-after-ms")
    if plain is not None and plain.isascii() and plain.isdigit() and len(plain) < 16:  # noqa: PLR2004 - digits
        return min(int(plain), MAX_RETRY_AFTER_MS)
    text = found.get(b"retry-after")
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        return min(int(float(text) * 1000), MAX_RETRY_AFTER_MS)
    then = _date_ms(text)
    if then is None:
        return None
    now = _date_ms(found.get(b"date", ""))
    if now is None:
        now = int(time.time() * 1000)
    return max(0, min(then - now, MAX_RETRY_AFTER_MS))


def _date_ms(text: str) -> int | None:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None


def fault_from_response(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> EngineFault:
    """Make the fault that an answer with an error status stands for.

    Args:
        status: HTTP status, 400 or more (less is "malformed": the caller asked at the wrong place).
        headers: as received.
        body: the error body, possibly empty or not JSON.

    """
    error = error_object(body)
    code = error_code(error)
    detail = f"HTTP {status}" + (f" {code}" if code else "")
    kind: FaultKind
    if status in _MAY_BE_TOO_LONG and is_too_long(error):
        kind = "too_long"
    elif status in _KIND_OF_STATUS:
        kind = _KIND_OF_STATUS[status]
    elif status >= 500:  # noqa: PLR2004 - server error class
        kind = "server"
    elif status >= 400:  # noqa: PLR2004 - client error class
        kind = "request"
    else:
        kind = "malformed"
    wait = retry_after_ms(headers) if kind in ("rate", "overloaded", "server", "timeout") else None
    return EngineFault(kind, detail, status=status, retry_after_ms=wait)


def fault_from_error(error: Any, *, status: int = 200) -> EngineFault:
    """Make the fault for an error object that came inside an answer of status 200."""
    shaped = error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else None
    code = error_code(shaped)
    detail = "an error object where the answer should be" + (f": {code}" if code else "")
    if is_too_long(shaped):
        return EngineFault("too_long", detail, status=status)
    number = shaped.get("code") if shaped else None
    if isinstance(number, int) and number in _KIND_OF_STATUS:
        return EngineFault(_KIND_OF_STATUS[number], detail, status=status)
    if code is not None and "rate_limit" in code:
        return EngineFault("rate", detail, status=status)
    if code is not None and "overloaded" in code:
        return EngineFault("overloaded", detail, status=status)
    return EngineFault("server", detail, status=status)
