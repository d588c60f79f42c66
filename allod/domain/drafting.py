"""What a measurement of speculative decoding holds for: one draft, one target, one engine, one machine."""

from __future__ import annotations

import msgspec


class DraftSetup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the speed of a draft beside its target depends on, by digest where there is one.

    Attributes:
        weights, adapter, template, draft: ``sha256:`` digests of what is loaded; ``draft`` None is plain.
        engine_version, engine_digest: the engine's build.
        machine: processor and how many of them, as the system tells.
        threads: of computation.
        slots: requests decoded at once; context_tokens: of each.

    """

    weights: str
    adapter: str | None
    template: str | None
    draft: str | None
    engine_version: str
    engine_digest: str
    machine: str
    threads: int
    slots: int
    context_tokens: int

    def changed(self, now: DraftSetup) -> tuple[str, ...]:
        """Name what is other in ``now``; empty where a measurement of this one still holds."""
        return tuple(
            name.replace("_", " ")
            for name in self.__struct_fields__
            if getattr(self, name) != getattr(now, name)
        )
