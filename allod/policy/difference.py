"""A change in words: what is written differently, which rules moved, and who may now be sent what. Pure.

Configurations are compared as the tables TOML gives (money as ``Decimal``), not as parsed types: whatever key
there is, known to this version or not, is in the comparison, and no difference is without a line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any, Final

import msgspec

from allod.policy.forms import Pack, Rule

UNGOVERNED: Final = ("server", "log")
"""Tables that say where the gateway listens and how it writes; every other one, known or not, is governed."""
ABSENT: Final = "absent"
MAX_VALUE: Final = 240
_FACT: Final = frozenset({"value", "grade", "as_of", "expires", "source"})
Table = Mapping[str, Any]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is written differently; ``before`` or ``after`` is ``absent`` where it was not there.

    ``of`` names what it belongs to (``deployment ward-llm``), ``key`` the path inside.
    """

    of: str
    key: str
    before: str
    after: str

    def text(self) -> str:
        """Return ``deployment ward-llm: processing: DE (declared) -> FR (contract)``."""
        return f"{self.of}: {self.key}: {self.before} -> {self.after}" if self.key else (
            f"{self.of}: {self.before} -> {self.after}"
        )  # fmt: skip


def governed(data: Table) -> dict[str, Any]:
    """Return the part of a configuration that law, facts and signers are made of."""
    return {key: value for key, value in data.items() if key not in UNGOVERNED}


def digest_of(data: Table) -> str:
    """Digest the governed part of a configuration: of what is written, not of spaces and comments.

    The order of keys does not count, that of lists does (plans read it).
    """
    text = json.dumps(_canonical(governed(data)), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def lines_of(before: Table, after: Table) -> tuple[Line, ...]:
    """Compare the governed parts of two configurations, in the order of their first appearance."""
    old, new = governed(before), governed(after)
    out: list[Line] = []
    for key in dict.fromkeys((*old, *new)):
        out += _compare(key, old.get(key), new.get(key))
    return tuple(out)


def pack_lines(before: Iterable[Pack], after: Iterable[Pack]) -> tuple[Line, ...]:
    """Compare the packs in force: which came, went and changed, and of those every rule, row and number."""
    old, new = {p.id: p for p in before}, {p.id: p for p in after}
    out: list[Line] = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was is not None and now is not None and was.digest == now.digest:
            continue
        out.append(Line(of=f"pack {name}", key="", before=_pack(was), after=_pack(now)))
        found = _inside(was, now)
        if was is not None and now is not None and not found:
            found = [Line(of=f"pack {name}", key="other files", before="as they were", after="changed")]
        out += found
    if list(old) != list(new) and set(old) == set(new):
        out.append(Line(of="packs", key="order", before=", ".join(old), after=", ".join(new)))
    return tuple(out)


def _inside(was: Pack | None, now: Pack | None) -> list[Line]:
    packs = [p for p in (was, now) if p is not None]
    of = f"pack {packs[0].id}"
    out: list[Line] = []
    old = {r.id: r for r in was.rules} if was else {}
    new = {r.id: r for r in now.rules} if now else {}
    for name in dict.fromkeys((*old, *new)):
        before, after = _rule(old.get(name)), _rule(new.get(name))
        if before != after:
            out.append(Line(of=of, key=f"rule {name}", before=before, after=after))
    if was is None or now is None:
        return out
    for name in was.manifest.__struct_fields__:
        first, second = getattr(was.manifest, name), getattr(now.manifest, name)
        if first != second and name not in ("id", "version"):
            out.append(Line(of=of, key=name, before=_value(first), after=_value(second)))
    for name in ("lists", "names", "weighting", "statutes", "theorems", "obligations", "cases"):
        first, second = getattr(was, name), getattr(now, name)
        if first != second:
            out.append(Line(of=of, key=name, before=_value(first), after=_value(second)))
    return out


def _pack(pack: Pack | None) -> str:
    return "not in force" if pack is None else f"{pack.version} ({pack.digest})"


def _rule(rule: Rule | None) -> str:
    """Write a rule so that any change of it shows: its words, and the digest of all of it."""
    if rule is None:
        return ABSENT
    whole = json.dumps(_canonical(msgspec.to_builtins(rule)), sort_keys=True, ensure_ascii=True)
    return f"{_cut(rule.text)} [{rule.law or 'no law'}; {hashlib.sha256(whole.encode()).hexdigest()[:12]}]"


def _compare(key: str, old: Any, new: Any) -> list[Line]:
    first, second = _by_name(old), _by_name(new)
    if first is not None and second is not None and (first or second):
        out: list[Line] = []
        for name in dict.fromkeys((*first, *second)):
            out += _tables(f"{key} {name}", first.get(name), second.get(name))
        kept = [n for n in first if n in second], [n for n in second if n in first]
        if kept[0] != kept[1]:
            out.append(Line(of=key, key="order", before=", ".join(kept[0]), after=", ".join(kept[1])))
        return out
    if isinstance(old, dict | None) and isinstance(new, dict | None):
        return _tables(key, old, new)
    return [] if _same(old, new) else [Line(of=key, key="", before=_value(old), after=_value(new))]


def _by_name(value: Any) -> dict[str, Any] | None:
    """Return an array of tables by their ``id`` or ``name``; None for what is no such array."""
    if value is None:
        return {}
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    named = {}
    for n, item in enumerate(value):
        label = item.get("id", item.get("name"))
        named[label if isinstance(label, str) and label not in named else f"#{n + 1}"] = item
    shown = {_clean(name): item for name, item in named.items()}
    return shown if len(shown) == len(value) else None


def _tables(of: str, old: Table | None, new: Table | None) -> list[Line]:
    if old is None and new is None:
        return []
    before, after = _flat(old or {}), _flat(new or {})
    out = []
    if old is None or new is None:
        out.append(Line(of=of, key="", before=_there(old), after=_there(new)))
    for key in dict.fromkeys((*before, *after)):
        first, second = before.get(key), after.get(key)
        if not _same(first, second) or (key in before) != (key in after):
            fact = _is_fact(first) or _is_fact(second)
            out.append(Line(of=of, key=key, before=_shown(first, fact), after=_shown(second, fact)))
    return out


def _there(table: Table | None) -> str:
    return ABSENT if table is None else "there"


def _flat(table: Table, prefix: str = "") -> dict[str, Any]:
    """Spread nested tables into paths; facts stay whole, and so does an empty table."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        path = prefix + (json.dumps(key) if "." in key or not key.isprintable() else key)
        if isinstance(value, dict) and value and not _is_fact(value):
            out |= _flat(value, path + ".")
        else:
            out[path] = value
    return out


def _is_fact(value: Any) -> bool:
    return isinstance(value, dict) and "value" in value and _FACT.issuperset(value)


def _shown(value: Any, fact: bool) -> str:
    if value is None:
        return "unknown" if fact else ABSENT
    if not fact:
        return _value(value)
    if not _is_fact(value):
        return f"{_value(value)} (declared)"
    more = [str(value.get("grade", "declared"))]
    more += [
        f"{k.replace('_', ' ')} {_value(value[k])}" for k in ("as_of", "expires", "source") if k in value
    ]
    return f"{_value(value['value'])} ({', '.join(more)})"


def _value(value: Any) -> str:
    """Write a value for a person to read; of a long one the beginning and a digest of all of it."""
    if value is None:
        return ABSENT
    if isinstance(value, str):
        return _cut(_clean(value) or '""')
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal | date | time):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return _cut("[" + ", ".join(_clean(item) for item in value) + "]")
    plain = json.dumps(_readable(value), sort_keys=True, ensure_ascii=False)
    return _cut(_clean(plain))


def _cut(text: str) -> str:
    if len(text) <= MAX_VALUE:
        return text
    return f"{text[: MAX_VALUE - 30]}... [{hashlib.sha256(text.encode()).hexdigest()[:16]}]"


def _clean(text: str) -> str:
    """Show what a terminal or a reader's eye would hide: control, format and private characters, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _same(first: Any, second: Any) -> bool:
    return bool(_canonical(first) == _canonical(second))


def _readable(value: Any) -> Any:
    value = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
    if isinstance(value, Mapping):
        return {str(key): _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def _canonical(value: Any) -> Any:
    """Tag every value with its type, so that ``1``, ``1.0``, ``"1"`` and ``true`` are four things."""
    match value:
        case Mapping():
            return {"t": {str(key): _canonical(item) for key, item in value.items()}}
        case list() | tuple():
            return {"l": [_canonical(item) for item in value]}
        case bool() | None | str():
            return value
        case date() | time():
            return {"d": value.isoformat()}
    return {"i" if isinstance(value, int) else "n": str(value)}
