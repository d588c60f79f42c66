"""``allod plan speculate``: does a draft pay on this deployment, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.domain.fleet import EMBEDDED
from allod.domain.money import plain
from allod.gateway.cli import out, say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import app_named, config_option, json_option, now_ms
from allod.gateway.toml import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allod.domain.fleet import Deployment
    from allod.gateway.cli.eval import Link
    from allod.gateway.compose import Setting
    from allod.gateway.speculating import Measured, Standing
    from allod.gateway.speculating_probe import Order
    from allod.planner.pictures import Picture
    from allod.planner.speculation import Found, Pair, Ratio, Row, Timed

OK, REFUSED = 200, 403
MIB: Final = 1 << 20
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW: Final = click.Path(path_type=Path)
_READING: Final = (
    "intervals of a kind are over rounds, for its prompts; that of all is over prompts and rounds"
)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to a person: whose, what was found, and sentences that tell what follows."""

    title: str
    names: tuple[str, str]
    found: Found
    texts: tuple[str, ...]
    foot: tuple[str, ...] = ()


@click.command("speculate")
@click.argument("deployment", required=False)
@click.option("--draft", help="another draft than the configuration names: a vault name")
@click.option("--compare", "other", help="a deployment that was told to speculate by its operator")
@click.option("--app", "app_id", help="with --compare: the app that asks")
@click.option("--prompts", "file", type=_FILE, help="own prompts: one a line, or a TOML of [[prompt]]")
@click.option("--rounds", type=click.IntRange(3, 100), default=5, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1, 4096), default=96, show_default=True)
@click.option(
    "--accept-different", is_flag=True, help="use the draft even where answers are not the same with it"
)
@click.option("--svg", type=_NEW, help="write the picture")
@click.option("--html", type=_NEW, help="write a page with picture and table")
@config_option
@json_option
def COMMAND(  # noqa: N802 (the name the group looks for)
    deployment: str | None,
    draft: str | None,
    other: str | None,
    app_id: str | None,
    file: Path | None,
    rounds: int,
    max_tokens: int,
    accept_different: bool,
    svg: Path | None,
    html: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Measure draft against plain on DEPLOYMENT; the draft is used only where it is over 1.1 times as fast.

    Two children are started beside whatever runs, and asked the same prompts by turns. Without DEPLOYMENT,
    tell how it stands with every draft. With --compare, two deployments of others are asked through the
    running gateway, and nothing is decided.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path)
    if deployment is None:
        _standing(setting, as_json=as_json)
        return
    from allod.gateway.speculating_probe import Order, read_prompts  # noqa: PLC0415

    order = Order(prompts=read_prompts(file), rounds=rounds, max_tokens=max_tokens)
    one = _deployment(setting, deployment)
    if other is not None:
        if draft is not None or accept_different:
            raise Invalid("--compare decides nothing", "it goes without --draft and --accept-different")
        said, data = _compare(setting, one, _deployment(setting, other), order, app_id, quiet=as_json)
    else:
        said, data = _measure(setting, _drafting(one, draft), order, accept_different, quiet=as_json)
    _write(said, svg, html)
    if as_json:
        out(data)
    else:
        _tell(said)


def _deployment(setting: Setting, name: str) -> Deployment:
    found = setting.fleet.deployments.get(name)
    if found is None:
        hint, known = nearest(name, setting.fleet.deployments), ", ".join(setting.fleet.deployments)
        raise Invalid(f"there is no deployment {name!r}{hint}", f"known: {known}", param="deployment")
    return found


def _drafting(deployment: Deployment, draft: str | None) -> Deployment:
    """Return the deployment as it is to be measured (raises ``Invalid`` where nothing can be)."""
    if deployment.engine not in EMBEDDED:
        raise Invalid(
            f"{deployment.id} is not an engine of ours",
            f"its engine is {deployment.engine}: whether it speculates is its operator's to say",
            "configure it once with and once without, and say --compare",
            param="deployment",
        )
    if draft is None and deployment.draft is None:
        raise Invalid(
            f"{deployment.id} has no draft",
            "the configuration names none",
            "say --draft NAME, or put `draft` into its table",
            param="draft",
        )
    return deployment if draft is None else msgspec.structs.replace(deployment, draft=draft)


# --- a draft of our own


def _measure(
    setting: Setting, one: Deployment, order: Order, accept: bool, *, quiet: bool
) -> tuple[Said, dict[str, Any]]:
    from allod.gateway import speculating, speculating_probe  # noqa: PLC0415 (only when it runs)

    configured = setting.fleet.deployments[one.id].draft
    speculating_probe.lawful(setting, (one.id,))
    with speculating.alone(setting.home), _progress(order.steps, quiet=quiet) as step:
        measured, found = asyncio.run(speculating_probe.measure(setting, one, order, step, accept=accept))
        keep = configured in {None, one.draft}
        logged = speculating_probe.kept(setting, measured) if keep else False
    used, why = measured.decided()
    texts = [f"{one.draft} is {'used' if used and keep else 'not used'} beside {one.model}: {why}"]
    if not keep:
        texts.append(f"this is not kept: the configuration names {configured}")
    elif configured is None:
        texts.append(f'the configuration names no draft: put `draft = "{one.draft}"` into {one.id}')
    elif used:
        texts.append("it is loaded from the next start of the gateway on")
    if keep and not logged:
        texts.append(
            "a gateway is running, so the log has no notice of this; its next start logs what is used"
        )
    said = Said(
        title=f"{one.id}: {one.model} with the draft {one.draft}",
        names=("plain", "draft"),
        found=found,
        texts=tuple(texts),
        foot=_foot(measured, found),
    )
    data = {
        "deployment": one.id, "draft": one.draft, "used": used and keep, "why": why, "kept": keep,
        "logged": logged, "different": list(found.different), "measured": measured,
    }  # fmt: skip
    return said, data


def _foot(measured: Measured, found: Found) -> tuple[str, ...]:
    setup, (without, beside) = measured.setup, measured.memory_bytes
    lines = [
        f"{_how(found, measured.max_tokens)}, one at a time; {measured.at}",
        f"engine {setup.engine_version}, {_counted(setup.threads, 'thread')}, {setup.machine}",
        f"{_counted(setup.slots, 'slot')} of {setup.context_tokens} tokens, sandbox {measured.sandbox}",
        f"peak memory of the children: {without / MIB:.0f} MiB plain, {beside / MIB:.0f} MiB with the draft",
    ]
    lines.append(_READING)
    if found.engine_speed_up is not None:
        lines.append(f"decoding alone, by the engine's own clock: {_bounds(found.engine_speed_up)}")
    return tuple(lines)


def _how(found: Found, max_tokens: int) -> str:
    whole = f"{found.whole.prompts} prompts x {found.rounds} rounds of two"
    return f"{whole}, greedy, at most {max_tokens} tokens"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


# --- two deployments of others


def _compare(
    setting: Setting, one: Deployment, other: Deployment, order: Order, app_id: str | None, *, quiet: bool
) -> tuple[Said, dict[str, Any]]:
    from allod.gateway import speculating_probe  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.eval import Link  # noqa: PLC0415
    from allod.planner.speculation import decide, evaluate  # noqa: PLC0415

    if one.id == other.id:
        raise Invalid("a deployment cannot be compared with itself", f"got {one.id} twice", param="compare")
    speculating_probe.lawful(setting, (one.id, other.id))
    link = Link(setting, app_named(setting.fleet, app_id).id)
    asking = _Asking(link, (one.id, other.id))
    try:
        with _progress(order.steps, quiet=quiet) as step:
            found = evaluate(asyncio.run(_rounds(asking, order, step)))
    finally:
        link.close()
    above, why = decide(found.speed_up.low, len(found.different))
    texts = [f"{other.id} {'pays' if above else 'does not pay'} against {one.id}: {why}"]
    texts.append("nothing is changed: which of the two is asked is for the configuration to say")
    if asking.simulated:
        texts.append("answers of a scripted deployment are in these figures")
    said = Said(
        title=f"{other.id} against {one.id}",
        names=(one.id, other.id),
        found=found,
        texts=tuple(texts),
        foot=(f"{_how(found, order.max_tokens)}, through the gateway; {plain(asking.cost)} USD", _READING),
    )
    data = {
        "plain": one.id, "compared": other.id, "above": above, "why": why, "different": list(found.different),
        "cost_usd": plain(asking.cost), "simulated": asking.simulated, "found": found,
    }  # fmt: skip
    return said, data


async def _rounds(asking: _Asking, order: Order, step: Callable[[], None]) -> list[Pair]:
    from allod.gateway.speculating_probe import PASSES, one_pass  # noqa: PLC0415 (only when it runs)

    turns = range(PASSES * order.rounds)
    return [pair for turn in turns for pair in await one_pass(asking, order, turn, step)]


class _Asking:
    """Asks the running gateway by pinning: the law decides, the log keeps, the meter counts."""

    def __init__(self, link: Link, names: tuple[str, str]) -> None:
        self._link, self._names = link, names
        self.cost, self.simulated = Decimal(0), False

    async def __call__(self, second: bool, text: str, max_tokens: int) -> Timed:
        from allod.gateway.speculating_probe import timed  # noqa: PLC0415 (only when it runs)

        body = {
            "model": self._names[second],
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_completion_tokens": max_tokens,
        }
        began = time.perf_counter()
        answered = await asyncio.to_thread(
            self._link.ask, json.dumps(body).encode(), {"cache-control": "no-store"}
        )
        took = time.perf_counter() - began
        if answered.status != OK:
            error = answered.json().get("error") or {}
            why = str(error.get("message", f"status {answered.status}"))
            if answered.status == REFUSED:
                raise Refused(f"the gateway refuses to ask {self._names[second]}", why, "see `allod explain`")
            raise Unavailable(f"{self._names[second]} did not answer", f"{answered.status}: {why}")
        self.cost += Decimal(answered.headers.get("allod-cost", "0"))
        self.simulated = self.simulated or answered.headers.get("allod-simulated") == "true"
        return timed(answered.json(), took)


# --- what is told


@contextlib.contextmanager
def _progress(steps: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    if quiet:
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("asking by turns", total=steps)
        yield lambda: bar.advance(row)


def _standing(setting: Setting, *, as_json: bool) -> None:
    from allod.gateway import speculating  # noqa: PLC0415 (only when it runs)

    found = speculating.checked(setting, now_ms())
    if as_json:
        out(found)
        return
    for one in found:
        say_standing(one)
    if not found:
        say("no deployment has a draft: `draft` in its table, or `allod plan speculate NAME --draft DRAFT`")


def say_standing(one: Standing) -> None:
    """Print how it stands with a draft, and what to do."""
    say_folded("", one.told(), 2)
    if one.remedy:
        say_folded("  do: ", one.remedy, 6)


def _tell(said: Said) -> None:
    say_columns(_table(said), 1)
    say()
    for text in said.texts:
        say_folded("", text, 2)
    differ = len(said.found.different)
    if differ:
        say_folded("", f"the answers to {differ} of {said.found.whole.prompts} prompts are not the same", 2)
    for text in said.foot:
        say_folded("  ", text, 4)


def _table(said: Said) -> list[tuple[str, ...]]:
    first, second = said.names
    head = ("prompts", "n", f"{first} tok/s", f"{second} tok/s", "times", "95 %", "accepted", "95 %")
    return [head, *(_cells(row) for row in (*said.found.kinds, said.found.whole))]


def _cells(row: Row) -> tuple[str, ...]:
    times, kept = row.speed_up, row.acceptance
    return (
        row.kind,
        f"{row.prompts}",
        f"{row.plain_tok_s:.1f}",
        f"{row.draft_tok_s:.1f}",
        "" if times is None else f"{times.value:.2f}",
        "" if times is None else f"{times.low:.2f} to {times.high:.2f}",
        "not told" if kept is None else f"{100 * kept.value:.0f} %",
        "" if kept is None or kept.low == kept.high else f"{100 * kept.low:.0f} to {100 * kept.high:.0f}",
    )


def _bounds(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})"


def _write(said: Said, svg: Path | None, html: Path | None) -> None:
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415

    if svg is not None:
        write(svg, _picture(said).svg())
    if html is not None:
        from allod.planner.pictures import Section, page  # noqa: PLC0415

        table = tuple(_table(said))
        sections = [Section("What it says", said.texts), Section("By kind", (), _picture(said), table)]
        write(html, page(said.title, sections, lead=said.texts[0], foot=said.foot))


def _picture(said: Said) -> Picture:
    from allod.planner.pictures import Bar, Mark, bars  # noqa: PLC0415 (only where one is drawn)
    from allod.planner.speculation import LEAST_SPEED_UP  # noqa: PLC0415

    rows = []
    for row in (*said.found.kinds, said.found.whole):
        times = row.speed_up
        kind = "own" if times is not None and times.low > LEAST_SPEED_UP else "warn"
        label = f"{row.kind} ({row.prompts})"
        rows.append(
            Bar(label, None) if times is None else Bar(label, times.value, times.low, times.high, kind)
        )
    first, second = said.names
    return bars(
        said.title,
        rows,
        f"times as fast as {first}",
        about=f"How many times as fast a token comes with {second} as with {first}, by kind of prompt, with "
        "95 % intervals; that of all decides.",
        marks=(Mark(LEAST_SPEED_UP, f"used above {LEAST_SPEED_UP}"),),
    )
