"""``allod import litellm``: what the file says runs, what it does not is unknown, its secrets go nowhere."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Inside, Region, World

from allod.domain.errors import AllodError, Invalid, Unavailable
from allod.gateway import compose
from allod.gateway import config as configuration
from allod.gateway.litellm import Import, carry_over
from allod.gateway.yamlfile import MAX_BYTES, read_yaml
from allod.policy import PolicyQuestion

PROXY = """
model_list:
  - model_name: chat
    litellm_params:
      model: openai/answer
      api_base: {first}
      api_key: sk-SECRET-literal
      rpm: 600
      timeout: 30.5
      region_name: eu
      input_cost_per_token: 0.0000025
      output_cost_per_token: 1e-5
    model_info: {{id: first, supports_function_calling: true, max_input_tokens: 8000}}
  - model_name: chat
    litellm_params: &shared
      model: openai/echo
      api_base: os.environ/SECOND_BASE
      api_key: os.environ/SECOND_KEY
      input_cost_per_token: 0
      output_cost_per_token: 0
    model_info: {{id: second}}
  - model_name: broken
    litellm_params:
      <<: *shared
      model: openai/http-500
      num_retries: 0
    model_info: {{id: broken-one}}
  - model_name: embed
    litellm_params: {{model: openai/embedder, api_base: {first}, input_cost_per_token: 0.0000001}}
    model_info: {{mode: embedding}}
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: "https://x.openai.azure.com/"
      api_version: "2024-06-01"
      litellm_credential_name: shared
    model_info: {{base_model: azure/gpt-4o}}
  - model_name: claude
    litellm_params: {{model: bedrock/anthropic.claude-v1, aws_secret_access_key: SECRET-aws}}
  - model_name: "*"
    litellm_params: {{model: "openai/*"}}
credential_list:
  - credential_name: shared
    credential_values: {{api_key: SECRET-shared}}
    credential_info: {{}}
router_settings:
  num_retries: 1
  fallbacks: [{{broken: [chat]}}, {{chat: [nobody]}}]
  context_window_fallbacks: [{{chat: [gpt-4o]}}]
  model_group_alias: {{gpt-4: chat}}
  routing_strategy: simple-shuffle
  provider_budget_config: {{openai: {{budget_limit: 5}}}}
litellm_settings:
  max_budget: 100
  budget_duration: 30d
  success_callback: [langfuse]
  default_team_settings: [{{team_id: team-1, langfuse_secret: SECRET-team, max_budget: 10}}]
general_settings: {{master_key: sk-SECRET-master, database_url: "postgres://u:SECRET-db@h/d"}}
environment_variables: {{REDIS_PASSWORD: SECRET-redis}}
"""


def carried(text: str, **more: Any) -> Import:
    return carry_over(read_yaml(text.encode(), "config.yaml"), home="DE", bloc="EEA", **more)


def proxy(first: str = "http://127.0.0.1:1/v1", second: str = "http://127.0.0.1:2/v1", **more: Any) -> Import:
    return carried(PROXY.format(first=first), environ={"SECOND_BASE": second}, **more)


def rows(found: Import, kind: str) -> dict[str, dict[str, Any]]:
    data = tomllib.loads(found.toml, parse_float=Decimal)
    return {row.get("id", row.get("name")): row for row in data.get(kind, [])}


# --- what is carried over


def test_deployments_come_with_engine_address_limits_and_exact_prices() -> None:
    found = rows(proxy(), "deployment")
    assert list(found) == ["first", "second", "broken-one", "openai-embedder", "azure-gpt-4o-eu"]
    first = found["first"]
    assert (first["engine"], first["model"], first["base_url"]) == (
        "compatible",
        "answer",
        "http://127.0.0.1:1/v1",
    )
    assert first["price"] == {"input_usd_mtok": Decimal("2.5"), "output_usd_mtok": 10}
    assert (first["timeout_ms"], first["retries"], first["context_tokens"]) == (30_500, 1, 8000)
    assert first["takes"] == ["text", "tools"]
    assert found["second"]["base_url"] == "http://127.0.0.1:2/v1"
    assert found["second"]["api_key_env"] == "SECOND_KEY"
    assert found["broken-one"]["retries"] == 0
    assert found["openai-embedder"]["takes"] == ["embeddings"]
    azure = found["azure-gpt-4o-eu"]
    assert azure["base_url"] == (
        "https://x.openai.azure.com/openai/deployments/gpt-4o-eu?api-version=2024-06-01"
    )
    assert azure["api_key_env"] == "ALLOD_KEY_AZURE_GPT_4O_EU"


def test_groups_fallbacks_and_aliases_become_tasks_in_their_order() -> None:
    found = proxy()
    assert found.tasks == {
        "chat": ("first", "second", "azure-gpt-4o-eu"),
        "broken": ("broken-one", "first", "second"),
        "embed": ("openai-embedder",),
        "gpt-4o": ("azure-gpt-4o-eu",),
        "gpt-4": ("first", "second", "azure-gpt-4o-eu"),
    }
    assert {name: tuple(row["deployments"]) for name, row in rows(found, "task").items()} == found.tasks


def test_a_group_called_as_its_model_is_not_ambiguous() -> None:
    text = """
model_list:
  - {model_name: gpt-4o, litellm_params: {model: gpt-4o}}
  - {model_name: small, litellm_params: {model: gpt-4o-mini}}
litellm_settings: {fallbacks: [{gpt-4o: [small]}]}
"""
    found = carried(text, book={"openai/gpt-4o", "openai/gpt-4o-mini"})
    assert found.tasks == {
        "gpt-4o-group": ("openai-gpt-4o", "openai-gpt-4o-mini"),
        "small": ("openai-gpt-4o-mini",),
    }
    assert "gpt-4o-group" in "".join(found.notes)
    assert rows(found, "deployment")["openai-gpt-4o"]["price"] == {"book": "openai/gpt-4o"}
    assert [v.name for v in found.variables] == ["OPENAI_API_KEY"]


def test_what_is_not_carried_is_listed_by_its_place_and_never_by_its_value() -> None:
    found = proxy()
    told = {left.where: left.why for left in found.not_carried}
    for where, word in {
        "model_list[0].litellm_params.rpm": "rate",
        "model_list[0].litellm_params.region_name": "label is no evidence",
        "model_list[5] (bedrock/anthropic.claude-v1)": "no driver",
        "model_list[6] (openai/*)": "wildcard",
        "fallbacks.chat": "nobody",
        "litellm_settings.max_budget": "budgets",
        "litellm_settings.budget_duration": "budgets",
        "router_settings.provider_budget_config": "budgets",
        "litellm_settings.default_team_settings[0].max_budget": "budgets",
        "router_settings.routing_strategy": "order",
        "litellm_settings.success_callback": "log",
        "general_settings.master_key": "allod keys create",
        "general_settings.database_url": "tables of its own",
        "environment_variables.REDIS_PASSWORD": "nothing here reads it",
    }.items():
        assert word in told[where], where
    assert "budget" not in found.toml


def test_no_secret_of_the_file_is_written_or_told() -> None:
    found = proxy()
    everything = found.toml + repr(found)
    assert "SECRET" not in everything
    names = {v.name: v for v in found.variables}
    assert set(names) == {"ALLOD_KEY_FIRST", "SECOND_KEY", "ALLOD_KEY_AZURE_GPT_4O_EU"}
    assert names["SECOND_KEY"].deployments == ("second", "broken-one")
    assert "in the file itself" in names["ALLOD_KEY_FIRST"].why


def test_every_entry_is_unknown_and_refused_for_resident_classes_until_it_is_filled() -> None:
    found = proxy()
    assert all({"processing", "transit", "operator.seat"} <= set(one.unknown) for one in found.deployments)

    def kept(text: str, *classes: str) -> tuple[str, ...]:
        fleet = configuration.parse(text).fleet
        law = compose.decider(fleet).policy
        question = PolicyQuestion(app="default", classes=classes, day=compose.datetime.now().date())
        return law.eligible(question).kept

    assert kept(found.toml, "personal") == ()
    assert kept(found.toml, "special", "personal", "phi") == ()
    assert len(kept(found.toml, "public")) == 5
    operator = rows(found, "deployment")["first"]["operator"]
    filled = found.toml.replace(
        f'id = "{operator}"',
        f'id = "{operator}"\nown = true\nseat = "DE"\ncontrolled_from = ["DE"]\ncompelled_by = []',
    ).replace(
        'id = "first"',
        'id = "first"\nprocessing = "DE"\nat_rest = ["DE"]\ntransit = ["DE"]\n'
        "records_auditable = true\ninspectable = true",
    )
    assert kept(filled, "personal") == ("first",)


# --- the result runs


def test_the_result_runs_and_falls_back_as_the_proxy_did(tmp_path: Path) -> None:
    with Region() as region:
        (tmp_path / "config.yaml").write_text(PROXY.format(first=region.url))
        environ = {**os.environ, "SECOND_BASE": region.url, "ALLOD_HOME": str(tmp_path / "home")}
        root = tmp_path / "home"
        root.mkdir()
        words = [sys.executable, "-m", "allod", "import", "litellm", str(tmp_path / "config.yaml")]
        words += ["--out", str(root / "allod.toml"), "--json"]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "SECRET" not in done.stdout + done.stderr + (root / "allod.toml").read_text()
        report = json.loads(done.stdout)
        assert len(report["deployments"]) == 5
        again = subprocess.run(words, env=environ, capture_output=True, check=False)
        assert again.returncode == 2, "a configuration is never written over"
        world = World(root, (root / "allod.toml").read_text())
        for app in ("public", "default"):
            world.key(app)
        for name in report["variables"]:
            os.environ[name["name"]] = "a-key"
        try:
            with Inside(world) as gateway:
                ask = {"messages": [{"role": "user", "content": "hello"}]}
                for model in ("chat", "gpt-4", "broken"):
                    answer = gateway.chat({**ask, "model": model}, app="public")
                    assert answer.status == 200, answer
                    assert answer.headers["allod-deployment"] == "first"
                seen = [json.loads(one.body)["model"] for one in region.seen]
                assert seen == ["answer", "answer", "http-500", "answer"]
                answer = gateway.chat({**ask, "model": "chat"}, app="default")
                assert answer.status == 403
                ids = {
                    rule["id"] for each in answer.json["error"]["allod"]["excluded"] for rule in each["rules"]
                }
                assert "residency.0-complete" in ids
                assert len(region.seen) == 4, "nothing of it left"
        finally:
            for name in report["variables"]:
                os.environ.pop(name["name"], None)


# --- hostile files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]", "alias"),
        ("a: 1\na: 2", "twice"),
        ("model_list: !!python/object/apply:os.system ['x']", "constructor"),
        ("a: .nan", "no number"),
        ("---\na: 1\n---\nb: 2", "more than one"),
        ("[" * 200, "deep"),
        ("a: *SECRET", "undefined alias"),
        ("a: [", ""),
        ("\x00", ""),
        ("model_list: []", "no model_list"),
        ("model_list: 3", "no list"),
        ("[]", "no mapping"),
        ("model_list: [1]", "no mapping"),
        ("model_list: [{model_name: a, litellm_params: 3}]", "no mapping"),
        ("model_list: [{model_name: a}]\nrouter_settings: []", "no mapping"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        carried(text)
    assert words in caught.value.explain()
    assert "SECRET" not in caught.value.explain()


def test_a_small_file_that_grows_is_refused_before_it_has_grown() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(Invalid, match="grows too large"):
        carried("\n".join(lines))
    merged = ["b0: &b0 {k0: 1}"]
    merged += [f"b{n}: &b{n} {{<<: [{','.join([f'*b{n - 1}'] * 10)}], k{n}: 1}}" for n in range(1, 9)]
    with pytest.raises(Invalid, match="grows too large"):
        carried("\n".join(merged))
    with pytest.raises(Invalid, match="too large"):
        read_yaml(b"#" * (MAX_BYTES + 1), "config.yaml")
    with pytest.raises(Invalid, match="UTF-8"):
        read_yaml(b"\xff\xfe", "config.yaml")


def test_without_the_reader_the_line_to_install_it_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(Unavailable) as caught:
        read_yaml(b"a: 1", "config.yaml")
    assert "pip install 'allod[import]'" in caught.value.explain()


@pytest.mark.parametrize(
    ("base", "word"),
    [
        ("https://user:SECRET@host/v1", "secret"),
        ("https://host/v1?key=SECRET", "secret"),
        ("ftp://host/v1", "no HTTP"),
        ("host/v1", "no HTTP"),
        ("http://", "no HTTP"),
        ("http://ho st/v1", "no HTTP"),
        ("https://\u0441\u043e\u0440\u0443/v1", "no HTTP"),
        ("http://h/" + "a" * 3000, "no HTTP"),
        ("os.environ/NOT_SET", "variable"),
        ("os.environ/LOOP", "variable"),
        ("os.environ/a b", "variable"),
        (None, "api_base"),
    ],
)
def test_an_address_that_cannot_be_used_leaves_the_entry_out(base: str | None, word: str) -> None:
    data = {
        "model_list": [
            {"model_name": "a", "litellm_params": {"model": "hosted_vllm/m", "api_base": base}},
            {"model_name": "b", "litellm_params": {"model": "ollama/m"}},
        ]
    }
    found = carry_over(data, home="DE", bloc="EEA", environ={"LOOP": "os.environ/LOOP"})
    assert [one.id for one in found.deployments] == ["ollama-m"]
    assert word in found.not_carried[0].why
    assert "SECRET" not in repr(found)
    assert rows(found, "deployment")["ollama-m"]["base_url"] == "http://localhost:11434/v1"


WORD = st.text(string.ascii_letters + string.digits + "-_./*:@?#\"'\\\n\x7f\u202e\U0001f600 ", max_size=12)
NUMBER = st.decimals(allow_nan=True, allow_infinity=True)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), WORD, NUMBER),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORD, inner, max_size=3)),
    max_leaves=6,
)
PROVIDER = st.sampled_from(["openai", "azure", "ollama", "hosted_vllm", "bedrock"])
MODEL = st.one_of(WORD, st.builds(lambda provider, name: f"{provider}/{name}", PROVIDER, WORD))
BASE = st.one_of(VALUE, st.builds(lambda name: f"http://h/{name}", WORD))
MORE = ("timeout", "max_retries", "input_cost_per_token", "output_cost_per_token", "rpm", "weird", "order")
PARAMS = st.fixed_dictionaries(
    {"model": MODEL}, optional={"api_base": BASE, **dict.fromkeys(MORE, st.one_of(NUMBER, VALUE))}
)
INFO = st.dictionaries(st.sampled_from(["id", "mode", "base_model", "max_input_tokens"]), VALUE, max_size=3)
ENTRY = st.fixed_dictionaries({"model_name": WORD, "litellm_params": PARAMS}, optional={"model_info": INFO})
FALLBACKS = st.lists(st.dictionaries(WORD, VALUE, max_size=2), max_size=2)
ROUTER = st.fixed_dictionaries({}, optional={"fallbacks": FALLBACKS, "model_group_alias": VALUE})
SETTINGS = st.fixed_dictionaries({}, optional={"default_fallbacks": st.lists(WORD, max_size=2)})
FILE = st.fixed_dictionaries(
    {"model_list": st.lists(ENTRY, min_size=1, max_size=4)},
    optional={
        "router_settings": ROUTER,
        "litellm_settings": SETTINGS,
        "environment_variables": st.dictionaries(WORD, VALUE, max_size=2),
    },
)


def attempted(data: dict[str, Any]) -> Import | str:
    try:
        return carry_over(data, home="DE", bloc="EEA")
    except AllodError as error:
        return error.explain()


@settings(max_examples=150, deadline=None)
@given(FILE)
def test_any_file_becomes_a_configuration_that_parses_or_an_error_in_words(data: dict[str, Any]) -> None:
    for entry in data["model_list"]:
        entry["litellm_params"]["api_key"] = "sk-SECRETSECRET"
    found = attempted(data)
    assert "SECRETSECRET" not in repr(found)
    if isinstance(found, Import):
        parsed = configuration.parse(found.toml)
        assert set(parsed.fleet.deployments) == {one.id for one in found.deployments}
