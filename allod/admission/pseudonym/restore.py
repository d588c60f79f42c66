"""An answer on its way back: tokens become values in all of it, whole or in pieces.

The operator's own bytes never pass, because they hold tokens: ``raw`` is dropped and the surface writes anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.pseudonym.stream import Channel
from allod.domain.chat import Chunk, Finished, ToolCallDelta, UsageReport, Whole
from allod.domain.errors import Integrity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allod.admission.pseudonym.stream import Mode
    from allod.admission.pseudonym.tokens import Table

MAX_CHANNELS: Final = 4096
_CUT: Final = frozenset({"length", "content_filter"})
"""Ends at which an operator stops wherever it is, in the middle of a token too."""
_KEPT: Final = frozenset(
    {"role", "type", "id", "index", "signature", "data", "thought_signature", "encrypted_content", "format"}
)
_ENDS: Final = ("text", "reasoning", "refusal")


class Restorer:
    """Restores the one answer to a covered request; keeps what it must hold back of each text in it.

    With an empty table it hands everything on as it came, the operator's bytes included: nothing was covered,
    so there is nothing to restore and nothing to mistake.

    Args:
        table: the request's (``Covered.table``).

    """

    def __init__(self, table: Table) -> None:
        self._values = table.values
        self._words: dict[tuple[int, str], Channel] = {}
        self._calls: dict[tuple[int, int], Channel] = {}

    @property
    def held(self) -> int:
        """How many characters of all texts wait."""
        return sum(channel.held for channel in (*self._words.values(), *self._calls.values()))

    def events(self, items: Iterable[Any]) -> tuple[Any, ...]:
        """Restore what came at once, in order; there may be fewer events than came, or one more.

        Anything that is no part of a chat answer passes.

        Raises:
            Integrity: a token that was altered or is unknown here, or an answer in a form nobody can restore.

        """
        if not self._values:
            return tuple(items)
        out: list[Any] = []
        for item in items:
            if type(item) is Chunk:
                chunk = self._chunk(item)
                if chunk is not None:
                    out.append(chunk)
            elif isinstance(item, Whole):
                out.append(self.whole(item))
            elif isinstance(item, Finished):
                out += self._last()
                out.append(msgspec.structs.replace(item, raw=None))
            elif isinstance(item, UsageReport):
                out.append(UsageReport(usage=item.usage, block=item.block))
            else:
                out.append(item)
        return tuple(out)

    def whole(self, answer: Whole) -> Whole:
        """Restore an answer that was not streamed (raises as ``events``)."""
        if not self._values:
            return answer
        body = answer.body
        if body is None:
            if answer.dialect != "openai":
                raise _unreadable()
            try:
                body = msgspec.json.decode(answer.raw or b"")
            except (ValueError, RecursionError):
                raise _unreadable() from None
        choices = body.get("choices") if isinstance(body, dict) else None
        if not isinstance(choices, list) or not isinstance(body, dict):
            raise _unreadable()
        restored = [self._choice(choice, answer) for choice in choices]
        return Whole(body={**body, "choices": restored}, finish=answer.finish)

    # --- pieces

    def _chunk(self, event: Chunk) -> Chunk | None:
        choice, finish = event.choice, event.finish
        text = self._word(choice, "text").feed(event.text) if event.text else ""
        if finish is None and not event.reasoning and not event.refusal and not event.tool_calls:
            return None if event.text and not text else Chunk(text=text, choice=choice)
        reasoning = self._word(choice, "reasoning").feed(event.reasoning) if event.reasoning else ""
        refusal = self._word(choice, "refusal").feed(event.refusal) if event.refusal else ""
        calls = [self._call(choice, delta) for delta in event.tool_calls]
        said = bool(text or reasoning or refusal or calls)
        if finish is None:
            if not said:
                return None
        else:
            last = self._close(choice, cut=finish in _CUT)
            text, reasoning, refusal = text + last.text, reasoning + last.reasoning, refusal + last.refusal
            calls += last.tool_calls
        return Chunk(
            text=text,
            reasoning=reasoning,
            refusal=refusal,
            tool_calls=tuple(calls),
            finish=finish,
            choice=choice,
        )

    def _word(self, choice: int, name: str) -> Channel:
        channel = self._words.get((choice, name))
        if channel is None:
            self._demand_few()
            mode: Mode = "auto" if name == "text" else "text"
            channel = self._words[choice, name] = Channel(self._values, mode)
        return channel

    def _call(self, choice: int, delta: ToolCallDelta) -> ToolCallDelta:
        if delta.name:
            self._demand_name(delta.name)
        if not delta.arguments:
            return delta
        channel = self._calls.get((choice, delta.index))
        if channel is None:
            self._demand_few()
            channel = self._calls[choice, delta.index] = Channel(self._values, "json")
        return ToolCallDelta(
            index=delta.index, id=delta.id, name=delta.name, arguments=channel.feed(delta.arguments)
        )

    def _close(self, choice: int, *, cut: bool) -> Chunk:
        """End every text of a choice and return what had waited."""
        words = {
            name: self._words.pop((choice, name)).end(cut=cut)
            for name in _ENDS
            if (choice, name) in self._words
        }
        calls: list[ToolCallDelta] = []
        for key in sorted(key for key in self._calls if key[0] == choice):
            rest = self._calls.pop(key).end(cut=cut)
            if rest:
                calls.append(ToolCallDelta(index=key[1], arguments=rest))
        return Chunk(
            text=words.get("text", ""), reasoning=words.get("reasoning", ""),
            refusal=words.get("refusal", ""), tool_calls=tuple(calls), choice=choice,
        )  # fmt: skip

    def _last(self) -> list[Chunk]:
        """End what no finish reason ended."""
        open_choices = sorted({key[0] for key in (*self._words, *self._calls)})
        closed = [self._close(choice, cut=False) for choice in open_choices]
        return [
            chunk for chunk in closed if chunk.text or chunk.reasoning or chunk.refusal or chunk.tool_calls
        ]

    def _demand_few(self) -> None:
        if len(self._words) + len(self._calls) >= MAX_CHANNELS:
            raise Integrity(
                "the answer cannot be restored",
                f"it has more than {MAX_CHANNELS} texts",
                "report this operator",
            )

    # --- whole

    def _choice(self, choice: Any, answer: Whole) -> dict[str, Any]:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise _unreadable()
        cut = (choice.get("finish_reason") or answer.finish) in _CUT
        restored = {key: self._member(key, value, cut=cut) for key, value in message.items()}
        out = {**choice, "message": restored}
        if "logprobs" in out:
            out["logprobs"] = None
        return out

    def _member(self, key: str, value: Any, *, cut: bool) -> Any:
        if key == "tool_calls" and isinstance(value, list):
            return [self._whole_call(call, cut=cut) for call in value]
        return self._deep(value, "auto" if key == "content" else "text", cut=cut)

    def _whole_call(self, call: Any, *, cut: bool) -> Any:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise _unreadable()
        if isinstance(function.get("name"), str):
            self._demand_name(function["name"])
        given = function.get("arguments")
        arguments = (
            self._text(given, "json", cut=cut)
            if isinstance(given, str)
            else self._deep(given, "text", cut=cut)
        )
        return {**call, "function": {**function, "arguments": arguments}}

    def _deep(self, value: Any, mode: Mode, *, cut: bool) -> Any:
        """Restore every string in a value but those that are no words; member names of it too."""
        if isinstance(value, str):
            return self._text(value, mode, cut=cut)
        if isinstance(value, list):
            return [self._deep(inner, mode, cut=cut) for inner in value]
        if isinstance(value, dict):
            return {
                self._text(key, "text", cut=False): inner
                if key in _KEPT and isinstance(inner, str)
                else self._deep(inner, mode, cut=cut)
                for key, inner in value.items()
            }
        return value

    def _text(self, text: str, mode: Mode, *, cut: bool) -> str:
        channel = Channel(self._values, mode)
        return channel.feed(text) + channel.end(cut=cut)

    def _demand_name(self, name: str) -> None:
        """Refuse a tool's name with a token in it: a name is called as it is written."""
        if Channel(self._values).feed(name + "\0") != name + "\0":
            raise Integrity(
                "the answer cannot be restored", "a tool's name in it holds a pseudonym", "ask again"
            )


def _unreadable() -> Integrity:
    return Integrity(
        "the answer cannot be restored",
        "it came in a form in which pseudonyms cannot be found",
        "report this operator; a pseudonymised request must be asked for in the neutral form",
    )
