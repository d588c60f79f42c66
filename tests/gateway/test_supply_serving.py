"""What a home does with what arrived: packs, prices, catalogue, revocations; and what the log knows of it."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from supply_world import (
    NOW_MS,
    Publisher,
    pack,
    pieces,
    prices,
)
from world import Inside, World, chat, config, deployment

from allod.domain.errors import Integrity, Invalid, Refused
from allod.gateway import compose, supply
from allod.metering.book import Book
from allod.store.home import Home
from allod.vault.bundle import trust
from allod.vault.bundle.supply import Supply, digest_of
from allod.vault.vault import Vault, shipped_folder
from gateway.offices import Office, refuses
from gateway.supplies import BAD, VERSION, bring, first_of, home_at, notices, now, second_of, setting, text


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def first(publisher: Publisher) -> Path:
    return first_of(publisher)


@pytest.fixture(scope="module")
def second(publisher: Publisher, first: Path) -> Path:
    return second_of(publisher)


@pytest.fixture
def home(tmp_path: Path, publisher: Publisher) -> World:
    return home_at(tmp_path / "home", publisher)


# --- what serves


def test_packs_prices_catalogue_and_revocations_serve_from_the_start_after_the_import(
    home: World, first: Path
) -> None:
    home.write(text(packs=["base"]))
    done, logged = bring(home, first)
    assert logged
    home.write(text(packs=["base", "house"]))
    found = setting(home)
    decider = compose.decider(found.fleet, found.packs, found.supplied.books)
    assert [p.id for p in decider.policy.packs] == ["base", "house"]
    assert found.packs.found["house"].origin == "bundle"
    assert BAD in found.vault.revocations.read()
    assert found.supplied.catalogue["large"].context_tokens == 4096
    book = compose.book_for(found.fleet, found.supplied.books)
    assert book is not None
    tariff = book.tariff("acme/large", now())
    assert tariff is not None
    assert (tariff.digest, tariff.source) == (digest_of(prices("3")), "book acme/large as of 2026-11-20")
    assert done.generation.serial == 1


def test_the_receipt_of_an_answer_names_the_very_book_its_price_stands_in(
    home: World, publisher: Publisher
) -> None:
    day = datetime.now(UTC).date().isoformat()
    row = {"input": "3", "output": "4"}
    raw = json.dumps({"format": "allod-prices-1", "as_of": day, "source": "contract 7", "licence": "ours",
                      "models": {"acme/large": [row]}}).encode()  # fmt: skip
    bundle = publisher.bundle(pieces.text("prices", "list", day, raw), channel="priced")
    home.write(config([deployment("acme", "answer", price={"book": "acme/large"})]))
    with Inside(home) as gateway:
        refused = gateway.chat(chat("acme"))
        assert refused.status == 403, "an unknown price refuses"
    os.environ["ALLOD_HOME"] = str(home.root)
    try:
        supply.bring(home.paths, bundle, now_ms=max(now(), Store_now()), version=VERSION)
    finally:
        del os.environ["ALLOD_HOME"]
    with Inside(home) as gateway:
        answer = gateway.chat(chat("acme"))
        assert answer.status == 200, answer
        store = gateway.gateway.store
        assert store.flush()
        leaf = json.loads(json.loads(store.receipt_file(answer.receipt))["terminal"]["leaf"])
        assert leaf["price"] == digest_of(raw)
        assert Decimal(leaf["cost_usd"]) > 0


def Store_now() -> int:
    import time

    return time.time_ns() // 1_000_000


def test_a_pack_of_a_bundle_stands_in_the_place_of_the_shipped_one(home: World, publisher: Publisher) -> None:
    shipped = setting(home).packs
    assert shipped.found["us-mrm"].origin == "shipped"
    bring(home, publisher.bundle(pack("us-mrm", version="99.0.0", on="phi"), channel="mrm"))
    found = setting(home).packs
    assert found.found["us-mrm"].origin == "bundle"
    assert found.load("us-mrm").version == "99.0.0"
    assert set(found.found) == set(shipped.found)


def test_a_running_gateway_goes_on_with_what_it_has(home: World, first: Path) -> None:
    with Inside(home) as gateway:
        before = gateway.gateway.decider.policy.digests(gateway.gateway.decider.day(now()))
        done, logged = bring(home, first)
        assert not logged, "the log has one writer, and it is the gateway"
        assert gateway.chat(chat("here")).status == 200
        assert gateway.gateway.decider.policy.digests(gateway.gateway.decider.day(now())) == before
    assert notices(home, "supply") == []
    with Inside(home) as gateway:
        assert gateway.chat(chat("here")).status == 200
    (leaf,) = notices(home, "supply")
    assert leaf["facts"]["switch"] == f"1 {done.generation.digest}"
    assert leaf["facts"]["receipt"] == digest_of(done.receipt.read_bytes())
    assert notices(home, "start")[-1]["facts"]["supply"] == f"1 {done.generation.digest}"


def test_a_switch_is_logged_once(home: World, first: Path, second: Path) -> None:
    bring(home, first)
    for _ in range(2):
        with Inside(home):
            pass
    bring(home, second)
    bring(home, second)
    with Inside(home):
        pass
    assert [leaf["facts"]["number"] for leaf in notices(home, "supply")] == ["1", "2"]


def test_a_model_serves_by_name_from_the_switch_on(home: World, publisher: Publisher) -> None:
    publisher.vault.add(shipped_folder() / "reference-draft.gguf", "ours")
    bundle = publisher.bundle(pieces.model(publisher.vault, "ours"), channel="models")
    home.write(config([deployment("own", "ours", engine="llamacpp", price=None)]))
    assert "holds no ours" in setting(home).trouble["own"]
    bring(home, bundle)
    found = setting(home)
    assert not found.trouble
    assert found.fleet.weights["own"].weights == publisher.vault.find("ours").digest


# --- packs that may come into force


def test_a_pack_that_widens_needs_two_signers(home: World, publisher: Publisher, first: Path) -> None:
    bring(home, first)
    home.write(text(packs=["base", "house"]))
    loose = publisher.bundle(pack(version="3.0.0", on="phi"))
    before = setting(home).packs.load("house").version
    with pytest.raises(Refused, match="may allow more"):
        bring(home, loose)
    assert setting(home).packs.load("house").version == before == "1.0.0"


def test_a_pack_of_the_homes_own_keeps_its_name(home: World, first: Path) -> None:
    (home.root / "packs" / "house").mkdir(parents=True)
    with pytest.raises(Invalid, match="cannot come by bundle here"):
        bring(home, first)
    assert Supply(home.root).serving() is None


def test_a_bundle_that_this_configuration_could_not_start_with_is_not_imported(
    home: World, publisher: Publisher, first: Path
) -> None:
    bring(home, first)
    home.write(text(packs=["base", "house"]))
    files = {
        "pack.toml": b'id = "house"\nversion = "4.0.0"\nstatus = "in-force"\nrequires = ["nowhere"]\n',
        "policies.cedar": b"",
        "theorems.toml": b"",
        "obligations.toml": b"",
    }
    broken = publisher.bundle(pieces.pack("house", "4.0.0", files, None))
    with pytest.raises(Invalid):
        bring(home, broken)
    assert setting(home).packs.load("house").version == "1.0.0"


def test_going_back_is_a_switch_of_its_own_and_keeps_revocations_and_numbers(
    home: World, first: Path, second: Path
) -> None:
    bring(home, first)
    bring(home, second)
    os.environ["ALLOD_HOME"] = str(home.root)
    try:
        found, logged = supply.go_back(home.paths, now())
        assert logged
        assert (found.serial, found.returned, found.cause) == (3, 1, "rollback")
        versions = {item.key: item.version for item in found.items}
        assert versions["pack", "house"] == "1.0.0"
        assert BAD in Vault(home.paths.vault).revocations.read()
        with pytest.raises(Integrity):
            supply.bring(home.paths, first, now_ms=now(), version=VERSION)
        again, _ = supply.bring(home.paths, second, now_ms=now(), version=VERSION)
        assert not again.repeated
        assert again.generation.serial == 4
        supply.go_back(home.paths, now())
        empty, _ = supply.go_back(home.paths, now())
        assert [item.kind for item in empty.items] == ["revocations"]
    finally:
        del os.environ["ALLOD_HOME"]
    with Inside(home):
        pass
    assert [leaf["facts"]["cause"] for leaf in notices(home, "supply")] == [
        "import", "import", "rollback", "import", "rollback", "rollback",
    ]  # fmt: skip


def test_going_back_to_a_looser_pack_needs_two_signers_too(home: World, publisher: Publisher) -> None:
    bring(home, publisher.bundle(pack("gate", on="phi"), channel="gate"))
    home.write(text(packs=["base", "gate"]))
    bring(home, publisher.bundle(pack("gate", version="2.0.0", on="personal"), channel="gate"))
    os.environ["ALLOD_HOME"] = str(home.root)
    try:
        with pytest.raises(Refused, match="may allow more"):
            supply.go_back(home.paths, now())
    finally:
        del os.environ["ALLOD_HOME"]


def test_under_four_eyes_a_pack_of_a_bundle_is_approved_before_it_starts(
    tmp_path: Path, publisher: Publisher
) -> None:
    office = Office(tmp_path / "office")
    trust.keep(Supply(office.root).trust, publisher.publisher.keyring(proof=False))

    def take(bundle: Path) -> Any:
        os.environ["ALLOD_HOME"] = str(office.root)
        try:
            return supply.bring(office.home, bundle, now_ms=now(), version=VERSION)
        finally:
            del os.environ["ALLOD_HOME"]

    take(publisher.bundle(pack("eyes", on="phi"), channel="eyes"))
    office.packs, office.four_eyes = ["eyes"], True
    office.write()
    office.change()
    assert office.begin().supply.startswith("1 ")
    done, _ = take(publisher.bundle(pack("eyes", version="2.0.0", on="phi"), channel="eyes"))
    assert "four eyes" in [step.name for step in done.generation.steps]
    refuses(office, "not what was approved", "eyes")
    office.change()
    assert office.begin().supply.startswith("2 ")


# --- the air gap


def test_models_enter_an_air_gapped_home_by_bundle_only(home: World, tmp_path: Path) -> None:
    home.write(text(air_gapped=True))
    file = tmp_path / "m.gguf"
    shutil.copy(shipped_folder() / "reference-draft.gguf", file)
    folder = tmp_path / "folder"
    folder.mkdir()
    key = tmp_path / "key.pem"
    key.write_text("x")
    for words in (
        ("vault", "add", str(file)),
        ("models", "add", str(file)),
        ("models", "pull", "repo", "file"),
        ("vault", "import", str(folder), "--key", str(key)),
    ):
        done = home.allod(*words, "--json")
        assert done.returncode == 4, (words, done)
        said = json.loads(done.stdout)["error"]
        assert said["kind"] == "air_gap"
        assert "bring a bundle" in said["remedy"]
    home.paths.config.write_text("[tenant")
    assert home.allod("vault", "add", str(file)).returncode == 2, "a home that cannot be read takes nothing"


def test_I6_refusals_of_the_gap_have_a_kind(home: World) -> None:
    home.write(text(air_gapped=True))
    with pytest.raises(Refused) as caught:
        supply.sealed(Home(home.root), "x")
    assert caught.value.kind == "air_gap"


# --- books laid over each other


def _book(as_of: str, **models: str) -> Book:
    rows = {name.replace("_", "/"): [{"input": price, "output": "1"}] for name, price in models.items()}
    return Book.parse(
        json.dumps(
            {
                "format": "allod-prices-1",
                "as_of": as_of,
                "source": f"s {as_of}",
                "licence": "l",
                "models": rows,
            }
        ).encode()
    )


def test_the_newest_book_that_knows_a_model_prices_it_and_is_the_one_named() -> None:
    shipped, brought = _book("2026-11-01", a_x="1", a_y="1"), _book("2026-11-20", a_x="2", b_z="3")
    both = Book.over((brought, shipped))
    assert both is not None
    for name, price, book in (("a/x", 2, brought), ("a/y", 1, shipped), ("b/z", 3, brought)):
        tariff = both.tariff(name, NOW_MS)
        assert tariff is not None
        assert (tariff.at(10).input_usd_mtok, tariff.digest) == (Decimal(price), book.digest)
        assert tariff.source.endswith(book.as_of.isoformat())
        assert name in both
    assert both.tariff("a/q", NOW_MS) is None
    assert both.digest not in {shipped.digest, brought.digest}
    older = Book.over((_book("2026-10-01", a_x="9"), shipped))
    assert older is not None
    assert (tariff := older.tariff("a/x", NOW_MS)) is not None
    assert tariff.digest == shipped.digest, "a program that ships newer prices is not held back"
    same = Book.over((_book("2026-11-01", a_x="5"), shipped))
    assert same is not None
    assert (tariff := same.tariff("a/x", NOW_MS)) is not None
    assert tariff.digest != shipped.digest, "of one day, what was brought counts"
    assert Book.over(()) is None
    assert Book.over((shipped,)) is shipped


def test_what_a_catalogue_says_is_shown_where_the_configuration_says_nothing(
    home: World, first: Path
) -> None:
    bring(home, first)
    with Inside(home) as gateway:
        one = gateway.call("/v1/models/acme", headers={"anthropic-version": "2023-06-01"}).json
        assert (one["display_name"], one["max_input_tokens"]) == ("Large", 4096)
