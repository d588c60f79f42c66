"""The shape of a model: its parameters by part, its cache per token, its arithmetic per token.

Read from a Hugging Face ``config.json``, from the catalogue, or from the header of a file of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from allod.planner.layers import PARTS, Layer

__all__ = ["Architecture", "Layer", "from_config", "from_gguf", "from_row", "from_safetensors"]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder, or a decoder with a vision tower in front.

    Attributes:
        layers: in order, runs of equal layers merged where the source says no more.
        tied: the head uses the embedding's matrix.
        max_position: tokens the maker declares, 0 where not known.
        extra_embedding: parameters of tables beside the token embedding (per-layer embeddings).
        hyper_params: parameters outside layers that belong to no other part.
        draft_layers: layers for speculation that the maker stores with the weights (multi-token
            prediction); not part of ``params_total``, and engines load them only when asked.
        vision_params: of the vision tower, not part of ``params_total``.
        stored: the precision the maker publishes, as a quantisation of ``memory``; empty if plain bf16.
        family: the kind of model by its maker's word; ``familiar`` tells that its counts were checked.
        state_bytes_per_element: of recurrent state (4 where the engine keeps it in fp32).

    """

    name: str
    hidden: int
    vocab: int
    tied: bool
    max_position: int
    layers: tuple[Layer, ...]
    extra_embedding: int = 0
    hyper_params: int = 0
    draft_layers: tuple[Layer, ...] = ()
    vision_params: int = 0
    stored: str = ""
    state_bytes_per_element: int = 4
    family: str = ""
    familiar: bool = True

    @property
    def layer_count(self) -> int:
        """Layers, each counted."""
        return sum(layer.count for layer in self.layers)

    def parts(self) -> dict[str, int]:
        """Return the parameters by part: embedding, those of ``layers.PARTS``, head (0 if tied)."""
        out = {"embedding": self.vocab * self.hidden + self.extra_embedding}
        out |= _summed(self.layers, self.hidden)
        out["norm"] += self.hidden + self.hyper_params
        out["head"] = 0 if self.tied else self.vocab * self.hidden
        return out

    def draft_parts(self) -> dict[str, int]:
        """Return the parameters of the stored speculation layers by part."""
        return _summed(self.draft_layers, self.hidden)

    def params_total(self) -> float:
        """Return all parameters of the language model, without vision tower and speculation layers."""
        return float(sum(self.parts().values()))

    def params_active(self) -> float:
        """Return the parameters one token uses; embedding and head count as the makers count them."""
        body = sum(layer.count * layer.active_params(self.hidden) for layer in self.layers)
        ends = self.vocab * self.hidden * (1 if self.tied else 2)
        return float(body + ends + self.hidden + self.hyper_params)

    def kv_elements(self, context: float) -> float:
        """Return cached elements of one sequence of ``context`` tokens over all layers, state not counted."""
        return float(sum(layer.count * layer.kv_elements(context) for layer in self.layers))

    def state_elements(self) -> int:
        """Return the recurrent state of one sequence, elements; it does not grow with the context."""
        return sum(layer.count * layer.state_elements for layer in self.layers)

    def flops_per_token(self, context: float) -> float:
        """Return the operations to decode one token after ``context`` tokens (a product and a sum are 2).

        The embedding is a look-up, not a product, and is not counted; the head is.
        """
        attention = sum(layer.count * layer.attention_flops(context) for layer in self.layers)
        return 2.0 * (self.params_active() - self._lookup()) + attention

    def flops_prompt(self, length: float) -> float:
        """Return the operations to read a prompt of ``length`` tokens; the head serves the last one only."""
        head = self.vocab * self.hidden
        body = self.params_active() - self._lookup() - head
        attention = sum(layer.count * layer.prompt_flops(length) for layer in self.layers)
        return 2.0 * (body * length + head) + attention

    def _lookup(self) -> int:
        return 0 if self.tied else self.vocab * self.hidden


def _summed(layers: Iterable[Layer], hidden: int) -> dict[str, int]:
    out = dict.fromkeys(PARTS, 0)
    for layer in layers:
        for part, count in layer.params(hidden).items():
            out[part] += layer.count * count
    return out


def from_config(config: Mapping[str, Any], name: str = "") -> Architecture:
    """Read a Hugging Face ``config.json``, already parsed; a multimodal one by its language part.

    Raises:
        Invalid: a fact is missing, of the wrong type, out of bounds, or contradicts another.

    """
    from allod.planner.configs import read_config  # noqa: PLC0415 (it builds what is defined here)

    return read_config(config, name)


def from_row(row: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture of a catalogue row (its ``config``), or None where it has none."""
    config = row.get("config")
    return from_config(config, str(row.get("id", ""))) if config else None


def from_gguf(path: Path) -> Architecture:
    """Read the architecture out of the header of a GGUF file, with the vault's strict reader.

    Raises:
        Invalid: the file is not well formed, or lacks what a planner must know.

    """
    from allod.planner.files import gguf_architecture  # noqa: PLC0415

    return gguf_architecture(path)


def from_safetensors(folder: Path) -> Architecture:
    """Read the ``config.json`` that lies beside safetensors files.

    Raises:
        Invalid: there is none, or it is not one.

    """
    from allod.planner.files import folder_architecture  # noqa: PLC0415

    return folder_architecture(folder)
