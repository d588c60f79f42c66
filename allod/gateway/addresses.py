"""Where connections may go: anywhere, or in air-gap mode only loopback and the named addresses (I6)."""

from __future__ import annotations

import ipaddress
from typing import Final

from allod.domain.errors import Invalid

_LOOPBACK: Final = "localhost"


class Addresses:
    """The connector's rule, asked before each connection with name and resolved address alike.

    Args:
        air_gapped: whether the rule applies.
        allowed: ``host``, ``host:port``, ``network/prefix`` or ``[v6]:port``; without a port all are allowed.

    Raises:
        Invalid: an entry that cannot be read.

    """

    def __init__(self, air_gapped: bool, allowed: tuple[str, ...] = ()) -> None:
        self._air_gapped = air_gapped
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]] = []
        for entry in allowed:
            host, port = _split(entry)
            try:
                self._networks.append((ipaddress.ip_network(host), port))
            except ValueError:
                if not host or "/" in host:
                    raise Invalid(
                        f"tenant.allowed_addresses: {entry!r} is no address",
                        "expected host, host:port, network/prefix or [v6]:port",
                        "correct it",
                        param="tenant.allowed_addresses",
                    ) from None
                self._names.add((host.lower(), port))

    def allow(self, host: str, port: int) -> bool:
        """Tell whether a connection may be made; a name that is allowed allows only itself, not its address.

        Under the air gap a named host must therefore be listed with its address or network as well: what a
        name resolves to is decided by whoever answers the question.
        """
        if not self._air_gapped:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            name = host.lower()
            return name == _LOOPBACK or bool({(name, port), (name, None)} & self._names)
        return address.is_loopback or self.names(host, port)

    def names(self, host: str, port: int) -> bool:
        """Tell whether an address (not a name) is among those the configuration names."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(
            address.version == net.version and address in net and only in (None, port)
            for net, only in self._networks
        )

    def resolves(self, name: str) -> bool:
        """Tell whether a name may be looked up: no other is, whatever would be done with the answer."""
        known = name.lower()
        return not self._air_gapped or known == _LOOPBACK or any(known == named for named, _ in self._names)


def _split(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, _port(rest.removeprefix(":"), entry) if rest else None
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, _port(port, entry)
    return entry, None


def _port(text: str, entry: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 1 << 16:
        raise Invalid(
            f"tenant.allowed_addresses: {entry!r} has no valid port",
            "expected a number from 1 to 65535",
            "correct it",
            param="tenant.allowed_addresses",
        )
    return int(text)
