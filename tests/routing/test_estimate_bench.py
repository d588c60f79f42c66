import numpy as np
import pytest

from allod.domain.errors import Invalid
from allod.routing.bench import make


def rows(n, task="t"):
    return [
        {"prompt_id": f"{at:x}", "task": task, "prompt": f"question {at} " + "very " * (at % 7)}
        for at in range(n)
    ]


def lawful(found, models):
    assert list(found) == models
    assert all(isinstance(p, float) and 0 <= p <= 1 for p in found.values())


@pytest.mark.parametrize("n", [0, 1, 2, 7, 30])
def test_few_prompts_are_enough(n):
    stage, models = make(), ["a", "b"]
    stage.fit(rows(n), models, np.ones((n, 2)), np.ones((n, 2)))
    lawful(stage.predict({"prompt_id": "x", "task": "t", "prompt": "question"}), models)


def test_missing_outcomes_missing_models_and_odd_prompts():
    prompts, models = rows(60), ["none", "half", "all"]
    prompts[0]["prompt"], prompts[1]["prompt"], prompts[2]["prompt"] = "", "x" * 1_000_000, "🤖\ud800\x00"
    quality = np.tile([np.nan, 1.0, 0.0], (60, 1))
    quality[::2, 1] = np.nan
    quality[3, 2] = np.inf
    stage = make()
    stage.fit(prompts, models, quality, np.full((60, 3), np.nan))
    for text, task in (("", "t"), ("x" * 1_000_000, "never seen"), ("naïve ☃ ١٢٣", ""), (None, None)):
        found = stage.predict({"prompt_id": "p", "task": task, "prompt": text})
        lawful(found, models)
        assert found["all"] < 0.2
        assert found["half"] > 0.8
        assert 0.2 < found["none"] < 0.8
    lawful(stage.predict({}), models)


def test_nothing_known_at_all():
    stage = make()
    stage.fit(rows(5), ["a"], np.full((5, 1), np.nan), None)
    lawful(stage.predict(rows(1)[0]), ["a"])
    assert make().predict(rows(1)[0]) == {}


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(Invalid):
        make().fit(rows(4), ["a", "b"], np.ones((4, 3)), None)


def test_the_order_of_prompts_and_models_does_not_matter():
    random = np.random.Generator(np.random.PCG64(1))
    prompts, quality = rows(80), (random.random((80, 3)) < 0.6).astype(float)
    one, other, order = make(), make(), random.permutation(80)
    one.fit(prompts, ["a", "b", "c"], quality, None)
    other.fit([prompts[at] for at in order], ["c", "a", "b"], quality[order][:, [2, 0, 1]], None)
    for row in rows(5):
        a, b = one.predict(row), other.predict(row)
        assert a == {name: b[name] for name in a}
        assert list(b) == ["c", "a", "b"]


def test_fitting_twice_forgets_the_first():
    stage, fresh = make(), make()
    stage.fit(rows(30), ["a"], np.zeros((30, 1)), None)
    for one in (stage, fresh):
        one.fit(rows(30, "u"), ["b"], np.ones((30, 1)), None)
    assert stage.predict(rows(1)[0]) == fresh.predict(rows(1)[0])
