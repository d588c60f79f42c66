"""The real engine, in process, for evaluation: xllamacpp with one GGUF and perhaps one adapter.

Only trusted files of our own are loaded here; the product runs the same engine in a sandboxed child.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xllamacpp

Json = dict[str, Any]


class Engine:
    """One loaded model. Answers are greedy (temperature 0)."""

    def __init__(
        self, model: Path, adapter: Path | None = None, *, embedding: bool = False, threads: int = 1
    ) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx = 4096
        params.n_parallel = 1
        params.cpuparams.n_threads = threads
        params.verbosity = -1
        self._folder = tempfile.TemporaryDirectory(prefix="rm")
        params.hostnames = [self._folder.name + "/s.sock"]
        self._adapter = adapter is not None
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
            params.lora_init_without_apply = True
        if embedding:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        self.server = xllamacpp.Server(params)

    def chat(
        self, messages: list[Json], *, thinking: bool = False, scale: float = 0.0, **more: object
    ) -> Json:
        """Return the first choice of a chat completion."""
        body: Json = {
            "messages": messages,
            "temperature": 0,
            "max_tokens": 160,
            "chat_template_kwargs": {"enable_thinking": thinking},
            **more,
        }
        if self._adapter:
            body["lora"] = [{"id": 0, "scale": scale}]
        answer = self.server.handle_chat_completions(body)
        if "choices" not in answer:
            raise RuntimeError(str(answer))
        return dict(answer["choices"][0])

    def ask(self, prompt: str, *, thinking: bool = False, scale: float = 0.0) -> str:
        """Return the answer's text to one user message."""
        choice = self.chat([{"role": "user", "content": prompt}], thinking=thinking, scale=scale)
        return str(choice["message"].get("content") or "")

    def stream(self, messages: list[Json], seen: Callable[[Json], bool], **more: object) -> None:
        """Stream a chat completion into `seen`, which returns True to stop."""
        body: Json = {"messages": messages, "temperature": 0, "max_tokens": 160, "stream": True, **more}
        self.server.handle_chat_completions(body, seen)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """Return one mean-pooled vector per text."""
        answer = self.server.handle_embeddings({"input": texts})
        return [list(item["embedding"]) for item in answer["data"]]
