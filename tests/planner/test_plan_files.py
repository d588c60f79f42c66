"""Headers of files: exact bytes, split files, what is no model, what is cut off."""

import json
import struct
from pathlib import Path

import pytest

from allod.domain.errors import Invalid
from allod.planner import fits
from allod.planner.architecture import from_gguf, from_safetensors
from allod.planner.catalogue import find_device, find_model
from allod.planner.files import held
from allod.vault import model as vault_model

SHIPPED = Path(vault_model.__file__).parent / "shipped"
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100, "tie_word_embeddings": False,
}  # fmt: skip


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    header, at = {}, 0
    for name, (kind, dims, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": dims, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(at))


def model_folder(folder: Path) -> dict[str, int]:
    """A small model in two files, as bf16; returns the bytes of every tensor."""
    h, i, v, kv = 64, 128, 100, 32
    dims = {"model.embed_tokens.weight": [v, h], "lm_head.weight": [v, h], "model.norm.weight": [h]}
    for n in range(2):
        at = f"model.layers.{n}"
        dims |= {
            f"{at}.self_attn.q_proj.weight": [h, h], f"{at}.self_attn.k_proj.weight": [kv, h],
            f"{at}.self_attn.v_proj.weight": [kv, h], f"{at}.self_attn.o_proj.weight": [h, h],
            f"{at}.mlp.gate_proj.weight": [i, h], f"{at}.mlp.up_proj.weight": [i, h],
            f"{at}.mlp.down_proj.weight": [h, i], f"{at}.input_layernorm.weight": [h],
            f"{at}.post_attention_layernorm.weight": [h],
        }  # fmt: skip
    sizes = {}
    for name, shape in dims.items():
        count = 1
        for one in shape:
            count *= one
        sizes[name] = 2 * count
    names = list(dims)
    for k, part in enumerate((names[:9], names[9:]), 1):
        file = folder / f"model-0000{k}-of-00002.safetensors"
        safetensors(file, {name: ("BF16", dims[name], sizes[name]) for name in part})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return sizes


@pytest.mark.parametrize("name", ["reference", "reference-draft"])
def test_the_header_of_a_gguf_is_the_files_real_tensor_bytes(name: str) -> None:
    file = SHIPPED / f"{name}.gguf"
    weights = held(file).weights(name)
    padding = 32 * len(held(file).tensors)
    data = file.stat().st_size
    assert weights.exact
    assert weights.total.low == weights.total.value == weights.total.high
    assert weights.total.value == sum(held(file).tensors.values())
    assert 0 < data - weights.total.value < 64 * 1024 + padding


def test_the_shape_in_a_gguf_header_counts_its_own_tensors() -> None:
    file = SHIPPED / "reference.gguf"
    arch = from_gguf(file)
    assert (arch.layer_count, arch.hidden, arch.vocab, arch.tied) == (6, 192, 1280, True)
    by_type = held(file).tensors
    params = sum(size * 32 / 34 if "norm" not in name else size / 4 for name, size in by_type.items())
    assert arch.params_total() == pytest.approx(params, rel=0.002)
    assert arch.kv_elements(1) == 6 * 2 * 6 * 32


def test_safetensors_are_counted_over_all_files(tmp_path: Path) -> None:
    sizes = model_folder(tmp_path)
    found = held(tmp_path)
    assert found.files == 2
    assert found.tensors == sizes
    arch = from_safetensors(tmp_path)
    assert arch.params_total() * 2 == sum(sizes.values())
    asked = fits.question(find_model("mine", tmp_path), file=tmp_path)
    assert asked.weights.total.value == sum(sizes.values())
    assert asked.engine == "vllm"
    assert asked.weights.embedding == sizes["model.embed_tokens.weight"]


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    model_folder(tmp_path)
    (tmp_path / "extra.safetensors").write_bytes((tmp_path / "model-00001-of-00002.safetensors").read_bytes())
    with pytest.raises(Invalid):
        held(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 23, 100, 5_000, 1_000_000])
def test_a_file_cut_off_is_invalid(tmp_path: Path, keep: int) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes((SHIPPED / "reference.gguf").read_bytes()[:keep])
    with pytest.raises(Invalid):
        held(short)
    with pytest.raises(Invalid):
        from_gguf(short)
    model_folder(tmp_path)
    whole = tmp_path / "model-00001-of-00002.safetensors"
    whole.write_bytes(whole.read_bytes()[: min(keep, 2000)])
    with pytest.raises(Invalid):
        held(tmp_path)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.gguf", tmp_path, tmp_path / "model-00001-of-00003.gguf"):
        with pytest.raises(Invalid):
            held(path)
    with pytest.raises(Invalid) as adapter:
        from_gguf(SHIPPED / "reference-planted.gguf")
    assert "--adapter" in adapter.value.remedy
    for text in ("", "{", "[1]", "3", "{" * 10_000, '{"hidden_size": 1e400}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(Invalid):
            from_safetensors(tmp_path)


def test_adapters_count(tmp_path: Path) -> None:
    card = find_model("reference", SHIPPED / "reference.gguf")
    plain = fits.question(card, file=SHIPPED / "reference.gguf")
    with_one = fits.question(
        card, file=SHIPPED / "reference.gguf", adapters=[str(SHIPPED / "reference-planted.gguf")]
    )
    assert (
        with_one.load.adapters_bytes
        == sum(held(SHIPPED / "reference-planted.gguf").tensors.values())
        == 350_208
    )
    more = fits.answer(with_one, find_device("cpu"), 1, memory_gib=4).verdict.need.value
    less = fits.answer(plain, find_device("cpu"), 1, memory_gib=4).verdict.need.value
    assert more - less == 350_208
    ranked = fits.question(card, file=SHIPPED / "reference.gguf", adapters=["rank:8"])
    assert ranked.load.adapters_bytes == pytest.approx(350_208, rel=0.01)
    for bad in ("rank:0", "rank:99999", str(tmp_path / "none.gguf"), "rank:-1"):
        with pytest.raises(Invalid):
            fits.question(card, adapters=[bad])
