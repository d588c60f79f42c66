"""``allod plan npv``: the cash of the years, own against rented against by the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from allod.domain.errors import Invalid
from allod.gateway.cli import catalogue_lines, out, say
from allod.gateway.cli.lines import say_columns, say_folded
from allod.gateway.cli.options import json_option
from allod.gateway.cli.plan_money import Asked, asked, foot, inputs_section, question_options, write

if TYPE_CHECKING:
    from allod.planner.money.case import Case
    from allod.planner.money.npv import Npv

PICTURES: Final = ("cash", "options")
HEADS: Final = ("option", "present value", "80 %", "cheapest")


@click.command("npv")
@question_options
@click.option("--picture", type=click.Choice(PICTURES), default="cash", help="which one --svg writes")
@json_option
def command(as_json: bool, picture: str, **values: Any) -> None:
    """Say whether to own hardware for MODEL: net present value and cash by year, with what may go wrong.

    Prices fall or rise, demand grows and rebounds, work comes in part only, hardware comes late; bought or
    leased, with what is left at the end. It may say not to buy, and then what sovereignty costs a month.
    """
    from allod.planner.money.asking import ask  # noqa: PLC0415 (only when it runs)
    from allod.planner.money.npv import plan  # noqa: PLC0415
    from allod.planner.money.shown import flows_picture, options_picture  # noqa: PLC0415

    question = asked(values)
    case, _ = ask(question.question, question.book)
    found = plan(case, values["draws"], values["seed"])
    if values["svg"] is not None:
        drawing = flows_picture(found) if picture == "cash" else options_picture(found)
        if drawing is None:
            raise Invalid(
                "there is no cash to draw", "what hardware costs is not known", "say --device-price"
            )
        write(values["svg"], drawing.svg())
    if values["html"] is not None:
        write(values["html"], _page(question, case, found))
    if as_json:
        out(_data(question, case, found))
        return
    _say(question, found)


def _page(question: Asked, case: Case, found: Npv) -> str:
    from allod.planner.money.shown import flows_picture, npv_lines, options_picture  # noqa: PLC0415
    from allod.planner.pictures import Section, page  # noqa: PLC0415

    sections = [
        Section("Every option", _unknown(found), options_picture(found), (HEADS, *npv_lines(found))),
        Section("Cash by year", _work(found), flows_picture(found)),
        inputs_section(case),
    ]
    title = f"{question.question.model}: buy, lease, rent, or pay by the token"
    return page(title, sections, lead=found.verdict, foot=foot(question, found.draws, found.seed))


def _unknown(found: Npv) -> tuple[str, ...]:
    from allod.planner.money.shown import OPTION_WORDS  # noqa: PLC0415

    return tuple(f"{OPTION_WORDS[name]}: {why}" for name, why in found.unknown.items())


def _work(found: Npv) -> tuple[str, ...]:
    from allod.planner.pictures.canvas import short  # noqa: PLC0415

    years = ", ".join(f"{short(one[0])} ({short(one[1])} to {short(one[2])})" for one in found.work)
    lines = [f"Solved tasks a month, by year: {years}."]
    if found.overflow > 0:
        lines.append(
            f"{100 * found.overflow:.0f} % of the work over the term is more than the nodes do and is bought "
            "by the token."
        )
    return tuple(lines)


def _say(question: Asked, found: Npv) -> None:
    from allod.planner.money.npv import usd  # noqa: PLC0415
    from allod.planner.money.shown import OPTION_WORDS, npv_lines  # noqa: PLC0415

    say_folded("", found.verdict)
    say()
    say_columns([HEADS, *npv_lines(found)], 1)
    say()
    if found.owned is not None and found.against is not None:
        say(f"  {OPTION_WORDS[found.owned]} against {OPTION_WORDS[found.against].lower()}, cash by year:")
        rows = [("year", "saves", "80 %")]
        rows += [
            (str(n + 1), usd(one[0]), f"{usd(one[1])} to {usd(one[2])}")
            for n, one in enumerate(found.flows_usd)
        ]
        say_columns(rows, 1)
    for text in (*_unknown(found), *_work(found), *foot(question, found.draws, found.seed)):
        say_folded("  ", text, 4)


def _data(question: Asked, case: Case, found: Npv) -> dict[str, Any]:
    from allod.planner.money.asking import told  # noqa: PLC0415
    from allod.planner.money.shown import cost_data  # noqa: PLC0415

    return {
        "model": question.question.model,
        "device": case.device or None,
        "devices": case.devices,
        "nodes": case.nodes,
        "day": case.day.isoformat(),
        "books": list(question.origin),
        "catalogue": catalogue_lines.as_data(question.question.device, question.question.grid),
        **cost_data(found),
        "inputs": told(case.inputs.by_key.values()),
    }


COMMAND: Final = command
