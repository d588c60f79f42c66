"""I3 and I4 against our own defects and our own end: each intent gets one end, each attempt one row."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Answer, Inside, Region, World, chat, config, deployment, until

from allod.engines.contract import Description


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    root: Path = tmp_path_factory.mktemp("ends") / "home"
    world = World(root, config([deployment("local", "answer")]))
    world.key("press")
    with Inside(world) as inside:
        yield inside


def leaf_of(gateway: Inside, receipt: str) -> dict[str, Any]:
    def final() -> Any:
        said = gateway.call(f"/v1/receipts/{receipt}").json
        return said if said["status"] != "pending" else None

    leaf: dict[str, Any] = json.loads(until(final)["terminal"]["leaf"])
    return leaf


def receipt_of(answer: Answer) -> str:
    return answer.headers["allod-receipt"]


class Liar:
    """Describes itself as no driver may: digests of weights that were never loaded here."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def describe(self) -> Description:
        return Description(engine="scripted", weights="sha256:" + "0" * 64, evidence="operator-claims")


class Mute(Liar):
    """Cannot describe itself."""

    def describe(self) -> Description:
        raise RuntimeError("the prompt was: secret")


@pytest.mark.parametrize("driver", [Liar, Mute])
@pytest.mark.parametrize("stream", [False, True])
def test_I3_a_driver_that_misdescribes_itself_still_leaves_one_end_and_one_row(
    gateway: Inside, driver: Any, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engines = gateway.gateway.engines
    good = engines["local"]
    engines["local"] = driver(good)
    try:
        answer = gateway.start("/v1/chat/completions", chat("local", stream=stream))
        body = answer.read()
    finally:
        engines["local"] = good
    leaf = leaf_of(gateway, answer.receipt)
    assert leaf["status"] == "failed"
    assert leaf["reason"] == "integrity"
    rows = gateway.world.rows(answer.receipt)
    assert [(row.attempt, row.basis) for row in rows] == [(1, "reserved")] or not rows
    assert bool(rows) == (leaf["attempts"] == 1)
    assert b"[DONE]" not in body
    assert "secret" not in caplog.text
    assert "secret" not in json.dumps(leaf)
    assert not gateway.gateway.store._open


def test_I4_rows_that_cannot_be_settled_are_charged_their_reservation(
    gateway: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allod.gateway import entry

    def broken(*_: Any, **__: Any) -> Any:
        raise ArithmeticError

    monkeypatch.setattr(entry, "settle", broken)
    answer = gateway.chat(chat("local"))
    monkeypatch.undo()
    assert answer.status == 503, answer
    leaf = leaf_of(gateway, receipt_of(answer))
    assert (leaf["status"], leaf["basis"]) == ("failed", "reserved")
    assert len(gateway.world.rows(receipt_of(answer))) == 1


@pytest.mark.parametrize("again", [None, signal.SIGINT])
def test_I3_a_gateway_that_is_stopped_ends_what_is_under_way_itself(
    tmp_path: Path, again: signal.Signals | None
) -> None:
    with Region() as region:
        still = deployment(
            "still", "stall-mid", base_url=region.url, timeout_ms=60_000, first_token_ms=60_000
        )
        world = World(tmp_path / "home", config([still]))
        with world.up("press") as gateway:
            streams = [gateway.start("/v1/chat/completions", chat("still", stream=True)) for _ in range(5)]
            receipts = [stream.receipt for stream in streams]
            began = time.monotonic()
            gateway.process.send_signal(signal.SIGINT)
            if again is not None:
                time.sleep(0.3)
                gateway.process.send_signal(again)
            assert gateway.process.wait(25) == 0, gateway.stderr
            assert time.monotonic() - began < (20 if again is None else 5)
            assert "efect" not in gateway.stderr
            assert "Traceback" not in gateway.stderr, gateway.stderr
            for stream in streams:
                stream.drop()
        ends = [world.request_row(receipt) for receipt in receipts]
        assert {row.status for row in ends if row is not None} == {"aborted"}
        for receipt in receipts:
            (row,) = world.rows(receipt)
            assert row.detail.startswith("gateway-stopped"), row
    assert world.allod("log", "verify").returncode == 0


def test_I4_counting_tokens_has_a_row_and_costs_nothing(gateway: Inside) -> None:
    body = {"model": "local", "messages": [{"role": "user", "content": "hello " * 50}]}
    answer = gateway.call("/v1/messages/count_tokens", body)
    assert answer.status == 200
    leaf = leaf_of(gateway, receipt_of(answer))
    (row,) = gateway.world.rows(receipt_of(answer))
    assert (row.basis, row.cost_usd, row.usage.total_input_tokens) == ("counted", 0, 0)
    assert leaf["cost_usd"] == "0"
    assert answer.headers["allod-cost"] == "0"


@pytest.mark.parametrize("stream", [False, True])
def test_an_end_that_cannot_be_made_durable_is_never_an_answer(
    gateway: Inside, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from allod.domain.errors import Unavailable

    calls = []

    async def durable(_seq: int) -> None:
        calls.append(_seq)
        if len(calls) == 2:
            raise Unavailable("the log is dead", kind="storage")

    monkeypatch.setattr(gateway.gateway, "strict", True)
    monkeypatch.setattr(gateway.gateway, "durable", durable)
    if stream:
        with pytest.raises(http.client.HTTPException):
            gateway.chat(chat("local", stream=True))
    else:
        assert gateway.chat(chat("local")).status == 503
    assert len(calls) == 2
    assert "defect" not in caplog.text
