"""Import receipts and trust files: what they say, and what is not taken for one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from supply_world import (
    Publisher,
    Site,
    digest_of_bundle,
    pack,
    price_book,
)

from allod.domain.errors import AllodError, Invalid
from allod.receipts.canonical import canonical
from allod.store.home import load_keys, make_home
from allod.vault.bundle import keys, receipt, trust


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


def test_a_receipt_is_verified_by_whoever_has_the_homes_key(site: Site, small: Path, tmp_path: Path) -> None:
    raw = site.bring(small).receipt.read_bytes()
    vkey = load_keys(site.home).signer.key.vkey()
    sent = (small / "bundle.json").read_bytes()
    done = receipt.verify(raw, vkey, sent)
    assert done.ok
    assert [step.name for step in done.steps] == ["form", "signature", "statement", "bundle"]
    assert done.receipt is not None
    assert [item.name for item in done.receipt.items] == ["house", "list"]
    assert done.receipt.bundle.digest == digest_of_bundle(small)
    other = load_keys(make_home(tmp_path / "other")).signer.key.vkey()
    assert not receipt.verify(raw, other).ok
    envelope = json.loads(raw)
    payload = base64.b64decode(envelope["payload"])
    for change in (
        lambda e: e | {"payload": base64.b64encode(payload.replace(b"house", b"louse")).decode()},
        lambda e: e | {"payloadType": "application/vnd.allod.bundle+json"},
        lambda e: e | {"signatures": []},
        lambda e: e | {"extra": 1},
    ):
        assert not receipt.verify(canonical(change(dict(envelope))), vkey).ok
    assert not receipt.verify(raw + b"\n", vkey).ok
    assert not receipt.verify(b"{", vkey).ok
    assert not receipt.verify(b"[]", vkey).ok


def test_a_receipt_of_another_bundle_says_so(site: Site, small: Path, model: Path) -> None:
    raw = site.bring(small).receipt.read_bytes()
    done = receipt.verify(raw, load_keys(site.home).signer.key.vkey(), (model / "bundle.json").read_bytes())
    assert not done.ok
    assert done.steps[-1].name == "bundle"


# --- trust files


def test_a_trust_file_is_read_as_it_was_written(publisher: Publisher, site: Site) -> None:
    ring = publisher.publisher.keyring((load_keys(publisher.home).signer.key.vkey(),))
    assert trust.parse(trust.write(ring)) == ring
    trust.keep(site.supply.trust, ring)
    assert trust.read(site.supply.trust)[0] == ring
    assert site.supply.trust.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("threshold = 1", "threshold = 2"), "threshold is 2"),
        (lambda t: t.replace("threshold = 1", "threshold = 0"), "threshold is 0"),
        (lambda t: t.replace("threshold = 1", "threshold = true"), "threshold"),
        (lambda t: "treshold = 1\n" + t, "unknown keys: treshold"),
        (lambda t: t.replace("root = ", "# root = "), "root"),
        (lambda t: t.replace("require_log_proof = false", "require_log_proof = true"), "log"),
        (lambda t: "channels = ['../x']\n" + t, "no channel"),
        (lambda t: t[: t.index("[[signer]]")], "0 signers"),
        (lambda t: t + t[t.index("[[signer]]") :], "twice"),
        (lambda t: t.replace('key = "', 'key = "A'), "no public key"),
        (lambda t: t + "\x00", "no TOML"),
    ],
)
def test_a_trust_file_that_says_less_than_it_must_is_refused(
    publisher: Publisher, change: Callable[[str], str], words: str
) -> None:
    text = trust.write(publisher.publisher.keyring(proof=False)).decode()
    with pytest.raises(Invalid) as caught:
        trust.parse(change(text).encode())
    assert words in caught.value.explain()


def test_keys_are_read_in_the_forms_they_are_handed_out_in(publisher: Publisher) -> None:
    (key,) = keys.of(keys.load(publisher.keys), keys.BUNDLE)
    assert trust.public_key(key.public.hex()) == (key.public, "")
    assert trust.public_key(base64.b64encode(key.public).decode()) == (key.public, "")
    own = load_keys(publisher.home).signer.key
    assert trust.public_key(own.vkey()) == (own.public, own.name)
    for text in ("", "x", "A" * 44, key.public.hex()[:-2]):
        with pytest.raises(AllodError):
            trust.public_key(text)
