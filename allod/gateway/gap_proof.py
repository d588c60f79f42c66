"""Showing that nothing reaches out in air-gap mode: the whole product, watched, in a network of nothing.

First the watch itself is tried on a program that does reach out: a watch that sees nothing there shows
nothing. Then a copy of the home's configuration lives through ``gap_trial`` under the same watch. Three
accounts are kept: the calls that were seen, the kernel's own count of ways that did not exist, and what the
product said.
Nothing is claimed beyond what they show.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import msgspec

from allod.gateway.addresses import Addresses
from allod.gateway.gap_trial import DECOYS, Said, trial_configuration
from allod.store.home import Home, make_home
from allod.walls import attempts
from allod.walls.attempts import REACHES_OUT, Attempt, Meaning
from allod.walls.tracer import Watched, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.gateway.compose import Setting

Outcome = Literal["shown", "partly", "broken", "not shown"]
TRIAL_S: Final = 300.0
CONTROL_S: Final = 30.0
CONTROL: Final = (
    ("connect", "192.0.2.10", 80), ("connect", "2001:db8::10", 443), ("sendto", "192.0.2.11", 53),
    ("sendmsg", "192.0.2.12", 9), ("connect", "192.0.2.13", 25),
)  # fmt: skip
"""What the control tries, the last in a child of its own: documentation addresses, nobody is there."""
_CONTROL_CODE: Final = """
import socket, subprocess, sys
def tried(act):
    try:
        act()
    except OSError:
        pass
def stream(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(address)
def datagram(send):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        send(one)
if len(sys.argv) > 1:
    tried(lambda: stream(socket.AF_INET, ("192.0.2.13", 25)))
    sys.exit()
tried(lambda: stream(socket.AF_INET, ("192.0.2.10", 80)))
tried(lambda: stream(socket.AF_INET6, ("2001:db8::10", 443)))
tried(lambda: datagram(lambda one: one.sendto(b"x", ("192.0.2.11", 53))))
tried(lambda: datagram(lambda one: one.sendmsg([b"x"], [], 0, ("192.0.2.12", 9))))
subprocess.run([sys.executable, "-I", "-c", CODE, "child"], check=False)
"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt and what it means."""

    where: str
    meaning: Meaning
    call: str
    times: int
    program: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was shown, and what was not.

    Attributes:
        outcome: ``shown``: nothing reached out, by the calls and by the kernel's count. ``partly``: nothing
            did by those of the two there are. ``broken``: something did. ``not shown``: nothing was seen that
            could count.
        watch: how the calls were seen, or why not. ``network``: the same of the network of its own.
        control: what the watch saw of a program that does reach out.
        seen: every address that was tried, whatever it means.
        ways: the kernel's count of ways that did not exist, or None.
        steps: what the product was made to do, and how it went.
        shown, missing: in words, what the above shows and what it does not.

    """

    outcome: Outcome
    watch: str
    network: str
    control: str
    seen: tuple[Seen, ...]
    ways: int | None
    steps: tuple[Said, ...]
    shown: tuple[str, ...]
    missing: tuple[str, ...]


class _Accounts(msgspec.Struct, frozen=True, kw_only=True):
    calls: bool
    kernel: bool
    control: str


def _control(*, network: bool) -> _Accounts:
    """Try the watch on a program that reaches out; tells which accounts may be believed."""
    code = f"CODE = {_CONTROL_CODE!r}\n{_CONTROL_CODE}"
    seen = watch([sys.executable, "-I", "-c", code], timeout_s=CONTROL_S, namespace=network)
    found = {(one.call, one.host, one.port) for one in seen.attempts}
    missed = [f"{call} to {host}" for call, host, port in CONTROL if (call, host, port) not in found]
    calls = not seen.trace and not missed
    kernel = seen.count is not None and seen.count.v4 >= len(CONTROL) - 1
    said = [
        f"{len(CONTROL) - len(missed)} of {len(CONTROL)} calls of a program that reaches out were seen"
        if not seen.trace
        else f"calls are not seen: {seen.trace}",
        "the kernel counted no network of its own"
        if seen.count is None
        else f"the kernel counted {seen.count.all}",
    ]
    return _Accounts(calls=calls, kernel=kernel, control="; ".join(said))


def prove(setting: Setting, told: Callable[[Said], None], *, network: bool = True) -> Proof:
    """Show it for a home.

    Args:
        setting: of the home; it is read, and nothing in it is changed.
        told: hears each thing that was done.
        network: whether a network of its own is tried for.

    Raises:
        OSError: the watch cannot be begun, or there is no room for the copy.

    """
    accounts = _control(network=network)
    steps: list[Said] = []

    def heard(line: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=Said)
        except msgspec.DecodeError:
            return
        steps.append(said)
        told(said)

    folder = Path(tempfile.mkdtemp(prefix="allod-gap-"))
    try:
        changed = _furnish(folder, setting)
        argv = [sys.executable, "-I", "-m", "allod.gateway.gap_trial", str(folder)]
        seen = watch(argv, timeout_s=TRIAL_S, namespace=network, heard=heard)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _judge(setting, accounts, seen, tuple(steps), changed)


def _furnish(folder: Path, setting: Setting) -> list[str]:
    """Write the trial's home; returns what is not as in the real one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text, changed = trial_configuration(setting.config.written, port)
    make_home(folder)
    home = Home(folder)
    home.config.write_text(text, encoding="utf-8")
    packs = setting.home.root / "packs"
    if packs.is_dir():
        shutil.copytree(packs, folder / "packs")
    names = [*setting.fleet.deployments, *DECOYS]
    (folder / "deployments.json").write_text(json.dumps(names), encoding="utf-8")
    return changed


def _judge(
    setting: Setting, accounts: _Accounts, seen: Watched, steps: tuple[Said, ...], changed: list[str]
) -> Proof:
    rule = Addresses(True, setting.config.allowed_addresses)
    ports = {one.port for one in steps if one.port}
    ports |= {port for port in (_port(d.base_url) for d in setting.fleet.deployments.values()) if port}
    judged = tuple(_seen(one, rule, ports) for one in seen.attempts)
    out = [one for one in judged if one.meaning in REACHES_OUT]
    named = any(one.meaning == "named" for one in judged)
    ways = None if seen.count is None else seen.count.all
    counted = bool(ways) and not named
    began = any(one.port for one in steps) and seen.status == 0
    calls = accounts.calls and not seen.trace and not seen.lost
    kernel = accounts.kernel and ways is not None
    outcome: Outcome = "not shown"
    if out or (counted and accounts.kernel):
        outcome = "broken"
    elif began and calls and kernel:
        outcome = "shown"
    elif began and (calls or kernel):
        outcome = "partly"
    shown, missing = _words(accounts, seen, calls=calls, kernel=kernel, began=began, named=named)
    return Proof(
        outcome=outcome,
        watch=seen.trace or "every call of the process tree was seen by the kernel's notice",
        network=seen.namespace or "a network of its own with nothing but loopback",
        control=accounts.control,
        seen=judged,
        ways=ways,
        steps=steps,
        shown=tuple(shown),
        missing=(*missing, *changed),
    )


def _seen(one: Attempt, rule: Addresses, ports: set[int]) -> Seen:
    return Seen(
        where=one.where,
        meaning=attempts.meaning(one, rule.names, ports),
        call=one.call,
        times=one.times,
        program=one.program,
    )


def _port(url: str | None) -> int | None:
    try:
        return urlsplit(url or "").port
    except ValueError:
        return None


def _words(
    accounts: _Accounts, seen: Watched, *, calls: bool, kernel: bool, began: bool, named: bool
) -> tuple[list[str], list[str]]:
    """Say what the accounts show, and what they do not."""
    shown, missing = [], []
    if calls:
        shown.append(
            "every connect, sendto, sendmsg and socket call of the product and its children was seen"
        )
    else:
        missing.append(f"calls were not seen: {seen.trace or accounts.control}")
        missing.append("the embedded engine has a network of its own within, which was not counted")
    if kernel:
        shown.append("the kernel counted every attempt to leave a network that has nothing but loopback")
    else:
        missing.append(f"the kernel did not count: {seen.namespace or accounts.control}")
    if not began:
        missing.append("the product did not live to its end, so what it would have tried is not known")
    if named:
        missing.append("named addresses were tried: the kernel's count holds them too, and says nothing more")
    if seen.lost:
        missing.append(f"{seen.lost} attempts were more than is remembered")
    missing.append("sockets that the embedded engine's own sandbox refuses are refused before they are seen")
    missing.append("what programs you run beside it do, on loopback ports you name, is theirs to show")
    return shown, missing
