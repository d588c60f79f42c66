"""A home whose files an enemy can write: it starts with the law that was approved, or not at all (I1)."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from gateway.offices import DAY, LOOSE, STRICT, Office

from allod.domain.errors import AllodError
from allod.gateway import changes, compose, declassifying, ownpacks, signers
from allod.gateway.preparing import Preparation
from allod.policy.declassification import Declassification

HELD = (".key", "log", "allod.sqlite", "keys")
"""What is not the law's: private keys, the log and the tables, each with tests of its own."""


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office with four eyes and a pack of its own, changed twice."""
    office = Office(tmp_path_factory.mktemp("approved") / "home", four_eyes=True)
    office.own(STRICT, "alice", "bob")
    office.change()
    office.begin()
    office.own(STRICT.replace("personal", "special"), "alice", "bob", version="1.1.0")
    office.change()
    office.begin()
    return office


def law_of(office: Office) -> tuple[object, ...]:
    """Start as a gateway does; return the law that would be in force."""
    setting = office.setting()
    policy = compose.decider(setting.fleet, setting.packs).policy
    changes.enforce(setting, policy, DAY)
    office.begin()
    return policy.digests(DAY), setting.fleet.tenant.four_eyes, setting.config.detect


def files(root: Path) -> list[Path]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return sorted(p for p in found if not set(p.relative_to(root).parts) & set(HELD) and p.suffix != ".key")


def harm(path: Path, others: list[Path], rng: random.Random) -> str:
    """Change one file as somebody with the disk could."""
    data = bytearray(path.read_bytes())
    match rng.randrange(6):
        case 0:
            path.unlink()
            return "deleted"
        case 1:
            path.write_bytes(data[: len(data) // 2])
            return "cut"
        case 2:
            shutil.copy(rng.choice(others), path)
            return "swapped"
        case 3:
            path.write_bytes(bytes(data) + b"\n# more\n")
            return "grown"
        case 4:
            path.write_text(
                path.read_text(errors="replace").replace("personal", "public").replace("special", "internal")
            )
            return "reworded"
        case _:
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            return "flipped"


@pytest.mark.parametrize("seed", range(18))
def test_whatever_is_done_to_a_file_the_approved_law_starts_or_none(
    approved: Office, tmp_path: Path, seed: int
) -> None:
    before = law_of(approved)
    office, rng = approved.copied(tmp_path / "home"), random.Random(seed)
    candidates = files(office.root)
    path = candidates[seed % len(candidates)]
    how = harm(path, candidates, rng)
    try:
        after = law_of(office)
    except AllodError:
        return
    assert after == before, (path, how)


def test_the_law_that_was_read_is_the_law_that_was_verified(tmp_path: Path) -> None:
    """Files that are swapped behind the back of a start, after its checks, change nothing in what starts."""
    office = Office(tmp_path / "home")
    office.own(STRICT, "alice")
    verified = ownpacks.verify_own
    text = (office.root / "packs" / "house" / "policies.cedar").read_text()

    def swapping(*args: object, **kwargs: object) -> object:
        found = verified(*args, **kwargs)  # type: ignore[arg-type]
        office.pack(LOOSE)  # the moment after the check
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "verify_own", swapping)
        setting = office.setting()
        policy = compose.decider(setting.fleet, setting.packs).policy
    house = next(pack for pack in policy.packs if pack.id == "house")
    assert house.text == text
    assert "phi" in (office.root / "packs" / "house" / "policies.cedar").read_text()
    with pytest.raises(AllodError):
        office.setting()


def test_a_pack_of_the_home_cannot_stand_in_for_one_that_is_shipped(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    office.own(STRICT, "alice")
    for name in ("base", "eu-gdpr"):
        fake = office.root / "packs" / name
        shutil.copytree(office.root / "packs" / "house", fake)
        with pytest.raises(AllodError, match="there twice"):
            office.setting()
        shutil.rmtree(fake)
    office.setting()


def note(office: Office, *by: str, name: str = "one", **more: object) -> Path:
    given = {"id": name, "app": "press", "types": ("EMAIL",), "reason": "r", "until": DAY + timedelta(days=9)}
    said = Declassification(**{**given, **more})  # type: ignore[arg-type]
    for who in by:
        path = declassifying.sign(office.home, said, signers.load_key(signers.key_path(office.home, who)))
    return path


def load(office: Office, *, four_eyes: bool = False) -> tuple[declassifying.Standing, ...]:
    return declassifying.load(office.home, office.setting().config.signers, DAY, four_eyes=four_eyes)


def test_I2_a_declassification_counts_for_exactly_what_was_signed(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    path = note(office, "alice")
    (one,) = load(office)
    assert one.said.types == ("EMAIL",)
    with pytest.raises(AllodError, match="two signatures"):
        load(office, four_eyes=True)
    note(office, "carol")  # another author is no second pair of eyes
    with pytest.raises(AllodError, match="two signatures"):
        load(office, four_eyes=True)
    note(office, "bob")
    assert len(load(office, four_eyes=True)) == 1
    good = path.read_text()
    for lie in (
        good.replace("EMAIL", "IBAN"),
        good.replace("press", "ward"),
        good.replace(f"{DAY + timedelta(days=9)}", f"{DAY + timedelta(days=900)}"),
        good.replace('"types":["EMAIL"]', '"types":["EMAIL"],"types":["IBAN"]'),
        good.split("\n\n")[0] + "\n\n",
        "",
    ):
        path.write_text(lie)
        with pytest.raises(AllodError):
            load(office)
    path.write_text(good)
    path.rename(path.with_name("other.note"))
    with pytest.raises(AllodError, match="another one"):
        load(office)


def test_I2_a_declassification_takes_back_no_label_no_default_and_nothing_unscanned(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    note(office, "alice", types=("EMAIL", "UNREADABLE", "unscanned", "personal", "OPINION"))
    setting = office.setting()
    standing = load(office)
    prepared = Preparation(
        setting.fleet, frozenset({"personal", "public", "unscanned", "phi"}),
        msgspec.structs.replace(setting.config.detect, max_chars=50), standing, b"s" * 32, lambda _: None,
    )  # fmt: skip
    from allod.admission.labels import NO_LABELS
    from allod.gateway.surfaces.chat import ChatSurface

    long = b'{"model": "m", "messages": [{"role": "user", "content": "' + b"word " * 40 + b'"}]}'
    ready = prepared.prepare(setting.fleet.apps["press"], ChatSurface().parse(long), NO_LABELS, None, DAY)
    assert ready is not None
    assert ready.detected == ("unscanned",)
