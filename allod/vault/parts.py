"""Whether the files of a model belong together, from what each of them was found to be.

Each file alone may be sound and the whole still a trap: a part of another model, an adapter that a loader
picks up because it lies beside the weights, a chat template that differs between the places that hold one.
What structure cannot tell is a foreign part of the same shape: only a signature or a digest tells that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from allod.domain.errors import Invalid
from allod.vault.manifest import WEIGHTS
from allod.vault.model import Facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.vault.examine import Report

_GGUF_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_LORA: Final = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|modules_to_save)(\.|$)")
_SMUGGLED: Final = re.compile(r"(^|\.)lora_([abAB]|embedding_[AB]|magnitude_vector)(\.|$)")
ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A model put together from its files: facts, chat template, flags, and the base it names itself."""

    facts: Facts
    template: str | None
    flags: tuple[str, ...]
    declared_base: str | None = None


def _refuse(why: str) -> NoReturn:
    raise Invalid(
        "these files do not make one model", why, "give a folder that holds one model and nothing else"
    )


def put_together(reports: Mapping[str, Report]) -> Whole:
    """Check that files (by name) make one model or adapter and say what it is.

    Raises:
        Invalid: no weights, two kinds of them, a part missing or foreign, an adapter among weights, templates
            that contradict each other.

    """
    ggufs = {name: report for name, report in reports.items() if report.format == "gguf"}
    tensors = {name: report for name, report in reports.items() if report.format == "safetensors"}
    if bool(ggufs) == bool(tensors):
        _refuse("it holds no weights" if not ggufs else "it holds weights in GGUF and in safetensors")
    beside = [name for name in ADAPTER_FILES if name in reports]
    if ggufs:
        if beside:
            _refuse(f"{beside[0]} lies beside weights: a loader would apply that adapter unasked")
        facts = _of_gguf(ggufs)
    else:
        facts = _of_safetensors(tensors, reports)
    if facts.kind == "model":
        _check_no_adapter(reports)
    flags = dict.fromkeys(flag for report in reports.values() for flag in report.flags)
    config = reports.get("adapter_config.json") or reports.get("config.json")
    declared = {} if config is None else config.declared
    named = declared.get("base_model_name_or_path") or declared.get("_name_or_path")
    return Whole(facts=facts, template=_template(reports), flags=tuple(flags), declared_base=named or None)


def _check_no_adapter(reports: Mapping[str, Report]) -> None:
    """Refuse tensors of an adapter among weights, whatever the files call themselves."""
    for name, report in reports.items():
        for tensor in report.tensors:
            if _SMUGGLED.search(tensor):
                _refuse(f"{name} holds {tensor}: some loaders apply such tensors as an adapter, unasked")


def _template(reports: Mapping[str, Report]) -> str | None:
    """Return the one plain template of a model, wherever it stands."""
    found = {name: report.templates[""] for name, report in reports.items() if "" in report.templates}
    if len(set(found.values())) > 1:
        _refuse(f"the chat template differs between {', '.join(sorted(found))}")
    return next(iter(found.values()), None)


def _of_gguf(reports: Mapping[str, Report]) -> Facts:
    if len(reports) == 1:
        ((name, report),) = reports.items()
        if "split" in report.declared and report.declared["split"] != "0/1":
            _refuse(f"{name} says it is part {report.declared['split']}, and is alone")
        if report.facts is None:
            _refuse(f"{name} does not say what it is")
        return report.facts
    return _of_split(reports)


def _of_split(reports: Mapping[str, Report]) -> Facts:
    names = {name: _GGUF_PART.fullmatch(name) for name in reports}
    stems = {match.group(1) for match in names.values() if match}
    if len(stems) != 1 or not all(names.values()):
        _refuse("its GGUF files are not named as parts of one model (name-00001-of-00003.gguf)")
    seen: dict[str, str] = {}
    by_number: dict[int, Report] = {}
    for name, match in names.items():
        report, count = reports[name], len(reports)
        number = int(match.group(2)) - 1 if match and int(match.group(3)) == count else -1
        if report.declared.get("split") != f"{number}/{count}":
            _refuse(f"{name} says it is part {report.declared.get('split')}, expected {number}/{count}")
        if number > 0 and (report.facts is not None or report.templates):
            _refuse(f"{name} describes a model of its own: it is no part of this one")
        for tensor in report.tensors:
            if tensor in seen:
                _refuse(f"{name} and {seen[tensor]} both hold {tensor}")
            seen[tensor] = name
        by_number[number] = report
    first = by_number.get(0)
    totals = {report.declared.get("split_tensors") for report in reports.values()}
    if first is None or first.facts is None or totals != {str(len(seen))}:
        _refuse(f"its parts hold {len(seen)} tensors, they declare {sorted(map(str, totals))}")
    elements = sum(size for report in reports.values() for size in report.tensors.values())
    return msgspec.structs.replace(first.facts, parameters=elements)


def _of_safetensors(tensors: Mapping[str, Report], reports: Mapping[str, Report]) -> Facts:
    adapter = [name in reports for name in ADAPTER_FILES]
    if any(adapter):
        if not all(adapter) or len(tensors) != 1:
            _refuse("it holds weights and an adapter: a loader would apply that adapter unasked")
        foreign = [name for name in tensors[ADAPTER_FILES[1]].tensors if not _LORA.search(name)]
        if foreign:
            _refuse(f"the adapter holds {foreign[0]}, which is no LoRA tensor")
        if reports[ADAPTER_FILES[0]].declared.get("peft_type") != "LORA":
            _refuse("its adapter_config.json is of another type than LORA")
    indices = [name for name in reports if name.endswith(".safetensors.index.json")]
    if len(tensors) > 1 or indices:
        _check_index(tensors, reports, indices)
    declared = reports["config.json"].declared if "config.json" in reports else {}
    architecture = declared.get("model_type") or "unknown"
    if not all(adapter) and "config.json" not in reports and len(reports) > 1:
        _refuse("it has no config.json")
    sizes: dict[str, int] = {}
    for report in tensors.values():
        sizes[report.dtype] = sizes.get(report.dtype, 0) + report.size_bytes
    context = declared.get("context")
    return Facts(
        kind="adapter" if all(adapter) else "model",
        architecture=architecture,
        quantisation=max(sizes, key=lambda kind: sizes[kind]),
        context_tokens=None if context is None else int(context),
        parameters=sum(size for report in tensors.values() for size in report.tensors.values()),
        licence=None,
    )


def _check_index(tensors: Mapping[str, Report], reports: Mapping[str, Report], indices: list[str]) -> None:
    """Check that an index names every tensor, each in the file that holds it, and nothing more."""
    if len(indices) != 1:
        _refuse(f"it has {len(tensors)} files of weights and {len(indices)} indices, expected one")
    listed = reports[indices[0]].weight_map
    held: dict[str, str] = {}
    for name, report in tensors.items():
        for tensor in report.tensors:
            if tensor in held:
                _refuse(f"{name} and {held[tensor]} both hold {tensor}")
            held[tensor] = name
    if listed != held:
        odd = sorted(listed.keys() ^ held.keys()) or [t for t in held if listed[t] != held[t]]
        _refuse(f"{indices[0]} and the files disagree about {odd[0]}")


def order(names: list[str]) -> list[str]:
    """Sort file names: weights first, then the rest, each by name."""
    return sorted(names, key=lambda name: (not name.endswith(WEIGHTS), name))
