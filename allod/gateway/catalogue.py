"""What the ``model`` field may say: ``auto``, tasks, deployments and the names of their models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from allod.admission.admit import AUTO
from allod.domain.errors import Invalid
from allod.gateway.surfaces.models import ModelCard, model, model_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.domain.fleet import Fleet
    from allod.vault.bundle.content import Told

OURS: Final = "allod"


class Catalogue:
    """The models of one fleet, as a list and one by one.

    Args:
        fleet: the fleet; what a caller may really reach is decided per request.
        created_s: Unix seconds given as creation time.
        told: what a catalogue that came by bundle says of models, by name: shown where the configuration says
            nothing, and to nobody but whoever lists models.

    """

    def __init__(self, fleet: Fleet, created_s: int, told: Mapping[str, Told] | None = None) -> None:
        known = told or {}
        cards = {AUTO: ModelCard(id=AUTO, created_s=created_s, owned_by=OURS, display_name="chosen by Allod")}
        for task in fleet.tasks:
            cards[task] = ModelCard(id=task, created_s=created_s, owned_by=OURS, display_name=f"task {task}")
        for d in fleet.deployments.values():
            said = known.get(d.model)
            for name in (d.id, d.model):
                cards.setdefault(
                    name,
                    ModelCard(
                        id=name,
                        created_s=created_s,
                        owned_by=d.operator,
                        display_name=said.title or None if said else None,
                        context_tokens=d.context_tokens or (said.context_tokens if said else None),
                        max_output_tokens=d.max_output_tokens or (said.max_output_tokens if said else None),
                    ),
                )
        self._cards = cards

    def listing(self, *, anthropic: bool) -> bytes:
        """Write the list."""
        return model_list(list(self._cards.values()), anthropic=anthropic)

    def one(self, name: str, *, anthropic: bool) -> bytes:
        """Write one entry.

        Raises:
            Invalid: kind ``model``.

        """
        card = self._cards.get(name)
        if card is None:
            raise Invalid(
                f"there is no model {name[:64]!r}",
                "",
                "list them with GET /v1/models",
                kind="model",
                param="model",
            )
        return model(card, anthropic=anthropic)
