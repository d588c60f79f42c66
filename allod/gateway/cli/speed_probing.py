"""How ``allod plan calibrate`` reaches an endpoint: the running gateway, or a server of one's own."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import app_named
from allod.planner.speed.calibrate import Ask, Conditions, Timing, probe, prompt_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.planner.speed.anchors import Anchor

OK: Final = 200
REFUSED_BY_LAW: Final = 403
LIMIT_S: Final = 600
MAX_ANSWER: Final = 8 << 20


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is probed: a deployment of the configuration, or a server at ``base_url``."""

    deployment: str | None = None
    app: str | None = None
    config: Path | None = None
    base_url: str | None = None
    served: str = ""
    key_env: str | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"deployment {self.deployment}" if self.deployment else urlsplit(self.base_url or "").netloc


def probed(target: Target, where: Conditions, isl: int, osl: int, times: int, *, sure: bool) -> list[Anchor]:
    """Say what is sent, ask unless ``sure``, and probe.

    Raises:
        Refused: the law or the rule of private addresses forbids it.
        Unavailable: nothing useful came back.

    """
    if not sure:
        say_folded(
            "sends: ",
            f"{2 * times + 1} to {2 * times + 3} requests of about {isl} tokens of synthetic public text to "
            f"{target.name}, one after another, for at most {osl} tokens each. The text: {prompt_text(60, 1)[:120]}...",
        )
        click.confirm("Send them?", abort=True)
    day, told = datetime.now(UTC).date(), f"probe of {target.name}"

    def run(ask: Ask) -> list[Anchor]:
        return probe(ask, where, isl, osl, times, day, told)

    if target.deployment:
        return _through_gateway(target.deployment, target.app, target.config, run)
    return run(_direct(target.base_url or "", target.served, target.key_env))


def _body(model: str, text: str, limit: int, field: str) -> bytes:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, field: limit}
    ).encode()


def _timing(raw: dict[str, Any], started: float) -> Timing:
    took = 1e3 * (time.monotonic() - started)
    usage = raw.get("usage") if isinstance(raw.get("usage"), dict) else None
    if usage is None:
        raise Unavailable(
            "the endpoint does not say how many tokens it read and wrote",
            "its answer has no usage",
            "measure it yourself and give --tpot-ms and --ttft-ms",
            kind="failed",
        )
    return Timing(
        prompt_tokens=int(usage.get("prompt_tokens", 0)),
        output_tokens=int(usage.get("completion_tokens", 0)),
        ms=took,
    )


def _through_gateway(
    deployment: str, app_id: str | None, config_path: Path | None, run: Callable[[Ask], list[Anchor]]
) -> list[Anchor]:
    """Ask through the running gateway, pinned to the deployment: law and log hold as for everybody."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.gateway.cli.client import Client  # noqa: PLC0415

    setting: Setting = compose.setting(config_path)
    if deployment not in setting.fleet.deployments:
        raise Invalid(
            f"there is no deployment {deployment!r}",
            "known: " + ", ".join(setting.fleet.deployments),
            "name one of these",
            param="deployment",
        )
    app = app_named(setting.fleet, app_id)
    with Client(setting, app.id) as client:

        def ask(text: str, limit: int) -> Timing:
            started = time.monotonic()
            answered = client.ask(
                "POST", "/v1/chat/completions", _body(deployment, text, limit, "max_completion_tokens"), {}
            )
            body = answered.json()
            if answered.status == REFUSED_BY_LAW:
                why = str((body.get("error") or {}).get("message", ""))
                raise Refused("the law refuses the probe", why, "see `allod explain`; nothing was kept")
            if answered.status != OK:
                why = str((body.get("error") or {}).get("message", ""))
                raise Unavailable(f"the gateway answered {answered.status}", why[:300], "see `allod explain`")
            return _timing(body, started)

        return run(ask)


def _direct(base_url: str, model: str, key_env: str | None) -> Ask:
    """Return what asks a server on this machine or a private address; any other is for the law to decide.

    Raises:
        Refused: the address is not one of this machine or of a private network.
        Invalid: it is no http(s) URL, or the variable with the key is empty.

    """
    parts = urlsplit(base_url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
        raise Invalid(
            f"{base_url[:80]!r} is no base URL",
            "expected http://HOST:PORT/v1",
            "correct it",
            param="base_url",
        )
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    try:
        own = ipaddress.ip_address(host).is_private
    except ValueError:
        own = False
    if not own:
        raise Refused(
            f"{host} is not probed",
            "it is neither this machine nor a private address, and no policy says what may go there",
            "make it a deployment of the configuration and use --deployment, so that the law decides",
        )
    key = os.environ.get(key_env, "").strip() if key_env else ""
    if key_env and not key:
        raise Invalid(
            f"{key_env} is empty", "--key-env names it", "set it, or leave the option out", param="key_env"
        )
    heads = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    path = parts.path.rstrip("/") + "/chat/completions"

    def ask(text: str, limit: int) -> Timing:
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        link = kind(host, port, timeout=LIMIT_S)
        started = time.monotonic()
        try:
            link.request("POST", path, _body(model, text, limit, "max_tokens"), heads)
            answer = link.getresponse()
            raw = answer.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(
                f"{parts.netloc} did not answer", f"{type(error).__name__}: {error}", "", kind="down"
            ) from error
        finally:
            link.close()
        return _timing(_object(raw, answer.status, parts.netloc), started)

    return ask


def _object(raw: bytes, status: int, where: str) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if status != OK or not isinstance(body, dict):
        raise Unavailable(
            f"{where} answered {status}", raw[:200].decode("utf-8", "replace"), "see its log", kind="failed"
        )
    return body
