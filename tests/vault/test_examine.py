from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import gguf_writer as w
import pytest

from allod.domain.errors import Invalid
from allod.vault import examine as module
from allod.vault.examine import Examiner, Request, examine

# nested as deep as the linter allows, over what the conversations bring: slow by the product
SLOW = (
    "{% for a in messages %}"
    + "{% for b in range(9999) %}{% if b > 1 %}{% endif %}{% endfor %}" * 60
    + "{% endfor %}"
)


def look(examiner: Callable[..., module.Report], path: Path) -> module.Report:
    fd = os.open(path, os.O_RDONLY)
    try:
        return examiner(fd, path.name)
    finally:
        os.close(fd)


def test_one_child_looks_at_many_files_and_says_the_same_each_time(tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "a.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with Examiner() as examiner:
        first = look(examiner, file)
        assert first.facts is not None
        assert first.facts.architecture == "llama"
        assert look(examiner, tmp_path / "config.json").declared == {"model_type": "llama"}
        assert look(examiner, file) == first
        fd = os.open(file, os.O_RDONLY)
        assert examine(fd, Request(name="a.gguf")) == first
        os.close(fd)


def test_a_refusal_is_carried_over_with_its_reason_and_the_child_lives_on(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    (tmp_path / "code.py").write_text("import os")
    with Examiner() as examiner:
        with pytest.raises(Invalid) as caught:
            look(examiner, tmp_path / "bad.gguf")
        assert "version" in caught.value.why
        with pytest.raises(Invalid) as caught:
            look(examiner, tmp_path / "code.py")
        assert ".py" in caught.value.why
        assert look(examiner, w.tiny(tmp_path / "good.gguf")).format == "gguf"


def test_a_file_that_takes_too_long_is_refused_and_the_child_ended(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(SLOW)
    began = time.monotonic()
    with Examiner(wall_s=1.5) as examiner:
        with pytest.raises(Invalid) as caught:
            look(examiner, tmp_path / "chat_template.jinja")
        assert "1.5 s" in caught.value.why
        assert time.monotonic() - began < 10
        examiner._wall_s = 60.0
        assert look(examiner, w.tiny(tmp_path / "next.gguf")).format == "gguf"


def test_a_file_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"[" + b'{"a": 1},' * 3_000_000 + b"1]")
    with Examiner(memory_bytes=400 << 20) as examiner, pytest.raises(Invalid):
        look(examiner, path)


def test_a_child_that_dies_refuses_the_file(tmp_path: Path) -> None:
    file = w.tiny(tmp_path / "a.gguf")
    with Examiner() as examiner:
        look(examiner, file)
        assert examiner._child is not None
        examiner._child.kill()
        with pytest.raises(Invalid, match="could not be examined"):
            look(examiner, file)


def test_the_child_has_its_limits(tmp_path: Path) -> None:
    with Examiner(memory_bytes=1 << 30) as examiner:
        look(examiner, w.tiny(tmp_path / "a.gguf"))
        assert examiner._child is not None
        pid = examiner._child.pid
        kinds = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)
        limits = tuple(resource.prlimit(pid, kind)[0] for kind in kinds)
        status = Path(f"/proc/{pid}/status").read_text()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert limits == (1 << 30, 0, 0, module._OPEN_FILES)
    assert "NoNewPrivs:\t1" in status
    assert environment == b"LANG=C.UTF-8\0"
