"""What an organisation says of its drills: ``drills.toml`` in its home, read strictly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.drills.reading import parse, read
from allod.drills.restore import Written

MAX_WEIGHT: Final = Decimal(10) ** 6


class Generate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of apps and tasks in generated requests; what is not named weighs 1 (a task ``-`` is none)."""

    apps: dict[str, Decimal] = {}
    tasks: dict[str, Decimal] = {}
    input_tokens: int = 1000


class Own(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in ``drills.toml``; tables that stand in the place of shipped ones are left as data.

    Attributes:
        assume: ``allod.drills.assume``; remedy_kind, remedy: ``allod.drills.restore``.
        scenario, risk, flashpoint: ``allod.drills.scenarios``, by id.
        hedge: ids of remedies that count as hedges; empty for all.
        unknown: what becomes of what is not known, unless a world says it: None leaves it to the world.
        generate: weights of generated requests.

    """

    assume: dict[str, Any] = {}
    remedy_kind: dict[str, Any] = {}
    remedy: tuple[Written, ...] = ()
    scenario: dict[str, Any] = {}
    risk: dict[str, Any] = {}
    flashpoint: dict[str, Any] = {}
    hedge: tuple[str, ...] = ()
    generate: Generate = Generate()


def load(raw: bytes, what: str = "drills.toml") -> Own:
    """Read it.

    Raises:
        Invalid: no TOML, an unknown key, a wrong type, two remedies of one id, or a weight below zero.

    """
    own = read(parse(raw, what), Own, what)
    ids = [one.id for one in own.remedy]
    for name in ids:
        if ids.count(name) > 1:
            raise Invalid(f"two remedies are called {name!r}", "", "rename one")
    for group in (own.generate.apps, own.generate.tasks):
        for name, weight in group.items():
            if not weight.is_finite() or not 0 <= weight <= MAX_WEIGHT:
                raise Invalid(f"generate: {name!r} weighs {weight}", "expected 0 or more", "correct it")
    if not 0 < own.generate.input_tokens < MAX_WEIGHT:
        raise Invalid("generate.input_tokens is no number of tokens", f"got {own.generate.input_tokens}", "")
    return own
