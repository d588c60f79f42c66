"""Scripted embeddings: unit vectors drawn from the text's digest; equal texts, equal vectors."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any, Final

from allod.engines.scripted.script import ScriptError, count, is_model

DIMENSIONS: Final = 64
MAX_DIMENSIONS: Final = 4096
MAX_INPUTS: Final = 2048


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1 in single precision."""
    drawn: list[float] = []
    for block in range(math.ceil(dimensions / 16)):
        digest = hashlib.sha512(block.to_bytes(4, "big") + text.encode()).digest()
        drawn.extend(each / 2**31 for each in struct.unpack(">16i", digest))
    del drawn[dimensions:]
    norm = math.sqrt(sum(each * each for each in drawn)) or 1.0
    single = struct.pack(f"<{dimensions}f", *(each / norm for each in drawn))
    return list(struct.unpack(f"<{dimensions}f", single))


def embeddings(body: Any) -> dict[str, Any]:
    """Answer an embeddings request.

    Raises:
        ScriptError: 400 for what is no embeddings request, 404 for an unknown model.

    """
    if not isinstance(body, dict):
        raise ScriptError(400, "the body is not a JSON object")
    model, given = body.get("model"), body.get("input")
    if not isinstance(model, str) or not is_model(model):
        raise ScriptError(404, "the model does not exist", code="model_not_found", param="model")
    texts = _texts(given)
    dimensions = body.get("dimensions", DIMENSIONS)
    if not isinstance(dimensions, int) or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ScriptError(400, f"dimensions must be from 1 to {MAX_DIMENSIONS}", param="dimensions")
    form = body.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise ScriptError(400, "encoding_format must be float or base64", param="encoding_format")
    rows: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        drawn: Any = vector(text, dimensions)
        if form == "base64":
            drawn = base64.b64encode(struct.pack(f"<{dimensions}f", *drawn)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": drawn})
    tokens = sum(count(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer: dict[str, Any] = {"object": "list", "data": rows, "model": model}
    if model != "usage-missing":
        answer["usage"] = usage
    return answer


def _texts(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and 0 < len(given) <= MAX_INPUTS:
        if all(isinstance(each, str) for each in given):
            return list(given)
        if all(isinstance(each, int) for each in given):
            return [" ".join(map(str, given))]
        if all(isinstance(each, list) and all(isinstance(one, int) for one in each) for each in given):
            return [" ".join(map(str, each)) for each in given]
    raise ScriptError(400, "input must be a text, texts, tokens or lists of tokens", param="input")
