"""``allod ask``: one question to the running gateway, with a key of a few minutes made for it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from allod.admission.admit import AUTO
from allod.domain.errors import Invalid
from allod.gateway.cli import DONE, FAILED, REFUSED, UNAVAILABLE, USAGE, out, say
from allod.gateway.cli.lines import folded, say_folded
from allod.gateway.cli.options import air_gap_option, app_named, config_option, json_option, request_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allod.gateway.cli.client import Answered

_EXIT = {400: USAGE, 401: FAILED, 403: REFUSED, 404: USAGE, 413: USAGE, 429: REFUSED}


@click.command("ask")
@click.argument("text")
@request_options
@click.option(
    "--input-tokens", type=click.IntRange(1), expose_value=False, help="as in explain; here TEXT tells"
)
@click.option("--max-tokens", type=click.IntRange(1), help="limit of the answer")
@click.option("--effort", type=click.Choice(["none", "low", "medium", "high", "xhigh", "max"]))
@click.option("--system", help="a system message")
@air_gap_option
@config_option
@json_option
def command(
    text: str,
    app_id: str | None,
    classes: tuple[str, ...],
    task: str | None,
    purpose: str | None,
    model: str | None,
    max_tokens: int | None,
    effort: str | None,
    system: str | None,
    air_gap: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Ask the running gateway TEXT, and print the answer with its receipt.

    Uses ALLOD_KEY if it is set, else a key that is revoked afterwards. Exit code 4 when refused, 5 when there
    is no gateway. --air-gap binds this command alone, which then speaks to a gateway on this machine or at a
    named address only; what the gateway does is decided by how it was started.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path, air_gap=air_gap)
    app = app_named(setting.fleet, app_id)
    labels = {
        "allod-data-class": ",".join(classes),
        "allod-task": task,
        "allod-purpose": purpose,
        "allod-effort": effort,
    }
    messages = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {
        "model": model or AUTO,
        "messages": [*messages, {"role": "user", "content": text}],
        "temperature": 0,
    }
    if max_tokens is not None:
        body["max_completion_tokens"] = max_tokens
    from allod.gateway.cli.client import Client  # noqa: PLC0415

    with Client(setting, app.id) as client:
        answered = client.ask(
            "POST",
            "/v1/chat/completions",
            json.dumps(body).encode(),
            {k: v for k, v in labels.items() if v},
        )
    if as_json:
        out(_as_json(answered))
    else:
        _print(answered)
    sys.exit(DONE if answered.status == 200 else _EXIT.get(answered.status, UNAVAILABLE))  # noqa: PLR2004


def _as_json(answered: Answered) -> dict[str, Any]:
    headers, body = answered.headers, answered.json()
    if answered.status != 200:  # noqa: PLR2004
        return {
            "status": answered.status,
            "receipt": headers.get("allod-receipt"),
            "error": body.get("error", body),
        }
    return {
        "status": answered.status,
        "answer": _text(body),
        "receipt": headers.get("allod-receipt"),
        "deployment": headers.get("allod-deployment"),
        "jurisdiction": headers.get("allod-jurisdiction"),
        "cost_usd": headers.get("allod-cost"),
        "simulated": headers.get("allod-simulated") == "true",
        "usage": body.get("usage"),
    }


def _text(body: dict[str, Any]) -> str:
    try:
        message = body["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        raise Invalid("the answer has no choices", f"got keys {', '.join(body)}") from None
    return message.get("content") or json.dumps(message.get("tool_calls") or "")


def _print(answered: Answered) -> None:
    headers = answered.headers
    if answered.status == 200:  # noqa: PLR2004
        say(_text(answered.json()))
        say()
        marks = " (simulated)" if headers.get("allod-simulated") == "true" else ""
        say(f"  from     {headers.get('allod-deployment')} in {headers.get('allod-jurisdiction')}{marks}")
        say(f"  cost     {headers.get('allod-cost')} USD")
    else:
        error = answered.json().get("error", {})
        say_folded("", str(error.get("message", "no reason was given")))
        for line in _why(error.get("allod") or {}):
            say(line)
        say()
    if "allod-receipt" in headers:
        say(f"  receipt  {headers['allod-receipt']}")


def _why(block: dict[str, Any]) -> Iterator[str]:
    for one in block.get("excluded", ()):
        yield f"\n  {one['deployment']}"
        for rule in one["rules"]:
            yield from folded(f"    {rule['id']}   ", f"({rule['law']})" if rule["law"] else "")
            yield from folded("      got       ", rule["got"])
            yield from folded("      required  ", rule["required"])
    near = block.get("nearest", ())
    if near:
        yield "\n  nearest change that would admit:"
        for change in near:
            yield from folded(f"    {change['deployment']}: ", change["change"])
