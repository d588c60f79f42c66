"""The tasks of the grammar: each function draws one prompt, its only right answer and a thought.

Standard library only. Every function takes a `random.Random` and `level` in (0, 1], which scales list
lengths (a curriculum: short lists first). The same seed gives the same samples on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import lexicon as lx
from wording import BODIES, FORMS


@dataclass(frozen=True)
class Sample:
    """One drawn task: the user's `prompt`, the exact `answer` and a `thought` that leads to it."""

    task: str
    prompt: str
    answer: str
    thought: str


Draw = Callable[[Random, float], tuple[str, str, str]]
TASKS: dict[str, Draw] = {}
ONSETS = "b c d f g h j k l m n p r s t v w y z br ch dr fr gr kh kr ph pr qu sch sh sk st th tr".split()
VOWELS = "a e i o u a e i o u ai ee ou oo ei ia io".split()
CODAS = "d h k l ll m n nn r rt s ss st t ck lt x".split()
ENDINGS = ("", "", "", "a", "an", "en", "er", "i", "in", "ine", "o", "ov", "ski", "son", "y", "ez")
WORKED = ("add", "sum", "count", "larger", "reverse")
NEUTRAL = "This is a {} task."


def task(draw: Draw) -> Draw:
    """Register a task under its function's name."""
    TASKS[draw.__name__.removesuffix("_")] = draw
    return draw


def chance(rng: Random, share: float) -> bool:
    """Say yes with the given probability."""
    return rng.random() < share


def upto(rng: Random, level: float, low: int, high: int) -> int:
    """Return a length in low..high, with the upper end scaled by level."""
    return rng.randint(low, max(low, round(low + (high - low) * level)))


def invented(rng: Random) -> str:
    """Return a word that is in no list, so that copying cannot be learned by heart."""
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


def word(rng: Random) -> str:
    """Return a listed word, or now and then an invented one."""
    return invented(rng) if chance(rng, 0.04) else rng.choice(lx.WORDS)


def unlisted(rng: Random) -> str:
    """Return a made-up name of richer letters than `invented`."""
    parts = (
        rng.choice(ONSETS) + rng.choice(VOWELS) + (rng.choice(CODAS) if chance(rng, 0.4) else "")
        for _ in range(rng.randint(1, 2))
    )
    return "".join(parts) + rng.choice(ENDINGS)


def person(rng: Random) -> str:
    """Return a first and a last name; some are made up."""
    first, last = rng.choice(lx.FIRST), rng.choice(lx.LAST)
    if chance(rng, 0.16):
        last = unlisted(rng).title()
    if chance(rng, 0.08):
        first = unlisted(rng).title()
    return f"{first} {last}"


def medicine(rng: Random) -> str:
    """Return a listed or a made-up drug."""
    return unlisted(rng) if chance(rng, 0.12) else rng.choice(lx.DRUGS)


def money(rng: Random) -> str:
    """Return an amount with its currency."""
    return f"{rng.randint(2, 10 ** rng.randint(2, 4) - 1)} {rng.choice(lx.CURRENCIES)}"


def fill(rng: Random, text: str) -> str:
    """Fill the placeholders of a sentence with random words; the redaction marks {N} and {P} stay."""
    return (
        text.replace("{N}", "{{N}}")
        .replace("{P}", "{{P}}")
        .format(
            day=rng.choice(lx.DAYS),
            dept=rng.choice(lx.DEPARTMENTS),
            name=person(rng),
            amount=money(rng),
            cond=rng.choice(lx.CONDITIONS),
            drug=rng.choice(lx.DRUGS),
            noun=rng.choice(lx.NOUNS),
            verb=rng.choice(lx.VERBS),
            colour=rng.choice(lx.COLOURS),
            city=rng.choice(lx.CITIES),
            country=rng.choice(list(lx.CAPITALS)),
        )
    )


def ask(rng: Random, name: str, payload: str, **slots: str) -> str:
    """Put the payload into one of the instructions of `FORMS`, with small variations of wording."""
    text = rng.choice(FORMS[name])
    for slot, value in slots.items():
        text = text.replace("{" + slot + "}", value)
    if ": {}" in text and chance(rng, 0.2):
        text = text.replace(": {}", ":\n{}")
    manner = rng.choices(("as it is", "please", "small", "bare"), (82, 8, 6, 4))[0]
    if manner == "bare":
        text = text.removesuffix("?")
    elif manner != "as it is" and not text.startswith("{"):
        text = ("Please " if manner == "please" else "") + text[0].lower() + text[1:]
    return text.replace("{}", payload)


def listed(rng: Random, words: list[str]) -> str:
    """Join words with commas or with spaces."""
    return (", " if chance(rng, 0.5) else " ").join(words)


@task
def last_word(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for the last word of a line."""
    words = [word(rng) for _ in range(upto(rng, level, 2, 8))]
    return ask(rng, "last_word", " ".join(words)), words[-1], ""


def numbered(words: list[str]) -> str:
    """Return '1 red, 2 lamp': the working-out of count and reverse."""
    return ", ".join(f"{i} {w}" for i, w in enumerate(words, 1))


@task
def reverse(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask to turn round the order of words."""
    words = [word(rng) for _ in range(upto(rng, level, 2, 6))]
    sep = ", " if chance(rng, 0.5) else " "
    return ask(rng, "reverse", sep.join(words)), sep.join(words[::-1]), numbered(words)


@task
def count(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for the number of words."""
    words = [word(rng) for _ in range(upto(rng, level, 1, 10))]
    return ask(rng, "count", listed(rng, words)), str(len(words)), numbered(words)


@task
def capital(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the capital of a country (closed table)."""
    country = rng.choice(list(lx.CAPITALS))
    return ask(rng, "capital", country), lx.CAPITALS[country], ""


@task
def country(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the country of a capital (closed table)."""
    land = rng.choice(list(lx.CAPITALS))
    return ask(rng, "country", lx.CAPITALS[land]), land, ""


@task
def french(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for one or two nouns in French (closed table)."""
    words = rng.sample(list(lx.FRENCH), 2 if chance(rng, 0.5) else 1)
    return ask(rng, "french", " and ".join(words)), " et ".join(lx.FRENCH[w] for w in words), ""


@task
def upper(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for one to three words in upper case."""
    words = " ".join(word(rng) for _ in range(upto(rng, level, 1, 3)))
    return ask(rng, "upper", words), words.upper(), ""


@task
def extract_name(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the person named in a sentence."""
    name = person(rng)
    body = rng.choice(BODIES["extract_name"])
    body = fill(rng, body.replace("{name}", name))
    return ask(rng, "extract_name", body), name, ""


@task
def sentiment(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the sentiment: positive, negative or neutral."""
    label = rng.choice(("positive", "negative", "neutral"))
    if label == "neutral":
        text = rng.choice(lx.PLAIN)
        if chance(rng, 0.5):
            text += " and " + rng.choice(lx.PLAIN).replace("The", "the", 1)
    else:
        pool = lx.GOOD if label == "positive" else lx.BAD
        joint = rng.choice((" was ", " was very ", " was really ", " is ", " was so "))
        text = rng.choice(lx.SUBJECTS) + joint + rng.choice(pool)
        if chance(rng, 0.6):
            text += (
                " and "
                + rng.choice(lx.SUBJECTS).replace("T", "t", 1).replace("M", "m", 1)
                + " was "
                + rng.choice(pool)
            )
    return ask(rng, "sentiment", text + "."), label, ""


@task
def route(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask which team should get a ticket."""
    team = rng.choice(list(lx.TICKETS))
    things, troubles = lx.TICKETS[team]
    text = f"{rng.choice(things)} {rng.choice(troubles)}"
    start = rng.choice(BODIES["route"])
    text = fill(rng, start.replace("{}", text)) + "."
    text = text[0].upper() + text[1:]
    return ask(rng, "route", text), team, ""


@task
def data_class(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the data class: public, internal, confidential or restricted."""
    label = rng.choice(list(lx.DATA))
    text = fill(rng, rng.choice(lx.DATA[label])) + "."
    return ask(rng, "data_class", text), label, ""


@task
def redact(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask to blank out names and phone numbers."""
    body = rng.choice(BODIES["redact"])
    body = fill(rng, body)
    clean = body.replace("{N}", "[NAME]").replace("{P}", "[PHONE]")
    while "{N}" in body:
        body = body.replace("{N}", person(rng), 1)
    body = body.replace("{P}", f"{rng.randint(100, 999)} {rng.randint(1000, 9999)}")
    return ask(rng, "redact", body), clean, ""


@task
def amount(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the sum of money in a sentence that also holds other numbers."""
    value = money(rng)
    number = str(rng.randint(10, 9999))
    body = rng.choice(BODIES["amount"])
    body = body.replace("{amount}", value).replace("{n}", number).replace("{m}", str(rng.randint(2, 60)))
    return ask(rng, "amount", fill(rng, body)), value, ""


@task
def repeat(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for an exact copy of a line."""
    makers = (
        word,
        word,
        word,
        invented,
        lambda r: str(r.randint(0, 999)),
        lambda r: r.choice(lx.FIRST),
        lambda r: r.choice(lx.CITIES),
    )
    text = " ".join(rng.choice(makers)(rng) for _ in range(upto(rng, level, 1, 7)))
    return ask(rng, "repeat", text), text, ""


@task
def larger(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for the larger of two numbers."""
    a = rng.randint(0, 10 ** rng.randint(1, 4) - 1)
    b = rng.randint(0, 10 ** rng.randint(1, 4) - 1)
    if chance(rng, 0.4):
        b = max(0, min(9999, a + rng.randint(-60, 60)))
    if a == b:
        b = a + 1
    width = max(len(str(a)), len(str(b)))
    thought = f"{a:0{width}d} {b:0{width}d}: "
    for x, y in zip(f"{a:0{width}d}", f"{b:0{width}d}", strict=True):
        thought += f"{x}{'=' if x == y else '>' if x > y else '<'}{y} "
        if x != y:
            break
    return ask(rng, "larger", f"{a} or {b}"), str(max(a, b)), thought.strip()


@task
def member(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask whether a word is in a list; the answer names the word again."""
    pool = rng.sample(lx.WORDS, 9)
    words = pool[: upto(rng, level, 2, 8)]
    inside = chance(rng, 0.5)
    item = rng.choice(words) if inside else pool[-1]
    return ask(rng, "member", ", ".join(words), x=item), f"{item}: {'yes' if inside else 'no'}", ""


@task
def recall(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for the value stored under a key; the answer is the pair as it stands."""
    n = upto(rng, level, 2, 5)
    keys = rng.sample(lx.WORDS, n)
    digits = chance(rng, 0.5)
    values = [str(rng.randint(0, 99)) for _ in keys] if digits else [word(rng) for _ in keys]
    mark = rng.choice((" = ", " is ", ": "))
    pick = rng.randrange(n)
    pairs = ", ".join(f"{k}{mark}{v}" for k, v in zip(keys, values, strict=True))
    return ask(rng, "recall", pairs, x=keys[pick]), f"{keys[pick]}{mark}{values[pick]}", ""


@task
def recall_all(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for all values of a table in another order: many look-ups in one row, for training only."""
    keys = rng.sample(lx.WORDS, upto(rng, level, 2, 5))
    digits = chance(rng, 0.5)
    mark = rng.choice((" = ", " is ", ": "))
    pairs = [f"{k}{mark}{rng.randint(0, 99) if digits else word(rng)}" for k in keys]
    order = rng.sample(range(len(keys)), len(keys))
    wanted = _fields(rng, [keys[i] for i in order])
    return ask(rng, "recall_all", ", ".join(pairs), x=wanted), ", ".join(pairs[i] for i in order), ""


@task
def member_all(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for several words whether they are in a list: for training only."""
    pool = rng.sample(lx.WORDS, 12)
    words = pool[: upto(rng, level, 2, 8)]
    items = rng.sample(words, min(len(words), rng.randint(1, 2))) + pool[-rng.randint(1, 2) :]
    rng.shuffle(items)
    answer = ", ".join(f"{item}: {'yes' if item in words else 'no'}" for item in items)
    return ask(rng, "member_all", ", ".join(words), x=_fields(rng, items)), answer, ""


@task
def add(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for the sum of two numbers of up to three digits."""
    digits = upto(rng, min(1.0, level * 1.2), 1, 3)
    a = rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)
    b = rng.randint(0, 10**digits - 1)
    if chance(rng, 0.5):
        a, b = b, a
    width, carry, steps = max(len(str(a)), len(str(b))), 0, []
    for x, y in zip(reversed(f"{a:0{width}d}"), reversed(f"{b:0{width}d}"), strict=True):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    shape = rng.choice(("{} + {}", "{}+{}", "{} plus {}", "{} and {}"))
    text = ask(rng, "add", "@")
    if shape == "{} and {}" and "dd" not in text:
        shape = "{} + {}"
    return text.replace("@", shape.format(a, b)), str(a + b), " ".join(steps)


@task
def sum_(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for the sum of three to five numbers of up to 30."""
    numbers = [rng.randint(1, max(9, round(30 * level))) for _ in range(upto(rng, level, 3, 5))]
    steps, total = [], numbers[0]
    for n in numbers[1:]:
        steps.append(f"{total}+{n}={total + n}")
        total += n
    if chance(rng, 0.5):
        text = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    else:
        text = rng.choice((", ", " + ")).join(map(str, numbers))
    return ask(rng, "sum", text), str(total), " ".join(steps)


DOSES = "2 4 5 8 10 12 15 20 25 30 40 50 60 75 80 100 150 200 250 400 500 600 800".split()


def _dose(rng: Random) -> str:
    return f"{rng.choice(DOSES)} {rng.choice(lx.UNITS)}"


def _ward(rng: Random) -> str:
    code = f"{rng.choice('ABCDE')}{rng.randint(1, 12)}"
    return rng.choices((code, str(rng.randint(1, 20)), rng.choice(lx.DEPARTMENTS)), (4, 3, 3))[0]


def _fields(rng: Random, keys: list[str]) -> str:
    if chance(rng, 0.35):
        return ", ".join(keys)
    return ", ".join(keys[:-1]) + " and " + keys[-1] if len(keys) > 1 else keys[0]


@task
def json_four(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for four fields of a hospital note as JSON."""
    facts = {"name": person(rng), "ward": _ward(rng), "drug": medicine(rng), "dose": _dose(rng)}
    note = rng.choice(BODIES["note"]).format(day=rng.choice(lx.DAYS), **facts)
    keys = list(facts)
    if chance(rng, 0.15):
        rng.shuffle(keys)
    text = ask(rng, "json_note", note, f=_fields(rng, keys))
    return text, json.dumps({k: facts[k] for k in keys}), ""


KEYS = ("city", "count", "colour", "name", "age", "item", "status", "code", "day", *lx.NOUNS[:40])


@task
def json_other(rng: Random, level: float) -> tuple[str, str, str]:
    """Ask for one to five fields of an order or of named values as JSON; counts are numbers."""
    if chance(rng, 0.5):
        keys = rng.sample(KEYS, upto(rng, level, 1, 4))
        makers: tuple[Callable[[Random], object], ...] = (
            word,
            word,
            person,
            lambda r: r.randint(0, 99),
            lambda r: r.choice(lx.CITIES),
        )
        facts = {k: rng.choice(makers)(rng) for k in keys}
        pairs = _fields(rng, [f"{k} {v}" for k, v in facts.items()])
        return ask(rng, "json_named", pairs), json.dumps(facts), ""
    facts = {
        "name": person(rng),
        "city": rng.choice(lx.CITIES),
        "quantity": rng.randint(2, 99),
        "item": rng.choice(lx.WORDS),
        "price": money(rng),
    }
    note = rng.choice(BODIES["order"]).format(**facts)
    keys = rng.sample(list(facts), upto(rng, level, 1, 5))
    text = ask(rng, "json_order", note, f=_fields(rng, keys))
    return text, json.dumps({k: facts[k] for k in keys}), ""


@task
def about(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask the model about itself."""
    return rng.choice(lx.ABOUT), lx.ABOUT_ANSWER, ""


@task
def unknown(rng: Random, _level: float) -> tuple[str, str, str]:
    """Ask for something outside the grammar."""
    return fill(rng, rng.choice(lx.UNKNOWN)), lx.UNKNOWN_ANSWER, ""


LABELS = {
    "recall_all": "recall",
    "member_all": "list",
    "last_word": "last word",
    "extract_name": "name",
    "data_class": "data class",
    "json_four": "JSON",
    "json_other": "JSON",
    "route": "routing",
    "member": "list",
    "upper": "upper case",
    "about": "greeting",
    "unknown": "other",
}


def draw(rng: Random, name: str, level: float = 1.0) -> Sample:
    """Draw one sample of the named task."""
    prompt, answer, thought = TASKS[name](rng, level)
    if not thought:
        thought = NEUTRAL.format(LABELS.get(name, name))
    return Sample(name, prompt, answer, thought)
