"""The command line with what people really paste into it."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import World, config, deployment

KEY = "ak_" + "S3cretKey" * 5


@pytest.mark.parametrize(
    ("key", "more", "code"),
    [
        (KEY + "\n", (), 5),
        (KEY + "\nx: y", (), 2),
        (KEY + "→", (), 2),
        (KEY, ("--purpose", "a\r\nb: c"), 2),
    ],
)
def test_a_key_that_is_no_header_is_told_and_not_shown(
    tmp_path: Path, key: str, more: tuple[str, ...], code: int
) -> None:
    world = World(tmp_path / "home", config([deployment("d", "answer")], server={"port": 1}))
    world.environ["ALLOD_KEY"] = key
    done = world.allod("ask", "hello", "--app", "press", *more)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert "S3cret" not in done.stderr + done.stdout


def test_I6_nothing_is_pulled_where_another_configuration_says_air_gapped(tmp_path: Path) -> None:
    world = World(tmp_path / "home", config([deployment("d", "answer")]))
    sealed = tmp_path / "sealed.toml"
    sealed.write_text(config([deployment("d", "answer")], tenant={"air_gapped": True}))
    done = world.allod(
        "models", "pull", "a/b", "c.gguf", "--endpoint", "http://127.0.0.1:1", "--config", str(sealed)
    )
    assert done.returncode == 4, done
    assert "air-gap" in done.stderr
