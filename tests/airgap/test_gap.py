"""Air-gap mode as it is asked for: ``--air-gap``, what it tightens and refuses, what the log says of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import EVERYTHING, LAWFUL, World, chat, config, deployment

from allod.domain.errors import Invalid, Refused
from allod.gateway import compose, gap
from allod.gateway import config as configuration
from allod.gateway.addresses import Addresses
from allod.receipts.tiles import parse_bundle

WARD = {**LAWFUL, "id": "ward", "engine": "llamacpp", "model": "reference", "takes": EVERYTHING}


def start_notice(world: World) -> dict[str, str]:
    """Return what the newest start says in the log."""
    for leaf in reversed(parse_bundle((world.paths.log / "entries").read_bytes())):
        if b'"subject":"start"' in leaf:
            return json.loads(leaf)["facts"]  # type: ignore[no-any-return]
    raise AssertionError("no start in the log")


def up(world: World, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "allod", "up", "--json", "--port", "0", *words],
        env=world.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def started(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    got = b""
    while not got.rstrip().endswith(b"}"):
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else b""
        got += line
    return json.loads(got)  # type: ignore[no-any-return]


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.communicate(timeout=30)


def test_I6_up_air_gap_is_seen_by_law_connector_kernel_and_log(tmp_path: Path) -> None:
    from asking import call

    far = deployment("far", "answer", on_premises=False)
    out = deployment("out", "answer", base_url="http://192.0.2.1:9/v1", retries=0, first_token_ms=500)
    world = World(tmp_path / "home", config([deployment("inner", "answer"), far, out]))
    key = world.key("press")
    process = up(world, "--air-gap")
    try:
        said = started(process)
        port = int(said["url"].rsplit(":", 1)[1])
        assert any(line.startswith("air gap: the kernel leaves") for line in said["notices"]), said
        refused = call(port, "/v1/chat/completions", chat("far"), key=key)
        assert refused.status == 403
        assert refused.json["error"]["allod"]["excluded"][0]["rules"][0]["id"] == "airgap"
        unreached = call(port, "/v1/chat/completions", chat("out"), key=key)
        assert unreached.status == 503
        assert call(port, "/v1/chat/completions", chat("inner"), key=key).status == 200
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
    finally:
        stop(process)
    facts = start_notice(world)
    assert facts["air_gap"] == "command"
    assert facts["wall"].startswith("seccomp-unix"), "out is not loopback, so nothing needs a TCP socket"
    with world.up() as plain:
        assert not any("air gap" in line for line in plain.notices)
    other = start_notice(world)
    assert "air_gap" not in other
    assert facts["fleet"] != other["fleet"] or facts["configuration"] != other["configuration"]


def test_what_is_decided_in_a_gap_is_replayed_in_a_gap(tmp_path: Path) -> None:
    far = deployment("far", "answer", on_premises=False)
    world = World(tmp_path / "home", config([deployment("inner", "answer"), far]))
    key = world.key("press")
    process = up(world, "--air-gap")
    try:
        from asking import call

        port = int(started(process)["url"].rsplit(":", 1)[1])
        for name in ("far", "inner"):
            call(port, "/v1/chat/completions", chat(name), key=key)
    finally:
        stop(process)
    done = world.allod("policy", "simulate", "--check", "--json")
    totals = json.loads(done.stdout)["totals"]
    assert totals["requests"] == 2, totals
    assert totals["identical"] == totals["decisions"] > 0, done.stdout


def test_a_loopback_engine_is_reached_through_the_walls_and_nothing_beside_it(tmp_path: Path) -> None:
    from asking import call
    from operators import Region

    with Region() as region, Region() as other:
        beside = deployment("beside", "answer", base_url=region.url)
        named = deployment("by-name", "answer", base_url=f"http://localhost:{region.port}/v1")
        shut = deployment("shut", "answer", base_url=other.url, on_premises=None)
        world = World(tmp_path / "home", config([beside, named, shut], tenant={"air_gapped": True}))
        key = world.key("press")
        process = up(world)
        try:
            port = int(started(process)["url"].rsplit(":", 1)[1])
            assert call(port, "/v1/chat/completions", chat("beside"), key=key).status == 200
            assert call(port, "/v1/chat/completions", chat("by-name"), key=key).status == 200
            assert call(port, "/v1/chat/completions", chat("shut"), key=key).status == 403
            assert other.connections == 0
        finally:
            stop(process)
    facts = start_notice(world)
    assert facts["air_gap"] == "configuration"
    assert facts["wall"].startswith("seccomp-tcp")


def test_explain_says_what_an_air_gap_would_exclude(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("far", "answer", on_premises=False)]))
    assert json.loads(world.allod("explain", "--app", "press", "--json").stdout)["decision"] == "allowed"
    done = world.allod("explain", "--app", "press", "--air-gap", "--json")
    assert done.returncode == 4
    (one,) = json.loads(done.stdout)["candidates"]
    assert [rule["id"] for rule in one["rules"]] == ["airgap"]


@pytest.mark.parametrize("flag", [(), ("--air-gap",)])
def test_I6_air_gap_only_tightens(tmp_path: Path, flag: tuple[str, ...]) -> None:
    far = deployment("far", "answer", on_premises=False)
    world = World(tmp_path / "home", config([far], tenant={"air_gapped": True}))
    assert world.allod("explain", "--app", "press", *flag).returncode == 4


def test_I6_a_command_in_an_air_gapped_home_asks_no_gateway_elsewhere(tmp_path: Path) -> None:
    text = config([deployment("d", "answer")], server={"host": "192.0.2.1", "port": 80})
    world = World(tmp_path / "home", text)
    done = world.allod("ask", "hello", "--app", "press", "--air-gap", timeout=20)
    assert done.returncode == 4, done
    assert "192.0.2.1" in done.stderr


@pytest.mark.parametrize("host", ["gateway.example", "localhost.example"])
def test_I6_an_air_gapped_gateway_listens_on_no_name(tmp_path: Path, host: str) -> None:
    world = World(tmp_path / "home", config([deployment("d", "answer")]))
    done = world.allod("up", "--air-gap", "--host", host, timeout=20)
    assert done.returncode == 2, done
    assert "name server" in done.stderr


def test_the_bare_command_line_runs_only_under_a_watch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "allod.gateway.cli.bare", "policy", "show"], capture_output=True, check=False
    )
    if Path("/proc/self/status").read_text().find("Seccomp:\t2") >= 0:
        pytest.skip("these tests run under a filter themselves")
    assert done.returncode == 2
    assert b"watch" in done.stderr


def test_every_command_in_an_air_gapped_home_stands_behind_the_walls(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("d", "answer")], tenant={"air_gapped": True}))
    code = (
        "import socket, sys\n"
        "from allod.gateway import cli\n"
        "from allod.gateway.cli import keys\n"
        "def tried(kind):\n"
        "    try:\n"
        "        socket.socket(socket.AF_INET, kind)\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        "    return 0\n"
        "keys.command.commands['list'].callback = lambda **_: print(tried(1), tried(2))\n"
        "sys.argv = ['allod', 'keys', 'list']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=world.environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "1"], done
    world.write(config([deployment("d", "answer")]))
    sealed = tmp_path / "sealed.toml"
    sealed.write_text(config([deployment("d", "answer")], tenant={"air_gapped": True}))
    named = code.replace("'keys', 'list']", f"'keys', 'list', '--config', {str(sealed)!r}]")
    done = subprocess.run(
        [sys.executable, "-c", named], env=world.environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "1"], done
    done = subprocess.run(
        [sys.executable, "-c", code], env=world.environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["0", "0"], done


# --- what the walls are made from

HOSTS = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(["localhost", "model.ward", "127.0.0.1", "::1", "10.1.2.3"])
)


@given(st.lists(st.tuples(HOSTS, st.integers(1, 65535)), max_size=6))
def test_I6_the_walls_leave_no_more_than_the_endpoints_need(found: list[tuple[str, int]]) -> None:
    ends = frozenset(gap.Endpoint(*one) for one in found)
    left, ports = gap.needed(ends)
    assert set(ports) == {port for _, port in found}
    if not found:
        assert left == "unix"
    elif any(host == "model.ward" for host, _ in found):
        assert left == "names"
    else:
        assert left == "tcp"


@given(st.lists(HOSTS, max_size=5), st.booleans(), st.lists(st.sampled_from(["10.1.2.3", "model.ward"])))
def test_I6_no_endpoint_is_one_the_connector_would_refuse(
    hosts: list[str], premises: bool, allowed: list[str]
) -> None:
    fleet = [
        deployment(f"d{n}", "m", base_url=f"http://[{host}]:80/v1" if ":" in host else f"http://{host}:80/v1",
                   on_premises=premises)
        for n, host in enumerate(hosts)
    ]  # fmt: skip
    parsed = configuration.parse(config(fleet, tenant={"air_gapped": True, "allowed_addresses": allowed}))
    rule = Addresses(True, tuple(allowed))
    setting = type("S", (), {"fleet": parsed.fleet, "config": parsed})()
    ends = gap.endpoints(setting, rule)
    assert all(rule.allow(one.host, one.port) for one in ends)
    if not premises:
        assert not ends


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "2001:db8::1", "0.0.0.0", "::", "model.ward", "255.255.255.255", "224.0.0.1", "ff02::1"],
)
def test_what_is_not_an_address_of_this_machine_is_not_its_own(host: str) -> None:
    assert not gap.own(host)
    with pytest.raises(Refused):
        gap.reachable(Addresses(True), host, 80)


def test_an_address_of_this_machine_is_its_own() -> None:
    assert gap.own("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        assert gap.own(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "LOCALHOST", "10.0.0.5", "0.0.0.0"])
def test_an_address_is_listened_on(host: str) -> None:
    gap.check_listening(host)


@pytest.mark.parametrize("host", ["", "x", "10.0.0", "127.1", "0x7f000001"])
def test_a_name_is_not_listened_on(host: str) -> None:
    with pytest.raises(Invalid):
        gap.check_listening(host)


@pytest.mark.parametrize(
    "text",
    [
        "air_gapped = tru",
        "[tenant]\nair_gapped = 'true'",
        "tenant = 1\n# air_gapped",
        "[tenant]\n# air_gapped = true",
    ],
)
def test_a_file_that_says_no_air_gap_puts_up_no_walls(tmp_path: Path, text: str) -> None:
    file = tmp_path / "allod.toml"
    file.write_text(text)
    assert gap.before_command(file, "keys") is False


def test_the_setting_tells_what_asked_for_the_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, flag, told in (
        (False, False, ""),
        (False, True, "command"),
        (True, False, "configuration"),
        (True, True, "configuration"),
    ):
        home = tmp_path / f"{said}{flag}"
        World(home, config([deployment("d", "answer")], tenant={"air_gapped": said}))
        monkeypatch.setenv("ALLOD_HOME", str(home))
        setting = compose.setting(air_gap=flag)
        assert setting.gap == told
        assert setting.fleet.tenant.air_gapped is (said or flag)
