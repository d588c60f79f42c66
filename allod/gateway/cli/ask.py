"""``allod ask``: one question to the running gateway, with a key of a few minutes made for it."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from allod.admission.admit import AUTO
from allod.domain.errors import Invalid, Unavailable
from allod.gateway.cli import DONE, FAILED, REFUSED, UNAVAILABLE, USAGE, out, say
from allod.gateway.cli.options import app_named, config_option, json_option, now_ms, request_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allod.gateway.compose import Setting

KEY_LIFE_MS = 300_000
KEY_VISIBLE_S = 3.0
ANSWER_LIMIT_S = 600
_EXIT = {400: USAGE, 401: FAILED, 403: REFUSED, 404: USAGE, 413: USAGE, 429: REFUSED}


class Answered(msgspec.Struct, frozen=True):
    """What came back: status, headers in lower case, and the JSON body."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


@click.command("ask")
@click.argument("text")
@request_options
@click.option("--max-tokens", type=click.IntRange(1), help="limit of the answer")
@click.option("--effort", type=click.Choice(["none", "low", "medium", "high", "xhigh", "max"]))
@click.option("--system", help="a system message")
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
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Ask the running gateway TEXT, and print the answer with its receipt.

    Uses ALLOD_KEY if it is set, else a key that is revoked afterwards. Exit code 4 when refused, 5 when there
    is no gateway.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path)
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
    with _key(setting, app.id) as key:
        answered = _post(setting, key, body, {k: v for k, v in labels.items() if v})
    if as_json:
        out(_as_json(answered))
    else:
        _print(answered)
    sys.exit(DONE if answered.status == 200 else _EXIT.get(answered.status, UNAVAILABLE))  # noqa: PLR2004


class _key:  # noqa: N801 (reads as a statement)
    """A key for one command: ``ALLOD_KEY``, or one that is revoked at the end."""

    def __init__(self, setting: Setting, app: str) -> None:
        self._setting, self._app = setting, app
        self._made: str | None = None

    def __enter__(self) -> str:
        given = os.environ.get("ALLOD_KEY")
        if given:
            return given
        from allod.store.keys import create_key  # noqa: PLC0415

        with _database(self._setting) as database:
            now = now_ms()
            self._made = create_key(database, self._app, at_ms=now, expires_at_ms=now + KEY_LIFE_MS)
        return self._made

    def __exit__(self, *_: object) -> None:
        if self._made is None:
            return
        from allod.store.keys import digest_of, revoke_keys  # noqa: PLC0415

        with _database(self._setting) as database:
            revoke_keys(database, at_ms=now_ms(), digest=digest_of(self._made))


def _database(setting: Setting) -> Any:
    import contextlib  # noqa: PLC0415

    from allod.store.database import Database  # noqa: PLC0415

    return contextlib.closing(Database.lite_file(setting.home.database))


def _post(setting: Setting, key: str, body: dict[str, Any], labels: dict[str, str]) -> Answered:
    """Ask; a key made this instant may take a second to be known.

    Raises:
        Unavailable: nobody listens, or what listens is no gateway.

    """
    until = time.monotonic() + KEY_VISIBLE_S
    while True:
        answered = _once(setting, key, body, labels)
        if answered.status != 401 or "ALLOD_KEY" in os.environ or time.monotonic() > until:  # noqa: PLR2004
            return answered
        time.sleep(0.1)


def _once(setting: Setting, key: str, body: dict[str, Any], labels: dict[str, str]) -> Answered:
    server = setting.config.server
    host = "127.0.0.1" if server.host in {"0.0.0.0", "::"} else server.host  # noqa: S104 (compared, not bound)
    link = http.client.HTTPConnection(host, server.port, timeout=ANSWER_LIMIT_S)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", **labels}
    try:
        link.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = link.getresponse()
        raw = response.read()
        return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(raw))
    except ConnectionRefusedError as error:
        raise Unavailable(
            f"no gateway listens on {host}:{server.port}",
            "the connection was refused",
            "start it: `allod up`",
            kind="down",
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(
            f"what listens on {host}:{server.port} did not answer as a gateway",
            f"{type(error).__name__}: {error}",
            "see which program has the port",
            kind="failed",
        ) from error
    finally:
        link.close()


def _as_json(answered: Answered) -> dict[str, Any]:
    headers, body = answered.headers, answered.body
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
        say(_text(answered.body))
        say()
        marks = " (simulated)" if headers.get("allod-simulated") == "true" else ""
        say(f"  from     {headers.get('allod-deployment')} in {headers.get('allod-jurisdiction')}{marks}")
        say(f"  cost     {headers.get('allod-cost')} USD")
    else:
        error = answered.body.get("error", {})
        say(str(error.get("message", answered.body)))
        for line in _why(error.get("allod") or {}):
            say(line)
        say()
    if "allod-receipt" in headers:
        say(f"  receipt  {headers['allod-receipt']}")


def _why(block: dict[str, Any]) -> Iterator[str]:
    for one in block.get("excluded", ()):
        yield f"\n  {one['deployment']}"
        for rule in one["rules"]:
            yield f"    {rule['id']}" + (f"   ({rule['law']})" if rule["law"] else "")
            yield f"      got       {rule['got']}"
            yield f"      required  {rule['required']}"
    near = block.get("nearest", ())
    if near:
        yield "\n  nearest change that would admit:"
        for change in near:
            yield f"    {change['deployment']}: {change['change']}"
