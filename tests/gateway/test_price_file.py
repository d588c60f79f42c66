"""Prices in the configuration: hours, dates and factors are read whole or refused with the key at fault."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from world import config, deployment

from allod.domain.errors import Invalid
from allod.domain.fleet import Price, PriceWindow
from allod.gateway.config import QueueSettings, parse
from allod.routing.snapshot import read_snapshot, snapshot_of

RATES = "input_usd_mtok = 4, output_usd_mtok = 8"


def priced(price: str) -> Price:
    text = config([deployment("d", "answer")])
    line = next(line for line in text.splitlines() if line.startswith("price = "))
    found = parse(text.replace(line, f"price = {price}")).fleet.deployments["d"].price
    assert found is not None
    return found


def test_all_of_it_is_read() -> None:
    price = priced(
        '{ book = "openai/gpt-5", factor = 1.1, zone = "Europe/Berlin",'
        ' windows = [{ from = "22:00", until = "06:00", days = ["sat", "fri"], factor = 0.5 },'
        f' {{ from = "12:00", until = "24:00", {RATES} }}],'
        f" changes = [{{ since = 2026-12-01, {RATES} }}, {{ since = 2026-12-02T00:00:00Z, free = true }}] }}"
    )
    assert (price.book, price.factor) == ("openai/gpt-5", Decimal("1.1"))
    assert price.zone is not None
    assert price.zone.name == "Europe/Berlin"
    night, noon = price.windows
    assert night == PriceWindow(from_minute=1320, until_minute=360, days=(4, 5), factor=Decimal("0.5"))
    assert (noon.from_minute, noon.until_minute) == (720, 0)
    assert noon.price == Price(input_usd_mtok=Decimal(4), output_usd_mtok=Decimal(8))
    at = [datetime.fromtimestamp(one.since_ms / 1000, UTC) for one in price.changes]
    assert at == [datetime(2026, 11, 30, 23, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC)]  # Berlin, UTC


def test_a_snapshot_of_the_fleet_keeps_it_with_its_zone() -> None:
    text = config(
        [deployment("d", "x", price={"input_usd_mtok": 1, "output_usd_mtok": 2, "zone": "Asia/Kolkata"})]
    )
    fleet = parse(text).fleet
    kept = snapshot_of(fleet)
    assert read_snapshot(kept.body, kept.digest) == fleet


@pytest.mark.parametrize(
    ("price", "key"),
    [
        (f"{{ {RATES}, zone = 'Europe/Nowhere' }}", "zone"),
        (f"{{ {RATES}, factor = 1.00001 }}", "factor"),
        (f"{{ {RATES}, factor = -1 }}", "factor"),
        (f"{{ {RATES}, windows = [{{ from = '25:00', until = '06:00', factor = 1 }}] }}", "from"),
        (f"{{ {RATES}, windows = [{{ from = '1:00', factor = 1 }}] }}", "from"),
        (f"{{ {RATES}, windows = [{{ days = ['friday'], factor = 1 }}] }}", "days"),
        (f"{{ {RATES}, windows = [{{ from = '01:00' }}] }}", "windows"),
        (f"{{ {RATES}, windows = [{{ from = '01:00', factor = 1, {RATES} }}] }}", "windows"),
        (f"{{ {RATES}, windows = [{{ from = '01:00', input_usd_mtok = 1 }}] }}", "windows"),
        (f"{{ {RATES}, windows = [{{ til = '01:00', factor = 1 }}] }}", "til"),
        (f"{{ {RATES}, changes = [{{ {RATES} }}] }}", "since"),
        (f"{{ {RATES}, changes = [{{ since = 2026-12-01T00:00:00, {RATES} }}] }}", "since"),
        (f"{{ {RATES}, changes = [{{ since = 2026-12-01 }}] }}", "changes"),
        (f"{{ book = 'a/b', {RATES} }}", "price"),
        ("{ factor = 1.1 }", "price"),
        ("{ input_usd_mtok = 1 }", "price"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(price: str, key: str) -> None:
    with pytest.raises(Invalid) as caught:
        priced(price)
    assert key in f"{caught.value.what} {caught.value.param}"


def test_a_queue_is_only_there_when_it_is_asked_for() -> None:
    text = config([deployment("d", "answer")])
    assert parse(text).queue is None
    assert parse(text + "\n[queue]\n").queue == QueueSettings()
    assert parse(text + "\n[queue]\nkeep_s = 60\nconcurrent = 4\n").queue == QueueSettings(
        keep_s=60, concurrent=4
    )
    for wrong in ("keep_s = 0", "concurrent = 0", "kept_s = 5", "max_bytes = 1"):
        with pytest.raises(Invalid):
            parse(f"{text}\n[queue]\n{wrong}\n")
