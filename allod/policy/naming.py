"""Names in a pack: what they may look like, and whose they are.

A rule's id stands in receipts, reports and relaxations, so it must not pass for another: ASCII letters
without look-alikes, and begun with the pack's id or its first words (``house.loans`` of ``house-bank``). Only
the base pack's rules have names of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

from allod.domain.classes import BASE_CLASSES
from allod.domain.errors import Invalid
from allod.policy.forms import Manifest, Name, Rule
from allod.policy.lists import PlaceList

TAKEN: Final = frozenset(
    "airgap base budget capability compelled cost deadline pack price provenance quality residency".split()
)
"""First words of ids that are decided elsewhere: by the base pack, by a pack's own dates, by the plan."""
_PACK: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_CLASS: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TURNED: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that turn the direction of writing: what is read is then not what is there."""


def check_manifest(manifest: Manifest, base: str) -> None:
    """Refuse a pack's id, its classes or its words; ``base`` is the base pack's id.

    Raises:
        Invalid: one is not what it may be.

    """
    if not _PACK.fullmatch(manifest.id) or (manifest.id != base and manifest.id in TAKEN):
        raise Invalid(
            f"{manifest.id[:64]!r} is no pack id",
            f"expected small letters, digits and dashes, and none of {', '.join(sorted(TAKEN - {base}))}",
            "rename it",
        )
    for name in manifest.classes:
        if not _CLASS.fullmatch(name) or name in BASE_CLASSES:
            raise Invalid(
                f"pack {manifest.id!r} adds the class {name[:64]!r}",
                "expected small letters, digits and dashes, and none of the base's own",
                "rename it",
            )
    words = [
        getattr(manifest, name) for name in ("version", "title", "jurisdiction", "applies_to", "reviewer")
    ]
    words += [part for one in manifest.source for part in (one.citation, one.url, one.digest, one.note)]
    _demand_plain(words, f"pack {manifest.id!r}")


def check_rule(pack: str, rule: Rule, base: str) -> None:
    """Refuse a rule's id that is not the pack's own, and words that hide what they say.

    Raises:
        Invalid: see above.

    """
    first, dot, rest = rule.id.partition(".")
    own = bool(dot and rest) and first not in TAKEN and f"{pack}-".startswith(f"{first}-")
    if not (own or pack == base) or not _NAME.fullmatch(rule.id):
        raise Invalid(
            f"{rule.id[:64]!r} is no rule id of pack {pack!r}",
            f"expected {pack}.NAME with letters, digits, dots, dashes and underscores",
            "rename it",
        )
    _demand_plain((rule.law, rule.text, rule.remedy, *rule.texts.values()), f"rule {rule.id!r}")


def check_facts(lists: Iterable[PlaceList], names: Iterable[Name], statutes: Iterable[Any]) -> dict[str, str]:
    """Refuse names of lists, evidence and statutes; return the statutes' citations.

    Raises:
        Invalid: a name holds other signs, or is there twice.

    """
    for what, several, found in (
        ("list", "lists", [one.id for one in lists]),
        ("name of evidence", "names of evidence", [one.name for one in names]),
        ("statute", "statutes", [one.name for one in statutes]),
    ):
        seen: set[str] = set()
        for name in found:
            if not _NAME.fullmatch(name):
                raise Invalid(
                    f"{name[:64]!r} is no {what}", "expected letters, digits, dots and dashes", "rename it"
                )
            if name in seen:
                raise Invalid(f"two {several} are called {name!r}", "", "keep one")
            seen.add(name)
    return {one.name: one.citation for one in statutes}


def join_statutes(packs: Iterable[tuple[str, dict[str, str]]]) -> dict[str, str]:
    """Return the statutes of all packs in force, given as (pack, citations by name).

    Raises:
        Invalid: two packs cite one name differently.

    """
    found: dict[str, str] = {}
    for pack, statutes in packs:
        for name, citation in statutes.items():
            if found.setdefault(name, citation) != citation:
                raise Invalid(
                    f"pack {pack!r} cites {name!r} otherwise than another pack",
                    f"got {citation[:80]!r}, the other says {found[name][:80]!r}",
                    "a name stands for one law: correct or rename one",
                )
    return found


def _demand_plain(words: Iterable[str], where: str) -> None:
    for text in words:
        if any(c in _TURNED or (unicodedata.category(c) == "Cc" and c not in "\n\t") for c in text):
            raise Invalid(f"{where} holds control characters", f"got {text[:64]!r}", "remove them")
