import base64
import json
import struct

import pytest
from anthropic.types import ModelInfo
from openai.types import CreateEmbeddingResponse, Model
from surface_reading import encode, strict

from allod.domain.chat import Embedded
from allod.domain.errors import Unavailable
from allod.domain.usage import Usage
from allod.gateway.surfaces.embeddings import EmbeddingsSurface
from allod.gateway.surfaces.faults import Rejected
from allod.gateway.surfaces.models import ModelCard, model, model_list

SURFACE = EmbeddingsSurface()
HELLO = {"model": "auto", "input": "hello"}
VECTOR = [0.5, -2.0, 0.25]
PACKED = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
CARD = ModelCard(id="ward-llm", created_s=1_764_000_000, owned_by="self", context_tokens=4096)


def refuse(**fields):
    with pytest.raises(Rejected) as caught:
        SURFACE.parse(encode({**HELLO, **fields}))
    return caught.value


@pytest.mark.parametrize("given", ["x", ["x", "y"], [1, 2], [[1], [2, 3]]])
def test_inputs_of_every_form_pass_unchanged(given):
    parsed = SURFACE.parse(
        encode({**HELLO, "input": given, "dimensions": 8, "metadata": {"Allod-Task": "t"}})
    )
    assert parsed.body == {"model": "auto", "input": given, "dimensions": 8}
    assert parsed.metadata == {"Allod-Task": "t"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", "string_below_min_length"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["x", ""]}, "input[1]", "string_below_min_length"),
        ({"input": ["x", 1]}, "input[1]", "invalid_type"),
        ({"input": [1, "x"]}, "input[1]", "invalid_type"),
        ({"input": [[1], []]}, "input[1]", "empty_array"),
        ({"input": [-1]}, "input[0]", "integer_below_min_value"),
        ({"input": [{"text": "x"}]}, "input[0]", "invalid_type"),
        ({"input": ["x"] * 2049}, "input", "array_above_max_length"),
        ({"input": None}, "input", "invalid_type"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
        ({"foo": 1}, "foo", "unknown_parameter"),
    ],
)
def test_complaints(fields, param, code):
    error = refuse(**fields)
    assert (error.param, error.code) == (param, code)


def written(rows, usage=None, **fields):
    parsed = SURFACE.parse(encode({**HELLO, **fields}))
    body = {"data": rows} if usage is None else {"data": rows, "usage": usage}
    return SURFACE.embedded(parsed, Embedded(body=body, usage=None), Usage(input_tokens=3))


@pytest.mark.parametrize("vector", [VECTOR, PACKED])
def test_vectors_come_in_the_form_asked_for(vector):
    plain = json.loads(written([{"embedding": vector}]))
    assert plain["data"] == [{"object": "embedding", "index": 0, "embedding": VECTOR}]
    packed = json.loads(written([{"embedding": vector, "index": 0}], encoding_format="base64"))
    assert packed["data"][0]["embedding"] == PACKED


def test_a_list_is_complete_even_if_the_operator_said_little():
    answer = strict(CreateEmbeddingResponse, written([{"embedding": VECTOR}]))
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("auto", 3, 3)
    told = written([{"embedding": VECTOR}], usage={"prompt_tokens": 9, "total_tokens": 9})
    assert strict(CreateEmbeddingResponse, told).usage.total_tokens == 9


@pytest.mark.parametrize(
    "rows",
    [
        [],
        None,
        [{}],
        ["x"],
        [{"embedding": []}],
        [{"embedding": "not base64!"}],
        [{"embedding": base64.b64encode(b"abc").decode()}],
        [{"embedding": base64.b64encode(struct.pack("<f", float("nan"))).decode()}],
    ],
)
def test_what_is_no_vector_is_not_presented(rows):
    with pytest.raises(Unavailable):
        written(rows)


@pytest.mark.parametrize("vector", [["x"], [1e300], [None]])
def test_what_cannot_be_packed_is_not_presented(vector):
    with pytest.raises(Unavailable):
        written([{"embedding": vector}], encoding_format="base64")


def test_models_in_both_shapes():
    plain = json.loads(model_list([CARD], anthropic=False))
    assert plain["object"] == "list"
    assert strict(Model, plain["data"][0]).owned_by == "self"
    other = json.loads(model_list([CARD, CARD], anthropic=True))
    assert (other["first_id"], other["last_id"], other["has_more"]) == ("ward-llm", "ward-llm", False)
    info = strict(ModelInfo, other["data"][0])
    assert (info.id, info.max_input_tokens, info.created_at.year) == ("ward-llm", 4096, 2025)
    assert json.loads(model(CARD, anthropic=False)) == plain["data"][0]
    assert json.loads(model(CARD, anthropic=True)) == other["data"][0]


def test_an_empty_list_is_a_list():
    assert json.loads(model_list([], anthropic=False)) == {"object": "list", "data": []}
    assert json.loads(model_list([], anthropic=True))["first_id"] is None
