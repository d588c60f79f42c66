"""``allod plan tiers``: what runs where, with the best lawful model and a provenance-clean alternative."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Invalid
from allod.gateway.cli import out
from allod.gateway.cli.catalogue_lines import as_data, briefly
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allod.planner.catalogue import Device, ModelCard
    from allod.planner.pictures import Picture
    from allod.planner.tiers import Answered, Choice, Rules

_FILE = click.Path(path_type=Path)
GIB = 1 << 30


@click.command("tiers")
@click.option("--tier", "name", help="one tier only: controller, iot, phone, edge, vehicle, telco, ...")
@click.option("--on", "device", help="another device of that tier")
@click.option(
    "--ban", "banned", multiple=True, help="jurisdiction of makers not to use (default: the tenant's)"
)
@click.option(
    "--clean-of", "avoid", multiple=True, help="what the clean alternative avoids (default: CN RU US)"
)
@click.option("--svg", type=_FILE, help="write the picture")
@click.option("--html", type=_FILE, help="write a page with picture and table")
@config_option
@json_option
def COMMAND(  # noqa: N802 (the name the group looks for)
    name: str | None,
    device: str | None,
    banned: tuple[str, ...],
    avoid: tuple[str, ...],
    svg: Path | None,
    html: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show for each tier the usual device, the best lawful model and a clean alternative.

    Lawful: licence and maker known, maker not banned by the tenant. Clean: an open licence besides, and a
    maker outside the great powers. What is not known is said.
    """
    from allod.planner import tiers  # noqa: PLC0415 (only when it runs)
    from allod.planner.catalogue import find_device  # noqa: PLC0415

    rules = _rules(banned, avoid, config_path)
    if name is None:
        if device is not None:
            raise click.UsageError("--on needs --tier")
        found = tiers.all_tiers(rules)
    else:
        tier = next((one for one in tiers.TIERS if one.id == name.lower()), None)
        if tier is None:
            known = ", ".join(one.id for one in tiers.TIERS)
            raise Invalid(
                f"there is no tier {name[:40]!r}", f"known are {known}", "name one of these", param="tier"
            )
        found = (
            [tiers.answer(tier, find_device(device), rules)]
            if device is not None
            else tiers.all_tiers(rules, only=tier.id)
        )
    _write(found, rules, svg, html)
    if as_json:
        out(
            {
                "banned": sorted(rules.banned),
                "avoid": sorted(rules.avoid),
                "tiers": [_answered(a) for a in found],
                "catalogue": as_data(*_used(found)),
            }
        )
    else:
        _tell(found, rules)


def _rules(banned: Sequence[str], avoid: Sequence[str], config_path: Path | None) -> Rules:
    from allod.gateway.cli.countries import country_code  # noqa: PLC0415
    from allod.planner.tiers import GREAT_POWERS, Rules  # noqa: PLC0415

    bans = frozenset(country_code(text, "ban") for text in banned) or _tenant_bans(config_path)
    shunned = frozenset(country_code(text, "clean_of") for text in avoid)
    return Rules(banned=bans, avoid=shunned or GREAT_POWERS | bans)


def _tenant_bans(config_path: Path | None) -> frozenset[str]:
    """Return the makers' jurisdictions the tenant bans; none where there is no configuration."""
    from allod.gateway import compose  # noqa: PLC0415

    path = config_path or compose.home_root() / "allod.toml"
    if config_path is None and not path.is_file():
        return frozenset()
    return frozenset(compose.read_config(path).fleet.tenant.banned_makers)


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    v, speed = choice.verdict, choice.tok_s
    return {
        "model": choice.card.id,
        "maker": choice.card.maker,
        "maker_jurisdiction": choice.card.maker_jurisdiction,
        "licence": choice.card.licence,
        "released": choice.card.released or None,
        "quant": choice.quant,
        "need_bytes": v.need.value,
        "need_low_bytes": v.need.low,
        "need_high_bytes": v.need.high,
        "tok_s": None
        if speed is None
        else {"value": speed.value, "low": speed.low, "high": speed.high, "level": speed.level},
        "as_of": v.need.as_of.isoformat(),
        "source": choice.card.source,
    }


def _answered(one: Answered) -> dict[str, Any]:
    device = one.device
    return {
        "tier": one.tier.id,
        "device": None if device is None else device.id,
        "devices": one.tier.count,
        "maker_jurisdiction": None if device is None else device.maker_jurisdiction or None,
        "mem_bytes": None if device is None else device.mem_bytes,
        "context": one.tier.context,
        "concurrency": one.tier.concurrency,
        "best": _choice(one.best),
        "clean": _choice(one.clean),
        "candidates": one.candidates,
        "not_known": list(one.unknown),
        "source": None if device is None else device.source,
        "as_of": None if device is None else device.as_of.isoformat(),
    }


def _used(found: Sequence[Answered]) -> list[Device | ModelCard | None]:
    choices = [choice for one in found for choice in (one.best, one.clean) if choice is not None]
    return [*(one.device for one in found), *(one.card for one in choices)]


def _named(choice: Choice | None) -> str:
    if choice is None:
        return "none of the catalogue"
    card = choice.card
    return f"{card.id.rsplit('/', 1)[-1]} {choice.quant} ({card.maker_jurisdiction}, {card.licence})"


def _speed(choice: Choice | None) -> str:
    if choice is None:
        return ""
    speed = choice.tok_s
    if speed is None:
        return "not known"
    value, low, high = map(_two_digits, (speed.value, speed.low, speed.high))
    return f"{value} ({low} to {high})"


def _two_digits(figure: float) -> str:
    return f"{figure:.1f}" if figure < 9.95 else f"{figure:.0f}"  # noqa: PLR2004 (where 10 begins)


def _machine(one: Answered) -> str:
    if one.device is None:
        return "not known"
    memory = (one.device.mem_bytes or 0) / GIB
    size = f"{memory:.0f} GiB" if memory >= 1 else f"{memory * 1024:.1f} MiB"
    return f"{one.tier.count} x {one.device.id}, {size}"


def _rows(found: Sequence[Answered]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("tier", "usual device", "best lawful", "clean alternative", "tok/s of the best, 80 %")
    ]
    rows += [(a.tier.title, _machine(a), _named(a.best), _named(a.clean), _speed(a.best)) for a in found]
    return rows


def _tell(found: Sequence[Answered], rules: Rules) -> None:
    say_columns(_rows(found), 4)
    for head, text in _meant(rules):
        say_folded(f"{head}:".ljust(8), text)
    for text in _not_known(found):
        say_folded("not known: ", text)
    for line in briefly(_used(found)):
        say_folded("catalogue ", line)


def _meant(rules: Rules) -> tuple[tuple[str, str], ...]:
    return (
        ("banned", ", ".join(sorted(rules.banned)) or "nobody (no tenant says so)"),
        ("lawful", "licence and maker's jurisdiction known, maker not banned"),
        ("clean", f"open licence, maker outside {', '.join(sorted(rules.avoid))}"),
        ("rank", "by size and year of release, a proxy: measure with allod eval; tok/s of one stream"),
    )


def _not_known(found: Sequence[Answered]) -> list[str]:
    told: dict[str, list[str]] = {}
    for one in found:
        for text in one.unknown:
            told.setdefault(text, []).append(one.tier.id)
    return [
        f"{text} ({', '.join(where)})" if len(where) < len(found) else text for text, where in told.items()
    ]


def _picture(found: Sequence[Answered]) -> Picture:
    from allod.planner.pictures import Bar, bars  # noqa: PLC0415

    rows = []
    for one in found:
        for kind, choice in (("own", one.best), ("open", one.clean)):
            if choice is None or (kind == "open" and one.best is not None and choice.card is one.best.card):
                continue
            need = choice.verdict.need
            label = f"{one.tier.title}: {_named(choice)}"
            rows.append(Bar(label, need.value / GIB, need.low / GIB, need.high / GIB, kind))
    return bars(
        "What runs where: memory of the best lawful and of the clean model",
        rows, "GiB on the fullest device", log=True,
        about="Green: best lawful; amber: clean alternative, if another. Logarithmic; 90 % intervals.",
    )  # fmt: skip


def _write(found: Sequence[Answered], rules: Rules, svg: Path | None, html: Path | None) -> None:
    if svg is None and html is None:
        return
    from allod.gateway.cli.plan_money import write  # noqa: PLC0415
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    picture = _picture(found)
    if svg is not None:
        write(svg, picture.svg())
    if html is not None:
        section = Section(
            "Tiers",
            tuple(f"{head.capitalize()}: {text}." for head, text in _meant(rules)),
            picture,
            tuple(_rows(found)),
        )
        unknown = Section("Not known", tuple(f"{text}." for text in _not_known(found)))
        foot = tuple(f"Catalogue {line}" for line in briefly(_used(found)))
        write(html, page("What runs where", (section, unknown), foot=foot))
