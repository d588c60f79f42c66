"""Labels: joined from headers and metadata, only ever tightening, nothing ignored."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.admission.labels import NAMES, labels_from, strip_metadata
from allod.domain.classes import BASE_CLASSES
from allod.domain.errors import Invalid
from allod.domain.request import Labels


def header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode(), value.encode()


def refused(headers=(), metadata=None, kind="invalid") -> Invalid:
    with pytest.raises(Invalid) as caught:
        labels_from(list(headers), metadata)
    assert caught.value.kind == kind
    return caught.value


def test_nothing_said_is_nothing_labelled() -> None:
    assert labels_from([], None) == Labels()
    assert labels_from([header("x-other", "allod")], {"user": "7", "allodium": "x"}) == Labels()


def test_headers_and_metadata_are_joined() -> None:
    labels = labels_from(
        [
            header("Allod-Data-Class", "phi, confidential"),
            header("allod-data-class", "phi"),
            header("ALLOD-TASK", "extract"),
            header("Allod-Min-Quality", "0.5"),
            header("Allod-Max-Cost", "0.02"),
            header("Allod-Deadline-Ms", "9000"),
            header("Allod-Effort", "low"),
        ],
        {
            "Allod-Data-Class": "restricted",
            "allod-purpose": "treatment",
            "allod-task": "extract",
            "allod-min-quality": 0.7,
            "allod-max-cost": "1",
            "allod-deadline-ms": 5000,
            "other": "kept",
        },
    )
    assert labels == Labels(
        classes=("confidential", "phi", "restricted"),
        purpose="treatment",
        task="extract",
        min_quality=Decimal("0.7"),
        max_cost_usd=Decimal("0.02"),
        deadline_ms=5000,
        effort="low",
    )


classes = st.sets(st.sampled_from(sorted(BASE_CLASSES)), min_size=1)
numbers = st.decimals(0, 1, places=3)


@given(classes, classes)
def test_classes_only_add_up(in_headers, in_metadata) -> None:
    labels = labels_from(
        [header("allod-data-class", one) for one in in_headers], {"allod-data-class": ",".join(in_metadata)}
    )
    assert set(labels.classes) == in_headers | in_metadata


@given(numbers, numbers, numbers, numbers, st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_stricter_number_wins(quality_a, quality_b, cost_a, cost_b, deadline_a, deadline_b) -> None:
    labels = labels_from(
        [
            header("allod-min-quality", str(quality_a)),
            header("allod-max-cost", str(cost_a)),
            header("allod-deadline-ms", str(deadline_a)),
        ],
        {
            "allod-min-quality": str(quality_b),
            "allod-max-cost": str(cost_b),
            "allod-deadline-ms": deadline_b,
        },
    )
    assert labels.min_quality == max(quality_a, quality_b)
    assert labels.max_cost_usd == min(cost_a, cost_b)
    assert labels.deadline_ms == min(deadline_a, deadline_b)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Allod-Data-Clas", "allod-data-class"),
        ("Allod-Dataclass", "allod-data-class"),
        ("allod_data_class", "allod-data-class"),
        ("Allod-Quality", "allod-min-quality"),
        ("Allod-Receipt", "allod-"),
        ("allod-", "allod-"),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_named(name, near) -> None:
    assert near in refused([header(name, "phi")]).remedy
    assert near in refused(metadata={name: "phi"}).remedy


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("phii", "phi"),
        ("PHI", "phi"),
        ("secret", "one of"),
        ("phi;personal", "personal"),
        ("Personal", "personal"),
    ],
)
def test_an_unknown_class_is_refused_and_the_nearest_named(value, near) -> None:
    assert near in refused([header("allod-data-class", value)]).remedy
    assert near in refused(metadata={"allod-data-class": f"public,{value}"}).remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allod-data-class", ""),
        ("allod-data-class", " , "),
        ("allod-purpose", ""),
        ("allod-purpose", "two words"),
        ("allod-purpose", "x" * 2000),
        ("allod-task", "../x"),
        ("allod-min-quality", "1.1"),
        ("allod-min-quality", "-0.1"),
        ("allod-min-quality", "NaN"),
        ("allod-min-quality", "high"),
        ("allod-max-cost", "-1"),
        ("allod-max-cost", "1e-3"),
        ("allod-max-cost", "$1"),
        ("allod-max-cost", "Infinity"),
        ("allod-max-cost", "0,5"),
        ("allod-max-cost", "\u0661"),
        ("allod-deadline-ms", "0"),
        ("allod-deadline-ms", "1.5"),
        ("allod-deadline-ms", "99999999999"),
        ("allod-deadline-ms", "1s"),
        ("allod-effort", "extreme"),
        ("allod-effort", "High"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused(name, value) -> None:
    refused([header(name, value)])
    refused(metadata={name: value})


@pytest.mark.parametrize("value", [None, True, {"a": 1}, [1], [], ["phi", 3], [["phi"]]])
def test_metadata_of_another_type_is_refused(value) -> None:
    refused(metadata={"allod-data-class": value})
    if value is not None:
        refused(metadata={"allod-max-cost": value})


def test_a_list_of_classes_in_metadata_is_taken() -> None:
    assert labels_from([], {"allod-data-class": ["phi", "internal"]}).classes == ("internal", "phi")


def test_bytes_that_are_not_ascii_are_refused() -> None:
    refused([(b"allod-purpose", b"treatm\xc3\xa9nt")])
    refused([(b"allod-d\xe9", b"x")])


@pytest.mark.parametrize("name", ["allod-purpose", "allod-task", "allod-effort"])
def test_two_different_single_values_are_a_conflict(name) -> None:
    first, second = ("low", "high") if name == "allod-effort" else ("a", "b")
    refused([header(name, first)], {name: second}, kind="conflict")
    refused([header(name, first), header(name, second)], kind="conflict")
    labels_from([header(name, first)], {name: first})


def test_a_known_label_that_is_not_enforced_is_not_supported() -> None:
    refused([header("Allod-Tier", "batch")], kind="not_supported")
    refused(metadata={"allod-tier": "batch"}, kind="not_supported")
    refused(metadata={"allod-tier": None}, kind="not_supported")


def test_labels_are_stripped_and_nothing_else() -> None:
    metadata = {"user": "7", "Allod-Task": "x", "allod_x": 1, "allodium": "y", "trace": {"a": 1}}
    assert strip_metadata(metadata) == {"user": "7", "allodium": "y", "trace": {"a": 1}}
    assert len(metadata) == 5
    assert strip_metadata({"allod-task": "x"}) is None
    assert strip_metadata(None) is None
    assert strip_metadata({}) is None


@given(st.dictionaries(st.sampled_from([*NAMES, "a", "user", "Allod-Task"]), st.text(max_size=5)))
def test_no_label_is_left_after_stripping(metadata) -> None:
    left = strip_metadata(metadata) or {}
    assert not any(key.lower().startswith("allod-") for key in left)
    assert all(left[key] is metadata[key] for key in left)


pairs = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)
anything = st.none() | st.dictionaries(st.text(max_size=12), st.text(max_size=12) | st.integers(), max_size=5)


@given(pairs, anything)
def test_hostile_input_is_read_or_refused_never_a_crash(headers, metadata) -> None:
    prefixed = [(b"allod-" + name if len(name) % 2 else name, value) for name, value in headers]
    with contextlib.suppress(Invalid):
        assert isinstance(labels_from(prefixed, metadata), Labels)
