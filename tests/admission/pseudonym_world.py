"""A small detector, texts to cover, and answers cut into pieces, for the tests of pseudonyms."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from allod.admission.pseudonym import Pseudonymiser, Restorer
from allod.domain.chat import Chunk, Finished, ToolCallDelta

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

KEY = bytes(range(32))
NAMES = [
    "Jean Dupont",
    "Anna Müller",
    "O'Brien",
    "张伟",
    "Zoë",
    "QZBCDFGHJKLM_NAME",
    'Ann "Q" Lee',
    "C:\\Anna\\quiz",
]
_FOUND = re.compile(
    r"(?P<EMAIL>[\w.+-]+@[\w-]+\.\w+)|(?P<PHONE>\+\d[\d ]{6,}\d)|(?P<UK_NHS>\b\d{10}\b)"
    rf"|(?P<PERSON>{'|'.join(map(re.escape, NAMES))})"
)


def findings(text: str) -> list[tuple[int, int, str]]:
    return [(*m.span(), m.lastgroup or "") for m in _FOUND.finditer(text)]


def pseudonymiser(**more: object) -> Pseudonymiser:
    return Pseudonymiser(KEY, findings, **more)  # type: ignore[arg-type]


def asking(*texts: str, **more: object) -> dict:
    return {"model": "m", "messages": [{"role": "user", "content": t} for t in texts], **more}


def covered_text(text: str) -> tuple[str, Restorer]:
    done = pseudonymiser().cover(asking(text))
    return done.body["messages"][0]["content"], Restorer(done.table)


def pieces(text: str, draw: random.Random, most: int = 9) -> list[str]:
    out, at = [], 0
    while at < len(text):
        size = draw.randint(1, most)
        out.append(text[at : at + size])
        at += size
    return out


FILLER = [
    "Please write to ",
    " and call ",
    "\n",
    " Quiz, q, Q! ",
    "QZ ",
    "qz",
    "QZSS ",
    "_",
    "-",
    "\\_",
    " é",
    "\u00a0",
    ", ",
    "[",
    "]",
    '"',
    "\\n",
    "\\u0051Z",
    "(",
    "/",
    " Q-Z-",
    "0",
    "QZ8501",
    "q z",
    "“",
    "名",
    " NAME ",
    " EMAIL",
    " id",
]
VALUES = [
    *NAMES,
    "jean@x.de",
    "a.b+c@mail.example",
    "+49 170 1234567",
    "9434765919",
    "QZBCDF",
    "qzbcdfghjklm",
]


def sentence(draw: random.Random, most: int = 14) -> str:
    return "".join(
        draw.choice(VALUES if draw.random() < 0.4 else FILLER) for _ in range(draw.randint(1, most))
    )


def prose(draw: random.Random) -> str:
    """A text that does not open as JSON does: one that does is written as JSON (docs/pseudonyms.md)."""
    text = sentence(draw)
    return "So: " + text if text.lstrip()[:1] in ("[", "{") else text


class Stream:
    """An answer of several choices, each with words and tool calls, to be sent in random pieces."""

    def __init__(self, draw: random.Random) -> None:
        self.wanted: dict[tuple[int, str], str] = {}
        for choice in range(draw.randint(1, 2)):
            self.wanted[choice, "text"] = prose(draw)
            if draw.random() < 0.5:
                self.wanted[choice, "reasoning"] = sentence(draw)
            for index in range(draw.randint(0, 2)):
                said = {"to": [sentence(draw, 5), 7, {"x": sentence(draw, 3)}]}
                self.wanted[choice, str(index)] = json.dumps(said, ensure_ascii=draw.random() < 0.5)

    def request(self) -> dict:
        """A request that holds all of it, so that covering it gives what a model would answer."""
        messages = []
        for (_, name), text in self.wanted.items():
            if name.isdigit():
                call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": text}}
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            else:
                messages.append({"role": "user", "content": text})
        return {"model": "m", "messages": messages}

    def chunks(self, body: dict, draw: random.Random) -> list[Chunk]:
        """The covered texts in pieces, those of all texts mixed; each choice ends with its finish reason."""
        lines: list[tuple[tuple[int, str], list[str]]] = []
        for key, message in zip(self.wanted, body["messages"], strict=True):
            calls = message.get("tool_calls")
            text = calls[0]["function"]["arguments"] if calls else message["content"]
            lines.append((key, pieces(text, draw)[::-1]))
        out = []
        while lines:
            place = draw.randrange(len(lines))
            (choice, name), rest = lines[place]
            if not rest:
                del lines[place]
                if all(key[0] != choice for key, _ in lines):
                    out.append(Chunk(choice=choice, finish="stop"))
                continue
            piece = rest.pop()
            if name.isdigit():
                out.append(
                    Chunk(choice=choice, tool_calls=(ToolCallDelta(index=int(name), arguments=piece),))
                )
            else:
                out.append(Chunk(choice=choice, **{name: piece}))
        return out


def received(
    restorer: Restorer, chunks: Sequence[Chunk], draw: random.Random | None = None
) -> dict[tuple[int, str], str]:
    """What a client makes of the pieces."""
    got: dict[tuple[int, str], str] = {}
    todo = [*chunks, Finished()]
    while todo:
        size = draw.randint(1, 3) if draw else 1
        batch, todo = todo[:size], todo[size:]
        for event in restorer.events(batch):
            if not isinstance(event, Chunk):
                continue
            assert event.raw is None
            said = [("text", event.text), ("reasoning", event.reasoning)]
            said += [(str(call.index), call.arguments) for call in event.tool_calls]
            for name, piece in said:
                if piece:
                    got[event.choice, name] = got.get((event.choice, name), "") + piece
    return got


FULL = {
    "model": "auto",
    "temperature": 0.5,
    "stream": True,
    "n": 2,
    "seed": 4917012345678901,
    "user": "jean@x.de",
    "safety_identifier": "anna",
    "prompt_cache_key": "k",
    "reasoning": {"effort": "low"},
    "max_tokens": 5,
    "prediction": {"type": "content", "content": "Dear jean@x.de"},
    "messages": [
        {"role": "system", "content": "Write for Anna Müller."},
        {
            "role": "user",
            "name": "Zoë",
            "content": [{"type": "text", "text": "mail jean@x.de", "cache_control": {"type": "e"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": "not +49 170 1234567",
            "reasoning_content": "jean@x.de?",
            "thinking_blocks": [{"type": "thinking", "thinking": "Zoë", "signature": "QZBCDF" * 20}],
            "annotations": [{"type": "url_citation", "url_citation": {"title": "Anna Müller"}}],
            "tool_calls": [
                {
                    "id": "call-9434765919",
                    "type": "function",
                    "extra_content": {"google": {"thought_signature": "QZBC" * 20}},
                    "function": {
                        "name": "send_mail",
                        "arguments": '{"to": "jean@x.de", "nhs": 9434765919, "a": 1.50}',
                    },
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "call-9434765919",
            "name": "send_mail",
            "content": '{"sent": ["jean@x.de", 9434765919]}',
        },
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "send_mail",
                "description": "Mails Anna Müller",
                "parameters": {
                    "type": "object",
                    "required": ["to"],
                    "properties": {
                        "to": {
                            "type": "string",
                            "format": "email",
                            "description": "for example jean@x.de",
                            "default": "jean@x.de",
                        },
                        "how": {"enum": ["fast", "slow"]},
                    },
                },
            },
        }
    ],
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "r",
            "description": "about Zoë",
            "schema": {
                "type": "object",
                "properties": {
                    "a": {"title": "Anna Müller", "anyOf": [{"type": "string"}, {"type": "null"}]}
                },
            },
        },
    },
}
"""A request that uses every place there is."""
