"""What a LiteLLM model string such as ``azure/gpt-4o`` means here: engine, address, variable of the key.

Addresses and variables are those LiteLLM documents for its providers (docs.litellm.ai, read in November
2026). A provider that speaks a protocol no driver of ours speaks is not in the table, and what names it is
reported, not guessed.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One provider.

    Attributes:
        engine: the driver.
        base_url: where it is unless the file says otherwise; None: the file must say.
        key_env: the variable its key is in by default; None: none is sent.
        suffix: what LiteLLM's address lacks of the one the driver wants.
        book: the provider's name in the price book.

    """

    engine: str
    base_url: str | None = None
    key_env: str | None = None
    suffix: str = ""
    book: str | None = None


def _hosted(base_url: str, key_env: str, book: str | None = None) -> Provider:
    return Provider(engine="compatible", base_url=base_url, key_env=key_env, book=book)


_OLLAMA: Final = Provider(engine="ollama", base_url="http://localhost:11434", suffix="/v1")
PROVIDERS: Final = {
    "openai": Provider(
        engine="openai", base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", book="openai"
    ),
    "azure": Provider(engine="azure", key_env="AZURE_API_KEY", book="azure"),
    "anthropic": Provider(
        engine="anthropic",
        base_url="https://api.anthropic.com",
        key_env="ANTHROPIC_API_KEY",
        book="anthropic",
    ),
    "gemini": Provider(
        engine="gemini",
        base_url="https://generativelanguage.googleapis.com",
        key_env="GEMINI_API_KEY",
        book="google",
    ),
    "mistral": Provider(
        engine="mistral", base_url="https://api.mistral.ai/v1", key_env="MISTRAL_API_KEY", book="mistral"
    ),
    "deepseek": Provider(
        engine="deepseek", base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY", book="deepseek"
    ),
    "groq": _hosted("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq"),
    "together_ai": _hosted("https://api.together.xyz/v1", "TOGETHERAI_API_KEY", "together"),
    "fireworks_ai": _hosted("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY", "fireworks"),
    "openrouter": _hosted("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter"),
    "perplexity": _hosted("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY", "perplexity"),
    "xai": _hosted("https://api.x.ai/v1", "XAI_API_KEY", "x-ai"),
    "nvidia_nim": _hosted("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "cerebras": _hosted("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "cerebras"),
    "sambanova": _hosted("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "deepinfra": _hosted("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "hosted_vllm": Provider(engine="vllm"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "lm_studio": Provider(engine="compatible", base_url="http://localhost:1234/v1"),
    "llamafile": Provider(engine="compatible", base_url="http://127.0.0.1:8080/v1"),
    "xinference": Provider(engine="compatible"),
    "openai_like": Provider(engine="compatible"),
    "custom_openai": Provider(engine="compatible"),
    "litellm_proxy": Provider(engine="compatible"),
}
_BARE: Final = (
    ("openai", re.compile(r"(gpt-|chatgpt-|o[0-9]|text-embedding-|ft:gpt-).*")),
    ("anthropic", re.compile(r"claude.*")),
)
"""Model names LiteLLM knows without a provider before them, as far as their names tell."""


def provider_of(model: str, named: str | None) -> tuple[str, str]:
    """Return (provider, the provider's own name of the model); provider "" where the file does not say.

    ``named`` is ``custom_llm_provider``, which comes before what the model string begins with.
    """
    first, slash, rest = model.partition("/")
    if named:
        return named, rest if slash and first == named else model
    if slash:
        return first, rest
    return next((name for name, form in _BARE if form.fullmatch(model)), ""), model
