"""An organisation's own examples: JSON Lines or CSV, one case a line, each with what makes an answer right.

Members of a case (columns in CSV, where ``messages``, ``schema`` and ``expected`` lists are written as JSON):

    prompt or messages    what is asked; ``messages`` as in OpenAI chat completions
    expected              the right answer, or a list of right ones
    checker               exact, choice, contains, numeric, regex, json_schema, unit_test, judge
    task, system, id      optional; without an id it is the digest of the case
    schema, tests, pattern, rubric, tolerance, ignore_case, max_tokens    as the checker needs them
    answer, right         with checker judge: an answer, and a person's verdict on it

A case with ``answer`` and ``right`` is asked of no deployment: the judge judges that answer, and how often it
says what the person said is how far it may be believed.

A file is read whole before anything is asked: one wrong line and nothing is spent.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from decimal import Decimal
from typing import Any, Final, Literal, get_args

import msgspec

from allod.domain.errors import Invalid
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest

CheckerName = Literal["exact", "choice", "contains", "numeric", "regex", "json_schema", "unit_test", "judge"]
CHECKERS: Final = get_args(CheckerName)
MAX_FILE_BYTES: Final = 256 << 20
MAX_CASES: Final = 200_000
MAX_CASE_BYTES: Final = 1 << 20
_ID_LENGTH: Final = 16
_JSON_COLUMNS: Final = frozenset({"messages", "schema"})
_NEEDS: Final[dict[str, str]] = {
    "exact": "expected",
    "choice": "expected",
    "contains": "expected",
    "numeric": "expected",
    "regex": "pattern",
    "json_schema": "schema",
    "unit_test": "tests",
}


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One example: what is asked and what makes an answer right.

    ``expected`` are right answers, any of which will do. ``tolerance`` is relative, for numbers. ``rubric``
    is what a judge is told besides the right answers. ``answer`` is one that a person judged ``right`` or
    not: the case then measures the judge.
    """

    id: str = ""
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    system: str | None = None
    expected: tuple[str, ...] = ()
    checker: CheckerName = "exact"
    task: str | None = None
    schema: dict[str, Any] | None = None
    tests: str | None = None
    pattern: str | None = None
    rubric: str | None = None
    tolerance: Decimal = Decimal(0)
    ignore_case: bool = True
    max_tokens: int | None = None
    answer: str | None = None
    right: bool | None = None

    @property
    def labelled(self) -> bool:
        """Whether it measures the judge, by a person's verdict on a given answer."""
        return self.answer is not None

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages that are sent."""
        asked = self.messages or (Message(role="user", content=self.prompt or ""),)
        return (Message(role="system", content=self.system), *asked) if self.system else asked


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """The cases of a file, in its order, and the digest of their canonical form."""

    cases: tuple[Case, ...]
    digest: str


def read_suite(
    raw: bytes, *, csv_file: bool, checker: CheckerName | None = None, task: str | None = None
) -> Suite:
    """Read a file of cases; ``checker`` and ``task`` are for those that name none.

    Raises:
        Invalid: the file is too large or empty, or a line is no case; with the number of the line.

    """
    if len(raw) > MAX_FILE_BYTES:
        raise Invalid("the file of cases is too large", f"got {len(raw)} bytes", f"at most {MAX_FILE_BYTES}")
    rows = _csv_rows(raw) if csv_file else _json_rows(raw)
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        case = _case(line, row, checker, task)
        if case.id in seen:
            raise Invalid(
                f"line {line}: case {case.id!r} is there already",
                f"it is also on line {seen[case.id]}",
                "give each case an id of its own, or leave out the second",
            )
        seen[case.id] = line
        cases.append(case)
        if len(cases) > MAX_CASES:
            raise Invalid("the file has too many cases", f"more than {MAX_CASES}", "split it")
    if not cases:
        raise Invalid("the file has no cases", "got no line with a prompt", "write one case a line")
    return Suite(cases=tuple(cases), digest=digest(canonical([_plain(case) for case in cases])))


def _plain(case: Case) -> dict[str, Any]:
    """Return a case as what has a canonical form: no floats."""
    row: dict[str, Any] = msgspec.to_builtins(case)
    row["tolerance"] = f"{case.tolerance:f}"
    row["schema"] = json.dumps(case.schema, sort_keys=True) if case.schema is not None else None
    if not case.labelled:  # as they were named before there were such cases
        del row["answer"], row["right"]
    return row


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("the file of cases is not UTF-8", f"byte {error.start}", "save it as UTF-8") from None


def _json_rows(raw: bytes) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(_text(raw).split("\n"), 1):
        if not line.strip():
            continue
        if len(line) > MAX_CASE_BYTES:
            raise Invalid(
                f"line {number} is too long", f"got {len(line)} characters", f"at most {MAX_CASE_BYTES}"
            )
        try:
            row = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"line {number} is not JSON", str(error)[:200], "write one object a line") from None
        if not isinstance(row, dict):
            raise Invalid(f"line {number} is no case", "expected an object", "write one object a line")
        rows.append((number, row))
    return rows


def _csv_rows(raw: bytes) -> list[tuple[int, dict[str, Any]]]:
    rows: list[tuple[int, dict[str, Any]]] = []
    reader = csv.DictReader(io.StringIO(_text(raw), newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise Invalid(
                    f"line {reader.line_num}: not as many fields as the header has",
                    "",
                    "quote what holds commas",
                )
            filled: dict[str, Any] = {key: value for key, value in row.items() if value not in {"", None}}
            for key in _JSON_COLUMNS & filled.keys():
                filled[key] = json.loads(filled[key], parse_float=Decimal)
            if filled.get("expected", "").startswith("["):
                with contextlib.suppress(ValueError):  # a right answer may begin with a bracket
                    filled["expected"] = json.loads(filled["expected"])
            if "ignore_case" in filled:
                filled["ignore_case"] = filled["ignore_case"].lower() in {"true", "1", "yes"}
            if "right" in filled:
                filled["right"] = filled["right"].lower() in {"true", "1", "yes"}
            if "max_tokens" in filled:
                filled["max_tokens"] = int(filled["max_tokens"])
            rows.append((reader.line_num, filled))
    except (csv.Error, ValueError, RecursionError) as error:
        raise Invalid(
            f"line {reader.line_num} is no case", str(error)[:200], "see the form in the docs"
        ) from None
    return rows


def _case(line: int, row: dict[str, Any], checker: CheckerName | None, task: str | None) -> Case:
    row = dict(row)
    expected = row.pop("expected", None)
    if expected is not None:
        many = expected if isinstance(expected, list) else [expected]
        row["expected"] = [one if isinstance(one, str) else _written(one) for one in many]
    if checker is not None:
        row.setdefault("checker", checker)
    if task is not None:
        row.setdefault("task", task)
    try:
        case = msgspec.convert(row, Case, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"line {line} is no case", str(error)[:300], "see the form in the docs") from None
    if (case.prompt is None) == (not case.messages):
        raise Invalid(
            f"line {line}: what is asked?", "expected either prompt or messages", "give one of them"
        )
    need = _NEEDS.get(case.checker)
    if need is not None and not getattr(case, need):
        raise Invalid(f"line {line}: checker {case.checker} needs {need}", f"got no {need}", f"add {need}")
    if case.checker == "judge" and not (case.expected or case.rubric):
        raise Invalid(f"line {line}: a judge needs expected or rubric", "got neither", "add one")
    _check_label(line, case)
    if not case.tolerance.is_finite() or not 0 <= case.tolerance < 1:
        raise Invalid(f"line {line}: tolerance is a fraction", f"got {case.tolerance}", "0.01 is one percent")
    if case.id:
        return case
    body = digest(canonical([_plain(case)]))
    return msgspec.structs.replace(case, id=body.removeprefix("sha256:")[:_ID_LENGTH])


def _check_label(line: int, case: Case) -> None:
    """Refuse a verdict without its answer, an answer without its verdict, and either without a judge."""
    if (case.answer is None) != (case.right is None) or (case.labelled and case.checker != "judge"):
        raise Invalid(
            f"line {line}: answer and right go together, with checker judge",
            f"got checker {case.checker}, answer {_there(case.answer)}, right {_there(case.right)}",
            "give a person's verdict on an answer, or neither",
        )


def _there(value: object) -> str:
    return "missing" if value is None else "given"


def _written(value: object) -> str:
    """Write a JSON value as an answer would have it."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return json.dumps(value, ensure_ascii=False, default=str)
