"""What the tests of the embedded engine share: a vault with tiny models, and deployments on it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from allod.domain.chat import ChatCall, Event, Finished, Whole
from allod.domain.fleet import Deployment, Weights
from allod.engines.contract import EngineContext
from allod.engines.llamacpp.driver import LlamaCpp, Tuning
from allod.vault.vault import Vault

sys.path.append(str(Path(__file__).parents[1] / "vault"))
import gguf_writer

TAKES = frozenset({"text", "tools", "json_schema", "logprobs", "embeddings"})


def tiny_vault(folder: Path) -> Vault:
    """A vault with the random model ``tiny``, its adapter ``tiny-ad`` and another model ``other``."""
    vault = Vault(folder / "vault", shipped=folder / "none")
    vault.add(gguf_writer.tiny(folder / "tiny.gguf", context=2048), "tiny")
    vault.add(gguf_writer.tiny(folder / "other.gguf", seed=7, context=2048), "other")
    vault.add(gguf_writer.adapter(folder / "ad.gguf"), "tiny-ad", base="tiny")
    return vault


def engine(
    vault: Vault,
    model: str = "tiny",
    *,
    air_gapped: bool = False,
    tuning: Tuning | None = None,
    told: Weights | None = None,
    **more: Any,
) -> LlamaCpp:
    deployment = Deployment(id="d", engine="llamacpp", model=model, operator="self", takes=TAKES, **more)
    context = EngineContext(
        environ={},
        allow_address=lambda _h, _p: False,
        state_dir="",
        vault=vault,
        air_gapped=air_gapped,
        weights={} if told is None else {"d": told},
    )
    return LlamaCpp(deployment, context, tuning)


def call(
    content: str = "hello", *, stream: bool = False, tokens: int = 8, effort: Any = None, **more: Any
) -> ChatCall:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], "temperature": 0, **more}
    return ChatCall(body=body, stream=stream, max_output_tokens=tokens, effort=effort)


async def events(driver: LlamaCpp, asked: ChatCall) -> list[Event]:
    return [event async for event in driver.chat(asked)]


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def with_tiny(
    tmp_path: Path, body: Callable[[LlamaCpp], Awaitable[None]], model: str = "tiny", **more: Any
) -> None:
    """Run a body with a driver on the tiny random model."""

    async def run() -> None:
        driver = engine(tiny_vault(tmp_path), model, **more)
        try:
            await body(driver)
        finally:
            await driver.close()

    asyncio.run(run())


def message(found: list[Event]) -> dict[str, Any]:
    whole = found[0]
    assert isinstance(whole, Whole)
    assert isinstance(found[-1], Finished)
    decoded = whole.body or msgspec.json.decode(whole.raw or b"")
    return decoded["choices"][0]["message"]  # type: ignore[no-any-return]
