"""How well detection finds what it should, on texts that were not looked at while it was built.

    python benchmarks/classification.py [--folds NAME] [--errors] [--times N] [--data FOLDER]

Values are drawn (``classification_values``), sentences and layouts come from ``classification_texts``. A
template belongs to one of five folds by the hash of its text: folds 0 and 1 are open (their errors may be
looked at with ``--errors``), 2 to 4 are held out: only their figures are printed. ``late``, ``last`` and
``fresh`` were written afterwards (``classification_later``). Intervals are Wilson's, 95 %. Time is CPU of
this process on this machine, warm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import classification_later as later
import classification_texts as texts
import classification_values as values

from allod.admission.bench import classes, detect, detector
from allod.admission.detect.model import SECRET_TYPES
from allod.admission.detect.numbers import RULES

ROOT = Path(__file__).resolve().parent.parent
OPEN, FOLDS, ROUNDS = (0, 1), 5, 3
NAMES = ("held-out", "late", "last", "fresh", "open", "all")
NATIONAL = frozenset(r.type for r in RULES) - {"PASSPORT", "DRIVER_LICENSE", "MEDICAL_RECORD", "BANK_ACCOUNT"}
ALIASES = {
    "CREDIT_CARD": "CARD",
    "PHONE_NUMBER": "PHONE",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
}
STRUCTURED = ("EMAIL", "PHONE", "IBAN", "CARD")


class Row(NamedTuple):
    """A text, the place of its one value (or none), its type, its language and its fold."""

    text: str
    start: int
    end: int
    type: str
    lang: str
    fold: int


class Tally:
    """Counts of one line of the table."""

    def __init__(self) -> None:
        self.found = self.missed = self.false = 0


def fold_of(template: str) -> int:
    """Return the fold of a template."""
    return hashlib.sha256(template.encode()).digest()[0] % FOLDS


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion."""
    if not total:
        return 0.0, 1.0
    z, p = 1.96, hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def group(kind: str) -> str:
    """Return the group a type is scored in: secrets and national identifiers count as one each."""
    kind = ALIASES.get(kind, kind)
    return "SECRET" if kind in SECRET_TYPES else "NATIONAL_ID" if kind in NATIONAL else kind


def _row(template: str, value: str, kind: str, lang: str, **more: str) -> Row:
    text = template.format(v="\0", **more)
    start = text.index("\0")
    text = text.replace("\0", value)
    return Row(text, start, start + len(value), kind, lang, fold_of(template))


_LANGUAGES = {"en-us": "en", "en-gb": "en"}


def positives(rng: random.Random, times: int) -> list[Row]:
    """Draw the rows that hold one value each."""
    rows = []
    for _ in range(times):
        for kind, (labels, sentences) in texts.SENTENCES.items():
            rows += [_row(s, values.identifier(rng, kind), kind, lang) for lang, s in sentences]
            for layout in rng.sample(texts.LAYOUTS, 4):
                label = rng.choice(labels)
                key = kind.split("_", 1)[1].lower() if rng.randrange(2) else label.lower().replace(" ", "_")
                rows.append(_row(layout, values.identifier(rng, kind), kind, "xx", l=label, k=key))
        for lang, sentences_of in texts.PHONE.items():
            rows += [
                _row(s, values.phone(rng, lang), "PHONE", _LANGUAGES.get(lang, lang)) for s in sentences_of
            ]
        for name, make in (
            ("EMAIL", values.email),
            ("IBAN", values.iban),
            ("CARD", values.card),
            ("PASSWORD", values.password),
        ):
            rows += [_row(s, make(rng), name, lang) for lang, s in getattr(texts, name)]
        for kind, draw in values.TOKENS.items():
            rows += [_row(s, draw(rng), kind, lang) for lang, s in rng.sample(texts.TOKEN, 4)]
    return rows


def late(rng: random.Random, times: int, name: str) -> tuple[list[Row], list[Row]]:
    """Draw the rows of ``LATE``, ``LAST`` or ``FRESH``: with a value, and with none."""
    makers = {"EMAIL": values.email, "IBAN": values.iban, "CARD": values.card, "PASSWORD": values.password}
    good = []
    for _ in range(times):
        for kind, lang, sentence in getattr(later, name):
            make = makers.get(kind) or values.TOKENS.get(kind)
            if kind == "PHONE":
                value = values.phone(rng, lang)
            else:
                value = make(rng) if make else values.identifier(rng, kind)
            good.append(_row(sentence, value, kind, _LANGUAGES.get(lang, lang)))
    forms = getattr(later, f"{name}_NOTHING")
    bad = [_filled(rng, form, "look-alike") for _ in range(times) for form in forms]
    return good, bad


def _filled(rng: random.Random, form: str, kind: str) -> Row:
    text = "".join(rng.choice("0123456789abcdef") if c == "~" else c for c in form)
    text = values.pattern(rng, text.replace("%", "\1")).replace("\1", "%")
    return Row(text, 0, 0, kind, "xx", fold_of(form))


def negatives(rng: random.Random, times: int) -> list[Row]:
    """Draw the rows that hold nothing: look-alikes, numbers with a valid check but another name, prose."""
    rows = [Row(p, 0, 0, "prose", "xx", fold_of(p)) for p in texts.PROSE]
    for _ in range(times):
        rows += [_filled(rng, form, "look-alike") for form in texts.LOOKALIKES]
        for form in texts.FORCED:
            kind = rng.choice(sorted(values.IDENTIFIERS))
            value = values.identifier(rng, kind)
            if value.isdecimal():
                rows.append(Row(form.format(v=value), 0, 0, "valid, other name", "xx", fold_of(form)))
    return rows


def score(rows: list[Row], *, errors: bool) -> tuple[dict[tuple[str, str], Tally], Counter[str]]:
    """Count per (group, type or language) what was found, missed and found wrongly; overlap counts."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    flagged: Counter[str] = Counter()
    for row in rows:
        found = [f for f in detect(row.text) if f[2] not in ("PERSON", "STREET_ADDRESS", "DATE_OF_BIRTH")]
        right = [
            f
            for f in found
            if row.end and f[0] < row.end and row.start < f[1] and group(f[2]) == group(row.type)
        ]
        keys = (
            [(group(row.type), ""), (group(row.type), row.type), (group(row.type), row.lang)]
            if row.end
            else []
        )
        for key in dict.fromkeys(keys):
            if right:
                tallies[key].found += 1
            else:
                tallies[key].missed += 1
        wrong = [f for f in found if f not in right]
        if wrong and not row.end:
            flagged[row.type] += 1
        for f in wrong:
            for key in ((group(f[2]), ""), (group(f[2]), f[2])):
                tallies[key].false += 1
        if errors and (wrong or (row.end and not right)):
            _show(row, wrong, missed=bool(row.end) and not right)
    return tallies, flagged


def _show(row: Row, wrong: list[tuple[int, int, str]], *, missed: bool) -> None:
    pieces = [(kind, row.text[start:end]) for start, end, kind in wrong]
    print(f"  {row.type:18} {row.lang} {'MISSED' if missed else 'FALSE '} {row.text[:150]!r} {pieces}")


def speed(rows: list[str]) -> float:
    """Return microseconds of CPU per KB (1,024 bytes of UTF-8) of full detection, best of three rounds."""
    kilobytes = sum(len(text.encode()) for text in rows) / 1024
    best = math.inf
    for _ in range(ROUNDS):
        begin = time.process_time()
        for text in rows:
            detect(text)
        best = min(best, time.process_time() - begin)
    return best / kilobytes * 1e6


def _line(name: str, tally: Tally, texts_of: list[str] | None = None) -> str:
    total, claimed = tally.found + tally.missed, tally.found + tally.false
    low, high = wilson(tally.found, total)
    plow, phigh = wilson(tally.found, claimed)
    recall = f"{tally.found / total:.3f} ({low:.3f}-{high:.3f})" if total else "-"
    precision = f"{tally.found / claimed:.3f} ({plow:.3f}-{phigh:.3f})" if claimed else "-"
    cost = f" {speed(texts_of):.0f} |" if texts_of else " - |" if texts_of is not None else ""
    return f"| {name} | {total} | {recall} | {precision} |{cost}"


def table(tallies: dict[tuple[str, str], Tally], rows: list[Row]) -> list[str]:
    """Return the lines of the table: groups, their types, then recall by language; CPU in us per KB."""
    by: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        for key in ((group(row.type), ""), (group(row.type), row.type), ("", row.lang)):
            by[key].append(row.text)
    out = ["| what | n | recall (95 %) | precision (95 %) | us per KB |", "|---|---|---|---|---|"]
    both = Tally()
    for name in STRUCTURED:
        tally = tallies[name, ""]
        both.found, both.missed, both.false = (
            both.found + tally.found,
            both.missed + tally.missed,
            both.false + tally.false,
        )
    every = [text for name in STRUCTURED for text in by[name, ""]]
    out.append(_line("**structured: e-mail, phone, IBAN, card**", both, every))
    out += [_line(name, tallies[name, ""], by[name, ""]) for name in STRUCTURED]
    for name, title in (("NATIONAL_ID", "**national identifiers**"), ("SECRET", "**secrets**")):
        out.append(_line(title, tallies[name, ""], by[name, ""]))
        kinds = sorted(
            sub
            for main, sub in tallies
            if main == name and sub.isupper() and tallies[main, sub].found + tallies[main, sub].missed
        )
        out += [_line(kind, tallies[name, kind], by[name, kind]) for kind in kinds]
    langs: dict[str, Tally] = defaultdict(Tally)
    for (_, sub), tally in tallies.items():
        if sub.islower():
            langs[sub].found += tally.found
            langs[sub].missed += tally.missed
    out += [
        "",
        "| language (xx: none, machine layouts) | n | recall (95 %) | us per KB |",
        "|---|---|---|---|",
    ]
    for lang in sorted(langs):
        cells = _line(lang, langs[lang], by["", lang]).split("|")
        out.append("|".join((*cells[:4], cells[5], "")))
    return out


def negatives_table(rows: list[Row], flagged: Counter[str]) -> list[str]:
    """Return how many of the texts that hold nothing were flagged."""
    out = ["| texts that hold nothing | n | flagged (95 %) |", "|---|---|---|"]
    for kind, total in Counter(row.type for row in rows).items():
        low, high = wilson(flagged[kind], total)
        out.append(f"| {kind} | {total} | {flagged[kind]} ({100 * low:.1f}-{100 * high:.1f} %) |")
    return out


def markings_table() -> list[str]:
    """Return how many marked texts reached their class, and how many that ask about a marking did."""
    marked = [(name, text) for name, text in texts.MARKINGS if name]
    plain = [text for name, text in texts.MARKINGS if not name]
    hit = sum(name in classes(text) for name, text in marked)
    false = sum(bool(classes(text) - {"personal"}) for text in plain)
    return [
        f"markings: {hit} of {len(marked)} texts reached their class, {false} of {len(plain)} mentions did"
    ]


def given(folder: Path) -> list[str]:
    """Return the lines for the development data, which the detectors were built with in sight."""
    out = ["| development data | what | n | recall (95 %) | precision (95 %) |", "|---|---|---|---|---|"]
    for name in ("synthetic", "presidio_synth_v2"):
        tallies: dict[str, Tally] = defaultdict(Tally)
        rows: list[dict[str, Any]] = [
            json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()
        ]
        for row in rows:
            gold = [(s["start"], s["end"], group(s["type"])) for s in row["spans"]]
            found = [(s, e, group(t)) for s, e, t in detect(row["text"])]
            for place in gold:
                hit = any(f[2] == place[2] and f[0] < place[1] and place[0] < f[1] for f in found)
                tallies[place[2]].found += hit
                tallies[place[2]].missed += not hit
            for f in found:
                tallies[f[2]].false += not any(f[2] == g[2] and f[0] < g[1] and g[0] < f[1] for g in gold)
        kinds = sorted(k for k, t in tallies.items() if t.found + t.false)
        out += [_line(f"{name} | {kind}", tallies[kind]) for kind in kinds]
        out.append(f"| {name} | CPU, us per KB | {len(rows)} | {speed([r['text'] for r in rows]):.0f} | |")
    return out


def hot(rows: list[str]) -> float:
    """Return microseconds per KB of secrets and markings alone: the request is personal and special."""
    scan, have = detector().scan, frozenset({"personal", "special", "phi"})
    kilobytes = sum(len(text.encode()) for text in rows) / 1024
    begin = time.process_time()
    for text in rows:
        scan(text, have)
    return (time.process_time() - begin) / kilobytes * 1e6


def main() -> int:
    """Draw, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", choices=NAMES, default="held-out")
    parser.add_argument("--errors", action="store_true", help="print errors (open folds only)")
    parser.add_argument("--times", type=int, default=6, help="draws per template")
    parser.add_argument("--seed", type=int, default=20260301)
    parser.add_argument("--data", type=Path, help="folder of the development data")
    args = parser.parse_args()
    if args.errors and args.folds != "open":
        parser.error("--errors only with --folds open: held-out texts stay unseen")
    rng = random.Random(args.seed)  # noqa: S311 (drawing examples)
    if args.folds in ("late", "last", "fresh"):
        good, bad = late(rng, args.times, args.folds.upper())
    else:
        held = tuple(f for f in range(FOLDS) if f not in OPEN)
        chosen = {"open": OPEN, "held-out": held, "all": tuple(range(FOLDS))}[args.folds]
        good = [row for row in positives(rng, args.times) if row.fold in chosen]
        bad = [row for row in negatives(rng, args.times) if row.fold in chosen]
    tallies, flagged = score(good + bad, errors=args.errors)
    print(f"folds {args.folds}, seed {args.seed}: {len(good)} texts with one value, {len(bad)} with none\n")
    print(
        "\n".join(table(tallies, good))
        + "\n\n"
        + "\n".join(negatives_table(bad, flagged))
        + "\n\n"
        + "\n".join(markings_table())
    )
    mixed = [row.text for row in good + bad]
    long = ["\n".join(mixed[i : i + 200]) for i in range(0, len(mixed), 200)]
    prose = ["\n\n".join(texts.PROSE) * 4]
    pages = [page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))]
    print(
        f"\nCPU, us per KB: short messages {speed(mixed):.0f}, documents of such lines {speed(long):.0f}, "
        f"prose on passwords {speed(prose):.0f}, pages of our documentation {speed(pages):.0f}; secrets and "
        f"markings alone: prose on passwords {hot(prose):.0f}, pages {hot(pages):.0f}"
    )
    if args.data:
        print("\n" + "\n".join(given(args.data)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
