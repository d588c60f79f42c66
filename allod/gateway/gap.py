"""The air gap of one process of ours (I6): the connector's rule, and two walls behind it.

The connector (``addresses``, asked by ``engines.wire``) decides about every connection Allod makes, by name
and by address, before a name is looked up. Behind it stand, in a process that serves or runs a command, an
audit hook that refuses what Python code tries, and the kernel, which refuses kinds of sockets and, where it
can, ports. A wall that cannot be put up is told and logged; what each catches is in ``docs/air-gap.md``.
"""

from __future__ import annotations

import ipaddress
import socket
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from allod.domain.errors import Invalid, Refused
from allod.domain.fleet import EMBEDDED
from allod.gateway.addresses import Addresses
from allod.walls import hook, network

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from allod.gateway.compose import Setting
    from allod.walls.network import Left, Wall

AIRGAP: Final = "airgap"
LOCAL: Final = frozenset(
    {"bundle", "classify", "explain", "import", "init", "keys", "models", "policy", "vault"}
)
"""Commands that neither speak to a gateway nor serve: they get no internet sockets at all."""
OWN_WALLS: Final = frozenset({"up", "doctor"})
"""Commands that put up their own: the one when it knows the fleet, the other in what it starts."""
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared with, not bound)
_EVERYBODY: Final = "255.255.255.255"
_PORTS: Final = {"http": 80, "https": 443}
_MAX_CONFIG_BYTES: Final = 8 << 20


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """Somewhere the configuration lets us connect to."""

    host: str
    port: int


def endpoints(s: Setting, rule: Addresses) -> frozenset[Endpoint]:
    """Return what may be connected to: deployments that can be asked, and witnesses, by the connector's rule.

    A deployment that is not known to be on the premises is left out, unless the rule that excludes it is
    waived: no request reaches it.
    """
    tenant = s.fleet.tenant
    waived = any(one.rule == AIRGAP for one in tenant.relax)
    asked = [
        d.base_url
        for d in s.fleet.deployments.values()
        if d.engine not in EMBEDDED and d.base_url and (waived or _true(d.on_premises))
    ]
    asked += [witness.url for witness in s.config.log.witnesses]
    found = (_endpoint(url) for url in asked)
    return frozenset(one for one in found if one is not None and rule.allow(one.host, one.port))


def _true(fact: Any) -> bool:
    return getattr(fact, "value", fact) is True


def _endpoint(url: str) -> Endpoint | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return None if not parts.hostname or port is None else Endpoint(parts.hostname, port)


def needed(found: frozenset[Endpoint]) -> tuple[Left, tuple[int, ...]]:
    """Return the fewest kinds of sockets, and the TCP ports, with which these can be reached."""
    ports = tuple(sorted({one.port for one in found}))
    if any(not _literal(one.host) for one in found):
        return "names", ports
    return ("tcp" if found else "unix"), ports


def _literal(host: str) -> bool:
    """Tell whether a host is an address, or the name of loopback (RFC 6761, 6.3): nobody is asked then."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return True


def check_listening(host: str) -> None:
    """Refuse to listen under a name in air-gap mode: it would be looked up (raises Invalid)."""
    if not _literal(host):
        raise Invalid(
            f"in air-gap mode the gateway does not listen on a name: {host!r}",
            "a name server would be asked what it means",
            "write the address in [server] host or --host",
            param="server.host",
        )


def reachable(rule: Addresses, host: str, port: int) -> None:
    """Refuse a command's connection to a gateway that is not on this machine (raises Refused)."""
    if not rule.allow(host, port) and not own(host):
        raise Refused(
            f"in air-gap mode nothing connects to {host}:{port}",
            "it is neither loopback, nor an address of this machine, nor a named one",
            "name it in tenant.allowed_addresses, or ask on the machine the gateway runs on",
        )


def here(host: str) -> str:
    """Return the address under which this machine reaches a gateway that listens on ``host``."""
    return "127.0.0.1" if host in _ANY or host.lower() == "localhost" else host


def own(host: str) -> bool:
    """Tell whether an address is one of this machine: only such can be bound. A name is not looked up.

    Addresses of groups can be bound too and are nobody's own. (The broadcast address of a network of ours
    passes; the kernel connects no TCP socket to it.)
    """
    if not _literal(host) or host in _ANY or host == _EVERYBODY:
        return False
    if host.lower() != "localhost" and ipaddress.ip_address(host).is_multicast:
        return False
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def wall_off(s: Setting, rule: Addresses, listening: str) -> Wall:
    """Put up both walls around this process for good: hook and kernel, as tight as the configuration allows.

    To be called when the listening socket is bound, and before threads are started.
    """
    left, ports = needed(endpoints(s, rule))
    hook.put_up(hook.Hook(rule.allow, rule.resolves, listening={listening}))
    return network.close(left, ports)


def notices(wall: Wall, host: str) -> list[str]:
    """Return what to tell the person who starts an air-gapped gateway."""
    out = [f"air gap: {wall.told()}"]
    if host in _ANY or not _loopback(host):
        out.append(
            f"air gap: listening on {host} lets whoever reaches that network in; nothing goes out by it"
        )
    return out


def _loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_literal(host) and ipaddress.ip_address(host).is_loopback)


def before_command(config: Path, command: str) -> bool:
    """Put walls up around one command, where this configuration says that the tenant is air-gapped.

    The file is looked at only for that: what is wrong with it is for the command to say, and one that cannot
    be read puts up none. Returns whether there are walls now.
    """
    found = None if command in OWN_WALLS else _air_gapped(config)
    if found is None:
        return False
    names, host = found
    try:
        rule = Addresses(True, names)
    except Invalid:
        rule = Addresses(True)
    mine = {host} if own(host) else set()

    def allow(to: str, port: int) -> bool:
        return to in mine or rule.allow(to, port)

    hook.put_up(hook.Hook(allow, rule.resolves, listening=mine))
    if command in LOCAL:
        network.close("unix", ())
    else:
        network.close("tcp", None)
    return True


def _air_gapped(config: Path) -> tuple[tuple[str, ...], str] | None:
    """Return the named addresses and the server's host, or None when nothing says air-gapped."""
    try:
        with config.open("rb") as file:
            raw = file.read(_MAX_CONFIG_BYTES)
        if b"air_gapped" not in raw:
            return None
        tables = tomllib.loads(raw.decode(), parse_float=Decimal)
        tenant, server = tables.get("tenant", {}), tables.get("server", {})
        if tenant.get("air_gapped") is not True:
            return None
        names = tuple(one for one in tenant.get("allowed_addresses", ()) if isinstance(one, str))
        host = server.get("host", "")
    except (OSError, ValueError, ArithmeticError, RecursionError, AttributeError, TypeError):
        return None
    return names, host if isinstance(host, str) else ""
