import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "routing"


@pytest.fixture(scope="module")
def m():
    spec = importlib.util.spec_from_file_location("routing_metrics", FOLDER / "metrics.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def pair(m):
    weak = np.array([1.0, 0.0, 0.0, 1.0])
    strong = np.array([1.0, 1.0, 1.0, 0.0])
    return m.Pair(weak=weak, strong=strong, weak_usd=np.full(4, 1.0), strong_usd=np.full(4, 10.0))


def test_curve_and_pgr_by_hand(m, pair):
    of = m.curve(np.array([0.2, 0.9, 0.8, 0.1]), pair)
    assert of.quality.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]
    assert of.usd.tolist() == [1.0, 3.25, 5.5, 7.75, 10.0]
    assert of.strong_usd.tolist() == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert m.pgr(of).tolist() == [0, 1, 2, 2, 1]
    assert m.apgr(of) == pytest.approx((0 + 1) / 2 / 4 + (1 + 2) / 2 / 4 + 2 / 4 + (2 + 1) / 2 / 4)
    assert m.cpt(of, 0.5) == 0.25
    assert m.cpt(of, 2.0) == 0.5
    assert np.isnan(m.cpt(of, 3.0))


def test_saving_in_hindsight_and_beforehand(m, pair):
    score = np.array([0.2, 0.9, 0.8, 0.1])
    of = m.curve(score, pair)
    assert m.saving(of, 0.0) == pytest.approx(1 - 3.25 / 10)
    assert m.saving(of, 0.25) == pytest.approx(1 - 1 / 10)
    assert m.saving(of, 0.0, strong_only=True) == pytest.approx(1 - 2.5 / 10)
    at = m.threshold(score, pair, 0.0)
    assert at == 0.9
    saved, change, error = m.deployed(score, pair, at)
    assert (saved, change) == (pytest.approx(1 - 13 / 40), 0.0)
    assert error == pytest.approx(np.std([0, 0, -100, 100], ddof=1) / 2)
    assert m.threshold(score, pair, 1.0) == np.inf


def test_random_is_one_half_and_the_oracle_is_best(m):
    random = np.random.Generator(np.random.PCG64(0))
    weak, strong = ((random.random(20_000) < p).astype(float) for p in (0.6, 0.8))
    pair = m.Pair(weak=weak, strong=strong, weak_usd=np.full(20_000, 1.0), strong_usd=np.full(20_000, 5.0))
    by_chance = m.apgr(m.curve(random.random(20_000), pair))
    best = m.curve(m.oracle(pair), pair)
    assert by_chance == pytest.approx(0.5, abs=0.03)
    assert m.apgr(best) > 1
    assert m.regret(best, pair) == pytest.approx(0)
    assert m.regret(m.curve(-m.oracle(pair), pair), pair) > 0


def test_aiq_is_the_area_under_the_hull(m, pair):
    of = m.curve(np.array([0.2, 0.9, 0.8, 0.1]), pair)
    area = (0.5 + 1.0) / 2 * 4.5 + 1.0 * 4.5
    assert m.aiq(of) == pytest.approx(area / 9)


def test_calibration_error_by_hand(m):
    p = np.array([0.05, 0.05, 0.95, 1.0])
    y = np.array([0.0, 1.0, 1.0, 1.0])
    assert m.ece(p, y) == pytest.approx((abs(0.1 - 1) + abs(1.95 - 2)) / 4)
    assert m.brier(p, y) == pytest.approx((0.05**2 + 0.95**2 + 0.05**2) / 4)
    assert m.ece(y, y) == 0


def test_a_pair_without_a_gap_has_no_pgr(m):
    same = np.array([1.0, 0.0])
    pair = m.Pair(weak=same, strong=same, weak_usd=same + 1, strong_usd=same + 2)
    assert np.isnan(m.apgr(m.curve(np.array([1.0, 2.0]), pair)))


def test_intervals_cover_and_are_repeatable(m):
    random = np.random.Generator(np.random.PCG64(0))
    values = random.normal(3, 1, 400)
    low, high = m.interval(lambda rows: values[rows].mean(), 400)
    assert low < values.mean() < high
    assert (high - low) == pytest.approx(4 / 20, rel=0.2)
    assert m.interval(lambda rows: values[rows].mean(), 400) == (low, high)
