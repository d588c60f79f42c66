"""Whether the draft of a deployment is loaded beside its model: only where a measurement says that it pays.

Who drives an engine without a gateway says nothing about measurements (``EngineContext.drafts`` is None):
then the draft that is configured is loaded, and a draft that cannot be loaded is a fault. Under a gateway a
draft is a way to be faster and nothing else: whatever is wrong with it, the model serves without.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allod.domain.drafting import DraftSetup
from allod.domain.errors import AllodError, Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.domain.fleet import Deployment
    from allod.engines.llamacpp.process import Settings
    from allod.engines.llamacpp.spec import Ready
    from allod.vault.vault import Entry, Model, Vault

_CPUINFO: Final = Path("/proc/cpuinfo")
_NAMES: Final = ("model name", "Model", "cpu model", "CPU part")


def machine() -> str:
    """Return what this machine is, as far as the speed of an engine on its processors goes."""
    every = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    return f"{platform.machine()}, {_processor()}, {ours} of {every} processors"


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return next((told[name] for name in _NAMES if told.get(name)), platform.processor() or "unknown")


def setup(model: Model, draft: Entry | None, settings: Settings, version: str, digest: str) -> DraftSetup:
    """Say what is about to be loaded, with this engine (its version and its library's digest)."""
    facts = model.facts
    return DraftSetup(
        weights=facts.weights,
        adapter=facts.adapter,
        template=facts.template,
        draft=None if draft is None else draft.digest,
        engine_version=version,
        engine_digest=digest,
        machine=machine(),
        threads=settings.threads,
        slots=settings.slots,
        context_tokens=settings.context_tokens,
    )


def loaded(ready: Ready, settings: Settings) -> DraftSetup:
    """Say what a child has loaded: the digests are those it computed."""
    return DraftSetup(
        weights=ready.weights,
        adapter=ready.adapter,
        template=ready.template,
        draft=ready.draft,
        engine_version=ready.engine_version,
        engine_digest=ready.engine_digest,
        machine=machine(),
        threads=settings.threads,
        slots=settings.slots,
        context_tokens=settings.context_tokens,
    )


def weights_of(vault: Vault, name: str) -> Entry:
    """Return the weights a draft's name stands for.

    Raises:
        Integrity: they are not there, or not what was verified.
        Invalid: the name is that of an adapter.

    """
    found = vault.resolve(name)
    if found.adapter is not None:
        raise Invalid(f"{name} cannot be a draft", "it is an adapter", "name weights")
    return found.weights


class Drafting:
    """The draft of one deployment, over the life of its driver.

    Args:
        deployment: ``draft`` names it, or there is none.
        measured: by deployment id, what a measurement that speaks for the draft was made of; None asks for no
            measurement.

    """

    def __init__(self, deployment: Deployment, measured: Mapping[str, DraftSetup] | None) -> None:
        self._name, self._free = deployment.draft, measured is None
        self._measured = None if measured is None else measured.get(deployment.id)
        self.why = ""
        """Why a draft that was measured is not used; empty while nothing speaks against it."""

    def resolve(self, vault: Vault, model: Model, settings: Settings) -> Entry | None:
        """Return the draft to load beside a model, or None.

        Raises:
            Integrity, Invalid: only where no measurement is asked for (see ``weights_of``).

        """
        if self._name is None or (not self._free and (self._measured is None or self.why)):
            return None
        if self._measured is None:
            return weights_of(vault, self._name)
        try:
            draft = weights_of(vault, self._name)
        except AllodError as error:
            self.why = f"{error.what}: {error.why}" if error.why else error.what
            return None
        known = self._measured
        now = setup(model, draft, settings, known.engine_version, known.engine_digest)
        return draft if self._holds(now) else None

    def accepts(self, now: DraftSetup) -> bool:
        """Tell whether what a child has loaded is what was measured; one without a draft always is."""
        return now.draft is None or self._measured is None or self._holds(now)

    def failed(self, reason: str) -> bool:
        """Note that a child with the draft failed; tells whether to go on without it."""
        if self._free:
            return False
        self.why = self.why or reason
        return True

    def again(self) -> None:
        """Forget what spoke against the draft: somebody asks for another try."""
        self.why = ""

    def _holds(self, now: DraftSetup) -> bool:
        assert self._measured is not None
        changed = self._measured.changed(now)
        if changed:
            self.why = f"measured with another {', '.join(changed)}"
        return not changed
