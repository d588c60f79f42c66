"""Groups, aliases and fallbacks as tasks; teams as apps."""

from __future__ import annotations

import re
from typing import Any

from allod.gateway.litellm.reading import Part, Reading, shown


def tasks_of(router: Part, settings: Part, reading: Reading) -> dict[str, tuple[str, ...]]:
    """Make a task of every group with more than one way to answer: its deployments, then its fallbacks'."""
    after: dict[str, list[str]] = {}
    always: list[str] = []
    for key in ("fallbacks", "context_window_fallbacks"):
        for part in (router, settings):
            for row in part.rows(key):
                _chains(row, part.at(key), after, reading)
    for part in (router, settings):
        always += [str(name) for name in part.rows("default_fallbacks") if isinstance(name, str)]
    always += after.pop("*", [])
    orders = {
        group: [name for _, name in sorted(rows, key=lambda r: r[0])]
        for group, rows in reading.groups.items()
    }
    aliases = router.take("model_group_alias")
    for alias, said in aliases.items() if isinstance(aliases, dict) else ():
        target = said.get("model") if isinstance(said, dict) else said
        if str(target) in orders:
            orders[str(alias)] = orders[str(target)]
            after.setdefault(str(alias), after.get(str(target), []))
        else:
            reading.drop(
                f"router_settings.model_group_alias.{alias}", "it stands for no group that was carried over"
            )
    return _named(orders, after, always, reading)


def _chains(row: Any, where: str, after: dict[str, list[str]], reading: Reading) -> None:
    for group, targets in row.items() if isinstance(row, dict) else ():
        for target in targets if isinstance(targets, list) else [targets]:
            if isinstance(target, str):
                after.setdefault(str(group), []).append(target)
            else:
                reading.drop(f"{where}.{group}", "a fallback with parameters of its own")


def _named(
    orders: dict[str, list[str]], after: dict[str, list[str]], always: list[str], reading: Reading
) -> dict[str, tuple[str, ...]]:
    ids = {found.id for found in reading.found}
    models = {row["model"] for row in reading.tables}
    tasks: dict[str, tuple[str, ...]] = {}
    for group, own in orders.items():
        chain = list(own)
        for target in dict.fromkeys((*after.get(group, []), *always)):
            if target in orders or target in ids:
                chain += orders.get(target, [target])
            else:
                reading.drop(f"fallbacks.{group}", f"{shown(target)} is no group that was carried over")
        chain = list(dict.fromkeys(chain))
        same = {row["id"] for row in reading.tables if row["model"] == group}
        if group in models and same == set(chain):
            continue
        plain = re.fullmatch(r"[A-Za-z0-9._-]{1,64}", group) and group not in models and group not in ids
        name = group if plain and group != "auto" else reading.name(f"{group}-group")
        if name != group:
            reading.notes.append(
                f"what clients ask for as {shown(group)} is the task {name} here: "
                "the name is that of a model or deployment too, or no identifier"
            )
        tasks[name] = tuple(chain)
    return tasks


def apps_of(settings: Part, root: Part, reading: Reading) -> tuple[str, ...]:
    """Carry teams over as apps; keys cannot be, as a proxy keeps them in its database."""
    apps = ["default", "public"]
    for n, row in enumerate(settings.rows("default_team_settings")):
        part = Part(row, f"litellm_settings.default_team_settings[{n}]")
        name = part.text("team_id")
        if name:
            apps.append(reading.name(name))
        reading.rest(part)
    general = root.part("general_settings")
    if general.take("master_key") is not None:
        reading.drop(
            "general_settings.master_key",
            "apps have keys of their own here: `allod keys create APP` makes one",
        )
    reading.rest(general)
    return tuple(dict.fromkeys(apps))
