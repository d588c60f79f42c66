"""Air-gap mode (I6): no socket but loopback, unix and the named addresses, by the gateway or its child.

The sockets of the processes are read from /proc while they work; where strace may be used, every ``connect``
and ``sendto`` of the whole process tree is read as well.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from world import (
    EVERYTHING,
    LAWFUL,
    START_S,
    Gateway,
    Region,
    World,
    chat,
    config,
    deployment,
    messages,
    read_json,
)


def own_address() -> str | None:
    """Return an address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if ipaddress.ip_address(address).is_loopback else address


def remote_of(field: str) -> tuple[str, int]:
    """Read an address of /proc/net/tcp or tcp6."""
    raw, port = field.split(":")
    packed = bytes.fromhex(raw)
    words = [packed[at : at + 4][::-1] for at in range(0, len(packed), 4)]
    return str(ipaddress.ip_address(b"".join(words))), int(port, 16)


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    out = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            out += tree(int(child))
    return out


def sockets_of(pid: int) -> set[tuple[str, str, int]]:
    """Return (kind, remote address, port) of every internet socket a process holds."""
    inodes = set()
    try:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            name = str(fd.readlink())
            if name.startswith("socket:["):
                inodes.add(name[8:-1])
    except OSError:
        pass
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        try:
            rows = Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[9] in inodes:
                found.add((kind, *remote_of(fields[2])))
    return found


class Watch:
    """Looks at the sockets of a process tree as often as it can."""

    def __init__(self, pid: int) -> None:
        self._pid, self._stop = pid, threading.Event()
        self.seen: set[tuple[str, str, int]] = set()
        self.looks = 0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.is_set():
            for pid in tree(self._pid):
                self.seen |= sockets_of(pid)
            self.looks += 1
            time.sleep(0.001)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def strangers(self) -> set[tuple[str, str, int]]:
        """Return what was neither loopback nor a listening socket."""
        return {
            one
            for one in self.seen
            if not ipaddress.ip_address(one[1]).is_loopback
            and not ipaddress.ip_address(one[1]).is_unspecified
        }


ELSEWHERE = "192.0.2.7"  # TEST-NET-1 (RFC 5737): nobody is there
QUICK = {"retries": 0, "first_token_ms": 300, "timeout_ms": 500}


def gapped(region: Region, address: str | None, allowed: list[str], *others: dict[str, Any]) -> str:
    """A fleet of what is allowed and of what the air gap forbids, on premises by its own word."""
    fleet = [
        deployment("inner", "answer"),
        deployment("loopback", "answer", base_url=region.url),
        deployment("by-name", "answer", base_url=f"http://localhost:{region.port}/v1"),
        deployment("elsewhere", "answer", base_url=f"http://{ELSEWHERE}:9/v1", **QUICK),
        deployment("named-elsewhere", "answer", base_url="http://model.example:80/v1", **QUICK),
        deployment("v6", "answer", base_url="http://[2001:db8::1]:80/v1", **QUICK),
        deployment("mapped", "answer", base_url=f"http://[::ffff:{ELSEWHERE}]:80/v1", **QUICK),
        deployment("off-premises", "answer", base_url=region.url, on_premises=False),
        deployment("unknown", "answer", base_url=region.url, on_premises=None),
        {**LAWFUL, "id": "ward", "engine": "llamacpp", "model": "reference", "takes": EVERYTHING},
    ]
    if address is not None:
        fleet.append(deployment("here", "answer", base_url=f"http://{address}:{region.port}/v1", **QUICK))
    return config([*fleet, *others], tenant={"air_gapped": True, "allowed_addresses": allowed})


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with Region(host="0.0.0.0") as one:
        yield one


@pytest.fixture(scope="module")
def gateway(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = gapped(region, own_address(), ["192.0.2.200:443"])
    with World(tmp_path_factory.mktemp("gap") / "home", text).up("ward", "press") as up:
        yield up


FORBIDDEN = ("elsewhere", "named-elsewhere", "v6", "mapped", "here")


def exercise(gateway: Gateway, *, briefly: bool = False) -> None:
    """Ask everybody, on several surfaces, streamed and not; or each only once."""
    for name in ("inner", "loopback", "by-name", *FORBIDDEN, "off-premises", "unknown", "auto", "ward"):
        for stream in (False, True):
            gateway.start("/v1/chat/completions", chat(name, stream=stream), timeout=60).read()
        if briefly:
            continue
        gateway.call("/v1/messages", messages(name), timeout=60)
        gateway.call("/v1/messages/count_tokens", chat(name), timeout=60)
        gateway.call("/v1/embeddings", {"model": name, "input": "x"}, timeout=60)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_I6_an_address_that_is_not_named_is_not_connected_to(
    gateway: Gateway, region: Region, name: str
) -> None:
    if name == "here" and own_address() is None:
        pytest.skip("this machine has no address but loopback")
    before = region.connections
    began = time.monotonic()
    answer = gateway.chat(chat(name), app="press")
    assert answer.status == 503, answer
    assert time.monotonic() - began < 2
    assert region.connections == before
    (row,) = gateway.world.rows(gateway.receipt(answer.receipt)["id"])
    assert row.cost_usd == 0
    assert "address" in row.detail or "allowed" in row.detail, row.detail


@pytest.mark.parametrize("name", ["off-premises", "unknown"])
def test_I6_what_is_not_on_premises_is_refused_by_the_air_gap(gateway: Gateway, name: str) -> None:
    answer = gateway.chat(chat(name), app="press")
    assert answer.status == 403
    rules = {r["id"] for r in answer.json["error"]["allod"]["excluded"][0]["rules"]}
    assert rules == {"airgap"}


@pytest.mark.parametrize("name", ["inner", "loopback", "by-name"])
def test_what_is_at_home_serves(gateway: Gateway, name: str) -> None:
    assert gateway.chat(chat(name), app="ward").status == 200


def test_the_embedded_model_serves_in_its_sandbox(gateway: Gateway) -> None:
    answer = gateway.chat(chat("ward", "Say hello."), app="ward", timeout=90)
    if answer.status == 503:
        pytest.skip(f"the embedded engine cannot run here: {answer.json['error']['message']}")
    assert answer.status == 200
    assert gateway.leaf(answer.receipt, app="ward")["sandbox"] in ("seccomp", "seccomp+netns")


def test_I6_no_socket_but_loopback_is_ever_held(gateway: Gateway) -> None:
    with Watch(gateway.process.pid) as watch:
        while watch.looks < 20:
            exercise(gateway)
    assert watch.seen, "the watch saw nothing at all"
    assert not watch.strangers()


def test_a_named_address_is_reached_and_only_on_its_port(region: Region, tmp_path: Path) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with Region(host="0.0.0.0") as other:
        shut = deployment("other", "answer", base_url=f"http://{address}:{other.port}/v1", **QUICK)
        text = gapped(region, address, [f"{address}:{region.port}"], shut)
        with World(tmp_path / "home", text).up("press") as up:
            assert up.chat(chat("here")).status == 200
            assert up.chat(chat("other")).status == 503
            assert other.connections == 0


def test_I6_strace_sees_no_connection_elsewhere(region: Region, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace on this machine; the test above reads /proc instead")
    world = World(tmp_path / "home", gapped(region, own_address(), []))
    world.key("press")
    trace = tmp_path / "trace"
    command = [strace, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "allod", "up", "--json", "--port", "0"],
        env=world.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        try:
            said = read_json(process, START_S)
        except AssertionError as refused:
            pytest.skip(f"strace may not trace here: {refused}")
        gateway = Gateway.__new__(Gateway)
        gateway.world, gateway.port = world, int(said["url"].rsplit(":", 1)[1])
        exercise(gateway, briefly=True)
    finally:
        for pid in tree(process.pid)[1:2]:
            os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=30)
    calls = trace.read_text()
    families = set(re.findall(r"sa_family=(AF_\w+)", calls))
    assert families <= {"AF_INET", "AF_INET6", "AF_UNIX"}, families
    reached = set(re.findall(r'inet_addr\("([^"]+)"\)', calls)) | set(
        re.findall(r'inet_pton\(AF_INET6, "([^"]+)"', calls)
    )
    assert "127.0.0.1" in reached
    assert all(ipaddress.ip_address(one).is_loopback for one in reached), reached


def test_outside_the_air_gap_the_same_address_is_reached(region: Region, tmp_path: Path) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    text = config([deployment("here", "answer", base_url=f"http://{address}:{region.port}/v1")])
    with World(tmp_path / "home", text).up("press") as up:
        assert up.chat(chat("here")).status == 200
        assert json.loads(up.chat(chat("here")).body)["choices"]
