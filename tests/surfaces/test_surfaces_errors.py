import json

import pytest
from anthropic.types.shared import ErrorResponse
from surface_reading import RECEIPT, strict

from allod.domain.decision import DecidingRule, Exclusion, NearestChange
from allod.domain.errors import AllodError, Integrity, Invalid, Refused, Unavailable
from allod.gateway.surfaces.chat import ChatSurface
from allod.gateway.surfaces.embeddings import EmbeddingsSurface
from allod.gateway.surfaces.messages import CountTokensSurface, MessagesSurface
from allod.gateway.surfaces.openapi import document
from allod.gateway.surfaces.responses import ResponsesSurface

OPENAI = (ChatSurface(), ResponsesSurface(), EmbeddingsSurface())
ANTHROPIC = (MessagesSurface(), CountTokensSurface())
RULE = DecidingRule(
    id="residency.5-operator",
    law="GDPR Art. 44",
    got="US",
    required="EEA",
    source="operator.us.seat",
    remedy="host at home",
)
REFUSED = Refused(
    "No deployment may serve this.",
    "one is excluded",
    "add one at home",
    excluded=(Exclusion(deployment="us", rules=(RULE,)),),
    nearest=(NearestChange(deployment="us", change="move the operator"),),
)
ALLOD = {
    "receipt": RECEIPT,
    "excluded": [
        {
            "deployment": "us",
            "rules": [
                {
                    "id": "residency.5-operator",
                    "law": "GDPR Art. 44",
                    "got": "US",
                    "required": "EEA",
                    "source": "operator.us.seat",
                    "remedy": "host at home",
                }
            ],
        }
    ],
    "nearest": [{"deployment": "us", "change": "move the operator"}],
}
STATUSES = [
    (Invalid("x"), 400, "invalid_request_error", "invalid_request_error", None),
    (
        Invalid("x", kind="not_supported"),
        400,
        "invalid_request_error",
        "invalid_request_error",
        "not_supported",
    ),
    (Invalid("x", kind="conflict"), 400, "invalid_request_error", "invalid_request_error", "conflict"),
    (Invalid("x", kind="key"), 401, "invalid_request_error", "authentication_error", "invalid_api_key"),
    (Invalid("x", kind="model"), 404, "invalid_request_error", "not_found_error", "model_not_found"),
    (Invalid("x", kind="pruned"), 410, "invalid_request_error", "not_found_error", "pruned"),
    (Invalid("x", kind="size"), 413, "invalid_request_error", "request_too_large", "request_too_large"),
    (Refused("x"), 403, "allod_refused", "allod_refused", "allod_refused"),
    (Refused("x", budget=True), 429, "allod_refused", "allod_refused", "allod_refused"),
    (Unavailable("x"), 502, "server_error", "api_error", "upstream_failed"),
    (Unavailable("x", kind="timeout"), 504, "server_error", "timeout_error", "upstream_timeout"),
    (Unavailable("x", kind="down"), 503, "server_error", "overloaded_error", "unavailable"),
    (Unavailable("x", kind="busy"), 503, "server_error", "overloaded_error", "busy"),
    (Unavailable("x", kind="storage"), 503, "server_error", "api_error", "storage"),
    (Integrity("x"), 503, "server_error", "api_error", "integrity"),
    (AllodError("x"), 500, "server_error", "api_error", "internal"),
]


@pytest.mark.parametrize(("error", "status", "openai", "anthropic", "code"), STATUSES)
def test_statuses_and_types(error, status, openai, anthropic, code):
    for surface in OPENAI:
        got, raw = surface.error(error, None)
        inner = json.loads(raw)["error"]
        assert (got, inner["type"], inner["code"]) == (status, openai, code)
        assert inner.keys() >= {"message", "param"}
    for surface in ANTHROPIC:
        got, raw = surface.error(error, RECEIPT)
        assert (got, json.loads(raw)["error"]["type"]) == (status, anthropic)


@pytest.mark.parametrize("surface", OPENAI + ANTHROPIC, ids=lambda surface: surface.name)
def test_a_refusal_names_rules_and_the_nearest_change(surface):
    status, raw = surface.error(REFUSED, RECEIPT)
    inner = json.loads(raw)["error"]
    assert status == 403
    assert inner["type"] == "allod_refused"
    assert inner["allod"] == ALLOD
    assert inner["message"] == "No deployment may serve this. One is excluded. Add one at home."


def test_known_kinds_are_anthropics_own():
    for error in (Invalid("x", kind="key"), Unavailable("x", kind="timeout"), Unavailable("x", kind="busy")):
        _, raw = ANTHROPIC[0].error(error, RECEIPT)
        assert strict(ErrorResponse, raw).request_id == RECEIPT


def test_error_objects_fit_our_own_description():
    schemas = document()["components"]["schemas"]
    inner = schemas["Error"]["properties"]["error"]
    for error, *_ in STATUSES:
        body = json.loads(OPENAI[0].error(error, RECEIPT)[1])["error"]
        assert set(inner["required"]) <= set(body)
        assert set(body) <= set(inner["properties"])
