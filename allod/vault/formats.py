"""What may enter: GGUF, safetensors, JSON, plain text, tokenizer files. Everything else stays outside.

A list of what is allowed, never of what is forbidden: pickles, archives, libraries and code have no name and
no content that passes here. JSON is read strictly, because two readers that disagree about a duplicate key
disagree about the model; and keys that make a loader fetch or import code are refused wherever they stand.
"""

from __future__ import annotations

import binascii
import json
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Collection

Format = Literal["gguf", "safetensors", "json", "text", "template", "sentencepiece", "tiktoken"]
MAX_JSON_BYTES: Final = 64 * 1024 * 1024
"""The largest tokenizer.json known to us is a third of it."""
MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
MAX_TOKENIZER_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NAME_BYTES: Final = 200
_SUFFIXES: Final[dict[str, Format]] = {
    ".gguf": "gguf", ".safetensors": "safetensors", ".json": "json", ".txt": "text", ".md": "text",
    ".jinja": "template", ".tiktoken": "tiktoken",
}  # fmt: skip
_PLAIN: Final = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|README|USE_POLICY)([-_A-Za-z0-9]{0,40})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
CODE_KEYS: Final = frozenset(
    {"auto_map", "custom_pipelines", "trust_remote_code", "_target_", "custom_generate", "py/object"}
)
"""Keys by which known loaders import or fetch code: refused at any depth, unless null, false or empty."""
_PICKLE_0: Final = re.compile(rb"\A(?:[\(\]\}lNKIS][^\n]{0,80}\n?)?c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_SPM_FIELDS: Final = frozenset(range(1, 6))


def refuse(name: str, why: str) -> NoReturn:
    """Refuse a file for what it is (raises ``Invalid``)."""
    raise Invalid(
        f"{name[:120]!r} does not enter the vault",
        why,
        "allowed are GGUF, safetensors, JSON, text and tokenizer files; convert the rest elsewhere",
    )


def check_file_name(name: str) -> str:
    """Return a file name that means the same on every file system (raises ``Invalid``).

    ASCII without blanks, no folder, no leading or trailing dot: nothing here can fold, normalise or climb.
    """
    if not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or len(name) > MAX_NAME_BYTES:
        refuse(name, "its name is not of plain letters, digits, dots, dashes and underscores")
    stem = name.split(".", 1)[0].upper()
    if stem in {"CON", "PRN", "AUX", "NUL"} or re.fullmatch(r"(COM|LPT)\d", stem):
        refuse(name, "some systems take its name for a device")
    return name


def format_of(name: str) -> Format:
    """Name the format a file must have by its name (raises ``Invalid`` for one that is not allowed)."""
    check_file_name(name)
    path = PurePosixPath(name)
    if name == "tokenizer.model":
        return "sentencepiece"
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    if _PLAIN.fullmatch(name):
        return "text"
    refuse(name, f"files of the kind {path.suffix or 'without ending'!r} are not allowed")


def check_names(names: Collection[str]) -> None:
    """Check that files of these names may lie in one folder (raises ``Invalid``)."""
    for name in names:
        format_of(name)
    if len({name.casefold() for name in names}) != len(names):
        raise Invalid("two files of this folder have the same name", "they differ only in case", "rename one")


def whole(fd: int, name: str, limit: int) -> bytes:
    """Read a small file from its first byte (raises ``Invalid`` where it is longer than ``limit``)."""
    size = os.fstat(fd).st_size
    if size > limit:
        refuse(name, f"it is {size} bytes long, allowed are {limit}")
    parts, at = [], 0
    while at < size and (part := os.pread(fd, min(size - at, 1 << 20), at)):
        parts.append(part)
        at += len(part)
    if at != size:
        refuse(name, "it became shorter while it was read")
    return b"".join(parts)


def text(raw: bytes, name: str) -> str:
    """Read plain text: UTF-8 without control characters, no program and no pickle in disguise."""
    try:
        out = raw.decode()
    except UnicodeDecodeError as error:
        refuse(name, f"it is not UTF-8: {error.reason} at byte {error.start}")
    if raw.startswith(b"#!"):
        refuse(name, "it is a program: it begins with #!")
    found = _CONTROL.search(out)
    if found:
        refuse(name, f"it holds the control character {ord(found.group()):#04x}")
    if _PICKLE_0.match(raw):
        refuse(name, "it begins as a pickle of protocol 0 does")
    return out


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} appears twice")
            seen.add(key)
    return out


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def strict_json(raw: bytes, name: str) -> Any:
    """Read JSON strictly and refuse what makes a loader run code.

    Raises:
        Invalid: not UTF-8 JSON, a key twice, nested too deeply, or one of ``CODE_KEYS`` in use.

    """
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_pairs, parse_constant=_constant)
    except RecursionError:
        refuse(name, "it is nested too deeply")
    except ValueError as error:
        refuse(name, f"it is not strict JSON: {str(error)[:200]}")
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            refuse(name, f"it is nested over {MAX_DEPTH} deep")
        if isinstance(item, dict):
            for key in CODE_KEYS & item.keys():
                if item[key]:
                    refuse(name, f"its key {key!r} makes a loader run code")
            mapping = item.get("auto_mapping")
            library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
            if library is not None and not str(library).startswith("transformers."):
                refuse(name, f"its auto_mapping imports {str(library)[:80]!r}")
            waiting.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            waiting.extend((child, depth + 1) for child in item)
    return value


def templates_of(config: Any) -> dict[str, str]:
    """Return the chat templates of a tokenizer_config.json by variant; the plain one has the empty name."""
    if not isinstance(config, dict):
        return {}
    value = config.get("chat_template")
    if isinstance(value, str):
        return {"": value}
    if not isinstance(value, list):
        return {}
    out: dict[str, str] = {}
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("template"), str):
            refuse("tokenizer_config.json", "a named chat template is not a name and a text")
        label = item.get("name")
        key = "" if label == "default" else str(label)
        if key in out:
            refuse("tokenizer_config.json", f"the chat template {key!r} appears twice")
        out[key] = item["template"]
    return out


def _varint(raw: bytes, at: int, name: str) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(raw) or shift > 63:  # noqa: PLR2004 (bits of the longest number)
            refuse(name, "a number in it does not end")
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 (the mark of the last byte)
            return value, at


def sentencepiece(raw: bytes, name: str) -> int:
    """Walk the outer fields of a SentencePiece model to its exact end; return the number of pieces."""
    at, pieces = 0, 0
    while at < len(raw):
        tag, at = _varint(raw, at, name)
        field, wire = tag >> 3, tag & 7
        if field not in _SPM_FIELDS or wire != 2:  # noqa: PLR2004 (length-delimited)
            refuse(name, f"it is no SentencePiece model: field {field} of type {wire} at byte {at}")
        count, at = _varint(raw, at, name)
        if count > len(raw) - at:
            refuse(name, f"a field of {count} bytes passes its end")
        at += count
        pieces += field == 1
    if pieces == 0:
        refuse(name, "it is no SentencePiece model: it has no pieces")
    return pieces


def tiktoken(raw: bytes, name: str) -> int:
    """Check a list of base64 tokens with ascending ranks; return their number."""
    last = -1
    seen: set[bytes] = set()
    for number, line in enumerate(raw.splitlines(), 1):
        word, _, rank = line.partition(b" ")
        try:
            token = binascii.a2b_base64(word, strict_mode=True)
        except binascii.Error:
            refuse(name, f"line {number} is no token in base64")
        if not token or token in seen or not rank.isdigit() or len(rank) > 9 or int(rank) <= last:  # noqa: PLR2004
            refuse(name, f"line {number} repeats a token or a rank")
        seen.add(token)
        last = int(rank)
    if last < 0:
        refuse(name, "it holds no token")
    return len(seen)
