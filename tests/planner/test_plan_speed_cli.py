"""``allod plan speed`` and ``calibrate`` as users have them, and a probe of the real embedded engine."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result
from world import FOREIGN, LAWFUL, Inside, World, config

from allod.domain.errors import Invalid, Refused, Unavailable
from allod.gateway.cli.plan import command

REFERENCE = Path(__file__).parents[2] / "allod" / "vault" / "shipped" / "reference.gguf"
CELL = ("deepseek-r1", "--on", "h200_sxm", "--devices", "8", "--engine", "sglang", "--quant", "fp8",
        "--concurrency", "16", "--output-tokens", "1024")  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLOD_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in words])


def ok(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_a_prediction_as_table_json_svg_and_html(home: Path) -> None:
    svg, html = home / "s.svg", home / "s.html"
    said = ok("speed", *CELL, "--svg", svg, "--html", html)
    for word in ("time per output token", "(80%)", "measured near it", "engine versions", "sglang", "J"):
        assert word in said
    assert 'role="img"' in svg.read_text()
    assert "Throughput by load" in html.read_text()
    found = json.loads(ok("speed", *CELL, "--json"))
    tpot = found["tpot_ms"]
    assert tpot["low"] < tpot["value"] < tpot["high"]
    assert tpot["as_of"] == found["as_of"]
    assert found["nearest"][0]["source"]
    assert found["engines"]


def test_an_anchor_given_with_the_question_is_used_and_not_kept(home: Path) -> None:
    plain = json.loads(ok("speed", *CELL, "--json"))
    told = json.loads(ok("speed", *CELL, "--json", "--anchor", "tpot_ms=40,concurrency=16"))
    assert told["anchors"] == 1
    assert told["tpot_ms"]["value"] > plain["tpot_ms"]["value"]
    assert not (home / "home").exists()


def test_measurements_by_hand_are_kept_used_and_forgotten(home: Path) -> None:
    before = json.loads(ok("speed", *CELL, "--json"))["tpot_ms"]
    said = ok("calibrate", *CELL, "--tpot-ms", "30", "--ttft-ms", "500")
    assert "kept: tpot_ms 30" in said
    after = json.loads(ok("speed", *CELL, "--json"))
    assert after["anchors"] == 2
    assert abs(after["tpot_ms"]["value"] - 30) < abs(before["value"] - 30)
    assert after["tpot_ms"]["high"] / after["tpot_ms"]["low"] < before["high"] / before["low"]
    kept = json.loads((home / "home/planner/anchors.json").read_text())["anchors"]
    assert {one["metric"] for one in kept} == {"tpot_ms", "ttft_ms"}
    assert all(one["at"] and one["source"] == "by hand" for one in kept)
    assert json.loads(ok("speed", *CELL, "--json", "--uncalibrated"))["tpot_ms"] == before
    assert "forgotten: 2" in ok("calibrate", *CELL, "--forget")
    assert json.loads(ok("speed", *CELL, "--json"))["tpot_ms"] == before


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("speed", "qwen3-8b", "--on", "h20-141"), Invalid),
        (("speed", "qwen3-8b", "--on", "frobnicator"), Invalid),
        (("speed", "nothing-at-all", "--on", "h100"), Invalid),
        (("speed", *CELL, "--concurrency", "0"), Invalid),
        (("speed", *CELL, "--anchor", "tpot_ms=nan"), Invalid),
        (("calibrate", *CELL, "--tpot-ms", "-4"), Invalid),
        (("calibrate", *CELL, "--base-url", "http://8.8.8.8/v1", "--yes"), Refused),
        (("calibrate", *CELL, "--base-url", "http://model.example/v1", "--yes"), Refused),
        (("calibrate", *CELL, "--base-url", "http://169.254.169.254/v1", "--yes"), Refused),
        (("calibrate", *CELL, "--base-url", "http://192.0.2.7:9/v1", "--yes"), Refused),
        (("calibrate", *CELL, "--base-url", "ftp://127.0.0.1/v1", "--yes"), Invalid),
        (("calibrate", *CELL, "--base-url", "http://127.0.0.1:9/v1", "--yes"), Unavailable),
    ],
)
def test_wrong_questions_have_clear_errors_and_keep_nothing(
    home: Path, words: tuple[str, ...], kind: type
) -> None:
    result = run(*words)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    assert not (home / "home/planner/anchors.json").exists()


def test_an_air_gapped_home_probes_no_other_machine(home: Path) -> None:
    World(home / "home", config([], tenant={"air_gapped": True}))
    result = run("calibrate", *CELL, "--base-url", "http://10.1.2.3:9/v1", "--yes")
    assert isinstance(result.exception, Refused), (result.output, result.exception)
    assert "air-gap" in result.exception.what


def test_calibrate_takes_one_way_at_a_time(home: Path) -> None:
    assert run("calibrate", *CELL).exit_code == 2
    assert run("calibrate", *CELL, "--tpot-ms", "5", "--forget").exit_code == 2
    assert run("speed", "qwen3-8b").exit_code == 2


def test_nothing_is_sent_without_a_yes(home: Path) -> None:
    result = CliRunner().invoke(
        command, ["calibrate", *CELL, "--base-url", "http://127.0.0.1:9/v1"], input="n\n"
    )
    assert result.exit_code == 1
    assert "synthetic public text" in result.output


# --- a server of one's own


class Server(http.server.BaseHTTPRequestHandler):
    """Answers like an OpenAI-compatible server of a known speed: 20 ms, then 2 ms for each token."""

    seen: ClassVar[list[dict]] = []
    short = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).seen.append(body)
        tokens = min(body["max_tokens"], 3) if self.short else body["max_tokens"]
        self.send_response(200)
        self.end_headers()
        time.sleep(0.020)
        for _ in range(tokens):
            self._event({"choices": [{"delta": {"content": "one "}}]})
            time.sleep(0.002)
        read = len(body["messages"][0]["content"].split())
        self._event({"choices": [], "usage": {"prompt_tokens": read, "completion_tokens": tokens}})

    def _event(self, value: dict) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.seen, Server.short = [], False
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    made.server_close()


def test_a_probe_reads_the_speed_of_a_server_and_sends_fresh_public_text(home: Path, server: str) -> None:
    found = json.loads(ok(
        "calibrate", *CELL[:-2], "--base-url", server, "--yes", "--json", "--output-tokens", "60",
        "--probes", "3", "--input-tokens", "200",
    ))  # fmt: skip
    values = {one["metric"]: one["value"] for one in found["kept"]}
    assert 1.6 < values["tpot_ms"] < 3.5
    assert 18 < values["ttft_ms"] < 60
    assert found["after"]["anchors"] == 2
    assert len(Server.seen) == 4
    texts = [one["messages"][0]["content"] for one in Server.seen]
    assert len({one[:10] for one in texts}) == 4
    assert all(one["model"] == "deepseek-r1" for one in Server.seen)


def test_answers_too_short_to_measure_are_said_and_not_kept(home: Path, server: str) -> None:
    Server.short = True
    result = run("calibrate", *CELL, "--base-url", server, "--yes")
    assert isinstance(result.exception, Unavailable)
    assert "--tpot-ms" in result.exception.remedy
    assert not (home / "home/planner/anchors.json").exists()


# --- the embedded engine of this program, through the gateway


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home", "")


def fleet(port: int) -> str:
    own = {**LAWFUL, "id": "own", "engine": "llamacpp", "model": "reference", "price": None}
    abroad = {**FOREIGN, "id": "abroad", "engine": "scripted", "model": "echo"}
    return config([own, abroad], server={"port": port})


def test_a_probe_of_the_embedded_engine_through_the_gateway_obeys_the_law(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "cpu.toml"
    facts.write_text('id = "this-cpu"\nmem_gb = 8\nmem_bw_gbs = 20\nunified = true\n')
    cell = ("reference", "--model-config", REFERENCE, "--device-facts", facts, "--quant", "q8_0",
            "--input-tokens", "120", "--output-tokens", "48")  # fmt: skip
    world.write(fleet(0))
    with Inside(world) as gateway:
        monkeypatch.setenv("ALLOD_HOME", str(world.root))
        world.write(fleet(gateway.port))
        said = run("calibrate", *cell, "--deployment", "abroad", "--app", "ward", "--yes")
        assert isinstance(said.exception, Refused), (said.output, said.exception)
        assert not (world.root / "planner/anchors.json").exists()
        found = json.loads(ok("calibrate", *cell, "--deployment", "own", "--app", "ward", "--yes", "--json"))
    before, after = found["before"]["tpot_ms"], found["after"]["tpot_ms"]
    truth = next(one["value"] for one in found["kept"] if one["metric"] == "tpot_ms")
    assert found["after"]["anchors"] == 2
    assert abs(after["value"] - truth) <= abs(before["value"] - truth)
    assert after["high"] / after["low"] < before["high"] / before["low"]
    assert 0.7 < after["value"] / truth < 1.4
