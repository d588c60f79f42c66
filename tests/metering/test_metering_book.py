"""The price book: canonical, dated, trusted by digest, quick to read, and equal to its source."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from metering_prices import AT_NOON, AT_PEAK, book, shipped

from allod.domain.errors import Integrity
from allod.metering.book import Book

ROOT = Path(__file__).parents[2]
MINUTE = 60_000


def made(entry, name="p/m") -> Book:
    content = {
        "format": "allod-prices-1", "as_of": "2026-01-01", "source": "test", "licence": "none",
        "models": {name: entry},
    }  # fmt: skip
    return Book.parse(json.dumps(content).encode())


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_shipped_book_is_canonical_dated_and_names_its_source() -> None:
    parsed = json.loads(shipped())
    again = json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert again == shipped()
    assert book().as_of >= date(2026, 11, 1)
    assert "genai-prices" in book().source
    assert book().licence.startswith("MIT")
    assert book().digest == "sha256:" + hashlib.sha256(shipped()).hexdigest()


def test_every_shipped_entry_can_be_priced() -> None:
    assert len(book().models) > 1500
    for name in book().models:
        tariff = book().tariff(name, AT_NOON)
        assert tariff is not None
        starts = [step.above_tokens for step in tariff.steps]
        assert starts == sorted(set(starts))
        assert starts[0] == 0


def test_the_shipped_book_is_what_its_source_builds() -> None:
    pytest.importorskip("genai_prices", reason="genai-prices is a development dependency")
    command = [sys.executable, "tools/prices/build.py", "--check", "--as-of", book().as_of.isoformat()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prices_agree_with_the_source_at_many_moments_and_sizes() -> None:
    data = pytest.importorskip("genai_prices.data", reason="genai-prices is a development dependency")
    prices = pytest.importorskip("genai_prices", reason="genai-prices is a development dependency")
    from allod.domain.usage import Usage
    from allod.metering.rates import cost

    by_name = {f"{p.id}/{m.id}": (p, m) for p in data.providers for m in p.models}
    wanted = ["deepseek/deepseek-v4-pro", "openai/gpt-5.5", "anthropic/claude-sonnet-4-6",
              "google/gemini-2.5-pro", "mistral/mistral-large-4"]  # fmt: skip
    for name in wanted:
        provider, model = by_name[name]
        for moment in ("2026-03-12T23:59", "2026-03-13T00:00", "2026-11-25T00:59", "2026-11-25T01:00",
                       "2026-11-25T03:59", "2026-11-25T04:00", "2026-11-25T09:30"):  # fmt: skip
            for size in (1, 200_000, 200_001, 272_000, 272_001):
                usage = Usage(input_tokens=size - 1, cache_read_tokens=1, output_tokens=77)
                theirs = model.calc_price(
                    prices.Usage(input_tokens=size, cache_read_tokens=1, output_tokens=77),
                    provider,
                    genai_request_timestamp=datetime.fromisoformat(moment).replace(tzinfo=UTC),
                ).total_price
                rates = book().rates(name, at(moment), size)
                assert rates is not None
                assert cost(usage, rates) == theirs, (name, moment, size)


def test_reading_the_book_is_fast() -> None:
    shipped()
    best = min(_timed(lambda: Book.parse(shipped())) for _ in range(5))
    assert best < 0.010, f"parsing took {best * 1000:.1f} ms"


def _timed(do) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def test_a_step_applies_above_its_size_to_all_tokens() -> None:
    for size, rate in ((0, 5), (272_000, 5), (272_001, 10)):
        rates = book().rates("openai/gpt-5.5", AT_NOON, size)
        assert rates is not None
        assert rates.input_usd_mtok == rate


def test_an_unknown_model_has_no_price() -> None:
    assert book().tariff("openai/nothing", AT_NOON) is None
    assert book().rates("", AT_NOON, 1) is None
    assert "openai/gpt-5.5" in book()
    assert "openai/gpt-5.5" in book().nearest("openai/gpt5.5")


def test_models_charged_by_anything_else_than_tokens_are_left_out() -> None:
    for name in ("perplexity/sonar", "perplexity/sonar-deep-research", "openai/whisper-1",
                 "openai/gpt-image-1", "mistral/mistral-ocr-2512"):  # fmt: skip
        assert name not in book()


def test_a_price_of_the_day_holds_from_its_begin_to_its_end() -> None:
    pro = "deepseek/deepseek-v4-pro"
    for moment, rate in (("00:59:59.999", ".66"), ("01:00:00.000", "1.32"), ("03:59:59.999", "1.32"),
                         ("04:00:00.000", ".66")):  # fmt: skip
        rates = book().rates(pro, at(f"2026-11-25T{moment}"), 1)
        assert rates is not None
        assert rates.input_usd_mtok == Decimal(rate)
    tariff = book().tariff(pro, AT_PEAK)
    assert tariff is not None
    assert tariff.valid_until_ms == at("2026-11-25T04:00")
    tariff = book().tariff(pro, at("2026-11-25T23:00"))
    assert tariff is not None
    assert tariff.valid_until_ms == at("2026-11-26T01:00")


def test_a_daily_price_may_cross_midnight() -> None:
    night = made([{"input": "2"}, {"input": "1", "daily": ["16:30", "00:30"]}])
    for moment, rate in (("16:29", 2), ("16:30", 1), ("23:59", 1), ("00:00", 1), ("00:29", 1), ("00:30", 2)):
        rates = night.rates("p/m", at(f"2026-05-05T{moment}"), 0)
        assert rates is not None
        assert rates.input_usd_mtok == rate
    tariff = night.tariff("p/m", at("2026-05-05T20:00"))
    assert tariff is not None
    assert tariff.valid_until_ms == at("2026-05-06T00:30")


def test_a_dated_price_begins_on_its_day() -> None:
    dated = made([{"input": "1"}, {"input": "2", "since": "2026-02-01"}])
    for moment, rate in (("2026-01-31T23:59:59.999", 1), ("2026-02-01T00:00", 2)):
        rates = dated.rates("p/m", at(moment), 0)
        assert rates is not None
        assert rates.input_usd_mtok == rate
    before, after = dated.tariff("p/m", at("2026-01-01")), dated.tariff("p/m", at("2026-03-01"))
    assert before is not None
    assert after is not None
    assert before.valid_until_ms == at("2026-02-01")
    assert after.valid_until_ms is None


def test_output_without_a_price_costs_what_input_does() -> None:
    rates = made([{"input": "3"}]).rates("p/m", 0, 0)
    assert rates is not None
    assert rates.output_usd_mtok == 3


@pytest.mark.parametrize(
    "entry",
    [
        [],
        [{}],
        [{"output": "1"}],
        [{"input": "-1"}],
        [{"input": "NaN"}],
        [{"input": "x"}],
        [{"input": None}],
        [{"input": "1", "surprise": 1}],
        [{"input": ["1", [["a", "2"]]]}],
        [{"input": "1", "daily": ["25:00", "26:00"]}],
        [{"input": "1", "since": "yesterday"}],
        "text",
    ],
)
def test_a_damaged_entry_is_an_integrity_fault_and_never_a_price(entry) -> None:
    with pytest.raises(Integrity):
        made(entry).tariff("p/m", AT_NOON)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", shipped()[:1000], shipped().replace(b"allod-prices-1", b"allod-prices-2")],
)
def test_a_damaged_book_is_an_integrity_fault(content) -> None:
    with pytest.raises(Integrity):
        Book.parse(content)
