"""The error tree of Allod; every error explains itself.

AllodError
+-- Refused       law, policy, floor, capability, price, limit: the request may not be served
+-- Unavailable   the request may be served, but nothing can serve it now
+-- Invalid       the caller or the configuration is wrong
+-- Integrity     a digest, a signature, the log or the store is wrong; never retried
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from allod.domain.decision import Exclusion, NearestChange

InvalidKind = Literal["invalid", "key", "model", "size", "not_supported", "conflict", "pruned"]
RefusedKind = Literal["", "air_gap"]
UnavailableKind = Literal["failed", "timeout", "down", "storage", "busy"]


class AllodError(Exception):
    """Base of all errors: what happened, why, and what to do.

    Args:
        what: one sentence, without the reason.
        why: the reason, naming got and expected where there are such.
        remedy: what the reader can do about it.

    """

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.remedy = what, why, remedy

    def explain(self) -> str:
        """Return the three sentences as lines of text."""
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.remedy:
            lines.append(f"  do:  {self.remedy}")
        return "\n".join(lines)


class Refused(AllodError):
    """The request may not be served by any deployment of this fleet.

    ``budget`` is True only for a rate or budget refusal (HTTP 429, else 403); ``kind`` is ``air_gap`` for
    what may enter a disconnected home by bundle only.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        remedy: str = "",
        *,
        excluded: tuple[Exclusion, ...] = (),
        nearest: tuple[NearestChange, ...] = (),
        budget: bool = False,
        kind: RefusedKind = "",
    ) -> None:
        super().__init__(what, why, remedy)
        self.excluded, self.nearest, self.budget = excluded, nearest, budget
        self.kind: RefusedKind = kind


class Unavailable(AllodError):
    """Lawful, but not to be had now: HTTP 502 failed, 504 timeout, 503 down, storage or busy."""

    def __init__(
        self,
        what: str,
        why: str = "",
        remedy: str = "",
        *,
        kind: UnavailableKind = "failed",
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(what, why, remedy)
        self.kind: UnavailableKind = kind
        self.retry_after_ms = retry_after_ms


class Invalid(AllodError):
    """The caller or the configuration is wrong: HTTP 400, 401 key, 404 model, 410 pruned, 413 size.

    ``param`` names the field at fault as a JSON path (``messages[0].role``) or a header.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        remedy: str = "",
        *,
        kind: InvalidKind = "invalid",
        param: str | None = None,
    ) -> None:
        super().__init__(what, why, remedy)
        self.kind: InvalidKind = kind
        self.param = param


class Integrity(AllodError):
    """A digest, a signature, the log or the store is not what it must be (exit code 3)."""
