"""Entries of ``model_list`` as deployments: engine, address, name of the key's variable, price, limits."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from allod.gateway.litellm.left import BUDGET, REASONS, RESIDENCY
from allod.gateway.litellm.providers import PROVIDERS, Provider, provider_of
from allod.gateway.litellm.reading import ENV, VARIABLE, Imported, Part, Reading, number, shown

MAX_URL: Final = 2048
_VERSION: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-[a-z]{1,16})?|v[0-9]{1,3}|latest|preview")
"""A version of Azure's interface; whatever else stands there, or in a variable it names, may be a secret."""
MILLION: Final = Decimal(1_000_000)
_NO_KEY: Final = frozenset({"", "none", "null", "empty", "not-needed", "no-key"})
_MODES: Final = {"chat": "text", "completion": "text", "embedding": "embeddings", "responses": "text"}
_TAKES: Final = (
    ("supports_vision", "image"),
    ("supports_function_calling", "tools"),
    ("supports_response_schema", "json_schema"),
)
_PRICES: Final = (
    ("input_cost_per_token", "input_usd_mtok"),
    ("output_cost_per_token", "output_usd_mtok"),
    ("cache_read_input_token_cost", "cached_input_usd_mtok"),
    ("cache_creation_input_token_cost", "cache_write_usd_mtok"),
    ("output_cost_per_reasoning_token", "reasoning_usd_mtok"),
)
FACTS: Final = ("processing", "at_rest", "transit", "records_auditable", "inspectable")
OPERATOR_FACTS: Final = ("seat", "controlled_from", "compelled_by")


def deployment(entry: Any, where: str, reading: Reading) -> None:
    """Carry one entry over, or report why not; ``where`` is its place in the file."""
    part = Part(entry, where)
    group, params, info = part.text("model_name") or "", part.part("litellm_params"), part.part("model_info")
    shared = params.text("litellm_credential_name")
    if shared is not None:
        params = Part({**reading.credentials.get(shared, {}), **params.data}, params.where)
        params.take("litellm_credential_name")
    model = params.text("model") or ""
    name, own = provider_of(model, params.text("custom_llm_provider"))
    provider = PROVIDERS.get(name)
    mode = info.text("mode") or "chat"
    why = _refused(name, provider, own, group, mode)
    if provider is None or why:
        reading.drop(f"{where} ({model})", why)
        return
    base, host, why = _base(params, provider, own, reading)
    if why:
        reading.drop(f"{where} ({model})", why)
        return
    if provider.engine == "openai" and host != "api.openai.com":
        provider = msgspec.structs.replace(provider, engine="compatible", key_env=None)
    called = reading.name(info.text("id") or f"{name}-{own.rpartition('/')[2]}")
    price, cannot = _price(params, info, provider, own, reading, called)
    row: dict[str, Any] = {
        "id": called,
        "engine": provider.engine,
        "model": own,
        "operator": _operator(host, name, reading),
        "base_url": base,
        "api_key_env": _key(params, provider, called, reading),
        "takes": _takes(info, mode),
        "context_tokens": _whole(info, "max_input_tokens"),
        "max_output_tokens": _whole(info, "max_output_tokens"),
        "max_concurrent": _whole(params, "max_parallel_requests"),
        "timeout_ms": _ms(params.take("timeout"), reading.defaults["timeout"]),
        "first_token_ms": _ms(params.take("stream_timeout"), None),
        "retries": _retries(params, reading),
        "price": price,
    }
    reading.tables.append({key: value for key, value in row.items() if value is not None})
    _labels(params, info, called, reading)
    for rest in (part, params, info):
        reading.rest(rest)
    order = number(params.take("order")) or Decimal(0)
    reading.groups.setdefault(group, []).append((order, called))
    reading.found.append(
        Imported(
            id=called,
            group=shown(group),
            engine=provider.engine,
            model=shown(own),
            operator=row["operator"],
            host=host,
            unknown=(*FACTS, *(f"operator.{fact}" for fact in OPERATOR_FACTS)),
            cannot=cannot,
        )
    )


def _refused(name: str, provider: Provider | None, own: str, group: str, mode: str) -> str:
    """Say why an entry cannot become a deployment; empty if it can."""
    if "*" in own or "*" in group or not own:
        return "a wildcard names no model: list each model with its facts"
    if mode not in _MODES:
        return f"Allod does not serve the mode {shown(mode)}"
    if own == "auto":
        return "`auto` means here that Allod chooses: name the model"
    if not name:
        return "the model's name does not tell its provider: write provider/model"
    if provider is None:
        return f"Allod has no driver for the provider {shown(name)}"
    return ""


def _base(params: Part, provider: Provider, own: str, reading: Reading) -> tuple[str, str, str]:
    """Return (base URL, host, why there is none)."""
    said = params.text("api_base") or params.text("base_url")
    version = _resolved(params.text("api_version"), reading)
    if version is not None and _VERSION.fullmatch(version) is None:
        return "", "", "its api_version is no version"
    params.take("base_url")
    url = _resolved(said, reading) or (None if said else provider.base_url)
    if url is None:
        missing = "its address is in a variable that is not set here" if said else "it names no api_base"
        return "", "", f"{missing}; whose machine it is cannot be told without"
    parts = urlsplit(url) if len(url) <= MAX_URL and url.isascii() and url.isprintable() else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or " " in url:
        return "", "", "its api_base is no HTTP address"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "", "", "its api_base carries a user, a password or a query, which may be a secret"
    url = url.rstrip("/")
    if provider.engine == "azure" and not url.endswith("/v1"):
        stem = "" if "/deployments/" in url else f"/openai/deployments/{own}"
        url = f"{url}{stem}" + (f"?api-version={version}" if version else "")
    elif provider.suffix and not url.endswith(provider.suffix):
        url += provider.suffix
    return url, parts.hostname.lower(), ""


def _resolved(said: str | None, reading: Reading) -> str | None:
    """Look an address up that is said to be in a variable: once, and no further."""
    if said is None or not said.startswith(ENV):
        return said
    name = said.removeprefix(ENV)
    found = reading.environ.get(name) if VARIABLE.fullmatch(name) else None
    return None if found is None or found.startswith(ENV) else found.strip() or None


def _key(params: Part, provider: Provider, called: str, reading: Reading) -> str | None:
    said = params.text("api_key")
    if said is None:
        name, why = provider.key_env, "the provider's usual variable"
    elif said.startswith(ENV) and VARIABLE.fullmatch(said.removeprefix(ENV)):
        name, why = said.removeprefix(ENV), "named in the file"
        if name in reading.own_variables:
            why = "its value stands in the file's environment_variables; take it from there, and change it"
    elif said.lower() in _NO_KEY:
        return None
    else:
        name = "ALLOD_KEY_" + re.sub(r"[^A-Z0-9]+", "_", called.upper())
        why = "the key stands in the file itself; take it from there, and change it"
    if name is not None:
        reading.variables.setdefault(name, ([], why))[0].append(called)
    return name


def _operator(host: str, provider: str, reading: Reading) -> str:
    """Name the operator by the host: nothing is known of it, not even that a local address is our own."""
    if host not in reading.operators:
        hosted = PROVIDERS[provider].base_url
        known = hosted is not None and urlsplit(hosted).hostname == host and "." in host
        reading.operators[host] = reading.name(f"op-{provider if known else host}")
    return reading.operators[host]


def _takes(info: Part, mode: str) -> list[str]:
    if _MODES[mode] == "embeddings":
        return ["embeddings"]
    return ["text", *(take for key, take in _TAKES if info.take(key) is True)]


def _price(
    params: Part, info: Part, provider: Provider, own: str, reading: Reading, called: str
) -> tuple[dict[str, Any] | None, str]:
    """Return the price in USD per million tokens, exactly, or why there is none."""
    found: dict[str, Any] = {}
    for theirs, ours in _PRICES:
        first, second = params.take(theirs), info.take(theirs)
        exact = number(first if first is not None else second)
        if exact is not None and exact >= 0:
            found[ours] = exact * MILLION
    if "input_usd_mtok" in found and "output_usd_mtok" not in found and info.data.get("mode") == "embedding":
        found["output_usd_mtok"] = Decimal(0)
    if "input_usd_mtok" in found and "output_usd_mtok" in found:
        return found, ""
    base = info.text("base_model") or own
    names = [base, f"{provider.book}/{base.rpartition('/')[2]}"]
    book = next((name for name in names if name in reading.book), None)
    if book is not None:
        reading.notes.append(f"{called}: list price of {book}; the file has none of its own")
        return {"book": book}, ""
    return None, "its price is unknown, so nothing is sent to it: fill in price"


def _labels(params: Part, info: Part, called: str, reading: Reading) -> None:
    for part in (params, info):
        for key in RESIDENCY:
            if part.take(key) is not None:
                reading.drop(
                    part.at(key), f"a label is no evidence of where {called} processes; fill its facts"
                )
        for key in BUDGET:
            if part.take(key) is not None:
                reading.drop(part.at(key), REASONS[key])


def _retries(params: Part, reading: Reading) -> int | None:
    said = [params.take("max_retries"), params.take("num_retries"), reading.defaults["retries"]]
    found = next((number for number in map(number, said) if number is not None), None)
    return None if found is None else max(0, min(10, int(found)))


def _whole(part: Part, key: str) -> int | None:
    found = number(part.take(key))
    return int(found) if found is not None and 1 <= found <= 2**53 else None


def _ms(said: Any, default: Any) -> int | None:
    seconds = number(said if said is not None else default)
    return int(seconds * 1000) if seconds is not None and 0 < seconds <= 86_400 else None  # noqa: PLR2004
