"""What a home keeps of drafts: damaged, old, of something else or not writable, it means plain."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from disks import small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.drafting import DraftSetup
from allod.domain.errors import Integrity, Unavailable
from allod.domain.fleet import Deployment, Fleet, Operator, Tenant
from allod.gateway import speculating
from allod.gateway.speculating import (
    Line,
    Measured,
    alone,
    drafts,
    file_of,
    forget,
    keep,
    noted,
    read,
    standing,
)
from allod.store.home import Home

DAY_MS = 86_400_000
AT_MS = 1_790_000_000_000
AT = "2026-09-21T14:13:20.000Z"
SETUP = DraftSetup(
    weights="sha256:" + "a" * 64, adapter=None, template=None, draft="sha256:" + "b" * 64,
    engine_version="2026.1.1", engine_digest="sha256:" + "c" * 64, machine="x", threads=1, slots=2,
    context_tokens=4096,
)  # fmt: skip
LINE = Line(
    kind="all", prompts=12, plain_tok_s="10", draft_tok_s="15", speed_up=("1.5", "1.3", "1.7"),
    acceptance=("0.8", "0.7", "0.9"), drafted=100, accepted=80,
)  # fmt: skip
GOOD = Measured(
    deployment="local", at=AT, setup=SETUP, prompts="sha256:" + "d" * 64, rounds=5, max_tokens=96, whole=LINE,
    kinds=(), engine_speed_up=None, different=0, accept_different=False, sandbox="seccomp+netns",
    memory_bytes=(1, 2),
)  # fmt: skip
FLEET = Fleet(
    tenant=Tenant(id="t", home="DE", bloc=("EEA",)),
    apps={},
    operators={"self": Operator(id="self", own=True)},
    deployments={
        d.id: d
        for d in (
            Deployment(id="local", engine="llamacpp", model="m", operator="self", draft="small"),
            Deployment(id="bare", engine="llamacpp", model="m", operator="self"),
            Deployment(id="far", engine="compatible", model="m", operator="self", draft="ignored"),
        )
    },
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return fresh(tmp_path / "home")


def fresh(root: Path) -> Home:
    home = Home(root)
    speculating.folder(home).mkdir(parents=True)
    return home


def why(home: Home, at_ms: int = AT_MS) -> str:
    (one,) = standing(home, FLEET, at_ms)
    assert not one.used
    assert drafts(home, FLEET, at_ms) == {} == noted(home, FLEET, at_ms)
    assert "allod plan speculate local" in one.remedy
    return one.why


def test_what_is_kept_is_read_again_and_lets_the_draft_in(home: Home) -> None:
    keep(home, GOOD)
    assert read(home, "local") == GOOD
    assert drafts(home, FLEET, AT_MS) == {"local": SETUP}
    assert noted(home, FLEET, AT_MS) == {"drafts": "local small"}
    (one,) = standing(home, FLEET, AT_MS)
    assert one.used
    assert "1.30" in one.told()


def test_nothing_measured_means_plain(home: Home) -> None:
    assert why(home) == "nothing was measured"


@pytest.mark.parametrize(
    ("at_ms", "told"), [(AT_MS + 91 * DAY_MS, "older than 90 days"), (AT_MS - 2 * DAY_MS, "not yet")]
)
def test_an_old_measurement_and_one_of_tomorrow_mean_plain(home: Home, at_ms: int, told: str) -> None:
    keep(home, GOOD)
    assert told in why(home, at_ms)


def with_line(**changes: object) -> Measured:
    return msgspec.structs.replace(GOOD, whole=msgspec.structs.replace(LINE, **changes))


@pytest.mark.parametrize(
    "found",
    [
        with_line(speed_up=("1.5", "1.1", "1.9")),
        with_line(speed_up=("0.6", "0.5", "0.7")),
        with_line(drafted=0, accepted=0, acceptance=None),
        msgspec.structs.replace(GOOD, different=1),
    ],
)
def test_a_measurement_that_speaks_against_means_plain(home: Home, found: Measured) -> None:
    keep(home, found)
    assert why(home)


@pytest.mark.parametrize(
    "found",
    [
        with_line(speed_up=None),
        with_line(speed_up=("NaN", "NaN", "NaN")),
        with_line(speed_up=("Infinity", "Infinity", "Infinity")),
        with_line(speed_up=("x", "1.3", "1.7")),
        msgspec.structs.replace(GOOD, at="yesterday"),
        msgspec.structs.replace(GOOD, at="2026-09-21T14:13:20"),
        msgspec.structs.replace(GOOD, format="allod-speculation-2"),
    ],
)
def test_a_measurement_that_makes_no_sense_means_plain(home: Home, found: Measured) -> None:
    keep(home, found)
    assert "no measurement" in why(home)


def test_a_measurement_of_another_deployment_means_plain(home: Home) -> None:
    keep(home, msgspec.structs.replace(GOOD, deployment="bare"))
    file_of(home, "bare").rename(file_of(home, "local"))
    assert "no measurement of local" in why(home)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_means_plain(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    home = fresh(tmp_path_factory.mktemp("h") / "home")
    keep(home, GOOD)
    path = file_of(home, "local")
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
    else:
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    path.write_bytes(raw)
    assert why(home)
    with pytest.raises(Integrity):
        read(home, "local")


def test_a_file_that_is_no_file_means_plain(home: Home) -> None:
    file_of(home, "local").mkdir()
    assert "cannot be read" in why(home)


def test_a_file_that_does_not_end_means_plain(home: Home) -> None:
    file_of(home, "local").write_bytes(b" " * (2 << 20))
    assert "too large" in why(home)


def test_on_a_full_disk_what_held_before_holds_no_more(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        home = fresh(disk / "home")
        keep(home, GOOD)
        with pytest.raises(OSError), (disk / "ballast").open("wb") as ballast:  # noqa: PT012
            while True:
                ballast.write(b"x" * 4096)
                ballast.flush()
        with pytest.raises(Unavailable) as caught:
            keep(home, msgspec.structs.replace(GOOD, different=3))
        assert caught.value.kind == "storage"
        assert why(home) == "nothing was measured"


def test_two_measurements_at_once_are_one_too_many(home: Home) -> None:
    with alone(home):
        with pytest.raises(Unavailable) as caught, alone(home):
            pass
        assert caught.value.kind == "busy"
    with alone(home):
        pass


def test_forgetting_twice_is_forgetting(home: Home) -> None:
    keep(home, GOOD)
    forget(home, "local")
    forget(home, "local")
    assert why(home) == "nothing was measured"


def test_what_changed_is_named() -> None:
    now = msgspec.structs.replace(SETUP, engine_digest="sha256:" + "0" * 64, threads=4)
    assert SETUP.changed(now) == ("engine digest", "threads")
    assert SETUP.changed(SETUP) == ()
