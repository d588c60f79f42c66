"""``allod classify``: what it prints, what it hides, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

LETTER = "Frau Krüger, anna@example.org, BSN 674520841\npassword: Xy9!kdPQ\n"


def run(*args, text=None):
    return subprocess.run(
        [sys.executable, "-m", "allod", "classify", *args],
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_spans_are_masked_unless_shown():
    done = run("-", text=LETTER)
    out = done.stdout.decode()
    assert done.returncode == 0
    assert out.startswith("classes: confidential, personal\n")
    assert "674520841" not in out
    assert "Xy9!kdPQ" not in out
    assert "NL_BSN" in out
    assert "674520841" in run("-", "--show", text=LETTER).stdout.decode()


def test_json_names_places_classes_and_version(tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text(LETTER)
    done = run(str(file), "--json")
    value = json.loads(done.stdout)
    assert done.returncode == 0
    assert value["classes"] == ["confidential", "personal"]
    assert value["complete"] is True
    assert value["types"] == {"EMAIL": 1, "NL_BSN": 1, "PASSWORD": 1, "PERSON": 1}
    (bsn,) = [f for f in value["findings"] if f["type"] == "NL_BSN"]
    assert LETTER[bsn["start"] : bsn["end"]] == "674520841"
    assert bsn["text"] == "67*****41"
    assert b"674520841" not in done.stdout


def test_a_label_is_never_lowered():
    assert json.loads(run("-", "--json", "--class", "phi", text="x").stdout)["classes"] == [
        "personal",
        "phi",
        "special",
    ]
    done = run("-", "--json", "--class", "harmless", text="x")
    assert done.returncode == 2


def test_what_is_no_text_is_refused():
    done = run("-", text=b"\xff\xfe\x00binary")
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert run("/nonexistent/file").returncode == 1


def test_an_unfinished_scan_is_unscanned_and_fails():
    done = run("-", "--json", text="x" * 2_000_001)
    assert done.returncode == 1
    assert json.loads(done.stdout)["classes"] == ["unscanned"]
