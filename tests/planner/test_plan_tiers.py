"""Tiers: what runs where, lawful and clean, what is not known; the claims; the commands."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from allod.domain.errors import AllodError, Invalid
from allod.gateway.cli import plan, plan_claims, plan_fit, plan_tiers
from allod.planner import tiers
from allod.planner.catalogue import devices, find_device, models
from allod.planner.claims import claims

BANS = tiers.Rules(banned=frozenset({"CN"}), avoid=frozenset({"CN", "US"}))


def test_every_tier_is_answered_or_says_what_is_not_known() -> None:
    found = tiers.all_tiers(tiers.Rules())
    assert [one.tier.id for one in found] == [tier.id for tier in tiers.TIERS]
    for one in found:
        assert one.device is not None or "memory of every device" in one.unknown[0]
        for choice in (one.best, one.clean):
            if choice is not None:
                assert choice.verdict.fits
                assert choice.card.licence
                assert choice.tok_s is None or choice.tok_s.low <= choice.tok_s.value <= choice.tok_s.high
    by = {one.tier.id: one for one in found}
    assert by["controller"].best is None
    assert by["vehicle"].device is None
    assert by["server"].best is not None
    assert by["phone"].best is not None


def test_a_ban_and_the_clean_alternative_hold_in_every_tier() -> None:
    for one in tiers.all_tiers(BANS):
        for choice in (one.best, one.clean):
            assert choice is None or choice.card.maker_jurisdiction != "CN"
        if one.clean is not None:
            assert one.clean.card.maker_jurisdiction not in {"CN", "US"}
            assert one.clean.card.licence in tiers.OPEN_LICENCES
            assert one.best is not None
            assert one.best.rank >= one.clean.rank


def test_an_unknown_licence_or_maker_is_never_lawful() -> None:
    card = models()["mistralai/Mistral-Small-24B-Instruct-2501"]
    rules = tiers.Rules()
    assert rules.lawful(card)
    assert rules.clean(card)
    assert not rules.lawful(msgspec.structs.replace(card, licence=""))
    assert not rules.lawful(msgspec.structs.replace(card, maker_jurisdiction=""))
    assert not rules.clean(msgspec.structs.replace(card, licence="Some Community License"))


def test_more_memory_never_gives_a_lesser_model() -> None:
    tier = next(one for one in tiers.TIERS if one.id == "edge")
    device, last = find_device("jetson-agx-orin-64"), 0.0
    for size in (2, 4, 8, 16, 32, 64, 128):
        best = tiers.answer(tier, msgspec.structs.replace(device, mem_bytes=size << 30), BANS).best
        assert best is None or best.rank >= last
        last = best.rank if best else last


def test_claims_are_reproduced() -> None:
    by = {one.id: one for one in claims()}
    assert by["v4-flops"].figures == pytest.approx(
        {"1048576": 0.262, "131072": 0.549, "8192": 0.927}, abs=0.002
    )
    assert by["v4-kv"].figures["elements_per_token"] == 4924
    assert by["v4-kv"].figures["gib_1m"] == pytest.approx(9.62, abs=0.01)
    assert by["v4-kv"].figures["1048576"] == pytest.approx(0.115, abs=0.001)
    assert by["v4-h20"].figures["experts_gb"] == pytest.approx(822, abs=1)
    assert (by["v4-h20"].figures["fits_96"], by["v4-h20"].figures["fits_141"]) == (0.0, 1.0)
    assert by["v4-h20"].figures["fits_16_96_1m"] == 1.0
    assert by["v4-h200-fp8"].figures["fits"] == 0.0
    assert by["v4-flash-checkpoint"].figures["checkpoint_gib"] == pytest.approx(148.66, rel=0.03)
    money = " ".join(one.ours for one in claims() if one.id.startswith("money-"))
    assert "$0.40" in money
    assert "$2.96" in money


def run(command: Any, *words: str) -> tuple[int, str, Exception | None]:
    got = CliRunner().invoke(command, list(words))
    error = got.exception if isinstance(got.exception, Exception) else None
    return got.exit_code, got.output, error


def test_fit_says_what_it_found_and_from_what() -> None:
    code, text, error = run(
        plan_fit.COMMAND, "Meta-Llama-3-70B", "--on", "rtx-4090", "--quant", "q4_k_m", "--json"
    )
    assert (code, error) == (0, None)
    answer = json.loads(text)["answers"][0]
    assert answer["devices"] == 2
    assert answer["fits"]
    each = answer["per_device"]
    assert each["low_bytes"] <= each["need_bytes"] <= each["high_bytes"] <= each["have_bytes"]
    assert answer["as_of"]
    assert answer["source"]
    assert run(plan_fit.COMMAND, "Meta-Llama-3-70B", "--on", "rtx-4090")[0] == 0
    code, text, _ = run(plan_fit.COMMAND, "gpt-oss-20b")
    assert code == 0
    assert "rtx-4090" in text


def test_fit_without_on_answers_for_every_device_of_known_memory() -> None:
    _, text, _ = run(plan_fit.COMMAND, "gpt-oss-20b", "--json")
    found = {one["device"] for one in json.loads(text)["answers"]}
    assert found == {one.id for one in devices().values() if one.mem_bytes and one.tier != "reference"}


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-model",),
        ("gpt-oss-20b", "--on", "no-such-device"),
        ("gpt-oss-20b", "--on", "h100", "--context", "1000000000000000"),
        ("gpt-oss-20b", "--on", "h100", "--context", "0"),
        ("gpt-oss-20b", "--on", "h100", "--context=-4"),
        ("gpt-oss-20b", "--on", "h100", "--concurrency", "0"),
        ("gpt-oss-20b", "--on", "h100", "--devices", "0"),
        ("gpt-oss-20b", "--on", "h100", "--quant", "q17"),
        ("gpt-oss-20b", "--on", "h100", "--kv-quant", "f7"),
        ("gpt-oss-20b", "--on", "h100", "--engine", "abacus"),
        ("gpt-oss-20b", "--on", "h100", "--memory", "-3"),
        ("gpt-oss-20b", "--on", "h100", "--memory", "nan"),
        ("gpt-oss-20b", "--on", "h100", "--adapter", "/none"),
        ("--model-config", "/none/config.json"),
        ("--file", "/none/model.gguf"),
        ("Apertus-70B-2509",),
    ],
)
def test_wrong_questions_are_answered_by_what_to_do(words: tuple[str, ...]) -> None:
    code, _, error = run(plan_fit.COMMAND, *words)
    assert code != 0
    assert isinstance(error, Invalid)
    assert error.what
    assert error.remedy


def test_a_question_without_a_model_is_a_usage_error() -> None:
    assert run(plan_fit.COMMAND)[0] == 2
    assert run(plan_fit.COMMAND, "x", "--context", "many")[0] == 2
    assert run(plan_tiers.COMMAND, "--on", "h100")[0] == 2


def test_pictures_and_pages_are_written(tmp_path: Path) -> None:
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    assert run(plan_fit.COMMAND, "gpt-oss-20b", "--svg", str(svg), "--html", str(html))[0] == 0
    assert svg.read_text().startswith("<svg")
    assert "<script" not in html.read_text()
    assert run(plan_tiers.COMMAND, "--svg", str(svg), "--html", str(html))[0] == 0
    assert "Sarvam" in html.read_text() or "sarvam" in html.read_text()
    assert run(plan_claims.COMMAND, "--html", str(html))[0] == 0
    assert "reproduced" in html.read_text()


def test_tiers_command_names_what_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOD_HOME", str(tmp_path))
    code, text, _ = run(plan_tiers.COMMAND)
    assert code == 0
    assert "not known" in text
    assert "Vehicles" in text
    code, text, _ = run(plan_tiers.COMMAND, "--json", "--ban", "cn", "--tier", "server")
    body = json.loads(text)
    assert body["banned"] == ["CN"]
    assert body["tiers"][0]["best"]["maker_jurisdiction"] != "CN"
    assert run(plan_tiers.COMMAND, "--tier", "server", "--on", "mi300x")[0] == 0
    for words in (("--ban", "XX"), ("--tier", "moon"), ("--tier", "edge", "--on", "abacus")):
        assert isinstance(run(plan_tiers.COMMAND, *words)[2], AllodError)


def test_the_group_lists_only_what_is_there() -> None:
    code, text, _ = run(plan.command, "--help")
    assert code == 0
    assert {"fit", "tiers", "claims"} <= set(text.split())
    assert run(plan.command, "no-such")[0] == 2
