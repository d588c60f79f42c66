from __future__ import annotations

import asyncio
import platform
import socket
import struct
from pathlib import Path

import pytest
from llamacpp_world import call, engine, events, tiny_vault

from allod.engines.contract import EngineFault
from allod.engines.llamacpp import process, syscalls
from allod.engines.llamacpp.driver import Tuning

pytestmark = pytest.mark.skipif(
    platform.machine() not in syscalls.MACHINES, reason=f"no system call numbers for {platform.machine()}"
)
FORBIDDEN = {
    "socket-inet", "socket-inet-datagram", "socket-inet6", "socket-netlink", "socket-packet", "socket-vsock",
    "unix-datagram", "unix-connect", "io-uring", "fork", "execute", "trace-parent", "signal-parent",
    "queue-signal-parent", "limit-parent", "write-file", "remove-file",
}  # fmt: skip
SECRETS = {"read-outside", "read-parent-environment"}


def test_I6_the_child_can_open_no_network_socket_and_start_no_program(tmp_path: Path) -> None:
    outside = tmp_path / "key"
    outside.write_text("secret")
    report = asyncio.run(process.probe(outside))
    assert report.sandbox in {"seccomp+netns", "seccomp"}
    assert set(report.attempts) == FORBIDDEN | SECRETS
    assert {name for name in FORBIDDEN if report.attempts[name] == "allowed"} == set()
    if report.files_restricted:
        assert {name for name in SECRETS if report.attempts[name] == "allowed"} == set()
    assert outside.read_text() == "secret"


def test_the_probe_tells_when_there_is_no_sandbox(tmp_path: Path) -> None:
    """The probe can fail: without the filter the same attempts succeed."""
    outside = tmp_path / "key"
    outside.write_text("secret")
    report = asyncio.run(process.probe(outside, without=("seccomp", "netns")))
    assert report.sandbox == "none"
    assert report.attempts["socket-inet"] == "allowed"
    assert report.attempts["read-outside"] == "refused: No such file or directory"  # it could even be removed
    assert not outside.exists()


def test_without_a_network_namespace_the_level_is_seccomp_alone(tmp_path: Path) -> None:
    outside = tmp_path / "key"
    outside.write_text("secret")
    report = asyncio.run(process.probe(outside, without=("netns",)))
    assert report.sandbox == "seccomp"
    assert report.attempts["socket-inet"] != "allowed"


def test_I6_an_air_gapped_tenant_does_not_run_an_engine_without_sandbox(tmp_path: Path) -> None:
    async def body() -> None:
        tuning = Tuning(without=("seccomp", "netns"))
        driver = engine(tiny_vault(tmp_path), air_gapped=True, tuning=tuning)
        with pytest.raises(EngineFault) as caught:
            await events(driver, call())
        assert caught.value.kind == "unavailable"
        assert "sandbox" in caught.value.detail
        assert driver.ready() == caught.value.detail
        await driver.close()

        driver = engine(tiny_vault(tmp_path / "again"), tuning=tuning)
        await driver.start()
        described = driver.describe()
        assert described.sandbox == "none"
        assert described.notice == "sandbox: none"
        await driver.close()

        driver = engine(tiny_vault(tmp_path / "third"), air_gapped=True)
        await driver.start()
        assert driver.describe().sandbox in {"seccomp+netns", "seccomp"}
        await driver.close()

    (tmp_path / "again").mkdir()
    (tmp_path / "third").mkdir()
    asyncio.run(body())


# -- the filter program itself, on both machines, by a small interpreter of classic BPF

LD, AND, JEQ, JGE, JSET, RET = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06


def verdict(program: bytes, audit: int, number: int, *arguments: int) -> int:
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, *(0,) * (6 - len(arguments))))
    steps = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == LD:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == AND:
            accumulator &= value
        elif code == RET:
            return value
        else:
            holds = {JEQ: accumulator == value, JGE: accumulator >= value, JSET: bool(accumulator & value)}[
                code
            ]
            at += if_true if holds else if_false


@pytest.mark.parametrize("name", list(syscalls.MACHINES))
def test_the_filter_says_what_it_should(name: str) -> None:
    machine, pid = syscalls.MACHINES[name], 4711
    program = syscalls.program(name, pid)
    deny = syscalls.ERRNO | 1
    calls = machine.calls

    def judge(call_name: str, *arguments: int) -> int:
        return verdict(program, machine.audit, calls[call_name], *arguments)

    assert len(program) // 8 < 4096
    assert judge("socket", socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) == syscalls.ALLOW
    assert judge("socket", socket.AF_UNIX, socket.SOCK_DGRAM) == deny
    for family in (0, 2, 3, 10, 16, 17, 29, 31, 38, 40, 44):
        assert judge("socket", family, socket.SOCK_STREAM) == deny
        assert judge("socketpair", family, socket.SOCK_STREAM) == deny
    assert judge("socketpair", socket.AF_UNIX, socket.SOCK_DGRAM) == syscalls.ALLOW
    assert judge("clone", 0x3D0F00) == syscalls.ALLOW  # what a thread library asks for
    assert judge("clone", 17) == deny
    assert judge("kill", pid, 15) == syscalls.ALLOW
    assert judge("kill", 1, 15) == deny
    assert judge("kill", 2**32 - 1, 15) == deny
    assert judge("tgkill", pid, pid + 1, 6) == syscalls.ALLOW
    assert judge("clone3") == judge("openat2") == syscalls.ERRNO | 38
    assert judge("openat", 0, 0, 0o2000000) == syscalls.ALLOW
    for flags in (1, 2, 0o101, 0o1002, 0o100):
        assert judge("openat", 0, 0, flags) == deny
    for refused in (
        "connect",
        "execve",
        "execveat",
        "ptrace",
        "unlinkat",
        "io_uring_setup",
        "bpf",
        "unshare",
        "setns",
    ):
        assert judge(refused) == deny
    assert verdict(program, machine.audit ^ 1, calls["socket"], 1, 1) == syscalls.KILL
    assert verdict(program, machine.audit, 0 if name == "x86_64" else 63) == syscalls.ALLOW  # read
    if name == "x86_64":
        assert verdict(program, machine.audit, 0x40000000 | 41, 2, 1) == syscalls.KILL


def test_unknown_machines_have_no_filter() -> None:
    with pytest.raises(KeyError):
        syscalls.program("riscv64", 1)
