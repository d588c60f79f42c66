"""The walls behind the connector: what the kernel and the interpreter refuse, in processes of their own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.gateway.addresses import Addresses
from allod.walls import bpf, network
from allod.walls.hook import Hook

TRIED = """
import ctypes, errno, json, os, socket, subprocess, sys
from allod.walls import bpf, network
calls = bpf.machine().calls
left, ports, port = json.loads(sys.argv[1])
bound = socket.create_server(("127.0.0.1", 0))
spare = socket.create_connection(bound.getsockname())
wall = network.close(left, ports)
libc = ctypes.CDLL(None, use_errno=True)
def of(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok"
def call(number, *args):
    if libc.syscall(ctypes.c_long(number), *args) < 0:
        raise OSError(ctypes.get_errno(), "call")
def connect(to, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(to)
def again():
    call(calls["connect"], ctypes.c_long(spare.fileno()), b"\\0" * 16, ctypes.c_long(16))
    spare.connect(("127.0.0.1", port))
def child():
    code = "import socket\\ntry: socket.socket(2, 2)\\nexcept OSError as e: raise SystemExit(e.errno)"
    status = subprocess.run([sys.executable, "-c", code]).returncode
    if status:
        raise OSError(status, "child")
out = {
    "unix": of(lambda: socket.socket(socket.AF_UNIX)),
    "pair": of(lambda: socket.socketpair()),
    "tcp": of(lambda: socket.socket()),
    "tcp6": of(lambda: socket.socket(socket.AF_INET6)),
    "mptcp": of(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)),
    "udp": of(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "icmp": of(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)),
    "raw": of(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "packet": of(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "netlink": of(lambda: socket.socket(16, socket.SOCK_RAW)),
    "vsock": of(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "bluetooth": of(lambda: socket.socket(31, socket.SOCK_RAW, 1)),
    "io_uring": of(lambda: call(calls["io_uring_setup"], ctypes.c_long(4), ctypes.create_string_buffer(120))),
    "setns": of(lambda: call(calls["setns"], ctypes.c_long(-1), ctypes.c_long(0))),
    "ptrace": of(lambda: call(calls["ptrace"], ctypes.c_long(2), ctypes.c_long(1), None, None)),
    "port": of(lambda: connect(("127.0.0.1", port))),
    "other port": of(lambda: connect(bound.getsockname())),
    "child": of(child),
    "again": of(again),
}
print(json.dumps({"wall": wall.name, "told": wall.told(), "out": out}))
"""
OK, NO, ABSENT = "ok", "EPERM", "ENOSYS"
AROUND = {"setns": NO, "ptrace": NO, "io_uring": ABSENT}
KINDS = {"raw": NO, "packet": NO, "netlink": NO, "vsock": NO, "bluetooth": NO, "mptcp": NO, "icmp": NO}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one.getsockname()[1]


def tried(left: str, ports: list[int] | None, port: int) -> dict[str, str]:
    if bpf.machine() is None:
        pytest.skip("no system call numbers are known for this machine")
    done = subprocess.run(
        [sys.executable, "-c", TRIED, json.dumps([left, ports, port])],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    if said["wall"].startswith("none"):
        pytest.skip(f"no wall here: {said['told']}")
    return {"landlock": str("landlock" in said["wall"]), **said["out"]}


def test_I6_the_kernel_leaves_nothing_but_unix_sockets_where_nothing_else_is_needed(port: int) -> None:
    out = tried("unix", [], port)
    expected = {
        "unix": OK,
        "pair": OK,
        "tcp": NO,
        "tcp6": NO,
        "udp": NO,
        "port": NO,
        "other port": NO,
        "child": NO,
    }
    again = "EACCES" if out.pop("landlock") == "True" else OK
    assert out.pop("again") == again, "an open connection was led elsewhere"
    assert out == {**expected, **KINDS, **AROUND}


def test_I6_the_kernel_leaves_tcp_to_named_ports_where_engines_are_beside(port: int) -> None:
    out = tried("tcp", [port], port)
    other = "EACCES" if out.pop("landlock") == "True" else OK
    assert out.pop("again") == OK
    expected = {
        "unix": OK,
        "pair": OK,
        "tcp": OK,
        "tcp6": OK,
        "udp": NO,
        "port": OK,
        "other port": other,
        "child": NO,
    }
    assert out == {**expected, **KINDS, **AROUND}
    if other == OK:
        pytest.skip("this kernel's Landlock does not bind ports; everything else held")


def test_I6_udp_is_left_only_where_a_name_is_named(port: int) -> None:
    out = tried("names", None, port)
    assert out["udp"] == out["tcp"] == out["other port"] == OK
    assert {k: out[k] for k in KINDS} == KINDS


def test_a_wall_holds_in_threads_that_were_there_before() -> None:
    code = (
        "import queue, socket, threading\n"
        "from allod.walls import network\n"
        "go, said = threading.Event(), queue.Queue()\n"
        "def run():\n"
        "    go.wait()\n"
        "    try:\n"
        "        socket.socket()\n"
        "    except OSError as error:\n"
        "        said.put(error.errno)\n"
        "    else:\n"
        "        said.put(0)\n"
        "threading.Thread(target=run).start()\n"
        "wall = network.close('unix')\n"
        "go.set()\n"
        "print(wall.left, wall.ports, said.get(), wall.why)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    if done.stdout.startswith("None"):
        pytest.skip(f"no wall here: {done.stdout}")
    left, ports, errno, *why = done.stdout.split()
    assert (left, ports, errno) == ("unix", "None", "1")
    assert "ports are not bound" in " ".join(why), "a bound that holds for one of two threads was called one"


def test_the_child_that_examines_files_has_no_network() -> None:
    code = (
        "import json, re, sys\n"
        "from allod.vault.examine import Examiner\n"
        "with Examiner() as one:\n"
        "    one._start()\n"
        "    one._socket.settimeout(1)\n"
        "    import time\n"
        "    for _ in range(500):\n"
        "        text = open(f'/proc/{one._child.pid}/status').read()\n"
        "        if 'Seccomp:\\t2' in text: break\n"
        "        time.sleep(0.01)\n"
        "    print('Seccomp:\\t2' in text, 'NoNewPrivs:\\t1' in text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["True", "True"]


# --- the interpreter's wall


def hook(*allowed: str) -> Hook:
    rule = Addresses(True, allowed)
    return Hook(rule.allow, rule.resolves, listening={"192.0.2.5"})


class Sock:
    family = socket.AF_INET


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535),
       st.sampled_from(["socket.connect", "socket.sendto", "socket.sendmsg"]))  # fmt: skip
def test_I6_the_hook_refuses_what_the_connector_would(address: object, port: int, event: str) -> None:
    host = str(address)
    allowed = Addresses(True).allow(host, port)
    if allowed:
        hook()(event, (Sock(), (host, port)))
        return
    with pytest.raises(PermissionError, match="air gap"):
        hook()(event, (Sock(), (host, port)))


@pytest.mark.parametrize(
    ("event", "args", "may"),
    [
        ("socket.getaddrinfo", ("model.example", 80, 0, 0, 0), False),
        ("socket.getaddrinfo", ("named.ward", 80, 0, 0, 0), True),
        ("socket.getaddrinfo", ("NAMED.ward", None, 0, 0, 0), True),
        ("socket.getaddrinfo", ("localhost", 80, 0, 0, 0), True),
        ("socket.getaddrinfo", ("192.0.2.1", 80, 0, 0, 0), True),
        ("socket.getaddrinfo", (b"model.example", 80, 0, 0, 0), False),
        ("socket.getaddrinfo", (None, 80, 0, 0, 0), True),
        ("socket.gethostbyname", ("model.example",), False),
        ("socket.gethostbyaddr", ("model.example",), False),
        ("socket.bind", (Sock(), ("0.0.0.0", 80)), False),
        ("socket.bind", (Sock(), ("192.0.2.5", 80)), True),
        ("socket.bind", (Sock(), ("127.0.0.1", 0)), True),
        ("socket.__new__", (None, 2, 1, 0), True),
        ("socket.__new__", (None, 2, 1 | 0x80000, 0), True),
        ("socket.__new__", (None, 2, 2, 0), False),
        ("socket.__new__", (None, 1, 2, 0), True),
        ("socket.__new__", (None, -1, -1, -1), True),
        ("socket.__new__", (None, 17, 3, 0), False),
        ("socket.__new__", (None, 40, 1, 0), False),
        ("open", ("/etc/passwd", "r", 0), True),
    ],
)
def test_what_the_hook_refuses(event: str, args: tuple[object, ...], may: bool) -> None:
    if may:
        hook("named.ward:80", "192.0.2.9")(event, args)
        return
    with pytest.raises(PermissionError):
        hook("named.ward:80")(event, args)


def test_the_hook_stands_in_a_process_of_its_own_and_holds_libraries() -> None:
    code = (
        "import threading, urllib.request\n"
        "from allod.gateway.addresses import Addresses\n"
        "from allod.walls import hook\n"
        "rule = Addresses(True)\n"
        "hook.put_up(hook.Hook(rule.allow, rule.resolves))\n"
        "for url in ('http://192.0.2.1/', 'http://model.example/'):\n"
        "    try:\n"
        "        urllib.request.urlopen(url, timeout=5)\n"
        "    except OSError as error:\n"
        "        print('air gap' in str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["True", "True"]


def test_the_filter_of_both_machines_is_a_program_the_kernel_can_take() -> None:
    for known in bpf.MACHINES.values():
        for left in ("unix", "tcp", "names"):
            steps = network.program(known, left)  # type: ignore[arg-type]
            assert len(steps) % 8 == 0
            assert len(steps) // 8 < 4096
            assert threading.active_count() >= 1
