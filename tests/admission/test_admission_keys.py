"""Keys: their form, their digest, and what a request may present."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.admission.keys import key_digest, new_key, presented_key, refuse_duplicates
from allod.domain.errors import Invalid

KEY = new_key(bytes(range(32)))
OTHER = new_key(bytes(32))


def refused(headers, kind) -> Invalid:
    with pytest.raises(Invalid) as caught:
        presented_key(headers)
    assert caught.value.kind == kind
    return caught.value


@given(st.binary(min_size=32, max_size=32))
def test_a_new_key_is_accepted_in_both_headers(random32) -> None:
    key = new_key(random32)
    assert len(key) == 46
    assert presented_key([(b"authorization", f"Bearer {key}".encode())]) == key
    assert presented_key([(b"X-Api-Key", key.encode())]) == key


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_needs_exactly_32_random_bytes(size) -> None:
    with pytest.raises(ValueError):
        new_key(bytes(size))


def test_the_digest_is_sha256_of_the_whole_key() -> None:
    assert key_digest(KEY) == hashlib.sha256(KEY.encode()).hexdigest()
    assert key_digest(KEY) != key_digest(OTHER)
    assert len(key_digest("\ud800")) == 64


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_the_scheme_is_case_insensitive(scheme) -> None:
    assert presented_key([(b"Authorization", scheme + b"  " + KEY.encode() + b" ")]) == KEY


def test_both_headers_may_come_if_they_agree() -> None:
    both = [(b"authorization", b"Bearer " + KEY.encode()), (b"x-api-key", KEY.encode())]
    assert presented_key(both) == KEY
    refused([both[0], (b"x-api-key", OTHER.encode())], "invalid")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"accept", b"*/*")],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode() + b"x")],
        [(b"authorization", b"Bearer " + KEY.encode() + b" " + OTHER.encode())],
        [(b"authorization", b"Bearer " + KEY.encode() + b"\n")],
        [(b"authorization", b"Bearer sk-" + KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode()[:-1])],
        [(b"authorization", b"Bearer " + KEY.encode()[:-1] + b"\xff")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"ak_")],
        [(b"x-api-key", b"A" * 100_000)],
    ],
)
def test_what_is_no_key_is_401_and_never_repeated(headers) -> None:
    if headers == [(b"authorization", b"Bearer " + KEY.encode() + b"\n")]:
        assert presented_key(headers) == KEY  # outer white space is no part of a field value (RFC 9110, 5.5)
        return
    error = refused(headers, "key")
    assert KEY[3:] not in error.explain()


@pytest.mark.parametrize("name", [b"Authorization", b"X-Api-Key", b"Host", b"Content-Length"])
def test_a_header_that_decides_may_not_come_twice(name) -> None:
    twice = [(name, b"1"), (name.lower(), b"1")]
    with pytest.raises(Invalid) as caught:
        refuse_duplicates(twice)
    assert caught.value.kind == "invalid"
    with pytest.raises(Invalid):
        presented_key([*twice, (b"x-other", b"")])


def test_other_headers_may_come_twice() -> None:
    refuse_duplicates([(b"accept", b"a"), (b"accept", b"b"), (b"host", b"h")])


def test_the_same_authorization_twice_is_refused_even_if_equal() -> None:
    one = (b"authorization", b"Bearer " + KEY.encode())
    refused([one, one], "invalid")
