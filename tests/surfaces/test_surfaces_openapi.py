import json
import re

import msgspec
import pytest

from allod.gateway.app import Application
from allod.gateway.surfaces import chat_request, faults, messages_request, responses_request
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.chat_request import EXTENSIONS, KNOWN
from allod.gateway.surfaces.contract import CountingSurface, Rejecting, Surface
from allod.gateway.surfaces.embeddings import EmbeddingsSurface
from allod.gateway.surfaces.messages import CountTokensSurface, MessagesSurface
from allod.gateway.surfaces.openapi import ROUTES, description, document
from allod.gateway.surfaces.responses import ResponsesSurface

DOCUMENT = document()
CODECS = {
    "/v1/chat/completions": ChatSurface(),
    "/v1/responses": ResponsesSurface(),
    "/v1/messages": MessagesSurface(),
    "/v1/messages/count_tokens": CountTokensSurface(),
    "/v1/embeddings": EmbeddingsSurface(),
}


def test_paths_are_exactly_the_routes():
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == set(ROUTES)


def test_the_application_serves_exactly_these_routes():
    served = Application(None, None, b"")
    assert {path: codec.name for path, codec in served._surfaces.items()} == {
        path: codec.name for path, codec in CODECS.items()
    }
    fixed = set(served._routes)
    prefixes = {("GET", prefix) for prefix, _ in served._prefixes}
    assert fixed == {(m, p) for m, p in ROUTES if "{" not in p}
    assert prefixes == {(m, re.sub(r"\{.*", "", p)) for m, p in ROUTES if "{" in p and m == "GET"}
    for method, path in ROUTES:  # what is not fetched: of a response in the background
        if "{" in path and method != "GET":
            assert served._by_prefix(method, path) == served._response


def test_every_reference_leads_somewhere():
    text = description().decode()
    assert json.loads(text) == json.loads(msgspec.json.encode(DOCUMENT))
    for name in re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', text):
        assert name in DOCUMENT["components"]["schemas"]
    assert "allod.gateway" not in text


def test_every_status_an_error_can_have_is_described():
    for path in CODECS:
        assert set(DOCUMENT["paths"][path]["post"]["responses"]) == {"200", *map(str, faults.STATUSES)}


@pytest.mark.parametrize(
    ("schema", "known"),
    [
        ("ChatRequest", KNOWN),
        ("ResponsesRequest", responses_request.KNOWN),
        (
            "MessagesRequest",
            frozenset(messages_request.MessagesRequest.__struct_fields__) | messages_request.NOT_APPLIED,
        ),
    ],
)
def test_described_fields_are_the_fields_taken(schema, known):
    found = DOCUMENT["components"]["schemas"][schema]
    assert set(found["properties"]) == known
    assert found["additionalProperties"] is False


def test_extensions_and_refused_fields_do_not_meet():
    assert EXTENSIONS.isdisjoint(chat_request.NOT_SUPPORTED)
    assert EXTENSIONS.isdisjoint(chat_request.ChatRequest.__struct_fields__)


def test_codecs_keep_the_contract():
    for codec in CODECS.values():
        wanted = {"chat": Surface, "responses": Surface, "messages": Surface, "count_tokens": CountingSurface}
        protocol = wanted.get(codec.name, Rejecting)
        members = [name for name in dir(protocol) if not name.startswith("_")]
        assert all(hasattr(codec, name) for name in members)
