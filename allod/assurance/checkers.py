"""Whether an answer is right, told from the answer alone: each checker is a pure function of case and answer.

``unit_test`` and ``judge`` are not here: the one runs code (``sandbox``), the other asks a model (``judge``).
What cannot be read as an answer is wrong, never an error: a model that does not answer has not answered.
"""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.assurance.cases import Case

MAX_ANSWER_CHARS: Final = 1 << 20
_FENCE: Final = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)```", re.DOTALL)
_NUMBER: Final = re.compile(r"[-+\u2212]?(?:\d[\d.,'\u2019\u00a0\u202f ]*\d|\d)(?:[eE][-+]?\d{1,3})?")
_MARKED: Final = re.compile(r"(?:####|\\boxed\{|answer(?:\s+is)?\s*[:=]?|=)\s*\**\s*\$?", re.IGNORECASE)
_OPTION: Final = re.compile(r"(?<![\w'])\(?([A-Za-z0-9])\)?(?![\w'])")
_SAYS: Final = re.compile(
    r"(?:answer|option|choice)(?:\s+is)?\s*[:=]?\s*\**\s*\(?([A-Za-z0-9])\b", re.IGNORECASE
)
_MAX_DIGITS: Final = 400


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a checker found: right or wrong, and why; ``read`` is what it took for the answer."""

    ok: bool
    why: str
    read: str = ""


def check(case: Case, answer: str) -> Verdict:
    """Judge an answer by the case's checker.

    Raises:
        Invalid: the case itself is wrong (a pattern or schema that is none), or its checker is not one of
            these.

    """
    if len(answer) > MAX_ANSWER_CHARS:
        return Verdict(ok=False, why=f"the answer is longer than {MAX_ANSWER_CHARS} characters")
    found = _PURE.get(case.checker)
    if found is None:
        raise Invalid(f"{case.checker} is not checked from the answer alone", "it runs code or asks a model")
    return found(case, answer)


def normal(text: str, *, ignore_case: bool) -> str:
    """Return a text as it is compared: NFKC, white space collapsed, quotes and a final full stop gone."""
    text = " ".join(unicodedata.normalize("NFKC", text).split()).strip("\"'`*").rstrip(".").strip()
    return text.casefold() if ignore_case else text


def _exact(case: Case, answer: str) -> Verdict:
    got = normal(answer, ignore_case=case.ignore_case)
    for one in case.expected:
        if got == normal(one, ignore_case=case.ignore_case):
            return Verdict(ok=True, why="equal", read=got[:200])
    return Verdict(ok=False, why="not equal to any right answer", read=got[:200])


def _contains(case: Case, answer: str) -> Verdict:
    got = normal(answer, ignore_case=case.ignore_case)
    missing = [e for e in case.expected if normal(e, ignore_case=case.ignore_case) not in got]
    if missing:
        return Verdict(ok=False, why=f"does not say {missing[0][:80]!r}", read=got[:200])
    return Verdict(ok=True, why="says all that is expected", read=got[:200])


def _choice(case: Case, answer: str) -> Verdict:
    said = _SAYS.findall(answer)
    letters = said or _OPTION.findall(answer.strip()[:20] if len(answer) > 20 else answer)  # noqa: PLR2004
    read = letters[-1 if said else 0].upper() if letters else ""
    right = {normal(e, ignore_case=False).strip("()").upper() for e in case.expected}
    return Verdict(ok=read in right, why="the option chosen" if read else "names no option", read=read)


def number(text: str) -> Decimal | None:
    """Read one number as people write them: 1,234.5 and 1.234,5 and 1 234 and 12e3; None for none.

    One kind of separator is one of thousands if there are several, or if it is a comma with three digits
    behind it; otherwise it is the decimal point.
    """
    text = re.sub("[\u00a0\u202f'\u2019 ]", "", text.replace("\u2212", "-"))
    if len(text) > _MAX_DIGITS:
        return None
    mantissa, mark, exponent = re.sub("[eE]", "e", text).partition("e")
    commas, points = mantissa.count(","), mantissa.count(".")
    if commas and points:
        decimal = "," if mantissa.rfind(",") > mantissa.rfind(".") else "."
    elif commas:
        behind = len(mantissa) - mantissa.rfind(",") - 1
        decimal = "." if commas > 1 or behind == 3 else ","  # noqa: PLR2004 (a group of thousands)
    else:
        decimal = "," if points > 1 else "."
    thousands = "," if decimal == "." else "."
    plain = mantissa.replace(thousands, "").replace(decimal, ".")
    try:
        value = Decimal(plain + (mark + exponent if mark else ""))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def last_number(text: str) -> Decimal | None:
    """Return the number an answer ends in: behind its last mark (####, boxed, "answer:"), else the last."""
    marks = list(_MARKED.finditer(text))
    for mark in reversed(marks):
        found = _NUMBER.match(text, mark.end())
        if found is not None:
            value = number(found.group())
            if value is not None:
                return value
    found_all = _NUMBER.findall(text)
    for one in reversed(found_all):
        value = number(one)
        if value is not None:
            return value
    return None


def _numeric(case: Case, answer: str) -> Verdict:
    got = last_number(answer)
    if got is None:
        return Verdict(ok=False, why="holds no number")
    for one in case.expected:
        right = last_number(one)
        if right is None:
            raise Invalid(f"case {case.id}: {one[:80]!r} is no number", "", "correct expected")
        if abs(got - right) <= abs(right) * case.tolerance:
            return Verdict(ok=True, why="the right number", read=f"{got}")
    return Verdict(ok=False, why="another number", read=f"{got}")


def _regex(case: Case, answer: str) -> Verdict:
    import re2  # noqa: PLC0415 (native)

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not case.ignore_case
    options.dot_nl = True
    try:
        pattern = re2.compile(case.pattern or "", options=options)
    except re2.error as error:
        raise Invalid(f"case {case.id}: the pattern is none", str(error)[:200], "RE2 syntax") from None
    found = pattern.search(answer)
    if found is None:
        return Verdict(ok=False, why="the pattern does not match")
    return Verdict(ok=True, why="the pattern matches", read=found.group()[:200])


def code_of(answer: str) -> str:
    """Return the code of an answer: its longest fenced block, or all of it where there is none."""
    blocks: list[str] = _FENCE.findall(answer)
    return max(blocks, key=len) if blocks else answer


def json_of(answer: str) -> Any:
    """Read the JSON value an answer is, or holds in its only fenced block.

    Raises:
        ValueError: it is none, names a member twice, or is nested too deeply.

    """
    blocks = _FENCE.findall(answer)
    text = blocks[0] if len(blocks) == 1 else answer
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a member is named twice")
    return out


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def valid_against(schema: dict[str, Any], value: Any) -> str | None:
    """Return what is wrong with a value by a JSON Schema, or None; nothing is fetched, patterns are linear.

    Raises:
        Invalid: the schema is none, or refers to something outside itself.

    """
    import jsonschema_rs  # noqa: PLC0415 (native)

    try:
        validator = jsonschema_rs.validator_for(
            schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise Invalid(
            "the JSON Schema is none", str(error).split("\n")[0][:300], "correct the schema"
        ) from None
    first = next(iter(validator.iter_errors(value)), None)
    if first is None:
        return None
    where = "/".join(str(step) for step in first.instance_path)
    return f"{where or 'the value'}: {first.message[:200]}"


def json_schema(case: Case, answer: str) -> Verdict:
    """Check an answer against the case's schema, and where right answers are given that it equals one."""
    try:
        value = json_of(answer)
    except ValueError as error:
        valid_against(case.schema or {}, None)  # a wrong schema is told even so
        return Verdict(ok=False, why=f"not JSON: {str(error)[:120]}")
    wrong = valid_against(case.schema or {}, value)
    if wrong is not None:
        return Verdict(ok=False, why=wrong)
    read = json.dumps(value, sort_keys=True)[:200]
    if not case.expected:
        return Verdict(ok=True, why="valid", read=read)
    for one in case.expected:
        try:
            right = json.loads(one)
        except ValueError:
            raise Invalid(f"case {case.id}: expected is not JSON", one[:80], "correct expected") from None
        if right == value and type(right) is type(value):
            return Verdict(ok=True, why="valid and equal", read=read)
    return Verdict(ok=False, why="valid, and not equal to any right answer", read=read)


_PURE: Final[dict[str, Callable[[Case, str], Verdict]]] = {
    "exact": _exact,
    "choice": _choice,
    "contains": _contains,
    "numeric": _numeric,
    "regex": _regex,
    "json_schema": json_schema,
}
