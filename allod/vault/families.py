"""Reference templates of the prompt formats that most open models use, written from the formats themselves.

A model whose template gives the same prompts as its family's reference needs no second look; one that differs
is shown where. The references know turns and the opening of an answer, no tools: with tools, families differ
from version to version. They are told apart by the marks that open a turn.
"""

from __future__ import annotations

from typing import Final

import msgspec

from allod.vault.manifest import text_digest


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt format: ``mark`` opens a turn in it, and stands in every template that writes it."""

    name: str
    mark: str
    template: str


_LOOP: Final = "{%- for message in messages %}"
_CHATML: Final = (
    _LOOP + "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
_LLAMA_3: Final = (
    "{{- bos_token }}" + _LOOP + "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}"
    "{{- message.content | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
_GEMMA: Final = (
    "{{- bos_token }}{%- set ns = namespace(before='') %}" + _LOOP + "{%- if message.role == 'system' %}"
    "{%- set ns.before = message.content + '\n\n' %}{%- else %}"
    "{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}"
    "{{- ns.before + (message.content | trim) + '<end_of_turn>\n' }}{%- set ns.before = '' %}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
)
_PHI_3: Final = (
    _LOOP + "{{- '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"
)
_MISTRAL: Final = (
    "{{- bos_token }}{%- set ns = namespace(before='') %}" + _LOOP + "{%- if message.role == 'system' %}"
    "{%- set ns.before = message.content + '\n\n' %}{%- elif message.role == 'user' %}"
    "{{- '[INST] ' + ns.before + message.content + '[/INST]' }}{%- set ns.before = '' %}{%- else %}"
    "{{- ' ' + message.content + eos_token }}{%- endif %}{%- endfor %}"
)
FAMILIES: Final = (
    Family(name="chatml", mark="<|im_start|>", template=_CHATML),
    Family(name="llama-3", mark="<|start_header_id|>", template=_LLAMA_3),
    Family(name="gemma", mark="<start_of_turn>", template=_GEMMA),
    Family(name="mistral", mark="[INST]", template=_MISTRAL),
    Family(name="phi-3", mark="<|end|>\n", template=_PHI_3),
)
_REFERENCE_MODEL: Final = "sha256:932c8a56bdabb1011dd27d9ceea11b5a86e05393ef58f1062c14cd48487636f6"
KNOWN: Final[dict[str, str]] = {
    **{text_digest(family.template): family.name for family in FAMILIES},
    _REFERENCE_MODEL: "allod reference",
}
"""Digest of a template that was read and tried -> its name; these pass without a trial."""


def family_of(template: str) -> Family | None:
    """Return the family whose mark a template writes, or None."""
    marks = (template, template.replace("\\n", "\n"))
    return next((f for f in FAMILIES if any(f.mark in text for text in marks)), None)
