"""Looking at a file before anything else does, in a child process of narrow means.

The readers are written in Python, whose numbers do not overflow, and are bounded by what a file is, not by
what it declares. The child is the second wall: what a hostile file could still make a reader do ends at its
limits on memory, time, files and programs. A child that dies or takes too long refuses the file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from allod.domain.errors import Invalid
from allod.vault import formats, gguf, model, safetensors
from allod.walls import bpf, network

if TYPE_CHECKING:
    from types import TracebackType

    from allod.vault.gguf import Header

MEMORY_BYTES: Final = 2 << 30
CPU_S: Final = 600
"""Of one child, over all files of a model."""
WALL_S: Final = 120.0
"""For one file."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_MAX_REQUEST: Final = 64 * 1024
_OPEN_FILES: Final = 64


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is.

    Attributes:
        format: how it was read.
        structure: digest of everything that was read of its structure: equal for equal structure.
        size_bytes: of the file.
        facts: of weights that say what they are.
        templates: chat templates by variant; the plain one has the empty name.
        flags: what a person should look at.
        tensors: name -> elements, of safetensors and of parts of a split model.
        dtype: the type that holds most bytes, of safetensors.
        declared: the few strings of a configuration that matter here; ``split`` is "number/of" of a part.
        weight_map: tensor -> file, of an index.

    """

    format: formats.Format
    structure: str
    size_bytes: int
    facts: model.Facts | None = None
    templates: dict[str, str] = {}
    flags: tuple[str, ...] = ()
    tensors: dict[str, int] = {}
    dtype: str = ""
    declared: dict[str, str] = {}
    weight_map: dict[str, str] = {}


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child is asked: the name a file goes by, and template digests that pass without a trial."""

    name: str
    accepted: tuple[str, ...] = ()
    part: bool = False
    lint_only: bool = False


class _Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    what: str
    why: str
    remedy: str


class _Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    report: Report


@functools.lru_cache(64)
def _tried(text: str) -> tuple[str, ...]:
    """Try a template once: a copy of a file brings the same one again."""
    from allod.vault import trial  # noqa: PLC0415 (brings jinja2)

    return trial.run(text)


def judge_templates(
    texts: dict[str, str], accepted: tuple[str, ...] = (), *, lint_only: bool = False
) -> tuple[str, ...]:
    """Lint every template, try those that nobody accepted, and return flags (raises ``Invalid``).

    ``lint_only`` is for a template that will not be served: it may do no harm, but need not be honest.
    """
    from allod.vault import families, template, trial  # noqa: PLC0415 (brings jinja2)
    from allod.vault.manifest import text_digest  # noqa: PLC0415

    flags: dict[str, None] = {}
    for variant, text in texts.items():
        digest = text_digest(text)
        found = list(template.check(text))
        if digest in families.KNOWN:
            found = []
        elif digest not in accepted and not lint_only:
            found += _tried(text)
            family = families.family_of(text)
            if family is not None and variant == "":
                found += [f"other than {family.name}: {d}" for d in trial.differences(text, family.template)]
        flags.update(dict.fromkeys(found))
    return tuple(flags)


def inspect(
    fd: int, *, accepted: tuple[str, ...] = (), part: bool = False
) -> tuple[Header, model.Facts, tuple[str, ...]]:
    """Check a GGUF file of any origin: structure, vocabulary, templates (raises ``Invalid``)."""
    header = gguf.read(fd)
    facts = model.facts(header, part=part)
    return header, facts, judge_templates(header.templates, accepted)


def _elements(dims: tuple[int, ...]) -> int:
    total = 1
    for size in dims:
        total *= size
    return total


def _digest(value: Any) -> str:
    return "sha256:" + hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def _gguf(fd: int, request: Request) -> Report:
    header = gguf.read(fd)
    number, count = header.number("split.no"), header.number("split.count")
    parted = request.part and count is not None and count > 1
    split = {"split": f"{number}/{count}"} if parted else {}
    tensors = {t.name: _elements(t.dims) for t in header.tensors} if split else {}
    total = header.number("split.tensors.count")
    if split and total is not None:
        split["split_tensors"] = str(total)
    facts = None
    if not split or header.text("general.architecture") is not None:
        facts = model.facts(header, part=bool(split))
    return Report(
        format="gguf",
        structure=_digest(header),
        size_bytes=header.size_bytes,
        facts=facts,
        templates=header.templates,
        flags=judge_templates(header.templates, request.accepted, lint_only=request.lint_only),
        tensors=tensors,
        declared=split,
    )


def _safetensors(fd: int) -> Report:
    header = safetensors.read(fd)
    weight: dict[str, int] = {}
    for tensor in header.tensors:
        weight[tensor.type] = weight.get(tensor.type, 0) + tensor.size_bytes
    return Report(
        format="safetensors",
        structure=_digest(header),
        size_bytes=header.size_bytes,
        tensors={t.name: _elements(t.dims) for t in header.tensors},
        dtype=max(weight, key=lambda kind: weight[kind]),
    )


def _json(fd: int, request: Request) -> Report:
    raw = formats.whole(fd, request.name, formats.MAX_JSON_BYTES)
    value = formats.strict_json(raw, request.name)
    templates = formats.templates_of(value) if request.name == "tokenizer_config.json" else {}
    declared: dict[str, str] = {}
    weight_map: dict[str, str] = {}
    if isinstance(value, dict):
        for key in ("model_type", "_name_or_path", "base_model_name_or_path", "peft_type"):
            if isinstance(value.get(key), str):
                declared[key] = value[key][:400]
        if isinstance(value.get("max_position_embeddings"), int):
            declared["context"] = str(value["max_position_embeddings"])
        if request.name.endswith(".index.json"):
            weight_map = msgspec.convert(value.get("weight_map"), dict[str, str])
    return Report(
        format="json",
        structure="sha256:" + hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
        templates=templates,
        flags=judge_templates(templates, request.accepted, lint_only=request.lint_only),
        declared=declared,
        weight_map=weight_map,
    )


def _small(fd: int, request: Request, format_: formats.Format) -> Report:
    limit = formats.MAX_TEXT_BYTES if format_ in {"text", "template"} else formats.MAX_TOKENIZER_BYTES
    raw = formats.whole(fd, request.name, limit)
    templates: dict[str, str] = {}
    if format_ == "sentencepiece" and not raw[:1].isascii():
        formats.refuse(request.name, "it is no tokenizer")
    elif format_ == "sentencepiece":
        formats.sentencepiece(raw, request.name)
    elif format_ == "tiktoken":
        formats.tiktoken(raw, request.name)
    else:
        text = formats.text(raw, request.name)
        templates = {"": text} if format_ == "template" else {}
    return Report(
        format=format_,
        structure="sha256:" + hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
        templates=templates,
        flags=judge_templates(templates, request.accepted, lint_only=request.lint_only),
    )


def examine(fd: int, request: Request) -> Report:
    """Read a file as its name says, in this process.

    Raises:
        Invalid: the file may not enter; ``why`` names the byte, key, line or word.

    """
    format_ = formats.format_of(request.name)
    try:
        if format_ == "gguf":
            return _gguf(fd, request)
        if format_ == "safetensors":
            return _safetensors(fd)
        if format_ == "json":
            return _json(fd, request)
        return _small(fd, request, format_)
    except msgspec.ValidationError as error:
        formats.refuse(request.name, str(error))


class Examiner:
    """A child that examines files one after another; a context.

    One child serves all files of a model, so that starting it is paid once.
    """

    def __init__(self, *, wall_s: float = WALL_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._wall_s, self._memory_bytes = wall_s, memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, whatever it does."""
        if self._socket is not None:
            self._socket.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._socket = self._child = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._child = subprocess.Popen(  # noqa: S603 (this very interpreter)
                    [sys.executable, "-I", "-m", "allod.vault.examine", str(theirs.fileno()),
                     str(self._memory_bytes)],
                    pass_fds=(theirs.fileno(),), env={"LANG": "C.UTF-8"}, cwd="/",
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        ours.settimeout(self._wall_s)
        self._socket = ours
        return ours

    def __call__(
        self,
        fd: int,
        name: str,
        *,
        accepted: tuple[str, ...] = (),
        part: bool = False,
        lint_only: bool = False,
    ) -> Report:
        """Have a file examined; its descriptor is lent to the child.

        Raises:
            Invalid: it may not enter, or the child died of it, or took too long.

        """
        try:
            channel = self._socket or self._start()
            request = Request(name=name, accepted=accepted, part=part, lint_only=lint_only)
            line = msgspec.json.encode(request) + b"\n"
            socket.send_fds(channel, [line], [fd])
            raw = self._answer(channel)
            answer = msgspec.json.decode(raw, type=_Done | _Failed)
        except (OSError, msgspec.DecodeError) as error:
            reason = f"over {self._wall_s:g} s" if isinstance(error, TimeoutError) else self._death()
            self.close()
            raise Invalid(
                f"{name[:120]!r} could not be examined",
                f"the process that looked at it was ended: {reason}",
                "such a file is not taken; obtain it again from its maker",
            ) from error
        if isinstance(answer, _Failed):
            raise Invalid(answer.what, answer.why, answer.remedy)
        return answer.report

    def _answer(self, channel: socket.socket) -> bytes:
        parts, size = [], 0
        while True:
            part = channel.recv(1 << 20)
            size += len(part)
            if not part or size > MAX_ANSWER_BYTES:
                raise ConnectionError("no whole answer")
            parts.append(part)
            if part.endswith(b"\n"):
                return b"".join(parts)

    def _death(self) -> str:
        if self._child is None:
            return "it did not start"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1.0)
        status = self._child.returncode
        return f"status {status}" if status is not None else "it sent nonsense"


def _limit(memory_bytes: int) -> None:
    """Take memory, time, files, privileges and every network from this process."""
    for what, wanted in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        hard = resource.getrlimit(what)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (value, value))
    bpf.no_new_privileges()
    network.close("unix")


def _one(channel: socket.socket, line: bytes, fds: list[int]) -> None:
    try:
        request = msgspec.json.decode(line, type=Request)
        answer: _Done | _Failed = _Done(report=examine(fds[0], request))
    except Invalid as error:
        answer = _Failed(what=error.what, why=error.why, remedy=error.remedy)
    except (MemoryError, RecursionError) as error:
        answer = _Failed(what="the file was not examined to its end", why=type(error).__name__, remedy="")
    finally:
        for fd in fds:
            os.close(fd)
    channel.sendall(msgspec.json.encode(answer) + b"\n")


def main(argv: list[str]) -> None:
    """Serve the socket whose number is given until it closes."""
    _limit(int(argv[2]))
    with socket.socket(fileno=int(argv[1])) as channel:
        while True:
            line, fds, _, _ = socket.recv_fds(channel, _MAX_REQUEST, 1)
            if not line or len(fds) != 1:
                return
            _one(channel, line, fds)


if __name__ == "__main__":
    main(sys.argv)
