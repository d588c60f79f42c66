# ruff: noqa: E501 (one case a line)
from __future__ import annotations

import hashlib
import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gguf_writer as w
import pytest

from allod.domain.errors import Integrity, Invalid, Unavailable
from allod.vault.hub import Pin
from allod.vault.pull import pull
from allod.vault.vault import Vault

INSTALLED = importlib.util.find_spec("huggingface_hub") is not None
needs_hub = pytest.mark.skipif(not INSTALLED, reason="huggingface-hub is not installed (extra allod[hub])")
COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for a model hub on loopback: the ``resolve`` protocol for one repository."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    lies: ClassVar[dict[str, str]] = {}
    seen: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.seen.append((self.command, self.path, dict(self.headers)))
        parts = self.path.lstrip("/").split("/", 4)
        if len(parts) != 5 or parts[:3] != ["acme", "tiny", "resolve"] or parts[4] not in self.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        raw = self.files[parts[4]]
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.lies.get(parts[4]) or hashlib.sha256(raw).hexdigest()}"')
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if body:
            self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    Hub.files = {
        "tiny.gguf": w.tiny(tmp_path / "src.gguf").read_bytes(),
        "deep/other.gguf": w.tiny(tmp_path / "src2.gguf", seed=4).read_bytes(),
        "bad.gguf": b"GGUF" + b"\xff" * 200,
    }
    Hub.lies, Hub.seen = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", shipped=tmp_path / "none")


def files(vault: Vault) -> list[str]:
    return (
        sorted(path.name for path in vault.root.rglob("*") if path.is_file()) if vault.root.exists() else []
    )


@needs_hub
def test_a_pulled_file_is_pinned_to_its_commit_and_digest(hub: str, vault: Vault, tmp_path: Path) -> None:
    shown: list[Pin] = []
    entry = pull(
        vault, "acme/tiny", "tiny.gguf", endpoint=hub, name="tiny", maker="Acme", pinned=shown.append
    )
    digest = "sha256:" + hashlib.sha256(Hub.files["tiny.gguf"]).hexdigest()
    assert shown[0].revision == COMMIT
    assert shown[0].digest == digest
    assert entry.digest == digest
    source = entry.manifest.source
    assert source is not None
    assert (source.endpoint, source.repo, source.revision, source.file, source.digest) == (
        hub, "acme/tiny", COMMIT, "tiny.gguf", digest,
    )  # fmt: skip
    assert vault.resolve("tiny").template == w.TEMPLATE
    assert [name for name in files(vault) if "." not in name] == [digest.removeprefix("sha256:")]
    assert not list(vault.root.glob(".pull-*"))
    downloads = [path for command, path, _ in Hub.seen if command == "GET"]
    assert downloads == [f"/acme/tiny/resolve/{COMMIT}/tiny.gguf"]
    assert not any("authorization" in {key.lower() for key in headers} for _, _, headers in Hub.seen)


@needs_hub
def test_a_file_in_a_folder_and_a_token(hub: str, vault: Vault) -> None:
    entry = pull(vault, "acme/tiny", "deep/other.gguf", endpoint=hub, revision="v1", token="hf_secret")
    assert entry.manifest.name == "other"
    assert any(
        headers.get("authorization") == "Bearer hf_secret"
        or headers.get("Authorization") == "Bearer hf_secret"
        for _, _, headers in Hub.seen
    )


@needs_hub
def test_another_file_than_the_pinned_one_is_not_kept(hub: str, vault: Vault) -> None:
    with pytest.raises(Integrity):
        pull(vault, "acme/tiny", "tiny.gguf", endpoint=hub, digest="sha256:" + "0" * 64)
    assert [command for command, _, _ in Hub.seen] == ["HEAD"]
    Hub.lies = {"tiny.gguf": "a" * 64}
    with pytest.raises((Integrity, Unavailable)):
        pull(vault, "acme/tiny", "tiny.gguf", endpoint=hub)
    assert files(vault) == []


@needs_hub
def test_what_is_pulled_passes_the_same_checks(hub: str, vault: Vault) -> None:
    with pytest.raises(Invalid):
        pull(vault, "acme/tiny", "bad.gguf", endpoint=hub)
    assert files(vault) == []
    assert list(vault.root.iterdir()) == []


@needs_hub
def test_an_absent_file_and_an_absent_hub(hub: str, vault: Vault) -> None:
    with pytest.raises(Unavailable):
        pull(vault, "acme/tiny", "absent.gguf", endpoint=hub)
    with pytest.raises(Unavailable):
        pull(vault, "acme/tiny", "tiny.gguf", endpoint="http://127.0.0.1:9")
    assert files(vault) == []


@pytest.mark.parametrize(
    ("repo", "file", "revision"),
    [
        ("tiny", "a.gguf", "main"), ("../x/y", "a.gguf", "main"), ("a/b/c", "a.gguf", "main"), ("a/b", "/a.gguf", "main"),
        ("a/b", "../a.gguf", "main"), ("a/b", "a.safetensors", "main"), ("a/b", "a.gguf", "../x"), ("a/b", "a.gguf", "x y"),
        ("a/b", "a.gguf", ""), ("a/b?x=1", "a.gguf", "main"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused_before_the_hub_is_asked(
    vault: Vault, repo: str, file: str, revision: str
) -> None:
    with pytest.raises(Invalid):
        pull(vault, repo, file, revision=revision, endpoint="http://127.0.0.1:9")


@pytest.mark.skipif(INSTALLED, reason="huggingface-hub is installed: its absence cannot be seen")
def test_the_error_without_the_extra_names_the_install_line(vault: Vault) -> None:
    with pytest.raises(Invalid) as caught:
        pull(vault, "acme/tiny", "tiny.gguf", endpoint="http://127.0.0.1:9")
    assert "pip install 'allod[hub]'" in caught.value.explain()
