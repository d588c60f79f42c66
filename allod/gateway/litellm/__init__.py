"""``allod import litellm``: a proxy's ``config.yaml`` into an ``allod.toml`` that runs.

What the file does not say is not made up: where data is processed, stored and carried, who operates a
deployment and by what law, are left out, so that they are unknown, and every deployment is refused for
resident classes until they are filled in. Keys are never written or shown: each becomes the name of a
variable. Whatever is not carried over is listed by its place in the file, never by its value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from allod.domain.errors import Invalid
from allod.gateway import config as configuration
from allod.gateway.litellm.deployments import deployment
from allod.gateway.litellm.groups import apps_of, tasks_of
from allod.gateway.litellm.reading import ENV, VARIABLE, Import, Imported, Left, Part, Reading, Variable
from allod.gateway.tomlfile import table

__all__ = ["Import", "Imported", "Left", "Variable", "carry_over"]

MAX_DEPLOYMENTS: Final = 500
_HEAD: Final = """\
# Carried over from a LiteLLM configuration by `allod import litellm`. See docs/migrating.md.
# Facts that file does not hold are left out: they are unknown, and unknown is refused for resident classes.
"""
_APPS: Final = """\
# `default` has the tenant's classes (personal): nothing below may serve it until its facts are filled in.
# `public` is for what may go anywhere, and only for that. Keys: `allod keys create APP`.
"""
_OPERATORS: Final = """\
# Fill in, with evidence: seat, controlled_from, compelled_by; own = true for what is the organisation itself.
"""
_DEPLOYMENTS: Final = """\
# Fill in, with evidence: processing, at_rest, transit, on_premises, records_auditable, inspectable.
"""


def carry_over(
    data: Any,
    *,
    home: str,
    bloc: str,
    environ: Mapping[str, str] | None = None,
    book: Collection[str] = (),
) -> Import:
    """Carry a LiteLLM configuration over.

    Args:
        data: the file as ``yamlfile.read_yaml`` gives it.
        home, bloc: country of the organisation, and where its resident data stays: the file has neither.
        environ: where ``os.environ/NAME`` is looked up, for addresses only and never for keys.
        book: ``provider/model`` names the price book knows.

    Raises:
        Invalid: it is no such file, or what comes of it is no configuration.

    """
    root, reading = Part(data, ""), Reading(environ or {}, book)
    models = root.rows("model_list")
    if not models or len(models) > MAX_DEPLOYMENTS:
        raise Invalid(
            "there is no model_list to carry over" if not models else "model_list is too long",
            f"got {len(models)} entries, expected 1 to {MAX_DEPLOYMENTS}",
            "name the proxy's config.yaml",
        )
    _environment(root, reading)
    _credentials(root, reading)
    router, settings = root.part("router_settings"), root.part("litellm_settings")
    reading.defaults = {
        "retries": _first(router, settings, "num_retries"),
        "timeout": _first(router, settings, "timeout", "request_timeout"),
    }
    for entry in models:
        if isinstance(entry, dict) and isinstance(entry.get("model_name"), str):
            reading.names.add(entry["model_name"])
    for n, entry in enumerate(models):
        deployment(entry, f"model_list[{n}]", reading)
    tasks = tasks_of(router, settings, reading)
    apps = apps_of(settings, root, reading)
    for part in (router, settings, root):
        reading.rest(part)
    for name in sorted(reading.own_variables - set(reading.variables)):
        reading.drop(f"environment_variables.{name}", "nothing here reads it")
    plain = [row["id"] for row in reading.tables if row["takes"] == ["text"]]
    if plain:
        reading.notes.append(f"{', '.join(plain)}: text only, as model_info says no more; add to `takes`")
    return _written(reading, tasks, apps, home, bloc)


def _first(router: Part, settings: Part, *keys: str) -> Any:
    found = [part.take(key) for key in keys for part in (router, settings)]
    return next((value for value in found if value is not None), None)


def _environment(root: Part, reading: Reading) -> None:
    """Take note of variables the file sets itself: an address may come from one, and a key's is told."""
    part = root.part("environment_variables")
    reading.own_variables = {name for name in map(str, part.data) if VARIABLE.fullmatch(name)}
    for name in list(part.data):
        part.take(name)
    said = {str(k): str(v) for k, v in part.data.items() if isinstance(v, str) and not v.startswith(ENV)}
    reading.environ = {**said, **reading.environ}


def _credentials(root: Part, reading: Reading) -> None:
    for n, row in enumerate(root.rows("credential_list")):
        part = Part(row, f"credential_list[{n}]")
        name, values = part.text("credential_name"), part.take("credential_values")
        part.take("credential_info")
        if name and isinstance(values, dict):
            reading.credentials[name] = values
        reading.rest(part)


def _written(
    reading: Reading, tasks: dict[str, tuple[str, ...]], apps: tuple[str, ...], home: str, bloc: str
) -> Import:
    parts = [_HEAD, table("[tenant]", {"home": home, "bloc": [bloc]}), _APPS]
    parts += [
        table("[[app]]", {"id": name, "classes": ["public"] if name == "public" else None}) for name in apps
    ]
    parts.append(_OPERATORS)
    for host, name in reading.operators.items():
        parts.append(f"# {host}\n" + table("[[operator]]", {"id": name}))
    parts.append(_DEPLOYMENTS)
    parts += [table("[[deployment]]", row) for row in reading.tables]
    parts += [table("[[task]]", {"name": name, "deployments": list(chain)}) for name, chain in tasks.items()]
    text = "\n".join(parts)
    configuration.parse(text)
    return Import(
        toml=text,
        deployments=tuple(reading.found),
        tasks=tasks,
        apps=apps,
        variables=tuple(
            Variable(name=name, deployments=tuple(used), why=why)
            for name, (used, why) in sorted(reading.variables.items())
        ),
        not_carried=tuple(reading.left),
        notes=tuple(reading.notes),
    )
