"""Prices over time: what the shipped book knows, what a bundle, a file and the home lay over it."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from supply_world import Publisher, Site, price_book, prices

from allod.domain.errors import Integrity, Invalid
from allod.gateway.cli.plan_prices import COMMAND
from allod.metering.book import Book
from allod.planner.prices import (
    Entry,
    changed,
    history,
    hours_of,
    midnight_ms,
    offer,
    own_offer,
    plainly,
    shipped_book,
)

BOOK = shipped_book()
V4 = "deepseek/deepseek-v4-pro"
CONFIG = """
[tenant]
id = "t"
home = "DE"
bloc = ["EEA"]

[[app]]
id = "default"

[[operator]]
id = "o"

[[deployment]]
id = "dublin"
engine = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "gpt-5.5"
operator = "o"
[deployment.price]
book = "openai/gpt-5.5"
factor = 1.1
zone = "Europe/Dublin"
windows = [ { from = "22:00", until = "06:00", factor = 0.5 } ]
changes = [ { since = 2026-12-01, input_usd_mtok = 4, output_usd_mtok = 20 } ]
"""


def typed(home: Path, *words: object) -> Any:
    done = CliRunner().invoke(COMMAND, [*map(str, words), "--json"], env={"ALLOD_HOME": str(home)})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


def _rates(one: Entry) -> tuple[Decimal, Decimal]:
    return one.rates.input_usd_mtok, one.rates.output_usd_mtok


def test_the_history_of_v4_pro_with_its_days_and_hours() -> None:
    found = changed(history(V4, BOOK, "shipped"))
    rows = [
        (one.since, one.until, one.hours, one.rates.input_usd_mtok, one.rates.output_usd_mtok)
        for one in found
    ]
    cut = date(2026, 8, 17)
    assert rows == [
        (None, cut, "other hours", Decimal("0.435"), Decimal("0.87")),
        (None, None, "01:00-04:00, 06:00-10:00 UTC", Decimal("1.32"), Decimal("3.96")),
        (cut, None, "other hours", Decimal("0.66"), Decimal("1.98")),
    ]
    assert {one.digest for one in found} == {BOOK.digest}
    assert {one.as_of for one in found} == {BOOK.as_of}


def test_steps_by_size_are_told() -> None:
    found = history("openai/gpt-5.5", BOOK, "shipped")
    assert [(one.above_tokens, *_rates(one)) for one in found] == [
        (0, Decimal(5), Decimal(30)),
        (272_000, Decimal(10), Decimal(45)),
    ]


def test_every_entry_of_the_book_with_days_or_hours_agrees_with_the_book_itself() -> None:
    dated = [name for name, raw in BOOK.models.items() if b"since" in bytes(raw) or b"daily" in bytes(raw)]
    assert len(dated) > 50
    for name in dated:
        for one in history(name, BOOK, "shipped"):
            if one.hours not in {"all day", "other hours"}:
                continue
            day = one.since or date(2020, 1, 1)
            sold = offer(name, BOOK, day)
            assert any(one.rates == step.rates for slot in sold.slots for step in slot.steps), name


def test_hours_are_written_as_spans() -> None:
    assert hours_of(range(48)) == "all day"
    assert hours_of([0, 1, 2, 20, 21]) == "00:00-01:30, 10:00-11:00 UTC"
    assert hours_of([47]) == "23:30-24:00 UTC"


def test_names_of_one_model_are_compared_without_maker_place_and_date() -> None:
    same = {
        "deepseek-ai/DeepSeek-V4-Pro",
        "fireworks/deepseek-v4-pro",
        "together/deepseek-ai/DeepSeek-V4-Pro-0813",
    }
    assert {plainly(one) for one in same} == {"deepseek-v4-pro"}
    assert plainly("fireworks/deepseek-v4p1-flash") == plainly("deepseek/deepseek-v4.1-flash")
    assert plainly("openai/gpt-5.5-pro") != plainly("openai/gpt-5.5")


def test_an_offer_by_hand_must_be_a_price() -> None:
    with pytest.raises(Invalid):
        own_offer("x", Decimal(-1), Decimal(1), date(2026, 1, 1))
    with pytest.raises(Invalid):
        own_offer("x", Decimal("NaN"), Decimal(1), date(2026, 1, 1))


def test_the_books_in_use_are_listed_with_digest_and_day(tmp_path: Path) -> None:
    (only,) = typed(tmp_path)["books"]
    assert only["digest"] == BOOK.digest
    assert only["as_of"] == BOOK.as_of.isoformat()


def test_a_book_as_a_file_lies_over_the_shipped_one_and_is_signed_by_nobody(tmp_path: Path) -> None:
    newer = tmp_path / "ours.json"
    newer.write_bytes(prices("3", as_of=(BOOK.as_of + timedelta(days=1)).isoformat()))
    found = typed(tmp_path, "--history", "anthropic/claude-2", "--price-book", newer)
    assert [one["vouched"] for one in found["books"]] == [
        "file ours.json, signed by nobody",
        "shipped with the program",
    ]
    assert [one["input_usd_mtok"] for one in found["prices"]] == ["3", "8"]
    assert found["prices"][0]["digest"] == Book.parse(newer.read_bytes()).digest
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(Integrity):
        typed(tmp_path, "--price-book", tmp_path / "bad.json")


def test_a_book_that_came_by_bundle_is_read_with_who_signed(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher")
    site = Site(tmp_path / "site", publisher)
    site.bring(publisher.bundle(price_book("2", as_of="2026-11-01")))
    found = typed(site.root, "--history", "acme/large")
    (price,) = found["prices"]
    assert price["input_usd_mtok"] == "2"
    assert price["as_of"] == "2026-11-01"
    vouched = next(one["vouched"] for one in found["books"] if one["digest"] == price["digest"])
    assert vouched.startswith("imported by bundle at ")
    assert "signed by" in vouched
    # a file of the supply that was altered is not read
    altered = [
        path
        for path in (site.root / "supply").rglob("*")
        if path.is_file() and b"acme/large" in path.read_bytes()
    ]
    for path in altered:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b'"2"', b'"1"'))
    assert altered
    with pytest.raises(Integrity):
        typed(site.root, "--history", "acme/large")
    shutil.rmtree(site.root)


def test_the_home_lays_its_own_days_hours_and_factor_over_the_book(tmp_path: Path) -> None:
    (tmp_path / "allod.toml").write_text(CONFIG)
    found = typed(tmp_path, "--history", "gpt-5.5")
    assert found["deployments"] == ["dublin"]
    ours = {
        (one["since"], one["hours"], one["above_tokens"]): (one["input_usd_mtok"], one["output_usd_mtok"])
        for one in found["prices"]
        if one["layer"] == "configuration"
    }
    assert ours[None, "other hours", 0] == ("5.5", "33")
    assert ours[None, "other hours", 272_000] == ("11", "49.5")
    night = next(hours for since, hours, _ in ours if since is None and hours != "other hours")
    assert ours[None, night, 0] == ("2.75", "16.5")
    assert ours["2026-12-01", "other hours", 0] == ("4.4", "22")
    assert night.endswith("UTC")


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as told:
        typed(tmp_path, "--history", "openai/gpt-55")
    assert "openai/gpt-5" in told.value.why
    with pytest.raises(Invalid):
        typed(tmp_path, "--history", "zzzz-none")
    with pytest.raises(Invalid):
        typed(tmp_path, "--svg", tmp_path / "x.svg")


def test_the_pictures_and_the_table(tmp_path: Path) -> None:
    svg, html = tmp_path / "p.svg", tmp_path / "p.html"
    done = CliRunner().invoke(
        COMMAND, ["--history", V4, "--svg", str(svg), "--html", str(html), "--day", "2026-11-26"],
        env={"ALLOD_HOME": str(tmp_path / "none")},
    )  # fmt: skip
    assert done.exception is None, done.exception
    for said in ("2026-08-17", "0.435", "1.98", "01:00-04:00", BOOK.digest, "only books were read"):
        assert said in done.stdout, said
    assert "by day" in svg.read_text()
    assert BOOK.digest in html.read_text()


def test_days_are_utc() -> None:
    assert midnight_ms(date(1970, 1, 2)) == 86_400_000
