"""Errors in the words of each dialect, and the HTTP status of each.

| error | status |
|---|---|
| ``Invalid`` | 400; 401 key, 404 model, 410 pruned, 413 size |
| ``Refused`` | 403; 429 for rate or budget |
| ``Unavailable`` | 502 failed, 504 timeout, 503 down, storage, busy |
| ``Integrity`` | 503: log, vault or disk in trouble |
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid, InvalidKind, Refused, Unavailable

REFUSED: Final = "allod_refused"
BAD_REQUEST: Final = 400
STATUSES: Final[tuple[int, ...]] = (400, 401, 403, 404, 413, 429, 502, 503, 504)
"""Every status but 200 that an error object may carry in answer to a request for inference (500 would be a
defect of ours); a receipt may be 410 besides: pruned."""

_INVALID: Final[dict[str, tuple[int, str, str | None]]] = {
    "invalid": (400, "invalid_request_error", None),
    "not_supported": (400, "invalid_request_error", "not_supported"),
    "conflict": (400, "invalid_request_error", "conflict"),
    "key": (401, "authentication_error", "invalid_api_key"),
    "model": (404, "not_found_error", "model_not_found"),
    "pruned": (410, "not_found_error", "pruned"),
    "size": (413, "request_too_large", "request_too_large"),
}
_UNAVAILABLE: Final[dict[str, tuple[int, str, str]]] = {
    "failed": (502, "api_error", "upstream_failed"),
    "timeout": (504, "timeout_error", "upstream_timeout"),
    "down": (503, "overloaded_error", "unavailable"),
    "storage": (503, "api_error", "storage"),
    "busy": (503, "overloaded_error", "busy"),
}


class Rejected(Invalid):
    """A request body that its dialect does not allow; ``code`` is the dialect's name for the mistake."""

    def __init__(
        self,
        what: str,
        why: str = "",
        remedy: str = "",
        *,
        kind: InvalidKind = "invalid",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(what, why, remedy, kind=kind, param=param)
        self.code = code


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """An error as HTTP sees it: status, the type in Anthropic's words, and a code in OpenAI's."""

    status: int
    kind: str
    code: str | None


def verdict(error: AllodError) -> Verdict:
    """Return what an error means on the wire; an error of no known sort is 500."""
    if isinstance(error, Refused):
        return Verdict(status=429 if error.budget else 403, kind=REFUSED, code=REFUSED)
    if isinstance(error, Invalid):
        status, kind, code = _INVALID[error.kind]
        return Verdict(status=status, kind=kind, code=getattr(error, "code", None) or code)
    if isinstance(error, Unavailable):
        status, kind, code = _UNAVAILABLE[error.kind]
        return Verdict(status=status, kind=kind, code=code)
    if isinstance(error, Integrity):
        return Verdict(status=503, kind="api_error", code="integrity")
    return Verdict(status=500, kind="api_error", code="internal")


def allod_block(error: AllodError, receipt: str | None) -> dict[str, Any] | None:
    """Return the ``allod`` object of an error, or None when there is nothing to say in it."""
    if not isinstance(error, Refused):
        return None if receipt is None else {"receipt": receipt}
    return {
        "receipt": receipt,
        "excluded": [
            {
                "deployment": exclusion.deployment,
                "rules": [msgspec.to_builtins(rule) for rule in exclusion.rules],
            }
            for exclusion in error.excluded
        ],
        "nearest": [{"deployment": near.deployment, "change": near.change} for near in error.nearest],
    }


def sentences(error: AllodError) -> str:
    """Return what, why and what to do as sentences on one line; a dialect's own complaint stays as it is."""
    if isinstance(error, Rejected):
        return " ".join(part for part in (error.what, error.why, error.remedy) if part)
    parts = [part.rstrip(".") for part in (error.what, error.why, error.remedy) if part]
    return ". ".join(part[:1].upper() + part[1:] for part in parts) + ("." if len(parts) > 1 else "")


def openai_error(error: AllodError, receipt: str | None) -> tuple[int, dict[str, Any]]:
    """Return the status and OpenAI's ``error`` object (``type``, ``message``, ``param``, ``code``)."""
    found = verdict(error)
    inner: dict[str, Any] = {
        "message": sentences(error),
        "type": _openai_type(found),
        "param": getattr(error, "param", None),
        "code": found.code,
    }
    block = allod_block(error, receipt)
    if block is not None:
        inner["allod"] = block
    return found.status, inner


def anthropic_error(error: AllodError, receipt: str | None) -> tuple[int, dict[str, Any]]:
    """Return the status and Anthropic's whole error object (``type``, ``error``, ``request_id``)."""
    found = verdict(error)
    inner: dict[str, Any] = {"type": found.kind, "message": sentences(error)}
    block = allod_block(error, receipt)
    if block is not None:
        inner["allod"] = block
    return found.status, {"type": "error", "error": inner, "request_id": receipt}


def _openai_type(found: Verdict) -> Literal["allod_refused", "invalid_request_error", "server_error"]:
    if found.kind == REFUSED:
        return "allod_refused"
    return "invalid_request_error" if found.status < 500 else "server_error"  # noqa: PLR2004 (5xx)
