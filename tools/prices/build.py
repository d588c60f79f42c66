"""Build the shipped price book from the genai-prices package.

    python tools/prices/build.py --as-of 2026-11-25

Only what ``allod.metering.book`` can price exactly goes in: models charged by text tokens. A model also
charged by the hour, page, picture, request or citation is left out, so that it stays an unknown price and
refuses. Audio and search rates are dropped: Allod sends no audio, and a hosted search tool is charged beside
the tokens. The output is canonical: sorted keys, no spaces, prices as strings, one trailing newline.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data import providers
from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint, TieredPrices

from allod.domain.money import plain
from allod.metering.book import FORMAT, Book

TARGET = Path(__file__).parents[2] / "allod" / "metering" / "prices.json"
NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "write",
    "cache_write_1h_mtok": "write_1h",
    "output_reasoning_mtok": "reasoning",
}
DROPPED = {"input_audio_mtok", "cache_audio_read_mtok", "web_searches_kcount", "storage_searches_kcount"}


def ladder(price: Any) -> Any:
    """Write a price as a string, or as [base, [[above_tokens, price], ...]]."""
    if isinstance(price, TieredPrices):
        return [plain(price.base), [[tier.start, plain(tier.price)] for tier in price.tiers]]
    return plain(price)


def entry(conditional: ConditionalPrice) -> dict[str, Any] | None:
    """Write one set of prices, or None when tokens alone do not say what it costs."""
    known = {k: v for k, v in vars(conditional.prices).items() if v is not None and not k.startswith("_")}
    if set(known) - set(NAMES) - DROPPED or "input_mtok" not in known:
        return None
    out: dict[str, Any] = {NAMES[k]: ladder(v) for k, v in known.items() if k in NAMES}
    match conditional.constraint:
        case None:
            pass
        case StartDateConstraint(start_date=since):
            out["since"] = since.isoformat()
        case constraint:
            ends = (constraint.start_time, constraint.end_time)
            if any(end.utcoffset() for end in ends) or any(end.second for end in ends):
                return None
            out["daily"] = [f"{end:%H:%M}" for end in ends]
    return out


def models() -> tuple[dict[str, Any], list[str]]:
    """Return every model that can be priced, and the names of those that cannot."""
    kept: dict[str, Any] = {}
    left: list[str] = []
    for provider in providers:
        for model in provider.models:
            prices = model.prices
            listed = [ConditionalPrice(prices=prices)] if isinstance(prices, ModelPrice) else prices
            entries = [entry(conditional) for conditional in listed]
            name = f"{provider.id}/{model.id}"
            if entries and all(entries):
                kept[name] = entries
            else:
                left.append(name)
    return kept, left


def main() -> int:
    """Write the book, or with ``--check`` only compare it with what is shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--as-of", type=date.fromisoformat, required=True, help="the day the prices speak of")
    parser.add_argument("--check", action="store_true", help="fail if the shipped book differs")
    arguments = parser.parse_args()
    kept, left = models()
    content = {
        "format": FORMAT,
        "as_of": arguments.as_of.isoformat(),
        "source": f"genai-prices {version('genai-prices')}, https://github.com/pydantic/genai-prices",
        "licence": "MIT, Copyright (c) Pydantic Services Inc. 2025 to present",
        "models": kept,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
    book = Book.parse(text)
    for name in book.models:
        book.tariff(name, 0)
    if arguments.check:
        same = TARGET.read_bytes() == text
        print("same" if same else "differs", book.digest)
        return 0 if same else 1
    TARGET.write_bytes(text)
    print(f"{len(kept)} models, {len(left)} left out, {len(text)} bytes, {book.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
