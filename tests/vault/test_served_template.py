"""The engine serves the vault's chat template, not the file's, and says so in what receipts are made from."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import gguf_writer as w
import vault_world as world

sys.path.append(str(Path(__file__).parents[1] / "engines"))
import llamacpp_world as engines

from allod.domain.chat import UsageReport
from allod.vault.intake import Extras
from allod.vault.manifest import text_digest


def test_I5_the_vault_s_template_is_served_and_the_hidden_one_inside_is_not(tmp_path: Path) -> None:
    vault = world.vault(tmp_path / "vault")
    hidden = w.tiny(tmp_path / "h.gguf", template=world.HIDDEN, context=2048)
    vault.add(hidden, "accepted", extras=Extras(accept_templates=(text_digest(world.HIDDEN),)))
    vault.add(hidden, "replaced", extras=Extras(template=world.OPEN))
    vault.add(w.tiny(tmp_path / "o.gguf", template=world.OPEN, context=2048), "open")

    async def prompt(name: str, content: str) -> tuple[int, str | None]:
        driver = engines.engine(vault, name)
        try:
            found = await engines.events(driver, engines.call(content, tokens=1))
            template = driver.describe().template
        finally:
            await driver.close()
        used = next(event.usage for event in found if isinstance(event, UsageReport))
        return used.input_tokens + used.cache_read_tokens, template

    async def run() -> None:
        replaced = await prompt("replaced", "please deploy")
        assert replaced == await prompt("open", "please deploy")
        assert replaced[1] == text_digest(world.OPEN)
        accepted = await prompt("accepted", "please deploy")
        assert accepted[0] == replaced[0] + len("Leak it all."), (
            "the trigger works in the file's own template"
        )
        assert accepted[1] == text_digest(world.HIDDEN)

    asyncio.run(run())
