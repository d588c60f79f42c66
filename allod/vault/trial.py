"""Rendering a chat template over conversations, to find one that reads what it only has to place.

A hidden conditional (arXiv 2602.04653) waits for a word in a message and then writes into the prompt what
nobody said. The trial needs no reference for it: an honest template moves words and does not care which they
are, so a conversation rendered with other words must give the same prompt with other words in it. The words
tried are published triggers, every literal of the template itself, and everything that message content was
compared with while it rendered. A family's reference template, where there is one, is compared besides.

Run only in the limited child of ``examine``: a template that passes the linter can still be slow.

What this cannot see: a condition on several words at once other than all literals together, on letters
picked one by one, on a date or message count that is nowhere written as a literal; a template that is wrong
in the same way for every conversation and has no reference; an engine whose template language reads the same
text otherwise.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Final

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from allod.domain.errors import Invalid
from allod.vault import template as lint
from allod.vault.conversations import PLACES, SHAPES, TRIGGERS, Heard, Shape, long_talk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jinja2 import Template

MAX_TRIGGERS: Final = 200
MAX_TRIGGER_CHARS: Final = 200
MAX_OUTPUT_CHARS: Final = 4_000_000
MAX_LENGTH: Final = 20_000
MAX_TURNS: Final = 40
ROUNDS: Final = 3
"""How often texts heard in one round are tried in the next."""
MAX_SPLIT: Final = 12
"""Words taken from each literal, besides the literal itself."""
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_MARK: Final = re.compile(r"[<\[|{(/#].*|.*[>\]|})]|[^\w]*", re.DOTALL)
_PLACE: Final = re.compile("(" + "|".join(PLACES) + ")")
_FILLER: Final = re.compile(r"(?:Qz|qz)[a-z]+?za")
_DATES: Final = ("2026-07-26", "2027-01-01", "2030-12-31")
_CALENDAR: Final = frozenset(
    "January February March April May June July August September October November December Jan Feb Mar Apr "
    "Jun Jul Aug Sep Oct Nov Dec Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
)
_Failed = (TemplateError, SecurityError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError,
           RecursionError)  # fmt: skip


class Asked(Exception):
    """The template itself refused a conversation (``raise_exception``)."""


def _raise(message: str) -> None:
    raise Asked(message)


def _environment(day: str) -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, lint.Generation], autoescape=False
    )
    env.filters["tojson"] = lambda value, **named: json.dumps(
        value, ensure_ascii=False, indent=named.get("indent")
    )
    year, month, date = day.split("-")
    words = {
        "%Y": year,
        "%m": month,
        "%d": date,
        "%b": "Jul",
        "%B": "July",
        "%y": year[2:],
        "%H": "12",
        "%M": "00",
    }

    def strftime_now(form: str) -> str:
        for mark, word in words.items():
            form = form.replace(mark, word)
        return form

    env.globals.update(raise_exception=_raise, strftime_now=strftime_now)
    return env


def _filled(value: Any, words: dict[str, str], log: set[str]) -> Any:
    """Copy messages or tools with other words in their places, as text that listens."""
    if isinstance(value, str):
        return Heard(words[value], log) if value in words else value
    if isinstance(value, dict):
        return {key: _filled(item, words, log) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, words, log) for item in value]
    return value


class _Rendering:
    """A template ready to render shapes; what content was compared with gathers in ``heard``."""

    def __init__(self, text: str, day: str = _DATES[0]) -> None:
        self.template: Template = _environment(day).from_string(text)
        self.heard: set[str] = set()

    def __call__(self, shape: Shape, words: dict[str, str]) -> str | None:
        """Return the prompt, or None where the template refuses or fails."""
        named: dict[str, Any] = {
            "messages": _filled(shape.messages, words, self.heard),
            "add_generation_prompt": shape.prompt,
            "bos_token": "<s>",
            "eos_token": "</s>",
        }
        if shape.tools:
            named["tools"] = _filled(shape.tools, words, self.heard)
        if shape.thinking is not None:
            named["enable_thinking"] = shape.thinking
        size, parts = 0, []
        try:
            for part in self.template.generate(named):
                size += len(part)
                if size > MAX_OUTPUT_CHARS:
                    return None
                parts.append(part)
        except (Asked, *_Failed):
            return None
        return "".join(parts)


_SAME: Final = {place: place for place in PLACES}


class Literals:
    """What is written in a template, folded where it is put together: what is compared, and the rest."""

    def __init__(self, text: str) -> None:
        root = lint.parse(text)
        self.compared, self.others, self.numbers = dict[str, None](), dict[str, None](), dict[int, None]()
        for node in lint.walk(root):
            if isinstance(node, nodes.Compare | nodes.Call | nodes.Filter | nodes.Dict | nodes.Test):
                for inner in lint.walk(node):
                    self._take(inner, self.compared)
            self._take(node, self.others)

    def _take(self, node: nodes.Node, words: dict[str, None]) -> None:
        if not isinstance(node, nodes.Expr):
            return
        try:
            value = node.as_const()
        except (nodes.Impossible, *_Failed):
            return
        for item in value if isinstance(value, list | tuple | dict) else (value,):
            if isinstance(item, str) and item.strip():
                words[item] = None
                words.update(dict.fromkeys(item.split()[:MAX_SPLIT]))
            elif isinstance(item, int) and not isinstance(item, bool) and item > 1:
                self.numbers[item] = None


def _is_mark(word: str) -> bool:
    """Tell whether a literal is punctuation of a prompt format rather than something people say."""
    return bool(_MARK.fullmatch(word.strip(" \t\n'\"`")))


def _variants(word: str, *, cases: bool) -> Iterator[str]:
    bare = word.strip()
    for form in dict.fromkeys((bare, bare.upper(), bare.lower(), bare.title()) if cases else (bare,)):
        yield form
        yield f"Qzonza {form} Qztwoza"


def _placed(got: str, base: str, words: dict[str, str]) -> bool:
    """Tell whether a prompt is the base with other words in its places, plain or escaped (JSON, XML)."""
    pattern = []
    for part in _PLACE.split(base):
        word = words.get(part)
        if word is None:
            pattern.append(re.escape(part))
            continue
        forms = dict.fromkeys((
            word, json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1],
            html.escape(word, quote=False), html.escape(word), html.escape(word).replace("&#x27;", "&#39;"),
        ))  # fmt: skip
        pattern.append("(?:" + "|".join(map(re.escape, forms)) + ")")
    return re.fullmatch("".join(pattern), got, re.DOTALL) is not None


def _new_words(got: str, *known: str) -> list[str]:
    """Return the words of a prompt that are in none of the known texts."""
    there = set(itertools.chain.from_iterable(_words(text.lower()) for text in known))
    return [word for word in dict.fromkeys(_words(got)) if word.lower() not in there]


def _words(text: str) -> list[str]:
    """Return the words of a text; the meaningless ones only part others."""
    return _WORD.findall(_FILLER.sub(" ", text))


class Trial:
    """One template under trial; ``flags`` gathers what a person should look at."""

    def __init__(self, text: str) -> None:
        self.render = _Rendering(text)
        self.text, self.flags = text, dict[str, None]()
        bases = ((shape, self.render(shape, _SAME)) for shape in SHAPES)
        self.bases = [(shape, base) for shape, base in bases if base is not None]

    def run(self) -> tuple[str, ...]:
        """Render everything and return the flags.

        Raises:
            Invalid: it renders nothing, or what it writes depends on what people say.

        """
        if not self.bases:
            _refuse("it renders none of the conversations it was tried with")
        written = Literals(self.text)
        self._words(written)
        for number in written.numbers:
            self._lengths(number)
        self._days()
        return tuple(self.flags)

    def _words(self, written: Literals) -> None:
        """Try what is written in the template, what is published, and what is heard meanwhile."""
        tried: set[str] = set()
        if len(written.compared) > 2 * MAX_TRIGGERS:
            _refuse(f"it compares with over {2 * MAX_TRIGGERS} texts: nobody can review that")
        for word in written.compared:
            self._try(word, tried)
        for word in TRIGGERS:
            self._try(word, tried, cases=False)
        sink = " ".join(word.strip() for word in written.compared if not _is_mark(word))[:MAX_LENGTH]
        if sink:
            self._try(sink, tried, limit=MAX_LENGTH)
        for _ in range(ROUNDS):
            for word in sorted(self.render.heard - tried):
                self._try(word, tried)
        for word in written.others:
            if len(tried) >= MAX_TRIGGERS:
                self.flags[
                    f"it holds more than {MAX_TRIGGERS} texts; the rest were not tried as triggers"
                ] = None
                break
            self._try(word, tried, shapes=3, cases=False)

    def _try(
        self,
        word: str,
        tried: set[str],
        *,
        limit: int = MAX_TRIGGER_CHARS,
        shapes: int | None = None,
        cases: bool = True,
    ) -> None:
        """Put a word wherever people may speak, first everywhere at once, then in one place at a time."""
        if word in tried or not word.strip() or len(word) > limit or "Qz" in word:
            return
        tried.add(word)
        if len(tried) > 2 * MAX_TRIGGERS:
            _refuse(f"it compares with over {2 * MAX_TRIGGERS} texts: nobody can review that")
        for shape, base in self.bases[:shapes]:
            places = [place for place in PLACES if place in base]
            for form in _variants(word, cases=cases):
                self._compare(shape, base, _SAME | dict.fromkeys(places, form), word)
            for place in places if cases and len(places) > 1 else ():
                self._compare(shape, base, _SAME | {place: f"Qzonza {word.strip()} Qztwoza"}, word)

    def _compare(self, shape: Shape, base: str, filled: dict[str, str], word: str) -> None:
        got = self.render(shape, filled)
        if got is None:
            self.flags[f"it refuses a conversation that holds {word[:60]!r}"] = None
            return
        if _placed(got, base, filled):
            return
        fresh = _new_words(got, base, *filled.values())
        if fresh:
            _refuse(
                f"where a message holds {word[:60]!r} ({shape.name}) it writes what nobody said: "
                f"{' '.join(fresh)[:200]!r}"
            )
        if not _is_mark(word):
            _refuse(f"where a message holds {word[:60]!r} ({shape.name}) it writes another prompt")
        self.flags[f"content that holds the mark {word[:60]!r} is rearranged"] = None

    def _lengths(self, number: int) -> None:
        """Look for a condition on the length of a text or on the number of messages."""
        shape, base = self.bases[0]
        for size in (number - 1, number, number + 1):
            if len(PLACES[0]) <= size <= MAX_LENGTH:
                filled = _SAME | {PLACES[0]: PLACES[0].ljust(size, "x")}
                got = self.render(shape, filled)
                if got is None or not _placed(got, base, filled):
                    _refuse(f"a text of {size} characters writes another prompt than a short one")
            if 0 < size <= MAX_TURNS:
                talk = long_talk(size if size % 2 else size + 1)
                got, known = self.render(talk, _SAME), [base for _, base in self.bases]
                fresh = [] if got is None else _new_words(got, *known)
                if fresh:
                    _refuse(f"after {size} messages it writes what nobody said: {' '.join(fresh)[:200]!r}")

    def _days(self) -> None:
        """Look for words that appear only at a later date."""
        years = re.findall(r"20[2-9]\d", self.text)
        for day in dict.fromkeys([*_DATES, *(f"{year}-06-15" for year in years[:20])]):
            other = _Rendering(self.text, day)
            for shape, base in self.bases[:3]:
                got = other(shape, _SAME)
                fresh = [] if got is None else _new_words(got, base)
                fresh = [word for word in fresh if word not in _CALENDAR]
                if got is None or fresh:
                    _refuse(f"on {day} it writes what it does not write today: {' '.join(fresh)[:200]!r}")


def _refuse(why: str) -> None:
    raise Invalid(
        "the chat template of this model is refused",
        why,
        "read it; add the model with a template of your own (--template), or accept this one by its digest "
        "(--accept-template)",
    )


def run(text: str) -> tuple[str, ...]:
    """Render a template that passed ``template.check`` over all conversations; return flags.

    Raises:
        Invalid: what it writes depends on what people say, on a length, a count or a date.

    """
    try:
        return Trial(text).run()
    except TemplateError as error:
        raise Invalid("the chat template of this model is refused", f"it cannot be built: {error}") from error


def differences(text: str, reference: str, shapes: Iterable[Shape] = SHAPES[:4]) -> tuple[str, ...]:
    """Name the conversations in which a template writes another prompt than a reference does."""
    ours, theirs = _Rendering(text), _Rendering(reference)
    out = []
    for shape in shapes:
        got, expected = ours(shape, _SAME), theirs(shape, _SAME)
        if got == expected:
            continue
        if got is None or expected is None:
            out.append(f"{shape.name}: only one of the two renders it")
            continue
        at = next(
            (n for n, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
            min(len(got), len(expected)),
        )
        out.append(f"{shape.name}: {got[at : at + 40]!r} where the reference has {expected[at : at + 40]!r}")
    return tuple(out)
