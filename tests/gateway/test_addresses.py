"""The connector's rule: what may be connected to under the air gap, by name and by address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.gateway.addresses import Addresses


def test_without_the_air_gap_everything_may_be_reached() -> None:
    assert Addresses(False).allow("198.51.100.7", 443)
    assert Addresses(False, ("10.0.0.1",)).allow("model.example", 443)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
def test_I6_loopback_is_always_allowed(host: str) -> None:
    assert Addresses(True).allow(host, 1)


@pytest.mark.parametrize(
    ("allowed", "host", "port", "may"),
    [
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3", "10.1.2.4", 80, False),
        ("10.1.2.3:443", "10.1.2.3", 443, True),
        ("10.1.2.3:443", "10.1.2.3", 444, False),
        ("10.1.0.0/16", "10.1.255.1", 9, True),
        ("10.1.0.0/16", "10.2.0.1", 9, False),
        ("10.1.0.0/16:80", "10.1.0.1", 80, True),
        ("10.1.0.0/16:80", "10.1.0.1", 81, False),
        ("model.ward", "model.ward", 1, True),
        ("model.ward", "MODEL.WARD", 1, True),
        ("model.ward:8000", "model.ward", 8000, True),
        ("model.ward:8000", "model.ward", 8001, False),
        ("model.ward", "evil.model.ward", 1, False),
        ("model.ward", "10.0.0.1", 1, False),
        ("2001:db8::1", "2001:db8::1", 5, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 444, False),
        ("[2001:db8::/32]:443", "2001:db8:1::9", 443, True),
        ("2001:db8::/32", "2001:db9::1", 1, False),
        ("0.0.0.0/0", "2001:db8::1", 1, False),
        ("::/0", "10.0.0.1", 1, False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", 1, False),
    ],
)
def test_I6_only_what_is_named_is_allowed(allowed: str, host: str, port: int, may: bool) -> None:
    assert Addresses(True, (allowed,)).allow(host, port) is may


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "10.0.0.1/33",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:70000",
        "host:port",
        "a/b",
        "[::1",
        "[x]:1",
        ":80",
    ],
)
def test_what_cannot_be_read_is_an_error_and_never_a_hole(entry: str) -> None:
    try:
        rule = Addresses(True, (entry,))
    except Invalid as error:
        assert error.param == "tenant.allowed_addresses"  # noqa: PT017
        return
    assert not rule.allow("10.0.0.1", 80)
    assert not rule.allow("198.51.100.7", 80)


@given(address=st.ip_addresses(), port=st.integers(1, 65535))
def test_I6_nothing_named_leaves_nothing_but_loopback(address: object, port: int) -> None:
    rule = Addresses(True)
    assert rule.allow(str(address), port) is address.is_loopback  # type: ignore[attr-defined]


@given(name=st.text(max_size=30), port=st.integers(-1, 70000))
def test_whatever_name_is_asked_for_the_answer_is_no(name: str, port: int) -> None:
    rule = Addresses(True, ("model.ward:80",))
    if name.lower() not in ("localhost", "model.ward"):
        from ipaddress import ip_address

        try:
            loopback = ip_address(name).is_loopback
        except ValueError:
            loopback = False
        assert rule.allow(name, port) is loopback
