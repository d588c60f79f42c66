"""A caller that never asks the same thing twice fills neither memory nor the event loop."""

from __future__ import annotations

import time

import pytest
from world import config, deployment

from allod.admission.admit import Index, admit
from allod.admission.labels import labels_from
from allod.domain.errors import Invalid
from allod.domain.request import Admitted, Labels, Sizes
from allod.gateway import compose, decide
from allod.gateway import config as configuration
from allod.policy import policy
from allod.routing.question import Health

AT_MS = 1_790_000_000_000


def test_decisions_are_bounded_over_all_states_of_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MEMO_ENTRIES", 20)
    monkeypatch.setattr(policy, "MEMO_EXPLAINED", 10)
    fleet = configuration.parse(config([deployment("a", "answer"), deployment("b", "answer")])).fleet
    decider, index = compose.decider(fleet), Index(fleet)

    def asked(n: int) -> Admitted:
        return admit(
            index=index, app=fleet.apps["press"], surface="chat", model="auto",
            labels=Labels(purpose=f"p{n}"), needs=("text",),
            sizes=Sizes(body_bytes=100, input_tokens=100, max_output_tokens=n), stream=False,
            receipt="r", received_at_ms=AT_MS,
        )  # fmt: skip

    for turn in range(6):
        health = Health(latency_ms={"a": 1 << turn})
        for n in range(1, 16):
            assert decider.decide(asked(n), health).plan.attempts
    assert sum(len(world.decisions) for world in decider._worlds) <= 20
    assert all(len(epoch.eligible) <= 512 for epoch in decider.policy._epochs.values())


@pytest.mark.parametrize("place", ["header", "metadata"])
def test_a_label_as_long_as_a_body_is_refused_at_once(place: str) -> None:
    name = "allod-" + "a" * 20_000_000
    began = time.process_time()
    with pytest.raises(Invalid):
        labels_from([(name.encode(), b"1")] if place == "header" else [], {name: "1"})
    assert time.process_time() - began < 1
