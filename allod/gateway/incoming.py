"""From a request as it came to one that can be decided: parsed, labelled, prepared, admitted.

The same for what is answered at once and for what has waited in the queue.
"""

from __future__ import annotations

from asyncio import to_thread
from typing import TYPE_CHECKING, Any

import msgspec

from allod.admission.admit import admit, task_named
from allod.admission.labels import MAX_PARENTS, labels_from
from allod.admission.language import asked, need_of
from allod.admission.sizes import fetches, measure
from allod.domain.classes import resident
from allod.domain.errors import Invalid
from allod.domain.fleet import DEFERRED, LANGUAGE
from allod.gateway.cascade import in_steps
from allod.gateway.entry import Ask
from allod.gateway.kept import looked_up
from allod.gateway.lineage import demand_own, with_calls
from allod.gateway.preparing import AS_IT_CAME, INLINE_BYTES
from allod.receipts.commitment import commitment

if TYPE_CHECKING:
    from allod.domain.fleet import App, Task, Tenant
    from allod.domain.request import Admitted, Labels
    from allod.gateway.gateway import Gateway
    from allod.gateway.http import Head
    from allod.gateway.surfaces.contract import Parsed


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request that has waited: its receipt, what it stems from, what is left of its time.

    ``deadline_ms`` counts from now.
    """

    receipt: str
    parents: tuple[str, ...]
    deadline_ms: int


async def incoming(
    gateway: Gateway,
    codec: Any,
    app: App,
    head: Head,
    raw: bytes,
    *,
    started: float,
    received_at_ms: int,
    again: Again | None = None,
) -> Ask:
    """Read a request, prepare and admit it.

    Args:
        gateway: the object graph. codec: the surface. app: whose it is. head, raw: what came.
        started: seconds of the monotonic clock; received_at_ms the request's one clock reading, UTC.
        again: for a request that has waited.

    Raises:
        Invalid: as the surface, the labels and admission say.

    """
    parsed = codec.parse(raw)
    if head.betas and parsed.native is not None:
        parsed.native["anthropic_beta"] = head.betas
    labels = labels_from(head.labels, parsed.metadata, gateway.index.classes)
    receipt = gateway.fresh_receipt(received_at_ms) if again is None else again.receipt
    if again is not None:
        labels = _as_left(labels, again)
    task = task_named(gateway.index, parsed.model, labels)
    prepare, came = gateway.preparation.prepare, (app, parsed, labels, task)
    day, short = gateway.decider.day(received_at_ms), len(raw) <= INLINE_BYTES
    done = prepare(*came, day) if short else await to_thread(prepare, *came, day)
    ready = done or AS_IT_CAME
    parsed = ready.parsed or parsed
    if labels.parents:
        demand_own(gateway, app.id, labels.parents)
    if gateway.opinions is not None:
        ready = await gateway.opinions.heard(gateway, app, parsed, ready, receipt, labels.subject)
    needs, sizes = measure(parsed.body, raw, codec.name, plain=parsed.plain)
    if parsed.background or gateway.tells_languages:
        needs = (*needs, *_besides(gateway, parsed, task))
    admitted = admit(
        index=gateway.index, app=app, surface=codec.name, model=parsed.model, labels=labels,
        needs=(*needs, *ready.needs) if ready.needs else needs, sizes=sizes, stream=parsed.stream,
        receipt=receipt, received_at_ms=received_at_ms, asked_effort=parsed.effort, detected=ready.detected,
    )  # fmt: skip
    admitted = _looked_at(gateway, admitted, parsed.body)
    salts = gateway.chance.draw(64)
    ask = Ask(
        app=app, surface=codec, parsed=parsed, admitted=admitted, request=commitment(salts[:32], raw),
        salts=salts, started=started, data=ready.data, covering=ready.covering, subject=labels.subject,
        parents=labels.parents,
    )  # fmt: skip
    if "tools" in needs or app.cache_s or task is not None or gateway.strategy_for is not None:
        ask = _linked(gateway, ask, head)
    return ask


def _as_left(labels: Labels, again: Again) -> Labels:
    """Return the labels of a request that has waited: less time, and one more it stems from."""
    parents = tuple(dict.fromkeys((*again.parents, *labels.parents)))[:MAX_PARENTS]
    return msgspec.structs.replace(labels, deadline_ms=again.deadline_ms, parents=parents)


def _besides(gateway: Gateway, parsed: Parsed, task: Task | None) -> tuple[str, ...]:
    """Return what a request needs besides what its body says: that it may wait, its language."""
    waits = (DEFERRED,) if parsed.background else ()
    if not gateway.tells_languages:
        return waits
    if task is not None and task.languages:
        return (*waits, *(LANGUAGE + name for name in task.languages))
    need = need_of(asked(parsed.body), strict=task is not None and task.require_language)
    return waits if need is None else (*waits, need)


def _looked_at(gateway: Gateway, admitted: Admitted, body: dict[str, Any]) -> Admitted:
    """Look at what only the body tells: pictures by address, and how long a long one is for whom.

    Raises:
        Invalid: kind ``not_supported``: resident data, or an air gap.

    """
    _no_fetching(gateway.fleet.tenant, admitted, body)
    return gateway.fitted(admitted, body)


def _linked(gateway: Gateway, ask: Ask, head: Head) -> Ask:
    """Link a request to what it stems from, or is answered by: calls, a kept answer, a cascade."""
    if "tools" in ask.admitted.needs:
        ask = with_calls(gateway, ask)
    else:
        ask = looked_up(gateway, ask, head.cache_control)
    strategy = None if gateway.strategy_for is None else gateway.strategy_for(ask)
    return ask if strategy is None else in_steps(gateway, ask, strategy)


def _no_fetching(tenant: Tenant, admitted: Admitted, body: dict[str, Any]) -> None:
    """Refuse a picture by address where fetching it would cross the line that the request may not.

    Raises:
        Invalid: kind ``not_supported``: resident data, or an air gap.

    """
    if "image" not in admitted.needs:
        return
    if not (tenant.air_gapped or resident(admitted.classes, tenant.resident_classes)) or not fetches(body):
        return
    raise Invalid(
        "a picture is given by its address",
        "whoever answers would fetch it from there, and these data may not lead anybody outside",
        "send it inline, as a data: URL",
        kind="not_supported",
        param="messages",
    )
