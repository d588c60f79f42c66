"""Another gateway's configuration, written by an enemy: it takes no secret out and makes nothing lawful."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec
import pytest

from allod.domain.errors import AllodError, Invalid
from allod.gateway import config as configuration
from allod.gateway.litellm import carry_over
from allod.gateway.packs import find
from allod.gateway.yamlfile import read_yaml
from allod.policy import Policy, PolicyQuestion

DAY = date(2026, 11, 25)
SECRET = "sk-verysecret-0123456789"
NAMED = "os.environ/SOMEBODYS_KEY"
ENVIRON = {"SOMEBODYS_KEY": SECRET}
FILE: dict[str, Any] = {
    "model_list": [
        {
            "model_name": "chat",
            "litellm_params": {
                "model": "azure/gpt", "api_base": "https://x.openai.azure.com", "api_version": "2024-06-01",
                "api_key": "k", "custom_llm_provider": "azure", "timeout": "3", "num_retries": 1, "order": 1,
                "organization": "o", "extra_headers": {"a": "b"}, "region_name": "eu", "azure_ad_token": "t",
            },
            "model_info": {"id": "one", "mode": "chat", "base_model": "azure/gpt", "max_input_tokens": 10},
        },
        {
            "model_name": "two",
            "litellm_params": {
                "model": "openai/a", "api_base": "https://a.example/v1", "litellm_credential_name": "c",
            },
            "model_info": {"id": "two"},
        },
    ],
    "credential_list": [
        {"credential_name": "c", "credential_values": {"api_key": "v", "api_base": "https://b.example/v1"}}
    ],
    "router_settings": {
        "fallbacks": [{"chat": ["two"]}], "model_group_alias": {"g": "chat"}, "redis_password": "p",
    },
    "litellm_settings": {"default_team_settings": [{"team_id": "t", "max_budget": 1}], "callbacks": ["c"]},
    "general_settings": {"master_key": "m", "database_url": "d"},
    "environment_variables": {"OTHER": "value"},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


def put(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    out = copy.deepcopy(FILE)
    at: Any = out
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return out


def carried(data: Any) -> Any:
    return carry_over(data, home="DE", bloc="EEA", environ=ENVIRON, book=())


def test_no_variable_of_the_machine_is_written_out_wherever_the_file_names_it() -> None:
    assert carried(FILE).deployments
    done = 0
    for path in places(FILE):
        for value in (NAMED, f"https://x.example/{SECRET.upper()}", f"x {SECRET}"):
            try:
                found = carried(put(path, value))
            except AllodError as error:
                told = error.explain()
            else:
                told = found.toml + json.dumps(msgspec.to_builtins(found))
                done += 1
            assert value != NAMED or SECRET not in told, path
    assert done > 60


def test_I1_whatever_the_file_says_nothing_of_it_may_see_resident_data() -> None:
    packs = find().some(["base"])
    for path in places(FILE):
        for value in (
            "DE",
            True,
            "own",
            {"value": True, "grade": "measured"},
            '"]\n[[operator]]\nid = "x"\nown = true',
        ):
            try:
                found = carried(put(path, value))
            except AllodError:
                continue
            fleet = configuration.parse(found.toml).fleet
            assert not any(operator.own or operator.seat for operator in fleet.operators.values())
            policy = Policy(packs, fleet)
            question = PolicyQuestion(app="default", classes=("personal",), day=DAY)
            assert policy.eligible(question).kept == ()


BOMBS = {
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "merges": "a: &a {x: 1}\n" + "".join(f"k{n}: &k{n} {{<<: [*a, *a], b: *a}}\n" for n in range(3000))
    + "z: [" + ",".join(f"*k{n}" for n in range(3000)) + "," + ",".join(["*k1"] * 60_000) + "]\n",
    "circle": "a: &a [*a]",
    "deep": "[" * 5000,
    "block": "".join("  " * n + "a:\n" for n in range(400)),
    "number": "a: " + "9" * 5000,
    "exponent": "a: 1e999999999",
    "program": "a: !!python/object/apply:os.system ['true']",
    "binary": "a: !!binary QUJD",
    "two": "a: 1\n---\nb: 2",
    "key": "? [a, b]\n: c",
    "twice": "a: 1\na: 2",
    "bytes": "a: \x07",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_means_much_or_runs_is_refused_quickly(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(Invalid) as error:
        carried(read_yaml(BOMBS[name].encode(), "config.yaml"))
    assert time.thread_time() - began < 8
    assert "999999" not in error.value.explain()
