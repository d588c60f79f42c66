from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.receipts.checkpoint import open_checkpoint, parse_text, sign
from allod.receipts.merkle import EMPTY_ROOT
from allod.receipts.notes import Signer, VerifyKey, b64, open_note, parse_note, parse_skey, parse_vkey, unb64

NAME = "allod/0123456789abcdef"
SIGNER = Signer(NAME, bytes(range(32)))
KEY = SIGNER.key
TYPED = b"\x01" + KEY.public
ROOT = hashlib.sha256(b"root").digest()
CHECKPOINT = sign(SIGNER, 7, ROOT)


def test_the_published_example_of_the_go_note_package_verifies() -> None:
    # golang.org/x/mod/sumdb/note, package documentation: key and note of "PeterNeumann".
    key = parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
        "\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZIn"
        "NIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    assert open_note(note.encode(), key).startswith("If you think")


def test_key_id_is_the_hash_of_name_newline_type_and_key() -> None:
    expected = hashlib.sha256(NAME.encode() + b"\n\x01" + KEY.public).digest()[:4]
    assert KEY.key_id == expected
    assert parse_vkey(KEY.vkey()) == KEY
    assert parse_skey(SIGNER.skey()).key == KEY


def test_a_checkpoint_opens_by_its_key() -> None:
    checkpoint = open_checkpoint(CHECKPOINT, KEY)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (NAME, 7, ROOT)


def test_signing_the_same_tree_twice_gives_the_same_bytes() -> None:
    assert sign(SIGNER, 7, ROOT) == CHECKPOINT


@given(st.integers(0, len(CHECKPOINT) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_checkpoint_opens(at: int, flip: int) -> None:
    bad = bytearray(CHECKPOINT)
    bad[at] ^= flip
    with pytest.raises(Integrity):
        open_checkpoint(bytes(bad), KEY)


def test_unknown_signature_lines_are_ignored_of_whatever_length() -> None:
    mldsa = "\u2014 witness.example " + b64(b"abcd" + bytes(2420)) + "\n"
    same_name = "\u2014 " + NAME + " " + b64(b"abcd" + bytes(64)) + "\n"
    same_id = "\u2014 other.example " + b64(KEY.key_id + bytes(64)) + "\n"
    for line in (mldsa, same_name, same_id):
        assert open_checkpoint(CHECKPOINT + line.encode(), KEY).size == 7


def _with(line: str) -> bytes:
    head, _, _ = CHECKPOINT.decode().rpartition("\n\n")
    return (head + "\n\n" + line).encode()


SIGNATURE = CHECKPOINT.decode().splitlines()[-1]
ENCODED = SIGNATURE.split(" ")[2]


@pytest.mark.parametrize(
    "data",
    [
        CHECKPOINT + SIGNATURE.encode() + b"\n",  # the same line twice
        _with(SIGNATURE.replace(NAME, "allod/other") + "\n"),  # key id under another name
        _with(SIGNATURE),  # no last newline
        _with(SIGNATURE.replace("\u2014", "-") + "\n"),
        _with(SIGNATURE.replace(" ", "  ") + "\n"),
        _with(SIGNATURE + " \n"),
        _with(f"\u2014 {NAME} {ENCODED}AAAA\n"),  # over-long
        _with(f"\u2014 {NAME} {ENCODED[:-1]}\n"),  # padding missing
        _with(f"\u2014 {NAME} {ENCODED[:-2]}R=\n"),  # bits beyond the end
        _with(f"\u2014 {NAME} {b64(KEY.key_id)}\n"),  # no signature
        _with(f"\u2014 {NAME} {b64(KEY.key_id + bytes(64))}\n"),
        _with("\n"),
        _with(""),
        CHECKPOINT.replace(b"\n", b"\r\n"),
        CHECKPOINT + b"\x00",
        b"\xff" + CHECKPOINT,
        CHECKPOINT + b"\n",
        b"",
        b"\n\n",
        CHECKPOINT + b"".join(f"\u2014 w{i} {b64(bytes(68))}\n".encode() for i in range(16)),  # 17 lines
        CHECKPOINT + b"x" * (128 * 1024),
    ],
)
def test_a_broken_note_is_refused(data: bytes) -> None:
    with pytest.raises(Integrity):
        open_note(data, KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}\n07\n{b64(ROOT)}\n",
        f"{NAME}\n-1\n{b64(ROOT)}\n",
        f"{NAME}\n+7\n{b64(ROOT)}\n",
        f"{NAME}\n\u0667\n{b64(ROOT)}\n",
        f"{NAME}\n9223372036854775808\n{b64(ROOT)}\n",
        f"{NAME}\n7\n{b64(ROOT[:31])}\n",
        f"{NAME}\n7\n{b64(ROOT).rstrip('=')}\n",
        f"{NAME}\n7\n{base64.urlsafe_b64encode(bytes([251, 255]) * 16).decode()}\n",
        f"{NAME}\n0\n{b64(ROOT)}\n",  # size 0 with a root that is not the empty tree's
        f"{NAME}\n7\n{b64(ROOT)}\nextension\n",
        f"\n7\n{b64(ROOT)}\n",
        f"{NAME}\n7\n",
        "",
    ],
)
def test_a_broken_checkpoint_text_is_refused(text: str) -> None:
    with pytest.raises(Integrity):
        parse_text(text)
    if text:
        with pytest.raises(Integrity):
            open_checkpoint(SIGNER.sign(text), KEY)


def test_size_0_has_the_empty_root() -> None:
    assert open_checkpoint(sign(SIGNER, 0, EMPTY_ROOT), KEY).size == 0


def test_a_checkpoint_of_another_origin_under_our_key_is_refused() -> None:
    with pytest.raises(Integrity, match="checkpoint"):
        open_checkpoint(SIGNER.sign(f"allod/other\n7\n{b64(ROOT)}\n"), KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        f"{NAME}+00000000+{b64(TYPED)}",
        KEY.vkey().replace("+", " "),
        KEY.vkey() + "=",
        f"{NAME}+{KEY.key_id.hex().upper()}+{b64(TYPED)}",
        f"{NAME}+{KEY.key_id.hex()}+{b64(bytes([2]) + KEY.public)}",
        f"{NAME}+{KEY.key_id.hex()}+{b64(TYPED[:-1])}",
        f"a b+{VerifyKey(name='a b', public=KEY.public).key_id.hex()}+{b64(TYPED)}",
    ],
)
def test_a_broken_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_vkey(text)


@pytest.mark.parametrize(
    "change", [lambda s: s[:-2], lambda s: s.replace("PRIVATE", "PUBLIC"), lambda s: s + "A", str.lower]
)
def test_a_damaged_signing_key_is_refused_without_being_shown(change) -> None:
    text = change(SIGNER.skey())
    with pytest.raises(Integrity) as caught:
        parse_skey(text)
    assert text.split("+")[-1][:20] not in caught.value.explain()


def test_a_point_that_is_no_key_verifies_nothing() -> None:
    key = VerifyKey(name=NAME, public=b"\xff" * 32)
    with pytest.raises(Integrity):
        open_note(SIGNER.sign("x\n"), key)


@given(st.binary(max_size=80))
def test_base64_is_read_only_as_it_is_written(data: bytes) -> None:
    assert unb64(b64(data), "it") == data


@given(st.binary(max_size=300))
def test_any_bytes_either_parse_or_are_refused(data: bytes) -> None:
    for tried in (data, CHECKPOINT[: len(data)] + data):
        try:
            parse_note(tried)
        except Integrity:
            continue
