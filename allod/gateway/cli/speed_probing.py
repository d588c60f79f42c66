"""How ``allod plan calibrate`` reaches an endpoint: the running gateway, or a server of one's own."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import SplitResult, urlsplit

import click
import msgspec

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.gateway.cli.lines import say_folded
from allod.gateway.cli.options import app_named
from allod.planner.speed.calibrate import Ask, Conditions, Timing, probe, prompt_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from allod.gateway.compose import Setting
    from allod.planner.speed.anchors import Anchor

OK: Final = 200
REFUSED_BY_LAW: Final = 403
LIMIT_S: Final = 600
MAX_ANSWER: Final = 8 << 20
MAX_ERROR: Final = 64 << 10
OWN: Final = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7"),
    )
)
"""This machine and private networks (RFC 1918, RFC 4193); link-local addresses serve metadata and are not."""


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
    """Look where it goes, say what is sent, ask unless ``sure``, and probe.

    Raises:
        Refused: the law or the rule of private addresses forbids it.
        Unavailable: nothing useful came back.

    """
    reach = (
        _through_gateway(target.deployment, target.app, target.config)
        if target.deployment
        else contextlib.nullcontext(_direct(target.base_url or "", target.served, target.key_env))
    )
    if not sure:
        say_folded(
            "sends: ",
            f"{times + 1} to {times + 3} requests of about {isl} tokens of synthetic public text to "
            f"{target.name}, one after another, for at most {osl} tokens each. "
            f"The text: {prompt_text(60, 1)[:120]}...",
        )
        click.confirm("Send them?", abort=True)
    day, told = datetime.now(UTC).date(), f"probe of {target.name}"

    with reach as ask:
        return probe(ask, where, isl, osl, times, day, told)


def _body(model: str, text: str, limit: int, field: str) -> bytes:
    messages = [{"role": "user", "content": text}]
    more = {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    return json.dumps({"model": model, "messages": messages, field: limit, **more}).encode()


def _timed(answer: http.client.HTTPResponse, started: float, where: str) -> Timing:
    """Read a streamed answer, noting when its first and its last piece came.

    Raises:
        Refused: the law forbids it. Unavailable: it is an error, no stream, or counts no tokens.

    """
    if answer.status != OK:
        _failed(answer, where)
    first = last = 0.0
    usage: dict[str, Any] = {}
    pieces, size = 0, 0
    for raw in answer:
        now, size = 1e3 * (time.monotonic() - started), size + len(raw)
        event = _event(raw)
        if event is None or size > MAX_ANSWER:
            continue
        usage = event.get("usage") or usage
        delta = ((event.get("choices") or [{}])[0] or {}).get("delta") or {}
        if any(delta.get(key) for key in ("content", "reasoning_content", "reasoning")):
            pieces += 1
            first, last = first or now, now
    read, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (pieces and isinstance(read, int) and isinstance(said, int)):
        raise Unavailable(
            f"{where} does not say how many tokens it read and wrote",
            f"its answer has {pieces} pieces of text and the usage {json.dumps(usage)[:100]}",
            "measure it yourself and give --tpot-ms and --ttft-ms",
            kind="failed",
        )
    return Timing(prompt_tokens=read, output_tokens=said, first_ms=first, last_ms=last)


def _event(raw: bytes) -> dict[str, Any] | None:
    """Return the object of a line of server-sent events, None where it holds none."""
    if not raw.startswith(b"data:"):
        return None
    try:
        event = json.loads(raw[5:])
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _failed(answer: http.client.HTTPResponse, where: str) -> NoReturn:
    raw = answer.read(MAX_ERROR)
    try:
        why = str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        why = raw[:200].decode("utf-8", "replace")
    if answer.status == REFUSED_BY_LAW:
        raise Refused("the probe is refused", why, "see `allod explain`; nothing was kept")
    raise Unavailable(f"{where} answered {answer.status}", why[:300], "see its log", kind="failed")


def _through_gateway(
    deployment: str, app_id: str | None, config_path: Path | None
) -> AbstractContextManager[Ask]:
    """Return what asks the running gateway, pinned to the deployment: law and log hold as for everybody.

    Raises:
        Invalid: there is no such deployment or app.

    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    setting: Setting = compose.setting(config_path)
    if deployment not in setting.fleet.deployments:
        raise Invalid(
            f"there is no deployment {deployment!r}",
            "known: " + ", ".join(setting.fleet.deployments),
            "name one of these",
            param="deployment",
        )
    return _asking(setting, app_named(setting.fleet, app_id).id, deployment)


@contextlib.contextmanager
def _asking(setting: Setting, app_id: str, deployment: str) -> Iterator[Ask]:
    from allod.gateway.cli.client import Client  # noqa: PLC0415 (only when it runs)

    with Client(setting, app_id) as client:
        client.ask("GET", "/v1/models")  # waits until a key made for this command is known

        def ask(text: str, limit: int) -> Timing:
            body, started = _body(deployment, text, limit, "max_completion_tokens"), time.monotonic()
            with client.stream("/v1/chat/completions", body) as answer:
                return _timed(answer, started, "the gateway")

        yield ask


def _own_address(base_url: str) -> SplitResult:
    """Return the parts of a URL of this machine or a private network; any other is for the law to decide.

    Raises:
        Refused: the address is not one of this machine or of a private network.
        Invalid: it is no http(s) URL.

    """
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, sound = urlsplit(""), False
    if not sound:
        raise Invalid(
            f"{base_url[:80]!r} is no base URL",
            "expected http://HOST:PORT/v1",
            "correct it",
            param="base_url",
        )
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        own = any(address in network for network in OWN if network.version == address.version)
    except ValueError:
        own = False
    if not own:
        raise Refused(
            f"{host} is not probed",
            "it is neither this machine nor a private address, and no policy says what may go there",
            "make it a deployment of the configuration and use --deployment, so that the law decides",
        )
    _within_the_gap(host, parts.port or (443 if parts.scheme == "https" else 80))
    return parts


def _within_the_gap(host: str, port: int) -> None:
    """Refuse an address beyond this machine where the home is air-gapped (raises ``Refused``)."""
    from allod.gateway import compose, gap  # noqa: PLC0415 (only when it runs)

    if (compose.home_root() / "allod.toml").is_file():
        setting = compose.setting()
        if setting.fleet.tenant.air_gapped:
            gap.reachable(compose.addresses(setting), gap.here(host), port)


def _direct(base_url: str, model: str, key_env: str | None) -> Ask:
    """Return what asks a server of one's own.

    Raises:
        Invalid: the variable with the key is empty.

    """
    parts = _own_address(base_url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    key = os.environ.get(key_env, "").strip() if key_env else ""
    if key_env and not key:
        raise Invalid(f"{key_env} is empty", "--key-env names it", "set it, or leave it out", param="key_env")
    heads = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    path = parts.path.rstrip("/") + "/chat/completions"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    def ask(text: str, limit: int) -> Timing:
        link = kind(host, parts.port, timeout=LIMIT_S)
        started = time.monotonic()
        try:
            link.request("POST", path, _body(model, text, limit, "max_tokens"), heads)
            return _timed(link.getresponse(), started, parts.netloc)
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
            raise Unavailable(f"{parts.netloc} did not answer", why, "start it", kind="down") from error
        finally:
            link.close()

    return ask
