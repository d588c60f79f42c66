"""Error answers of operators, and that nothing of their words is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.engines.wire import fault_from_response


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "wait"),
    [
        (429, [(b"Retry-After", b"7")], b"", "rate", 7000),
        (429, [(b"retry-after", b"0.5")], b"", "rate", 500),
        (429, [(b"retry-after-ms", b"25"), (b"retry-after", b"7")], b"", "rate", 25),
        (
            503,
            [(b"retry-after", b"Wed, 21 Oct 2026 07:28:10 GMT"), (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")],
            b"",
            "overloaded",
            10_000,
        ),
        (503, [(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")], b"", "overloaded", 0),
        (429, [(b"retry-after", b"99999999999")], b"", "rate", 86_400_000),
        (429, [(b"retry-after", b"soon")], b"", "rate", None),
        (429, [(b"retry-after", b"-5")], b"", "rate", None),
        (400, [], b'{"error":{"code":"context_length_exceeded"}}', "too_long", None),
        (400, [], b'{"error":{"type":"exceed_context_size_error","n_ctx":512}}', "too_long", None),
        (
            400,
            [],
            b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens."}',
            "too_long",
            None,
        ),
        (400, [], b'{"error":"prompt is too long: 300 tokens"}', "too_long", None),
        (413, [], b"<html>", "too_long", None),
        (400, [], b'{"error":{"message":"bad","type":"invalid_request_error"}}', "request", None),
        (404, [], b"", "request", None),
        (402, [], b"", "auth", None),
        (504, [], b"", "timeout", None),
        (599, [], b"[" * 100_000, "server", None),
    ],
)
def test_error_answers_are_told_apart(status, headers, body, kind, wait):
    fault = fault_from_response(status, headers, body)
    assert (fault.kind, fault.retry_after_ms, fault.status) == (kind, wait, status)


@given(st.integers(300, 599), st.binary(max_size=200), st.binary(max_size=40))
def test_no_word_of_an_operators_message_is_kept(status, body, value):
    secret = b"patient-name"
    wrapped = b'{"error":{"message":"patient-name","code":"patient name!","type":"x y"}}'
    fault = fault_from_response(status, [(b"retry-after", value)], wrapped if len(body) % 2 else body)
    assert secret.decode() not in fault.detail
    assert "\n" not in fault.detail
    assert len(fault.detail) < 120
