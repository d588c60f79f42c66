"""Sizing: a replay against sums by hand and Erlang, bursts, and input that makes no sense."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.planner.sizing import erlang
from allod.planner.sizing.replay import Pace, replay
from allod.planner.sizing.size import Level, size
from allod.planner.sizing.trace import Arrival, drawn, made, read_trace, shape

EVEN = Pace(token_s=((1, 0.02),), prompt_tokens_s=1e9)


def flat(slots: int, token_s: float = 0.02) -> Pace:
    """Return a pace that does not depend on how many requests are held."""
    return Pace(token_s=((1, token_s), (max(2, slots), token_s)), prompt_tokens_s=1e12)


def test_erlang_gives_the_published_figures() -> None:
    # the conversation and code traces of Azure (2023): 5,000 prompt tokens and 50 tokens a second a place
    assert erlang.servers_for(24.6, 4.45, 1.0, 0.99) == 34
    assert erlang.servers_for(2.5, 0.97, 1.0, 0.99) == 5
    # two servers, one erlang: 2 a^2 / (2 + 2a - ... ) by the closed form for c = 2: a^2 / (2 + a)
    assert erlang.waits(2, 1.0) == pytest.approx(1 / 3)
    assert erlang.waits(1, 0.5) == pytest.approx(0.5)
    assert erlang.waits(3, 3.0) == 1.0


@pytest.mark.parametrize("load", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_erlang_refuses_what_is_no_load(load: float) -> None:
    with pytest.raises(Invalid):
        erlang.servers_for(load, 1.0, 1.0, 0.99)


def test_one_request_alone_takes_what_it_takes() -> None:
    pace = Pace(token_s=((1, 0.01), (2, 0.02)), prompt_tokens_s=1000)
    done = replay([Arrival(0.0, 500, 101)], replicas=1, slots=4, pace=pace)
    one = done.served[0]
    assert one.wait_s == 0
    assert one.first_s == pytest.approx(0.5)
    assert one.token_s == pytest.approx(0.01)


def test_two_streams_share_a_replica_and_a_third_waits() -> None:
    pace = Pace(token_s=((1, 0.01), (2, 0.03)), prompt_tokens_s=1e12)
    trace = [Arrival(0.0, 1, 101), Arrival(0.0, 1, 101), Arrival(1.0, 1, 2)]
    done = replay(trace, replicas=1, slots=2, pace=pace)
    assert [one.token_s for one in done.served[:2]] == [pytest.approx(0.03)] * 2
    assert done.served[2].wait_s == pytest.approx(2.0)
    assert done.busy == pytest.approx(1.0)
    two = replay(trace, replicas=2, slots=2, pace=pace)
    assert [one.wait_s for one in two.served] == [0, 0, 0]
    # the third joins one of the two at second 1, when 100 tokens at 10 ms have come: it is alone
    assert two.served[2].token_s == pytest.approx(0.01)


def test_prompts_are_read_one_after_the_other() -> None:
    pace = Pace(token_s=((1, 0.01), (4, 0.01)), prompt_tokens_s=100)
    done = replay([Arrival(0.0, 100, 1)] * 3, replicas=1, slots=4, pace=pace)
    assert [one.first_s for one in done.served] == pytest.approx([1.0, 2.0, 3.0])


@pytest.mark.parametrize(("load", "servers"), [(6.0, 8), (20.0, 24), (12.0, 14)])
def test_with_poisson_arrivals_and_exponential_lengths_the_replay_agrees_with_erlang(load, servers) -> None:
    service_s = 4.0
    trace = made(
        rate_s=load / service_s,
        peak=1,
        input_tokens=1,
        output_tokens=service_s / 0.02,
        seconds=25_000,
        seed=5,
    )
    done = replay(trace, replicas=servers, slots=1, pace=flat(1))
    for limit in (0.0, 1.0, 3.0):
        waited = done.share(lambda one, limit=limit: one.wait_s > limit + 1e-9)
        assert waited == pytest.approx(erlang.wait_beyond(servers, load, service_s, limit), abs=0.03)


def test_bursts_need_more_than_erlang_says() -> None:
    level = Level(tokens_s=50)
    even = made(rate_s=2, peak=1, input_tokens=500, output_tokens=200, seconds=3600, seed=2)
    bursts = made(rate_s=2, peak=12, input_tokens=500, output_tokens=200, seconds=3600, seed=2)
    pace = Pace(token_s=((1, 0.015), (4, 0.02), (8, 0.03)), prompt_tokens_s=20_000)
    calm, wild = (size(one, level, pace, most_held=8, draws=4) for one in (even, bursts))
    assert calm.slots == wild.slots == 4
    assert calm.floor <= calm.replicas <= calm.floor + 2
    assert wild.replicas >= 2 * wild.floor
    assert shape(even).dispersion < 2
    assert shape(bursts).dispersion > 20
    for one in (calm, wild):
        assert one.fast >= 0.99
        assert one.admitted >= 0.99
        fewer = replay(even if one is calm else bursts, replicas=one.replicas - 1, slots=one.slots, pace=pace)
        assert not level.kept(fewer)


def test_the_memory_bounds_what_a_replica_holds() -> None:
    trace = made(rate_s=4, peak=2, input_tokens=500, output_tokens=200, seconds=900, seed=2)
    pace = Pace(token_s=((1, 0.01), (64, 0.02)), prompt_tokens_s=20_000)
    roomy, tight = (size(trace, Level(tokens_s=50), pace, most_held=n, draws=0) for n in (256, 4))
    assert (roomy.slots, tight.slots) == (64, 4)
    assert tight.replicas > roomy.replicas


def test_what_no_number_of_replicas_can_do_is_said() -> None:
    trace = made(rate_s=1, peak=1, input_tokens=10, output_tokens=10, seconds=600, seed=1)
    with pytest.raises(Invalid, match="no number of replicas"):
        size(trace, Level(tokens_s=51), EVEN, most_held=8, draws=0)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(st.floats(0, 60), st.integers(0, 5000), st.integers(1, 300)), min_size=1, max_size=60
    ),
    replicas=st.integers(1, 5),
    slots=st.integers(1, 6),
)
def test_every_request_is_served_and_nobody_is_faster_than_a_replica_of_its_own(
    arrivals, replicas, slots
) -> None:
    pace = Pace(token_s=((1, 0.01), (4, 0.02), (6, 0.05)), prompt_tokens_s=2000)
    trace = [Arrival(*one) for one in sorted(arrivals)]
    done = replay(trace, replicas=replicas, slots=slots, pace=pace)
    assert len(done.served) == len(trace)
    assert 0 <= done.busy <= 1 + 1e-9
    for arrival, one in zip(trace, done.served, strict=True):
        assert one.wait_s >= -1e-9
        assert one.first_s >= one.wait_s + arrival.input_tokens / 2000 - 1e-6
        if arrival.output_tokens > 1:
            assert 0.01 - 1e-6 <= one.token_s <= pace.seconds(slots) + 1e-6
        else:
            assert one.token_s == 0
    assert done == replay(trace, replicas=replicas, slots=slots, pace=pace)
    alone = replay(trace, replicas=len(trace), slots=slots, pace=pace)
    assert max(one.wait_s for one in alone.served) <= 1e-9


def test_another_draw_of_a_trace_has_its_length_and_its_bursts_and_is_repeatable() -> None:
    trace = made(rate_s=2, peak=8, input_tokens=500, output_tokens=100, seconds=3600, seed=3)
    other = drawn(trace, block_s=60, seed=9)
    assert other == drawn(trace, block_s=60, seed=9) != trace
    assert 0.6 < len(other) / len(trace) < 1.5
    assert all(one.at_s <= later.at_s for one, later in itertools.pairwise(other))


def test_a_trace_is_read_in_the_public_forms(tmp_path: Path) -> None:
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.9799600,3180,8\n"
    )
    assert read_trace(azure) == [Arrival(0.0, 4808, 10), Arrival(2.0, 3180, 8)]
    burst = tmp_path / "burst.csv"
    burst.write_text("Timestamp,Model,Request tokens,Response tokens\n9,x,10,5\n5,x,7,0\n5.5,y,3,2\n")
    assert read_trace(burst) == [Arrival(0.0, 3, 2), Arrival(3.5, 10, 5)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "at_s,input_tokens,output_tokens\n1,2\n",
        "at_s,input_tokens,output_tokens\nnan,1,1\n2,1,1\n",
        "at_s,input_tokens,output_tokens\n1,-5,1\n2,1,1\n",
        "at_s,input_tokens,output_tokens\n1,1,1\n1,1,1\n",
        "at_s,input_tokens,output_tokens\n1,1,1e300\n2,1,1\n",
        "at_s,input_tokens,output_tokens\nyesterday,1,1\n2,1,1\n",
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(Invalid):
        read_trace(path)


@pytest.mark.parametrize(
    "change", [{"rate_s": 0}, {"peak": 0.5}, {"seconds": math.inf}, {"rate_s": 1e9}, {"output_tokens": -3}]
)
def test_traffic_that_makes_no_sense_is_refused(change) -> None:
    figures = {"rate_s": 1.0, "peak": 2.0, "input_tokens": 10, "output_tokens": 10, "seconds": 600, "seed": 1}
    with pytest.raises(Invalid):
        made(**(figures | change))


@pytest.mark.parametrize("points", [(), ((0, 0.1),), ((2, 0.1), (1, 0.1)), ((1, 0.0),), ((1, math.nan),)])
def test_a_pace_that_makes_no_sense_is_refused(points) -> None:
    with pytest.raises(Invalid):
        Pace(token_s=points, prompt_tokens_s=1.0)


def test_the_peak_asked_for_is_about_the_peak_made() -> None:
    trace = made(rate_s=8, peak=3, input_tokens=1, output_tokens=1, seconds=60 * 600, seed=4)
    counts = [0] * 600
    for one in trace:
        counts[min(599, int(one.at_s // 60))] += 1
    ordered = sorted(counts)
    assert ordered[593] / (sum(counts) / 600) == pytest.approx(3, rel=0.3)
