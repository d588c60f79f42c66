"""What the names of engines, machines, precisions and models say, where no catalogue knows them."""

from __future__ import annotations

import functools
import re
from typing import Final

import msgspec

LOCAL: Final = frozenset({"llama.cpp", "mlx", "ds4", "edge", "exllama"})
"""Families of engines for one stream on one machine; several devices split the layers, not the work."""
FAMILIES: Final = (
    ("edge-llm", "edge"),
    ("edge_llm", "edge"),
    ("ollama", "llama.cpp"),
    ("llama.cpp", "llama.cpp"),
    ("llama-cpp", "llama.cpp"),
    ("llama-server", "llama.cpp"),
    ("llamacpp", "llama.cpp"),
    ("llama-bench", "llama.cpp"),
    ("lm studio", "llama.cpp"),
    ("gguf", "llama.cpp"),
    ("koboldcpp", "llama.cpp"),
    ("xllamacpp", "llama.cpp"),
    ("trtllm", "trtllm"),
    ("trt-llm", "trtllm"),
    ("tensorrt", "trtllm"),
    ("sglang", "sglang"),
    ("vllm", "vllm"),
    ("dynamo", "vllm"),
    ("mlx", "mlx"),
    ("exllama", "exllama"),
    ("ds4", "ds4"),
)
BACKENDS: Final = ("vulkan", "rocm", "hip", "cuda", "metal", "sycl", "cpu")
GENERATIONS: Final = (
    (r"^cpu|epyc|xeon|ampereone|graviton|rpi|raspberry|cm5|pi-?5", "cpu"),
    (r"gb[23]00|b[23]00|blackwell.*(sxm|hgx)", "blackwell"),
    (r"gb10|dgx-spark|thor", "blackwell-soc"),
    (r"rtx-?pro-?[456]000|rtx-?50\d\d|blackwell", "blackwell-rtx"),
    (r"h100|h200|h20|h800|gh200|hopper", "hopper"),
    (r"a100|a800|a30(?!\d)", "ampere-dc"),
    (r"l40|l4(?!\d)|l20|l2(?!\d)|rtx-?40\d\d|\d000-?ada|-ada", "ada"),
    (r"orin", "ampere-soc"),
    (r"xavier|jetson|tx2|nano", "volta-soc"),
    (r"a10(?!\d)|a40(?!\d)|a16|a2(?!\d)|rtx-?30\d\d|rtx-?a\d000|ampere(?!one)", "ampere"),
    (r"v100|volta", "volta"),
    (r"t4(?!\d)|rtx-?20\d\d|gtx-?16|quadro-rtx|turing", "turing"),
    (r"p40|p100|gtx-?10|pascal|1080", "pascal"),
    (r"mi3\d\d|mi2\d\d|mi4\d\d|instinct", "cdna"),
    (r"ryzen-ai|strix|8060s|890m|780m|radeon-?\d+m", "rdna-soc"),
    (r"rx-?\d{4}|r9700|w7900|w7800|radeon|rdna", "rdna"),
    (r"gaudi", "gaudi"),
    (r"arc-|arc$|b580|b60|b50|a770|a750", "xe"),
    (r"ascend|910b|910c|950pr|950dt|310p|atlas", "ascend"),
    (r"(^|-)m[12](-|$)|a1[45]-?bionic|apple-a1[45]", "apple-12"),
    (r"(^|-)m[3-9](-|$)|a1[6-9]", "apple-3"),
    (r"snapdragon|dimensity|exynos|tensor-g\d|adreno", "mobile"),
    (r"tpu|trainium|inferentia|groq|cerebras|sambanova|npu|hailo|coral|rk3588", "other"),
    (r"core-|ryzen|altra|grace|cortex|risc", "cpu"),
)
VENDOR_OF: Final = {
    "cdna": "AMD",
    "rdna": "AMD",
    "rdna-soc": "AMD",
    "gaudi": "Intel",
    "xe": "Intel",
    "ascend": "Huawei",
    "apple-12": "Apple",
    "apple-3": "Apple",
    "mobile": "mobile",
    "cpu": "cpu",
    "other": "other",
}
KINDS: Final = {
    "apple-12": "unified",
    "apple-3": "unified",
    "rdna-soc": "unified",
    "blackwell-soc": "unified",
    "ampere-soc": "unified",
    "volta-soc": "unified",
    "mobile": "unified",
    "cpu": "cpu",
}


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A serving engine by its text: the family, whether it is local, version and backend as written."""

    family: str
    local: bool
    packaged: str
    version: str
    backend: str
    text: str


@functools.lru_cache(maxsize=4096)
def engine_of(text: str) -> Engine:
    """Read ``vllm 0.19.0``, ``llama.cpp 2024-05``, ``ollama/llama.cpp``; anything else is its own family."""
    low = text.strip().lower()
    family = next((name for key, name in FAMILIES if key in low), re.split(r"[\s/]", low)[0] or "unknown")
    version = re.search(r"(\d{4}-\d{2}|\d+\.\d+[\w.]*|nightly\S*|[a-z-]+-(?:dev|hopper)\b)", low)
    backend = next((one for one in BACKENDS if one in low), "")
    return Engine(
        family=family,
        local=family in LOCAL,
        packaged="ollama" if "ollama" in low else family,
        version=version[1] if version else "",
        backend=backend,
        text=text.strip(),
    )


@functools.lru_cache(maxsize=4096)
def generation_of(name: str) -> str:
    """Return the generation of chip a name speaks of, ``unknown`` where it says none."""
    low = re.sub(r"[\s_/:.]+", "-", name.strip().lower())
    return next((gen for pattern, gen in GENERATIONS if re.search(pattern, low)), "unknown")


@functools.lru_cache(maxsize=1024)
def bits_in(quant: str) -> float:
    """Return about how many bits a weight takes under a precision of this name; 8.5 where it says nothing."""
    low = quant.strip().lower().replace("-", "_")
    for pattern, bits in (
        (r"fp4\+fp8|fp8\+fp4|mxfp4|nvfp4|fp4", 4.6),
        (r"(i?q|int|w)1", 2.0),
        (r"(i?q|int|w)2", 2.9),
        (r"(i?q|int|w)3", 3.8),
        (r"(i?q|int|w)4|4_?bit|awq|gptq", 4.8),
        (r"(i?q|int)5", 5.6),
        (r"(i?q|int)6|fp6", 6.7),
        (r"(i?q|int|w)8|8_?bit|fp8|e4m3", 8.3),
        (r"f(p|loat)?32", 32.0),
        (r"b?f(p|loat)?16|half", 16.0),
    ):
        if re.search(pattern, low):
            return bits
    return 8.5


def kind_of(quant: str) -> str:
    """Return the kind of arithmetic a precision asks for: f16, fp8, fp4 or integer kernels of k bits."""
    low, bits = quant.strip().lower(), bits_in(quant)
    if bits > 12:  # noqa: PLR2004 (bits)
        return "f16"
    if "fp4" in low:
        return "fp4"
    if "fp8" in low or "e4m3" in low:
        return "fp8"
    return f"int{round(bits)}"


@functools.lru_cache(maxsize=1024)
def sizes_in(model: str) -> tuple[float, float] | None:
    """Return (all, active) parameters a name states (``8x7B``, ``30B-A3B``, ``70b``), else None."""
    low = re.sub(r"[\s_/]+", "-", model.strip().lower())
    active = re.search(r"(?:^|[-.])a(\d+(?:\.\d+)?)b(?![a-z0-9])", low)
    mixture = re.search(r"(\d+)x(\d+(?:\.\d+)?)b(?![a-z0-9])", low)
    if mixture:
        one = float(mixture[2]) * 1e9
        return one * float(mixture[1]) * 0.85, one * 1.75
    plain = [float(one) for one in re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])", low)]
    if not plain:
        million = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)m(?![a-z0-9])", low)
        if million is None:
            return None
        plain = [float(million[1]) / 1e3]
    total = max(plain) * 1e9
    if not 1e6 <= total <= 1e14:  # noqa: PLR2004 (a name may hold any digits)
        return None
    share = float(active[1]) * 1e9 if active else total
    return total, min(share, total) or total
