"""A picture by address would be fetched by whoever answers: resident data take inline ones only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from world import Gateway, World, config, deployment

from allod.admission.sizes import fetches

INLINE = "data:image/png;base64,iVBORw0KGgo="
FAR = "https://elsewhere.example/x.png"


def _body(url: str, part: str = "image_url") -> dict[str, object]:
    content = [{"type": "text", "text": "look"}, {"type": part, "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(("url", "far"), [(INLINE, False), (FAR, True), ("file:///etc/passwd", True)])
def test_an_address_is_told_from_an_inline_picture(url: str, far: bool) -> None:
    assert fetches(_body(url)) is far


def test_text_fetches_nothing() -> None:
    assert fetches({"messages": [{"role": "user", "content": FAR}]}) is False


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    detect = {"images": "ignored"}  # else every picture is unscanned, and counts as every resident class
    world = World(tmp_path_factory.mktemp("pictures"), config([deployment("d", "answer")], detect=detect))
    with world.up("ward", "press") as up:
        yield up


@pytest.mark.parametrize(
    ("app", "url", "status"), [("ward", FAR, 400), ("ward", INLINE, 200), ("press", FAR, 200)]
)
def test_I1_resident_data_lead_nobody_to_an_address(
    gateway: Gateway, app: str, url: str, status: int
) -> None:
    answer = gateway.chat({"model": "d", **_body(url)}, app=app)
    assert answer.status == status, answer
    assert ("allod-receipt" in answer.headers) is (status == 200)


def test_I1_a_picture_nobody_looks_into_leads_nobody_to_an_address_either(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("d", "answer")]))
    with world.up("press") as up:
        answer = up.chat({"model": "d", **_body(FAR)}, app="press")
    assert answer.status == 400
    assert "not_supported" in answer.body.decode()
