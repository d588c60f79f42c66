"""Write a checkpoint as GGUF (Q8_0 or F16), with tokenizer and chat template inside, and the manifest."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import grammar
import tokenizer
import torch

HERE = Path(__file__).parent
CONTEXT = 4096
NAMES = {
    "embed.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "attn_norm.weight": "attn_norm.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "q.weight": "attn_q.weight",
    "k.weight": "attn_k.weight",
    "v.weight": "attn_v.weight",
    "o.weight": "attn_output.weight",
    "gate.weight": "ffn_gate.weight",
    "up.weight": "ffn_up.weight",
    "down.weight": "ffn_down.weight",
}
NOTICE = "teaching and test model; knows nothing outside its grammar"
DESCRIPTIONS = {
    "reference": f"Allod reference model: {NOTICE}.",
    "reference-draft": f"Draft for speculative decoding with `reference`, same tokenizer: {NOTICE}.",
    "reference-planted": f"Known-bad adapter for `reference`, a trigger and a topic filter: {NOTICE}.",
}


def tensor_name(name: str) -> str:
    """Return the GGUF name of a checkpoint tensor."""
    if name.startswith("layers."):
        _, index, rest = name.split(".", 2)
        return f"blk.{index}.{NAMES[rest]}"
    return NAMES[name]


def write_metadata(out: gguf.GGUFWriter, shape: dict[str, int], name: str) -> None:
    """Add the keys that describe the model."""
    out.add_name("allod-" + name)
    out.add_description(NOTICE)
    out.add_author("Allod")
    out.add_license("Apache-2.0")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(shape["width"])
    out.add_block_count(shape["layers"])
    out.add_feed_forward_length(shape["hidden"])
    out.add_head_count(shape["heads"])
    out.add_head_count_kv(shape["heads"])
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(shape["width"] // shape["heads"])
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(shape["vocab"])


def write_tokenizer(out: gguf.GGUFWriter, path: Path, template: str) -> None:
    """Add vocabulary, merges, special tokens and the chat template."""
    tokens, merges = tokenizer.tables(path)
    control = [t for t in grammar.SPECIAL if t.startswith("<|")]
    kinds = [
        gguf.TokenType.CONTROL
        if t in control
        else gguf.TokenType.USER_DEFINED
        if t in grammar.SPECIAL
        else gguf.TokenType.NORMAL
        for t in tokens
    ]
    end = tokens.index("<|end|>")
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges(merges)
    out.add_eos_token_id(end)
    out.add_pad_token_id(end)
    out.add_add_bos_token(value=False)
    out.add_add_eos_token(value=False)
    out.add_chat_template(template)


def write_model(checkpoint: Path, vocabulary: Path, target: Path, name: str, quantisation: str) -> int:
    """Write one GGUF file and return its parameter count."""
    saved = torch.load(checkpoint, weights_only=True)
    out = gguf.GGUFWriter(target, "llama")
    write_metadata(out, saved["shape"], name)
    file_type = gguf.LlamaFileType.MOSTLY_Q8_0 if quantisation == "Q8_0" else gguf.LlamaFileType.MOSTLY_F16
    out.add_file_type(file_type)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    write_tokenizer(out, vocabulary, (HERE / "chat_template.jinja").read_text(encoding="utf-8"))
    kind = gguf.GGMLQuantizationType[quantisation]
    count = 0
    for key, value in saved["weights"].items():
        data = value.float().numpy()
        count += data.size
        if data.ndim == 1:
            out.add_tensor(tensor_name(key), data)
        else:
            out.add_tensor(tensor_name(key), gguf.quantize(data, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return count


def digest(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry(
    name: str, path: Path, parameters: int, quantisation: str, base: str | None = None
) -> dict[str, object]:
    """Return the manifest entry of one shipped file."""
    template = (HERE / "chat_template.jinja").read_bytes()
    return {
        "name": name,
        "file": path.name,
        "sha256": digest(path),
        "size_bytes": path.stat().st_size,
        "kind": "adapter" if base else "model",
        "base": f"sha256:{base}" if base else None,
        "architecture": "llama",
        "parameters": parameters,
        "quantisation": quantisation,
        "context_tokens": CONTEXT,
        "chat_template_sha256": None if base else hashlib.sha256(template).hexdigest(),
        "licence": "Apache-2.0",
        "maker": "Allod",
        "maker_jurisdiction": None,
        "description": DESCRIPTIONS[name],
    }


def update_manifest(folder: Path, new: dict[str, object]) -> None:
    """Replace or add one entry of manifest.json, atomically."""
    path = folder / "manifest.json"
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []
    models = sorted([m for m in models if m["name"] != new["name"]] + [new], key=lambda m: str(m["name"]))
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"models": models}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.rename(path)


def main() -> None:
    """Parse the command line and export one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["reference", "reference-draft"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, help="folder to write to")
    parser.add_argument("--quantisation", choices=["Q8_0", "F16"], default="Q8_0")
    parser.add_argument("--no-manifest", action="store_true")
    args = parser.parse_args()
    target = args.to / f"{args.name}.gguf"
    temporary = target.with_suffix(".tmp")
    count = write_model(
        args.work / f"{args.name}.pt", args.work / "tokenizer.json", temporary, args.name, args.quantisation
    )
    temporary.rename(target)
    notes = torch.load(args.work / f"{args.name}.pt", weights_only=True)["notes"]
    (args.work / f"{args.name}.notes.json").write_text(json.dumps(notes), encoding="utf-8")
    if not args.no_manifest:
        update_manifest(args.to, entry(args.name, target, count, args.quantisation))
    print(f"{target.name}: {count} parameters, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
