"""What is drilled on: recorded decisions of a span, or requests made up from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.admission.admit import AUTO, Index, admit
from allod.domain.errors import Invalid
from allod.domain.request import Labels, Sizes
from allod.drills.traffic import Gathering, Traffic, Usage
from allod.gateway import compose
from allod.receipts.ids import id_prefix
from allod.routing.question import Health
from allod.store.database import Decided
from allod.store.loads import hourly, loads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allod.drills.traffic import Factors
    from allod.drills.worlds import World
    from allod.gateway.drilling import Ground
    from allod.store.database import Database

GENERATED_DAYS: Final = 30
"""So many days generated requests stand for: ``--generate N`` is N requests a month of 30 days."""
MOST_GENERATED: Final = 10**9
NO_TASK: Final = "-"
HOURS_OF_DAY: Final = 24


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic by the world it is for: one for all whose prices stay, one for each whose prices change.

    ``records`` finds a decision record by its digest, for remedies.
    """

    plain: Traffic
    priced: dict[str, Traffic]
    records: Callable[[str], bytes | None]

    def of(self, world: World) -> Traffic:
        """Return the traffic a world is drilled on."""
        return self.priced.get(world.id, self.plain)


def _gathering(ground: Ground, worlds: Iterable[World]) -> Gathering:
    priced: dict[str, Callable[[str | None], Factors]] = {}
    for world in worlds:
        if world.price:
            at = ground.effect(world)
            priced[world.id] = lambda configuration, at=at: at(configuration).factors  # type: ignore[misc]
    return Gathering(priced, ground.known)


def recorded(
    ground: Ground,
    database: Database,
    origin: str,
    worlds: Iterable[World],
    *,
    since_ms: int,
    until_ms: int,
    first: int = 0,
    told: Callable[[int], None] = lambda _: None,
) -> Gathered:
    """Gather the decisions of a span, the end exclusive; ``told`` hears how many requests are done.

    Raises:
        Unavailable, Integrity: the tables cannot be read.

    """
    gathering = _gathering(ground, worlds)
    for one in database.decisions(origin, since_ms=since_ms, until_ms=until_ms, first=first):
        gathering.add(one)
        told(gathering.requests)
    hours = hourly(database, origin, since_ms=since_ms, until_ms=until_ms)
    usage = loads(database, id_prefix(origin), since_ms=since_ms, until_ms=until_ms)
    more: dict[str, Any] = {
        "peak": _peak(hours),
        "usage": {name: Usage(**msgspec.structs.asdict(one)) for name, one in usage.items()},
    }
    return _gathered(gathering, database.record, more)


def _gathered(
    gathering: Gathering, records: Callable[[str], bytes | None], more: Mapping[str, Any]
) -> Gathered:
    return Gathered(
        plain=gathering.traffic(None, **more),
        priced={name: gathering.traffic(name, **more) for name in gathering.names},
        records=records,
    )


def _peak(hours: Mapping[int, int]) -> float | None:
    """Return the busiest hour over the mean one; with less than a day of hours it is not known."""
    if not hours or max(hours) - min(hours) + 1 < HOURS_OF_DAY:
        return None
    mean = sum(hours.values()) / (max(hours) - min(hours) + 1)
    return max(hours.values()) / mean


# --- generated


def generated(ground: Ground, worlds: Iterable[World], requests: int, now_ms: int) -> Gathered:
    """Decide about made-up requests, of every app and task by their weights, and gather the decisions.

    They are decided by the gateway's own decider, all deployments up, on the day of ``now_ms``.

    Raises:
        Invalid: no number of requests, a weight for what is not configured, or every weight is 0.

    """
    if not 1 <= requests <= MOST_GENERATED:
        raise Invalid(
            f"{requests} is no number of requests", f"expected 1 to {MOST_GENERATED}", "say another"
        )
    bodies: dict[str, bytes] = {}
    gathering = _gathering(ground, worlds)
    for one in sorted(_made(ground, requests, now_ms), key=lambda one: one.digest):
        assert one.body is not None
        bodies[one.digest] = one.body
        gathering.add(one)
    more: dict[str, Any] = {"generated": True, "days": GENERATED_DAYS}
    return _gathered(gathering, bodies.get, more)


def _made(ground: Ground, requests: int, now_ms: int) -> Iterator[Decided]:
    fleet, setting = ground.setting.fleet, ground.setting
    decider = compose.decider(fleet, setting.packs, setting.supplied.books)
    index = Index(fleet, decider.policy.classes)
    weights = _weights(ground)
    found: dict[str, tuple[int, bytes]] = {}
    for (app, task), count in zip(weights, _shares(list(weights.values()), requests), strict=True):
        if not count:
            continue
        one = fleet.apps[app]
        admitted = admit(
            index=index,
            app=one,
            surface="chat",
            model=AUTO,
            labels=Labels(task=task, purpose=one.purposes[0] if one.purposes else None),
            needs=("text",),
            sizes=Sizes(body_bytes=0, input_tokens=ground.own.generate.input_tokens, max_output_tokens=None),
            stream=False,
            receipt="",
            received_at_ms=now_ms,
        )
        made = decider.decide(admitted, Health())
        before = found.get(made.record_digest, (0, b""))[0]
        found[made.record_digest] = before + count, made.record
    for digest, (count, body) in found.items():
        yield Decided(digest, count, "generated", now_ms, body)


def _weights(ground: Ground) -> dict[tuple[str, str | None], Decimal]:
    fleet, said = ground.setting.fleet, ground.own.generate
    for kind, names, known in (
        ("app", said.apps, set(fleet.apps)), ("task", said.tasks, {*fleet.tasks, NO_TASK}),
    ):  # fmt: skip
        for name in names:
            if name not in known:
                raise Invalid(
                    f"generate names {kind} {name!r}, which is not configured",
                    "known: " + ", ".join(sorted(known)),
                    "correct the name",
                )
    one = Decimal(1)
    weights = {
        (app, task): said.apps.get(app, one) * said.tasks.get(task or NO_TASK, one)
        for app in fleet.apps
        for task in (None, *fleet.tasks)
    }
    if not any(weights.values()):
        raise Invalid("no request can be generated", "every weight is 0, or there is no app", "weigh some")
    return weights


def _shares(weights: list[Decimal], requests: int) -> list[int]:
    """Divide requests by weights; what is left over goes to the largest remainders."""
    total = sum(weights)
    exact = [weight * requests / total for weight in weights]
    shares = [int(one) for one in exact]
    rest = sorted(range(len(exact)), key=lambda n: (shares[n] - exact[n], n))
    for n in rest[: requests - sum(shares)]:
        shares[n] += 1
    return shares
