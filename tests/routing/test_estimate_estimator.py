import contextlib
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.routing.calibrate import IDENTITY, apply_beta, fit_beta
from allod.routing.estimate import Estimator, Prior, Seen
from allod.routing.evidence import DAY_MS, Evidence
from allod.routing.features import Asked, features
from allod.routing.fitted import read_fitted, write_fitted

HARD = ("prove the integral theorem", "derive the tensor identity", "integral over the manifold")
EASY = ("translate hello", "say good morning", "what is a cat")


def world(n, *, seed=0, wrong=0.0, start=0):
    """Easy and hard requests; ``strong`` does both, ``weak`` only the easy ones, mostly."""
    random = np.random.Generator(np.random.PCG64(seed))
    out = []
    for at in range(n):
        hard = at % 2 == 0
        text = f"{(HARD if hard else EASY)[at % 3]} number {random.integers(1000)}"
        found = features(Asked(text=text, task="maths" if at % 4 < 2 else "words"))
        for name, p in (("strong", 0.9), ("weak", 0.15 if hard else 0.85)):
            good = (random.random() < p) != (random.random() < wrong)
            out.append(
                Seen(receipt=f"r{start + at}", deployment=name, features=found, quality=float(good),
                     output_tokens=int((400 if hard else 20) * random.uniform(0.8, 1.2)),
                     at_ms=(start + at) * 60_000)
            )  # fmt: skip
    return out


def ask(text, task="maths"):
    return features(Asked(text=text, task=task))


@pytest.fixture(scope="module")
def fitted():
    out = Estimator(priors=[Prior(deployment="new", score=0.7, worth=4, source="a paper")])
    out.fit(world(600))
    return out


def test_it_learns_who_can_do_what(fitted):
    hard, easy = (fitted.predict(ask(one[0] + " number 7"), ("weak", "strong")) for one in (HARD, EASY))
    assert hard["weak"].success < 0.4
    assert easy["weak"].success > 0.6
    assert hard["strong"].success > 0.75
    assert easy["weak"].output_tokens < 100 < hard["weak"].output_tokens < 600
    for one in (*hard.values(), *easy.values()):
        assert 0 <= one.low <= one.success <= one.high <= 1
        assert one.output_tokens <= one.output_tokens_high


def test_only_those_asked_about_are_estimated_and_none_alters_another(fitted):
    of = ask("derive a cat")
    both = fitted.predict(of, ("weak", "strong"))
    assert list(fitted.predict(of, ("weak",))) == ["weak"]
    assert fitted.predict(of, ("weak",))["weak"] == both["weak"]
    assert fitted.predict(of, ()) == {}


def test_without_evidence_the_prior_speaks_and_says_how_little_it_knows(fitted):
    new, none = fitted.predict(ask("x"), ("new", "unheard-of")).values()
    assert new.success == pytest.approx((0.5 + 4 * 0.7) / 5)
    assert (new.n, none.n, none.success) == (0, 0, 0.5)
    assert none.high - none.low > new.high - new.low > 0.5


@pytest.mark.parametrize("wrong", [{"score": 1.2}, {"score": float("nan")}, {"worth": 0}, {"worth": 51}])
def test_a_prior_stays_weak_and_lawful(wrong):
    lawful = Prior(deployment="a", score=0.5)
    with pytest.raises(Invalid):
        Estimator(priors=[msgspec.structs.replace(lawful, **wrong)])


def test_I8_fitting_does_not_depend_on_the_order_of_what_was_told(fitted):
    other = Estimator(priors=fitted.priors)
    other.fit(world(600)[::-1])
    assert other.to_bytes() == fitted.to_bytes()


def test_I8_replay_gives_the_same_bytes():
    once, again = (Estimator() for _ in range(2))
    for one in (once, again):
        one.fit(world(120))
        for seen in world(40, seed=1, start=120):
            one.update(seen)
    assert once.to_bytes() == again.to_bytes()
    of = ask("prove the cat")
    assert once.predict(of, ("weak", "strong")) == again.predict(of, ("weak", "strong"))


@pytest.fixture(scope="module")
def shared():
    node = Estimator(Evidence(requests=70))
    node.fit(world(60))
    return node.to_bytes()


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_I8_merging_estimators_is_learning_both(shared, data):
    more = world(30, seed=2, start=200)
    ours, theirs = (data.draw(st.lists(st.sampled_from(more), max_size=12)) for _ in range(2))
    nodes = []
    for told in (ours, theirs, ours + theirs):
        node = Estimator.from_bytes(shared)
        for seen in told:
            node.update(seen)
        nodes.append(node)
    a, b, both = nodes
    a.merge(b)
    of = ask("say the integral")
    assert a.to_bytes() == both.to_bytes()
    assert a.predict(of, ("weak", "strong")) == both.predict(of, ("weak", "strong"))


def test_read_back_it_goes_on_the_same(fitted):
    again = Estimator.from_bytes(fitted.to_bytes(), fitted.digest)
    of = ask("derive the morning")
    for one in (again, Estimator.from_bytes(fitted.to_bytes())):
        assert one.predict(of, ("weak", "strong", "new")) == fitted.predict(of, ("weak", "strong", "new"))
    with pytest.raises(Integrity):
        Estimator.from_bytes(fitted.to_bytes(), "sha256:" + "0" * 64)


def test_hostile_bytes_are_refused(fitted):
    body = fitted.to_bytes()
    random = np.random.Generator(np.random.PCG64(5))
    for _ in range(60):
        changed = bytearray(body)
        changed[int(random.integers(len(body)))] ^= int(random.integers(1, 256))
        with contextlib.suppress(Integrity):
            assert Estimator.from_bytes(bytes(changed)).to_bytes() == bytes(changed)
    for cut in (0, 1, 50, len(body) // 2, len(body) - 1):
        with pytest.raises(Integrity):
            Estimator.from_bytes(body[:cut])
    with pytest.raises(Integrity):
        Estimator.from_bytes(body + b"\x00")


def test_trees_that_lead_in_circles_or_nowhere_are_refused(fitted):
    forest = fitted.fitted.forest
    inner = int(np.flatnonzero(forest.feature >= 0)[0])
    leaf = int(np.flatnonzero(forest.feature < 0)[0])
    for name, at, value in (
        ("left", inner, inner), ("left", inner, len(forest.left)), ("left", leaf, len(forest.leaves)),
        ("left", leaf, -1), ("feature", inner, 9999), ("feature", leaf, -2), ("roots", 0, len(forest.left)),
    ):  # fmt: skip
        array = getattr(forest, name).copy()
        array[at] = value
        bad = msgspec.structs.replace(fitted.fitted, forest=msgspec.structs.replace(forest, **{name: array}))
        with pytest.raises(Integrity):
            read_fitted(write_fitted(bad))


def test_numbers_that_are_none_are_refused(fitted):
    for name, value in (("scale", np.nan), ("scale", -1.0), ("calibration", np.inf), ("cells", -1.0)):
        array = getattr(fitted.fitted, name).copy()
        array[(0,) * array.ndim] = value
        with pytest.raises(Integrity):
            read_fitted(write_fitted(msgspec.structs.replace(fitted.fitted, **{name: array})))


def test_a_deployment_that_turns_bad_overnight_is_found_within_a_day_and_comes_back():
    node = Estimator()
    node.fit(world(400))
    of, good = ask(EASY[0], "words"), []
    day = 3 * DAY_MS
    for at in range(80):
        seen = Seen(
            receipt=f"bad{at}",
            deployment="strong",
            features=ask(EASY[at % 3], "words"),
            quality=0.0,
            at_ms=day,
        )
        node.update(seen)
        good.append(node.predict(of, ("strong", "weak")))
    assert good[40]["strong"].success < 0.5
    assert good[79]["strong"].success < 0.25
    assert good[79]["weak"] == good[0]["weak"]
    for at in range(80):
        seen = Seen(receipt=f"well{at}", deployment="strong", features=ask(EASY[at % 3], "words"),
                    quality=1.0,
                    at_ms=day + 14 * DAY_MS)  # fmt: skip
        node.update(seen)
    assert node.predict(of, ("strong",))["strong"].success > 0.7


def test_a_tenth_of_the_labels_turned_around_moves_estimates_little():
    clean, dirty = (Estimator() for _ in range(2))
    clean.fit(world(800))
    dirty.fit(world(800, wrong=0.1))
    for one in (HARD[1] + " number 7", EASY[1] + " number 7"):
        a, b = (node.predict(ask(one), ("weak", "strong")) for node in (clean, dirty))
        for name in ("weak", "strong"):
            expected = a[name].success * 0.9 + (1 - a[name].success) * 0.1
            assert abs(b[name].success - expected) < 0.12
        assert b["weak"].success < b["strong"].success + 0.05


def test_evidence_is_bounded_and_estimates_are_quick(fitted):
    assert len(fitted.evidence.to_bytes()) / 600 < 2048
    assert len(write_fitted(fitted.fitted)) / 2 < 700_000
    asked = [f"{HARD[n % 3]} {'and more ' * n}" for n in range(300)]
    took = []
    for text in asked:
        start = time.process_time()
        fitted.predict(ask(text), ("weak", "strong"))
        took.append(time.process_time() - start)
    assert np.median(took) < 0.002


def test_an_empty_fit_is_no_fit():
    node = Estimator()
    node.fit()
    assert node.fitted is None
    assert node.fitted_digest is None
    node.update(Seen(receipt="r", deployment="a", features=ask("x"), quality=None, output_tokens=5))
    node.fit()
    assert Estimator.from_bytes(node.to_bytes()).digest == node.digest
    assert 0.3 < node.predict(ask("x"), ("a",))["a"].success < 0.7


def test_calibration_straightens_and_keeps_order():
    random = np.random.Generator(np.random.PCG64(3))
    true = random.random(6000)
    good = (random.random(6000) < true).astype(float)
    squeezed = 0.4 + true / 5
    p = apply_beta(np, squeezed, fit_beta(np, squeezed, good, np.ones(6000)))
    assert abs(p - true).mean() < 0.03
    assert (np.diff(p[np.argsort(squeezed)]) >= 0).all()
    assert fit_beta(np, np.zeros(0), np.zeros(0), np.zeros(0)) == pytest.approx(IDENTITY)
