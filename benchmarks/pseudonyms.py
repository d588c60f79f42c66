"""What pseudonyms and reduction cost: CPU time, medians, one core. The detector is a small pattern, not ours.

.venv/bin/python benchmarks/pseudonyms.py
"""

from __future__ import annotations

import json
import re
import statistics
import time
from typing import TYPE_CHECKING

from allod.admission.minimum import Fields, reduce
from allod.admission.pseudonym import Pseudonymiser, Restorer
from allod.domain.chat import Chunk, Finished, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERN = re.compile(r"[\w.+-]+@[\w-]+\.\w+|\+\d[\d ]{6,}\d")
TEXT = (
    "Dear colleague, the quarterly report about equipment on site is ready. Please send questions to "
    "jean.dupont@example.org or anna@mail.example, or call +49 170 1234567 before Friday at noon. Thanks.\n"
)
ROUNDS = 15


def findings(text: str) -> list[tuple[int, int, str]]:
    """Find e-mail addresses and phone numbers."""
    return [(*match.span(), "EMAIL") for match in PATTERN.finditer(text)]


def median_us(call: Callable[[], object], repeat: int) -> float:
    """Return microseconds of CPU for one call."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(repeat):
            call()
        times.append((time.process_time_ns() - start) / repeat / 1000)
    return statistics.median(times)


def cover_us_per_kb(text: str) -> tuple[float, float]:
    """Return the cost of covering a text, and that of the detector alone, per KB."""
    body = {"messages": [{"role": "user", "content": text}]}
    one = Pseudonymiser(b"k" * 32, findings)
    size = len(text.encode()) / 1024
    # a new Pseudonymiser each time: one remembers what its detector said
    whole = median_us(lambda: Pseudonymiser(b"k" * 32, findings).cover(body), 20)
    assert len(one.cover(body).table) == len({text[start:end] for start, end, _ in findings(text)})
    return whole / size, median_us(lambda: findings(text), 20) / size


def chunk_us(pieces: list[str], table: object, *, tool: bool) -> float:
    """Return the cost of one event of a stream, its object included."""
    if tool:
        events = [Chunk(tool_calls=(ToolCallDelta(index=0, arguments=piece),)) for piece in pieces]
    else:
        events = [Chunk(text=piece) for piece in pieces]

    def run() -> None:
        restorer = Restorer(table)  # type: ignore[arg-type]
        for event in events:
            restorer.events((event,))
        restorer.events((Finished(),))

    return median_us(run, 5) / len(events)


def main() -> None:
    """Print one line per figure."""
    text = TEXT * 40
    covered = Pseudonymiser(b"k" * 32, findings).cover({"messages": [{"role": "user", "content": text}]})
    sent = covered.body["messages"][0]["content"]
    words = re.findall(r"\s*\S{1,5}", sent)
    plain = re.findall(r"\s*\S{1,5}", re.sub(r"QZ\w+", "someone", sent))
    many = " ".join(f"user{n}@example.org wrote to the team." for n in range(1000))
    record = {"name": "x" * 20, "age": 5, "labs": [{"value": n, "note": "n" * 30} for n in range(200)]}
    said = json.dumps(record)
    body = {"messages": [{"role": "user", "content": said}]}
    fields = Fields(["age", "labs.*.value"])
    bare = re.sub(r"\S*[@+]\S*", "x", text)
    figures = [
        ("cover, 7.8 KB, 120 places of 3 values, us/KB (detector alone)", cover_us_per_kb(text)),
        (
            "cover, the same without a value, us/KB (detector alone)",
            cover_us_per_kb(bare),
        ),
        ("cover, 37 KB, 1,000 values, us/KB (detector alone)", cover_us_per_kb(many)),
        (
            "stream, pieces of words, 1 in 9 of a token, us/event",
            (chunk_us(words, covered.table, tool=False),),
        ),
        ("stream, no token, us/event", (chunk_us(plain, covered.table, tool=False),)),
        ("stream, one character an event, us/event", (chunk_us(list(sent), covered.table, tool=False),)),
        ("tool arguments, pieces of words, us/event", (chunk_us(words, covered.table, tool=True),)),
        ("reduce, JSON, us/KB", (median_us(lambda: reduce(body, fields), 20) / (len(said) / 1024),)),
    ]
    for name, values in figures:
        print(f"{name}: {', '.join(f'{value:.2f}' for value in values)}")


if __name__ == "__main__":
    main()
