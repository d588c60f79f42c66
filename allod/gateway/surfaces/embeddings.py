"""``/v1/embeddings``: OpenAI's dialect, which is the neutral form."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from allod.domain.chat import Embedded
from allod.domain.errors import AllodError, Unavailable
from allod.domain.usage import Usage
from allod.gateway.surfaces import complaints, sse
from allod.gateway.surfaces.chat import openai_rejection
from allod.gateway.surfaces.chat_request import Metadata, ModelName
from allod.gateway.surfaces.contract import Parsed
from allod.gateway.surfaces.decode import json_object

Text = Annotated[str, Meta(min_length=1)]
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
MAX_INPUTS: Final = 2048
MAX_DIMENSIONS: Final = 16_384
_FLOAT_BYTES: Final = 4


class EmbeddingsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The request; ``metadata`` is ours, for labels, and goes no further."""

    model: ModelName
    input: Text | Annotated[list[Any], Meta(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    user: str | None = None
    metadata: Metadata | None = None


_INPUTS: Final = (list[Text], list[Token], list[Annotated[list[Token], Meta(min_length=1)]])


class EmbeddingsEcho(msgspec.Struct, frozen=True, kw_only=True):
    """The form of vectors the caller wants."""

    base64: bool


class EmbeddingsSurface:
    """OpenAI embeddings. Stateless."""

    name: Final = "embeddings"

    def parse(self, raw: bytes) -> Parsed:
        """Validate as api.openai.com does (raises ``Rejected``)."""
        body = json_object(raw)
        try:
            typed = msgspec.convert(body, EmbeddingsRequest)
        except msgspec.ValidationError as error:
            raise complaints.openai(complaints.read(error), _VOCABULARY) from None
        if isinstance(typed.input, list):
            _demand_inputs(typed.input)
        metadata = body.pop("metadata", None)
        return Parsed(
            surface="embeddings",
            model=typed.model,
            body=body,
            metadata=metadata,
            echo=EmbeddingsEcho(base64=typed.encoding_format == "base64"),
        )

    def embedded(self, parsed: Parsed, answer: Embedded, usage: Usage) -> bytes:
        """Write the list of vectors in the form asked for.

        ``usage`` is what was settled, for an operator that reported none.

        Raises:
            Unavailable: the operator's vectors are none.

        """
        body = dict(answer.body)
        rows = body.get("data")
        if not isinstance(rows, list) or not rows:
            raise Unavailable("The deployment's answer holds no vectors.", kind="failed")
        body["object"] = "list"
        body["data"] = [_row(row, index, as_base64=parsed.echo.base64) for index, row in enumerate(rows)]
        body.setdefault("model", answer.model or parsed.model)
        if not isinstance(body.get("usage"), dict):
            count = usage.total_input_tokens
            body["usage"] = {"prompt_tokens": count, "total_tokens": count}
        return sse.ENCODE(body)

    def error(self, error: AllodError, receipt: str | None) -> tuple[int, bytes]:
        """Return the status and OpenAI's ``{"error": ...}``."""
        return openai_rejection(error, receipt)


_VOCABULARY: Final = {"encoding_format": ("float", "base64")}


def _demand_inputs(inputs: list[Any]) -> None:
    """Check that a list holds only texts, only tokens, or only lists of tokens."""
    first = inputs[0]
    shape = _INPUTS[0] if isinstance(first, str) else _INPUTS[2] if isinstance(first, list) else _INPUTS[1]
    try:
        msgspec.convert(inputs, shape)
    except msgspec.ValidationError as error:
        raise complaints.openai(complaints.read(error, ("input",)), _VOCABULARY) from None


def _row(row: object, index: int, *, as_base64: bool) -> dict[str, Any]:
    vector = row.get("embedding") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(vector, list | str) or not vector:
        raise Unavailable("The deployment's answer holds an entry without a vector.", kind="failed")
    if isinstance(vector, list) and as_base64:
        vector = _packed(vector)
    elif isinstance(vector, str) and not as_base64:
        vector = _unpacked(vector)
    return {"object": "embedding", "index": index, **row, "embedding": vector}


def _packed(vector: list[Any]) -> str:
    """Write little-endian 32-bit floats as base64, as OpenAI does."""
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    except (struct.error, OverflowError, TypeError):
        raise Unavailable("The deployment's vector is not made of numbers.", kind="failed") from None


def _unpacked(text: str) -> list[float]:
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        packed = b""
    if not packed or len(packed) % _FLOAT_BYTES:
        raise Unavailable("The deployment's vector is not base64 of 32-bit floats.", kind="failed")
    numbers = list(struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed))
    if not all(map(math.isfinite, numbers)):
        raise Unavailable("The deployment's vector holds what is no number.", kind="failed")
    return numbers
