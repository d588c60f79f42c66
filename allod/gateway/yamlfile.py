"""Reading a YAML file of others within bounds (extra ``allod[import]``): only plain data, never much of it.

Numbers with a point are exact (``Decimal``). Before anything is built, the file's events are counted as they
would be with every alias written out, so that a small file cannot grow into a large one.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from allod.domain.errors import Invalid, Unavailable

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 100_000
INSTALL: Final = "pip install 'allod[import]'"
_FLOAT: Final = "tag:yaml.org,2002:float"
_MERGE: Final = "<<"
_QUOTED: Final = re.compile("'[^']*'|\"[^\"]*\"")


def read_yaml(data: bytes, what: str) -> Any:
    """Return the one document of a file as dicts, lists, texts and numbers.

    Raises:
        Unavailable: the YAML reader is not installed.
        Invalid: not YAML, not UTF-8, too large, too deep, too much once its aliases are written out, an alias
            inside itself, a key twice, more than one document, or a tag that would make something else.

    """
    if len(data) > MAX_BYTES:
        raise Invalid(f"{what} is too large", f"got {len(data)} bytes, expected at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{what} is not UTF-8", str(error), "save it as UTF-8") from error
    try:
        import yaml  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise Unavailable(
            "reading YAML needs the package PyYAML", "it is not installed", INSTALL, kind="down"
        ) from error
    try:
        _count(yaml, text, what)
        return yaml.load(text, Loader=_loader(yaml))  # noqa: S506 (made of SafeLoader)
    except yaml.YAMLError as error:
        raise Invalid(f"{what} cannot be read", _told(error), "correct it") from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Invalid(
            f"{what} cannot be read", "a number or date that is none, or nested too deep"
        ) from error


def _told(error: Any) -> str:
    """Say where and what, without repeating text of the file: it may hold secrets."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    problem = str(getattr(error, "problem", None) or "not valid YAML")
    return where + _QUOTED.sub("...", problem)


class _Meter:
    """Counts values as if every alias were written out."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._sizes: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = [(None, 0)]

    def begin(self, anchor: str | None) -> None:
        """Enter a list or mapping."""
        self._open.append((anchor, 1))
        if len(self._open) > MAX_DEPTH:
            raise Invalid(f"{self._what} is nested too deep", f"expected at most {MAX_DEPTH} levels")

    def end(self) -> None:
        """Leave it."""
        self.add(*self._open.pop())

    def alias(self, name: str) -> None:
        """Take an alias for what it stands for."""
        if any(anchor == name for anchor, _ in self._open):
            raise Invalid(f"{self._what}: an alias lies inside what it stands for", "got a circle")
        self.add(None, self._sizes.get(name, 1))

    def add(self, anchor: str | None, size: int) -> None:
        """Take values."""
        if anchor:
            self._sizes[anchor] = size
        name, before = self._open[-1]
        self._open[-1] = (name, before + size)
        if before + size > MAX_NODES:
            raise Invalid(
                f"{self._what} grows too large with its aliases written out",
                f"expected at most {MAX_NODES} values",
            )


def _count(yaml: Any, text: str, what: str) -> None:
    meter, documents = _Meter(what), 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise Invalid(f"{what} holds more than one document", "", "keep one")
        elif isinstance(event, yaml.ScalarEvent):
            meter.add(event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            meter.alias(event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            meter.begin(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            meter.end()


def _loader(yaml: Any) -> Any:
    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """SafeLoader with exact numbers, and every key once."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names: set[Any] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(
                        None, None, "a key that is no text", key.start_mark
                    )
                if key.value in names and key.value != _MERGE:
                    raise yaml.constructor.ConstructorError(None, None, "a key twice", key.start_mark)
                names.add(key.value)
            return super().construct_mapping(node, deep)

    def exact(loader: Any, node: Any) -> Decimal:
        try:
            number = Decimal(loader.construct_scalar(node).replace("_", ""))
        except InvalidOperation:
            number = Decimal("nan")
        if not number.is_finite():
            raise yaml.constructor.ConstructorError(None, None, "no number", node.start_mark)
        return number

    Loader.add_constructor(_FLOAT, exact)
    return Loader
