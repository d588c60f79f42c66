"""The tracers themselves: each catches a program that reaches out, and what an attempt means is right."""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracing import CAUGHT, STRACE, by_notice, by_strace, control, read

from allod.gateway.addresses import Addresses
from allod.walls import attempts, namespace
from allod.walls.attempts import REACHES_OUT, Attempt, decode, meaning
from allod.walls.tracer import Watched, watch

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
PORTS = st.integers(0, 65535)


def possible() -> None:
    why = namespace.possible()
    if why:
        pytest.skip(f"no network of its own here: {why}")


def caught(seen: Watched) -> None:
    found = {(one.call, one.host, one.port) for one in seen.attempts}
    assert found >= CAUGHT, CAUGHT - found
    strangers = [one for one in seen.attempts if meaning(one, lambda *_: False, ()) in REACHES_OUT]
    questions = [one for one in strangers if one.port == 53 and one.host not in {"192.0.2.2", "192.0.2.3"}]
    assert questions, "no question to a name server was seen"
    assert {one.host for one in strangers} >= {host for _, host, _ in CAUGHT}


def test_our_tracer_catches_a_program_that_reaches_out(tmp_path: Path) -> None:
    seen = by_notice(control(tmp_path))
    if seen.trace:
        pytest.skip(f"no tracer here: {seen.trace}")
    assert seen.status == 0
    caught(seen)
    if seen.count is not None:
        assert seen.count.v4 >= 4
        assert seen.count.v6 >= 1


def test_strace_catches_a_program_that_reaches_out(tmp_path: Path) -> None:
    if STRACE is None:
        pytest.skip("no strace on this machine")
    possible()
    seen = by_strace(control(tmp_path), tmp_path / "trace")
    if seen.status != 0:
        pytest.skip("strace may not trace here")
    caught(seen)


def test_the_kernel_counts_alone_where_nothing_else_sees(tmp_path: Path) -> None:
    possible()
    seen = watch(control(tmp_path), trace=False)
    assert seen.attempts == ()
    assert seen.count is not None
    assert seen.count.v4 >= 4
    assert seen.count.v6 >= 1


def test_without_a_network_of_its_own_the_tracer_refuses_what_leaves(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "for to in (('192.0.2.1', 80), ('127.0.0.1', 1)):\n"
        "    with socket.socket() as one:\n"
        "        one.settimeout(5)\n"
        "        print(one.connect_ex(to))\n"
    )
    lines: list[bytes] = []
    seen = watch([sys.executable, "-c", code], namespace=False, heard=lines.append)
    if seen.trace:
        pytest.skip(f"no tracer here: {seen.trace}")
    assert [int(line) for line in lines] == [101, 111]  # no way; nobody listens
    assert seen.count is None


def test_with_neither_a_tracer_nor_a_network_nothing_is_started(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    seen = watch(["touch", str(mark)], namespace=False, trace=False)
    assert seen.status is None
    assert not mark.exists()


def test_what_a_watched_program_leaves_running_is_ended() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    lines: list[bytes] = []
    seen = watch([sys.executable, "-c", code], heard=lines.append, timeout_s=20)
    assert seen.status in (0, None)
    end = time.monotonic() + 5
    while Path(f"/proc/{int(lines[0])}").exists():
        assert time.monotonic() < end, "it still runs"
        time.sleep(0.01)


def test_a_program_that_takes_too_long_is_ended() -> None:
    assert watch(["sleep", "60"], timeout_s=1.0).status is None


def test_calls_made_by_c_are_seen_as_well() -> None:
    code = (
        "import asyncio, uvloop\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.get_running_loop().create_connection(asyncio.Protocol, '192.0.2.1', 80)\n"
        "    except OSError:\n"
        "        pass\n"
        "uvloop.run(main())\n"
    )
    seen = watch([sys.executable, "-c", code])
    if seen.trace:
        pytest.skip(f"no tracer here: {seen.trace}")
    assert ("connect", "192.0.2.1", 80) in {(one.call, one.host, one.port) for one in seen.attempts}


@given(V4, PORTS)
def test_an_ipv4_address_is_decoded(address: ipaddress.IPv4Address, port: int) -> None:
    raw = struct.pack("<H", socket.AF_INET) + struct.pack("!H", port) + address.packed + bytes(8)
    assert (decode(raw).host, decode(raw).port) == (str(address), port)


@given(V6, PORTS)
def test_an_ipv6_address_is_decoded(address: ipaddress.IPv6Address, port: int) -> None:
    raw = struct.pack("<H", socket.AF_INET6) + struct.pack("!HI", port, 7) + address.packed + bytes(4)
    assert (decode(raw).host, decode(raw).port) == (str(address), port)


@given(st.binary(max_size=140))
def test_I6_whatever_an_address_is_it_is_decoded_or_reaches_out(raw: bytes) -> None:
    found = decode(raw)
    one = Attempt(call="connect", program="p", pid=1, family=found.family, host=found.host, path=found.path)
    said = meaning(one, lambda *_: False, ())
    if len(raw) < 2 or (found.family in (2, 10) and not found.host):
        assert said in REACHES_OUT
    assert one.where


@given(st.one_of(V4, V6), PORTS, st.sampled_from(["connect", "sendto", "sendmsg", "sendmmsg"]))
def test_I6_an_address_that_is_neither_loopback_nor_named_reaches_out(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, call: str
) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    one = Attempt(call=call, program="p", pid=1, family=int(family), host=str(address), port=port)
    assert (meaning(one, Addresses(True).names, {port}) in REACHES_OUT) is not attempts.loopback(str(address))
    assert meaning(one, Addresses(True, (str(address),)).names, {port}) not in REACHES_OUT


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Attempt(call="connect", program="", pid=1, family=1, path="/run/x.sock"), "unix"),
        (Attempt(call="connect", program="", pid=1, family=1, path="/run/systemd/resolve/io.x"), "resolver"),
        (Attempt(call="sendto", program="", pid=1, family=2, host="127.0.0.53", port=53), "stranger"),
        (Attempt(call="connect", program="", pid=1, family=2, host="0.0.0.0", port=80), "outside"),
        (Attempt(call="connect", program="", pid=1, family=10, host="::ffff:127.0.0.1", port=80), "loopback"),
        (Attempt(call="connect", program="", pid=1, family=10, host="::ffff:192.0.2.1", port=80), "outside"),
        (Attempt(call="socket", program="", pid=1, family=17, kind=3), "outside"),
        (Attempt(call="socket", program="", pid=1, family=2, kind=3), "outside"),
        (Attempt(call="socket", program="", pid=1, family=31, kind=1), "outside"),
        (Attempt(call="socket", program="", pid=1, family=2, kind=1), "unix"),
        (Attempt(call="socket", program="", pid=1, family=16, kind=3), "kernel"),
        (Attempt(call="connect", program="", pid=1, family=0), "kernel"),
        (Attempt(call="connect", program="", pid=1, family=40), "outside"),
        (Attempt(call="sendmsg", program="", pid=1, family=-1), "unreadable"),
    ],
)  # fmt: skip
def test_what_an_attempt_means(one: Attempt, said: str) -> None:
    assert meaning(one, lambda *_: False, {80}) == said


def test_an_account_of_strace_is_read() -> None:
    trace = """
12 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 ENETUNREACH
12 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28)
13 sendto(4, ""..., 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.2")}, 16) = 1
13 sendto(4, ""..., 1, 0, NULL, 0) = 1
13 sendmsg(4, {msg_name=NULL, msg_namelen=0}, 0) = 1
14 socket(AF_PACKET, SOCK_RAW|SOCK_CLOEXEC, htons(0 /* ETH_P_??? */)) = 3
14 connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0
14 connect(3, 0x7ffe, 16) = -1 EFAULT
"""
    found = [(one.call, one.where, one.family) for one in read(trace)]
    assert found == [
        ("connect", "192.0.2.1:80", 2),
        ("connect", "[2001:db8::1]:443", 10),
        ("sendto", "192.0.2.2:53", 2),
        ("socket", "packet socket of kind 3", 17),
        ("connect", "/run/x", 1),
        ("connect", "an address that could not be read", -1),
    ]


def test_a_network_of_its_own_has_loopback_and_nothing_else() -> None:
    possible()
    code = "from allod.walls import namespace as n\nn.enter()\nprint(*sorted(n.interfaces()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["lo"]
