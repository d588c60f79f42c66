"""Importing: what may enter, what continues, what is refused, and that the receipt says exactly that."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf_writer
import pytest
from supply_world import (
    NOW_MS,
    Publisher,
    Site,
    catalogue,
    digest_of_bundle,
    nothing,
    pack,
    pack_files,
    pieces,
    price_book,
    prices,
    program_folder,
    revocations,
)

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.store.home import load_keys
from allod.vault.bundle import content, switch
from allod.vault.bundle.form import decode
from allod.vault.collect import collect

BAD = "sha256:" + "b" * 64


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def small(publisher: Publisher) -> Path:
    return publisher.bundle(pack(), price_book(), channel="small")


@pytest.fixture(scope="module")
def model(publisher: Publisher) -> Path:
    return publisher.bundle(publisher.model("tiny"), pack(), channel="model")


@pytest.fixture
def site(tmp_path: Path, publisher: Publisher) -> Site:
    return Site(tmp_path / "site", publisher)


# --- what enters


@pytest.mark.parametrize("tar", [False, True], ids=["folder", "tar"])
def test_everything_arrives_and_says_so(site: Site, publisher: Publisher, tar: bool) -> None:
    bundle = publisher.bundle(
        publisher.model("tiny"),
        pack(),
        price_book(),
        pieces.text("catalogue", "models", "1", catalogue()),
        pieces.text("revocations", "list", "1", revocations(BAD)),
        pieces.files("trust", "makers", "1", {"log.vkey": vkey_file(publisher)}),
        pieces.program(program_folder(publisher.root / f"program-{int(tar)}")),
        channel=f"all-{int(tar)}",
        tar=tar,
    )
    done = site.bring(bundle)
    assert {kind for kind, _ in site.items()} == {
        "model", "pack", "prices", "catalogue", "revocations", "trust", "program",
    }  # fmt: skip
    assert site.models() == publisher_models(publisher, "tiny")
    assert set(site.vault.revocations.read()) == {BAD}
    assert site.vault.verify("tiny").manifest.licence == "mit"
    assert site.vault.resolve("tiny").weights.digest == site.models()["tiny"]
    (held,) = [item for item in done.generation.items if item.kind == "program"]
    folder = switch.program_folder(site.supply, held)
    assert sorted(p.name for p in folder.iterdir()) == ["allod-9.9.9-py3-none-any.whl", "requirements.lock"]
    assert not any(site.supply.incoming.iterdir())
    assert done.generation.steps[-1].name == "items"
    kept = switch.models(site.supply, done.generation.items)["tiny"]
    assert kept == site.vault.find("tiny").manifest


def vkey_file(publisher: Publisher) -> Path:
    path = publisher.root / "log.vkey"
    path.write_text(load_keys(publisher.home).signer.key.vkey())
    return path


def publisher_models(publisher: Publisher, *names: str) -> dict[str, str]:
    return {name: publisher.vault.find(name).digest for name in names}


def test_what_a_bundle_does_not_bring_is_taken_over(site: Site, publisher: Publisher) -> None:
    site.bring(publisher.bundle(pack("one"), price_book(), channel="over"))
    site.bring(publisher.bundle(pack("two"), channel="over"))
    site.bring(publisher.bundle(pack("one", version="2.0.0"), channel="other"))
    assert site.items() == {
        ("pack", "one"): "2.0.0",
        ("pack", "two"): "1.0.0",
        ("prices", "list"): "2026.11.20",
    }
    origins = {item.name: (item.origin.channel, item.origin.number) for item in site.supply.serving().items}
    assert origins == {"one": ("other", 1), "two": ("over", 2), "list": ("over", 1)}


def test_an_adapter_comes_with_its_base(site: Site, publisher: Publisher) -> None:
    site.bring(publisher.bundle(*adapter(publisher), channel="adapter"))
    found = site.vault.resolve("an-adapter")
    assert found.adapter is not None
    assert found.weights.manifest.name == "base"


def adapter(publisher: Publisher) -> tuple[pieces.Content, pieces.Content]:
    """Return an adapter and its base."""
    if "an-adapter" not in {entry.manifest.name for entry in publisher.vault.list()}:
        publisher.model("base", seed=3)
        file = gguf_writer.adapter(publisher.root / "adapter.gguf")
        publisher.vault.add(file, "an-adapter", base="base")
    return pieces.model(publisher.vault, "an-adapter"), pieces.model(publisher.vault, "base")


def test_an_adapter_without_its_base_is_refused(site: Site, publisher: Publisher) -> None:
    with pytest.raises(Invalid, match="holds no"):
        site.bring(publisher.bundle(adapter(publisher)[0], channel="orphan"))
    nothing(site)


def test_a_name_that_a_bundle_gave_may_be_given_anew_and_goes_back_with_a_rollback(
    site: Site, publisher: Publisher
) -> None:
    site.bring(publisher.bundle(publisher.model("moving", seed=1), channel="moving"))
    first = site.models()["moving"]
    site.bring(
        publisher.bundle(publisher.model("moving", seed=2), publisher.model("more", seed=4), channel="moving")
    )
    second = site.models()
    assert second["moving"] != first
    assert set(second) == {"moving", "more"}
    with switch.importing(site.supply):
        switch.rollback(site.supply, NOW_MS + 2000)
    switch.settle(site.supply, site.vault, load_keys(site.home).signer)
    assert site.models() == {"moving": first}


def test_a_name_that_somebody_gave_here_stays_theirs(
    site: Site, publisher: Publisher, tmp_path: Path
) -> None:
    site.vault.add(gguf_writer.tiny(tmp_path / "m.gguf", seed=9), "tiny")
    mine = site.models()
    with pytest.raises(Invalid, match="taken"):
        site.bring(publisher.bundle(publisher.model("tiny"), pack(), channel="taken"))
    assert site.models() == mine
    assert site.supply.serving() is None


def test_imported_again_nothing_changes(site: Site, small: Path) -> None:
    first = site.bring(small)
    again = site.bring(small, NOW_MS + 60_000)
    assert again.repeated
    assert again.generation == first.generation
    assert again.receipt == first.receipt


def test_gc_keeps_what_serves_and_frees_what_was_given_up(
    site: Site, publisher: Publisher, model: Path
) -> None:
    site.bring(model)
    assert collect(site.vault).removed == ()
    assert site.vault.verify("tiny")


# --- what does not


def test_a_bundle_of_the_past_or_of_strangers_does_not_enter(
    site: Site, publisher: Publisher, tmp_path: Path
) -> None:
    old, new = publisher.bundle(pack(), channel="past"), publisher.bundle(price_book(), channel="past")
    site.bring(new)
    with pytest.raises(Integrity):
        site.bring(old)
    stranger = Publisher(tmp_path / "stranger")
    with pytest.raises(Integrity):
        site.bring(stranger.bundle(pack()))
    assert site.items() == {("prices", "list"): "2026.11.20"}


def test_without_trust_nothing_enters(site: Site, small: Path) -> None:
    site.supply.trust.unlink()
    with pytest.raises(Invalid, match="nobody is trusted"):
        site.bring(small)
    site.supply.trust.write_text("threshold = 1\n")
    with pytest.raises(Invalid, match="cannot be used"):
        site.bring(small)
    nothing(site)


def test_trust_that_others_may_write_is_no_trust(site: Site, small: Path) -> None:
    site.supply.trust.chmod(0o666)
    with pytest.raises(Integrity, match="written by others"):
        site.bring(small)


def test_a_revoked_bundle_or_signer_does_not_enter(site: Site, publisher: Publisher, small: Path) -> None:
    digest = digest_of_bundle(small)
    site.vault.revoke(digest, "made by mistake")
    with pytest.raises(Integrity, match="revoked"):
        site.bring(small)
    other = Site(site.root.parent / "other", publisher)
    (signer,) = publisher.publisher.keyring(proof=False).signers
    other.bring(
        publisher.bundle(
            pieces.text("revocations", "list", "1", revocations(f"sha256:{signer}")), channel="rv"
        )
    )
    with pytest.raises(Integrity, match="signature"):
        other.bring(small)


def changed(bundle: Path, to: Path, kind: str, change: Callable[[bytes], bytes]) -> Path:
    """Copy a bundle and change a byte of the largest blob of an item of this kind, its length kept."""
    shutil.copytree(bundle, to)
    (item,) = [item for item in decode((bundle / "bundle.json").read_bytes()).items if item.kind == kind]
    part = max(item.parts, key=lambda part: part.size_bytes)
    path = to / "blobs" / "sha256" / part.digest.removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))
    return to


@pytest.mark.parametrize("kind", ["model", "pack"])
def test_one_changed_byte_keeps_all_of_it_out_and_the_true_bundle_continues(
    site: Site, model: Path, tmp_path: Path, kind: str
) -> None:
    bad = changed(model, tmp_path / "bad", kind, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(Integrity, match="not what was signed"):
        site.bring(bad)
    nothing(site)
    assert not list(site.supply.incoming.rglob("*.part"))
    site.bring(model)
    assert site.models()


def test_a_part_continued_from_another_source_is_begun_anew(site: Site, model: Path) -> None:
    bundle = decode((model / "bundle.json").read_bytes())
    part = next(part for part in bundle.parts if part.path.endswith(".gguf"))
    folder = site.home.vault / "incoming" / digest_of_bundle(model).removeprefix("sha256:")
    folder.mkdir(parents=True)
    (folder / f"{part.digest.removeprefix('sha256:')}.part").write_bytes(os.urandom(part.size_bytes // 2))
    site.bring(model)
    assert site.vault.verify("tiny")


def test_a_part_that_was_noted_and_then_touched_is_read_again(
    site: Site, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = switch.switch

    def refuse(*_: object) -> None:
        raise Unavailable("not now")

    monkeypatch.setattr(switch, "switch", refuse)
    with pytest.raises(Unavailable):
        site.bring(model)
    nothing(site)
    for path in (site.supply.incoming / digest_of_bundle(model).removeprefix("sha256:")).iterdir():
        if len(path.name) == 64:
            path.write_bytes(b"?" * path.stat().st_size)
    monkeypatch.setattr(switch, "switch", real)
    site.bring(model)
    assert site.sees()[0][("pack", "house")] == "1.0.0"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pieces.pack("base", "1.0.0", pack_files("base"), None), "base pack"),
        (lambda: pieces.pack("other", "1.0.0", pack_files("house"), None), "holds house"),
        (lambda: pieces.pack("house", "1.0.1", pack_files("house"), None), "holds house 1.0.0"),
        (lambda: pieces.pack("house", "1.0.0", {**pack_files(), "policies.cedar": b"permit"}, None), ""),
        (lambda: pieces.pack("house", "1.0.0", {**pack_files(), "run.py": b"x"}, None), "program"),
        (lambda: pieces.text("prices", "p", "1", b"{}"), "price book"),
        (lambda: pieces.text("prices", "p", "1", prices(source=" ")), "where it is from"),
        (lambda: pieces.text("prices", "p", "1", prices(as_of="2027-01-01")), "to come"),
        (lambda: pieces.text("prices", "p", "1", prices("-3")), "cannot be read"),
        (lambda: pieces.text("prices", "p", "1", prices("NaN")), "cannot be read"),
        (lambda: pieces.text("catalogue", "c", "1", catalogue(context_tokens=-1)), "no number of tokens"),
        (lambda: pieces.text("catalogue", "c", "1", catalogue(evil=1)), "cannot be used"),
        (lambda: pieces.text("catalogue", "c", "1", catalogue(title="a\u202eb")), "printable"),
        (lambda: pieces.text("revocations", "r", "1", revocations("md5:1")), "no digest"),
        (lambda: pieces.text("revocations", "r", "1", b"[1]"), "cannot be used"),
    ],
)
def test_what_is_signed_and_still_wrong_keeps_all_of_it_out(
    site: Site, publisher: Publisher, make: Callable[[], pieces.Content], words: str
) -> None:
    bundle = publisher.bundle(make(), pack("good"), channel="wrong")
    with pytest.raises((Integrity, Invalid)) as caught:
        site.bring(bundle)
    assert words in caught.value.explain()
    nothing(site)


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (b"", None),
        (b"allod==1\n", "without version and digest"),
        (b"allod>=1 --hash=sha256:" + b"0" * 64, "without version and digest"),
        (b"--index-url http://x\nallod==1 --hash=sha256:" + b"0" * 64, "option"),
        (b"-r other.txt\n", "option"),
        (b"allod==1 \\\n  --hash=sha256:" + b"0" * 64 + b"  # via x\n# a note\n", None),
        (b"\xff", "codec"),
    ],
)
def test_a_programs_lock_names_every_package_by_digest(lock: bytes, words: str | None) -> None:
    if words is None:
        assert content.program("allod", ("a.whl", "b.lock"), {"b.lock": lock}) == "b.lock"
        return
    with pytest.raises(Integrity) as caught:
        content.program("allod", ("a.whl", "b.lock"), {"b.lock": lock})
    assert words in caught.value.why


def test_a_model_whose_manifest_lies_is_refused(site: Site, publisher: Publisher) -> None:
    publisher.model("liar", seed=5)
    told = pieces.model(publisher.vault, "liar")
    sources = []
    for source in told.sources:
        if source.path == "manifest.json":
            said = json.loads(source.data)
            said["files"][0]["digest"] = BAD
            sources.append(pieces.of_bytes("manifest.json", json.dumps(said).encode()))
        else:
            sources.append(source)
    lying = pieces.Content(
        kind="model", name="liar", version="1", sources=tuple(sorted(sources, key=lambda s: s.path))
    )
    with pytest.raises(Integrity, match="other files than its manifest"):
        site.bring(publisher.bundle(lying, channel="liar"))
    nothing(site)


def test_a_file_that_is_no_model_does_not_enter_though_it_is_signed(site: Site, publisher: Publisher) -> None:
    publisher.model("broken", seed=6)
    told = pieces.model(publisher.vault, "broken")
    junk = b"GGUF" + b"\xff" * 400
    sources = []
    for source in told.sources:
        if source.path.startswith("files/"):
            source = pieces.of_bytes(source.path, junk)  # noqa: PLW2901
        elif source.path == "manifest.json":
            said = json.loads(source.data)
            said["files"][0] |= {"digest": pieces.of_bytes("x", junk).digest, "size_bytes": len(junk)}
            source = pieces.of_bytes("manifest.json", json.dumps(said).encode())  # noqa: PLW2901
        sources.append(source)
    broken = pieces.Content(kind="model", name="broken", version="1", sources=tuple(sources))
    with pytest.raises(Invalid):
        site.bring(publisher.bundle(broken, channel="broken"))
    nothing(site)
