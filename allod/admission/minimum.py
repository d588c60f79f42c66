"""Minimum necessary: of structured input, a model sees only the fields its task names.

Source of the rule: GDPR Art 5(1)(c); 45 CFR 164.502(b) and 164.514(d). Reduced is what users and tools bring
(JSON, JSON lines, CSV and TSV, ``Key: value`` lines, and fenced blocks of these); what has no fields is
refused unless the task keeps it. Instructions (system, developer) and what the model itself said are not
input and stay. JSON that two readers could read differently (a name twice, NaN, nesting or numbers without
bound) is refused whatever the task keeps: what is dropped here must not be what another parser finds there.
"""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000_000
MAX_NUMBER_CHARS: Final = 64
MAX_PATHS: Final = 1_000
NOTHING: Final = "(no field of this input is named by the task)"
"""Stands where nothing of a table or a form is left: an empty message is none to most operators."""

Unstructured = Literal["refuse", "keep"]

_STEP: Final = re.compile(r"((?:[^.\\]|\\.)+)(?:\.|\Z)")
_WHOLE: Final = ""
_DELIMITERS: Final = "\t;|,"
_COLUMN: Final = re.compile(r"[^\W\d](?:[\w .()/#%-]{0,62}[\w)%])?")
_LINE: Final = re.compile(r"[ \t]*([^\W\d_](?:[\w()/.'-]*)(?: [\w()/.'-]+){0,3})[ \t]*:(?:[ \t]+(.*)|)")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([\w+-]*)")
_MEMBER: Final = re.compile(r"[{,]\s*\\*[\"'][^\"'\n]{1,128}[\"']\s*:")
"""A member of an object, as JSON, JSON within JSON and Python write it."""
_BEGINS: Final = re.compile(r"[\s\ufeff]*(?:\{[^:]*:|\[[^\"':]*[\"'][^:]*:)", re.DOTALL)
"""What begins as an object does, or as a list of texts, and has a colon: JSON with comments or bare names."""
_ENCODE: Final = msgspec.json.Encoder().encode
_FORMATS: Final = {"json": "json", "jsonl": "json", "ndjson": "json", "csv": "csv", "tsv": "csv"}

_Node = dict[str, Any]


class Fields:
    """The fields a task needs.

    A path is names joined by dots; ``*`` is any name and any item of a list; a backslash makes a dot part of
    a name. What a path leads to is kept whole. A list at the top is a list of records: paths begin inside
    each.

    Raises:
        Invalid: a path that is empty, has an empty step, or there are none or too many.

    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._root: _Node = {}
        count = 0
        for path in paths:
            count += 1
            node = self._root
            for step in _steps(path):
                node = node.setdefault(step, {})
            node[_WHOLE] = True
        if not 0 < count <= MAX_PATHS:
            raise Invalid("a task's fields cannot be used", f"{count} paths, expected 1 to {MAX_PATHS}")

    def begin(self) -> tuple[_Node, ...]:
        """Return where every path begins."""
        return (self._root,)

    def column(self, name: str) -> bool:
        """Tell whether a column or a line is kept; its name may itself be a path."""
        if _leads(self.begin(), (name,)):
            return True
        return _leads(self.begin(), tuple(name.split(".")))


class Reduced(msgspec.Struct, frozen=True, kw_only=True):
    """A request without the fields its task does not need.

    Attributes:
        body: a copy; texts that lost nothing are unchanged to the character.
        dropped: how many fields were dropped, by where they stood: ``json`` (members and items), ``csv``
            (columns), ``form`` (lines). This may be recorded.
        names: of these, how often each name that the tenant itself listed (``known``). This may be recorded.
        unlisted: the other names, which may be content where names are data; for ``name_digests`` only.

    """

    body: dict[str, Any]
    dropped: dict[str, int]
    names: dict[str, int]
    unlisted: frozenset[str]


def name_digests(names: Collection[str], salt: bytes) -> tuple[str, ...]:
    """Return what a receipt may hold of names: HMAC-SHA-256 under its salt, 16 hex digits each, sorted.

    Deleting the salt is erasure (I9); until then who knows a name can find it.
    """
    found = {hmac.digest(salt, name.encode("utf-8", "surrogatepass"), "sha256").hex()[:16] for name in names}
    return tuple(sorted(found))


def reduce(
    body: Mapping[str, Any],
    fields: Fields,
    *,
    unstructured: Unstructured = "refuse",
    known: Collection[str] = (),
) -> Reduced:
    """Drop from a neutral body (chat, or embeddings with ``input``) every field that is not named.

    Raises:
        Invalid: text without fields under ``refuse``, JSON that is ambiguous or out of bounds, a table with
            two columns of one name, parts or inputs that are not text.

    """
    drop = _Drop(fields, unstructured)
    out = dict(body)
    messages = body.get("messages")
    if isinstance(messages, list):
        out["messages"] = [drop.message(one, f"messages[{i}]") for i, one in enumerate(messages)]
    elif "input" in body:
        out["input"] = drop.content(body["input"], "input")
    listed = frozenset(known)
    return Reduced(
        body=out,
        dropped=dict(sorted(drop.dropped.items())),
        names={name: count for name, count in sorted(drop.names.items()) if name in listed},
        unlisted=frozenset(drop.names) - listed,
    )


class _Drop:
    """Reduces texts and keeps count."""

    def __init__(self, fields: Fields, unstructured: Unstructured) -> None:
        self._fields, self._keeps = fields, unstructured == "keep"
        self.dropped: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    def message(self, message: Any, path: str) -> Any:
        """Reduce what a user or a tool says."""
        if not isinstance(message, dict):
            raise _unreadable(path, "it is not a message")
        if message.get("role") not in ("user", "tool", "function") or message.get("content") is None:
            return message
        return {**message, "content": self.content(message["content"], f"{path}.content")}

    def content(self, content: Any, path: str) -> Any:
        """Reduce a text, or each of several."""
        if isinstance(content, str):
            return self._text(content, path)
        if not isinstance(content, list):
            raise _unreadable(path, "it is not text")
        return [self._part(part, f"{path}[{i}]") for i, part in enumerate(content)]

    def _part(self, part: Any, path: str) -> Any:
        if isinstance(part, str):
            return self._text(part, path)
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return {**part, "text": self._text(part["text"], path)}
        if self._keeps and isinstance(part, dict):
            return part
        raise _without_fields(path)

    def _text(self, text: str, path: str) -> str:
        if not text.strip():
            return text
        for way in (self._json, self._fenced, self._table, self._form):
            done: str | None = way(text, path)
            if done is not None:
                return done
        return self._kept(text, path)

    def _kept(self, text: str, path: str) -> str:
        """Keep text without fields, if the task does and it is not structure that nobody could read."""
        if not text.strip():
            return text
        if not self._keeps:
            raise _without_fields(path)
        if _MEMBER.search(text) or _BEGINS.match(text):
            raise _unreadable(path, "it holds something like JSON that is not whole")
        return text

    def _count(self, where: str, name: str) -> None:
        self.dropped[where] += 1
        self.names[name] += 1

    # --- JSON

    def _json(self, text: str, path: str) -> str | None:
        if text.lstrip()[:1] not in ("{", "["):
            return None
        found, value = _decoded(text, path)
        if found:
            return self._written(text, [value], path)
        lines = [line for line in text.split("\n") if line.strip()]
        values = [_decoded(line, path) for line in lines]
        if len(lines) > 1 and all(found for found, _ in values):
            return self._written(text, [value for _, value in values], path)
        return None

    def _written(self, text: str, values: list[Any], path: str) -> str:
        before = self.dropped["json"]
        kept = []
        for value in values:
            if isinstance(value, list):
                nodes = (*self._fields.begin(), *_next(self._fields.begin(), "*"))
                kept.append(self._items(value, nodes))
            else:
                kept.append(self._select(value, self._fields.begin()))
        if self.dropped["json"] == before:
            return text
        try:
            return b"\n".join(map(_ENCODE, kept)).decode()
        except (ValueError, RecursionError):
            raise _unreadable(path, "it holds characters that cannot be sent") from None

    def _select(self, value: Any, nodes: tuple[_Node, ...]) -> Any:
        """Return the part of a value that paths lead to; the caller made sure that it is not a bare value."""
        if any(_WHOLE in node for node in nodes):
            return value
        if isinstance(value, list):
            inner = _next(nodes, "*")
            if inner:
                return self._items(value, inner)
            for _ in value:
                self._count("json", "*")
            return []
        out: dict[str, Any] = {}
        for name, member in value.items():
            inner = _next(nodes, name)
            if _reaches(member, inner):
                out[name] = self._select(member, inner)
            else:
                self._count("json", name)
        return out

    def _items(self, items: list[Any], nodes: tuple[_Node, ...]) -> list[Any]:
        out = []
        for item in items:
            if _reaches(item, nodes):
                out.append(self._select(item, nodes))
            else:
                self._count("json", "*")
        return out

    # --- fenced blocks

    def _fenced(self, text: str, path: str) -> str | None:
        """Reduce the blocks between fences; what stands outside them is text without fields."""
        blocks = list(_blocks(text))
        if all(language is None for language, _, _, _ in blocks):
            return None
        out: list[str] = []
        for language, first, inside, last in blocks:
            if language is None:
                out.append(self._kept(inside, path))
                continue
            form = _FORMATS.get(language.lower())
            ways: tuple[Callable[[str, str], str | None], ...] = (self._json, self._table, self._form)
            if form is not None:
                ways = (self._json,) if form == "json" else (self._table,)
            elif language:
                ways = ()
            done = next((done for way in ways if (done := way(inside, path)) is not None), None)
            if done is None and form is not None and inside.strip():
                raise _unreadable(path, f"a block marked {form} is not {form}")
            kept = self._kept(inside, path) if done is None else done
            out.append(first + kept + ("" if kept.endswith("\n") or not kept else "\n") + last)
        return "".join(out)

    # --- tables and forms

    def _table(self, text: str, path: str) -> str | None:
        found = _rows(text, path)
        if found is None:
            return None
        delimiter, rows = found
        kept = [i for i, name in enumerate(rows[0]) if self._fields.column(name)]
        if len(kept) == len(rows[0]):
            return text
        for i, name in enumerate(rows[0]):
            if i not in kept:
                self._count("csv", name)
        if not kept:
            return NOTHING
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        writer.writerows([row[i] for i in kept] for row in rows)
        return out.getvalue()

    def _form(self, text: str, path: str) -> str | None:  # noqa: ARG002 (as the other ways)
        lines = text.splitlines()
        names: list[str | None] = []
        block: set[str] = set()
        for line in lines:
            if not line.strip():
                names.append(None)
                block = set()
                continue
            found = _LINE.fullmatch(line)
            if found is None or found[1] in block:
                return None
            block.add(found[1])
            names.append(found[1])
        if sum(name is not None for name in names) <= 1:
            return None
        kept = []
        for line, name in zip(lines, names, strict=True):
            if name is None or self._fields.column(name):
                kept.append(line)
            else:
                self._count("form", name)
        if len(kept) == len(lines):
            return text
        return "\n".join(kept) if any(line.strip() for line in kept) else NOTHING


def _steps(path: str) -> list[str]:
    steps, at = [], 0
    if "\\*" in path:
        raise Invalid("a task's fields cannot be used", "a star cannot be part of a name", "name the parent")
    while at < len(path) or not path:
        found = _STEP.match(path, at)
        if found is None or (found.end() == len(path) and path.endswith(".") and not path.endswith("\\.")):
            raise Invalid(
                "a task's fields cannot be used",
                f"the path {path[:80]!r} has an empty step",
                "join names by single dots",
            )
        steps.append(re.sub(r"\\(.)", r"\1", found[1]))
        at = found.end()
    return steps


def _next(nodes: tuple[_Node, ...], step: str) -> tuple[_Node, ...]:
    """Return where paths go on after a step; an empty name is no step of any path."""
    if not step:
        return ()
    found = [node[step] for node in nodes if step in node]
    if step != "*":
        found += [node["*"] for node in nodes if "*" in node]
    return tuple(found)


def _leads(nodes: tuple[_Node, ...], steps: tuple[str, ...]) -> bool:
    """Tell whether a path ends on the way along some steps."""
    for step in steps:
        nodes = _next(nodes, step)
        if any(_WHOLE in node for node in nodes):
            return True
    return False


def _reaches(value: Any, nodes: tuple[_Node, ...]) -> bool:
    """Tell whether anything of a value is named: it is wanted whole, or is one that paths can go into."""
    return any(_WHOLE in node for node in nodes) or (bool(nodes) and isinstance(value, dict | list))


def _decoded(text: str, path: str) -> tuple[bool, Any]:
    """Return whether a text is a JSON object or array, and which.

    Raises:
        Invalid: a name twice in an object, NaN or infinity, a number or nesting beyond the bounds.

    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _unreadable(path, "an object has two members of one name")
        return found

    def number(literal: str) -> msgspec.Raw:
        if len(literal) > MAX_NUMBER_CHARS or abs(float(literal)) == float("inf"):
            raise _unreadable(path, "a number is out of bounds")
        return msgspec.Raw(literal.encode())

    def constant(_: str) -> NoReturn:
        raise _unreadable(path, "NaN and infinity are no JSON")

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=constant, parse_int=number, parse_float=number
        )
    except RecursionError:
        raise _unreadable(path, f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        return False, None
    _demand_bounds(value, path)
    return isinstance(value, dict | list), value


def _demand_bounds(value: Any, path: str) -> None:
    level, nodes = [value], 1
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            inside = node.values() if isinstance(node, dict) else node
            nodes += len(node)
            below.extend(one for one in inside if isinstance(one, dict | list))
        if nodes > MAX_NODES:
            raise _unreadable(path, f"it has more than {MAX_NODES} values")
        if not below:
            return
        level = below
    raise _unreadable(path, f"it is nested deeper than {MAX_DEPTH} levels")


def _blocks(text: str) -> Iterator[tuple[str | None, str, str, str]]:
    """Yield a text in order: stretches without fence (language None), and fenced blocks that are closed."""
    outside: list[str] = []
    lines = text.splitlines(keepends=True)
    at = 0
    closes: dict[str, list[int]] = {}
    for i in range(len(lines) - 1, -1, -1):
        mark = lines[i].strip()
        if mark[:3] in ("```", "~~~") and not mark.strip(mark[0]):
            closes.setdefault(mark, []).append(i)
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        end = None
        if opened is not None:
            places = closes.get(opened[1], [])
            while places and places[-1] <= at:
                places.pop()
            end = places[-1] if places else None
        if opened is None or end is None:
            outside.append(lines[at])
            at += 1
            continue
        if outside:
            yield None, "", "".join(outside), ""
            outside = []
        yield opened[2], lines[at], "".join(lines[at + 1 : end]), lines[end]
        at = end + 1
    if outside:
        yield None, "", "".join(outside), ""


def _rows(text: str, path: str) -> tuple[str, list[list[str]]] | None:
    """Return the delimiter and the rows of a table: a line of names, then lines of as many cells.

    Raises:
        Invalid: a line of names with rows that do not fit, or two columns of one name.

    """
    text = text.lstrip("\ufeff\r\n")
    first, _, rest = text.partition("\n")
    if not rest.strip():
        return None
    for delimiter in _DELIMITERS:
        if delimiter not in first:
            continue
        try:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if row]
        except csv.Error:
            rows = []
        names = rows[0] if rows else first.strip().split(delimiter)
        if not all(_COLUMN.fullmatch(name) for name in names):
            continue
        if not rows or any(len(row) != len(names) for row in rows):
            raise _unreadable(path, "a table's rows do not fit its line of names")
        if len(set(names)) != len(names):
            raise _unreadable(path, "two columns have one name")
        return delimiter, rows
    return None


def _without_fields(path: str) -> Invalid:
    return Invalid(
        "this task takes named fields only",
        f"{path} has none that could be told apart",
        "send JSON, CSV or lines of `Name: value`, put instructions into the system message, "
        'or set unstructured = "keep" for the task',
        param=path,
    )


def _unreadable(path: str, why: str) -> Invalid:
    return Invalid(
        "this input cannot be reduced to the fields its task needs",
        f"{path}: {why}",
        "send it in a form that reads in one way only",
        param=path,
    )
