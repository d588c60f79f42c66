"""``allod policy new``: a skeleton that loads, proves itself, pretends nothing, and overwrites nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain import jurisdiction
from allod.domain.errors import AllodError, Invalid
from allod.gateway.cli import policy_new
from allod.gateway.packs import files_of, find
from allod.policy import Pack, load_pack, run_cases, run_lint
from allod.policy.countries import NAMES
from allod.policy.skeleton import country_code, skeleton, skeleton_id

DAY = date(2026, 11, 25)
FILES = {
    "pack.toml", "policies.cedar", "theorems.toml", "obligations.toml", "facts/lists.toml",
    "facts/names.toml", "facts/weights.toml", "cases/skeleton.toml",
}  # fmt: skip
codes = st.sampled_from(sorted(jurisdiction.COUNTRIES))


def loaded(files: dict[str, bytes], base: Pack) -> Pack:
    return load_pack(files, base.schema)


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the real command line, for its exit codes."""
    environ = {**os.environ, "ALLOD_HOME": str(cwd / "home")}
    return subprocess.run(
        [sys.executable, "-m", "allod", "policy", "new", *args],
        cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(codes, st.dates(date(2026, 1, 1), date(2035, 12, 31)))
def test_the_skeleton_of_any_country_loads_and_proves_itself(code: str, day: date) -> None:
    base = find().load("base")
    files = skeleton(code, day)
    assert set(files) == FILES
    pack = loaded(files, base)
    assert run_lint(pack) == ()
    results = run_cases(pack, base)
    assert [f"{one.name}: {one.detail}" for one in results if not one.ok] == []
    assert (pack.id, pack.manifest.jurisdiction) == (skeleton_id(code), code)
    assert {case.day for case in pack.cases} == {day}
    assert not any(b"{{" in content for content in files.values())


def test_every_country_has_a_name_and_a_skeleton_that_can_be_read(base: Pack) -> None:
    assert set(NAMES) == jurisdiction.COUNTRIES
    assert len(set(NAMES.values())) == len(NAMES)
    for code in sorted(jurisdiction.COUNTRIES)[::10]:
        assert loaded(skeleton(code, DAY), base).manifest.title.startswith(NAMES[code])


def test_it_is_the_same_for_the_same_country_and_day() -> None:
    assert skeleton("KE", DAY) == skeleton("KE", DAY)
    assert skeleton("KE", DAY) != skeleton("KE", date(2026, 11, 26))


def test_it_pretends_nothing(base: Pack) -> None:
    pack = loaded(skeleton("KE", DAY), base)
    assert pack.manifest.status == "skeleton"
    assert pack.reviewed is False
    assert all(rule.unverified for rule in pack.rules)
    assert all(source.read == "none" and source.digest == "" for source in pack.manifest.source)
    assert {rule.law for rule in pack.rules} <= {"not opened", ""}
    questions = [duty for duty in pack.obligations if duty.article.startswith("question ")]
    assert len(questions) == len(pack.obligations) >= 15
    assert all(duty.note.count("?") >= 1 for duty in questions)
    written = b" ".join(skeleton("KE", DAY).values()).decode()
    assert not re.search(r"\b(TODO|FIXME|XXX|lorem)\b", written)


def test_the_weights_are_local_whole_and_neutral(base: Pack) -> None:
    weighting = loaded(skeleton("KE", DAY), base).weighting
    assert weighting is not None
    assert sum(weighting.percent) == 100
    assert max(weighting.percent) - min(weighting.percent) == 1
    assert "nobody's policy" in weighting.source


def test_it_denies_every_other_country_until_a_row_lets_one_in(base: Pack) -> None:
    files = skeleton("KE", DAY)
    found = {one.id: one for one in loaded(files, base).lists}
    assert [row.place for row in found["ke-law.destinations"].row] == ["KE"]
    assert found["ke-law.adequate"].row == ()
    row = '\n[[list.row]]\nplace = "US"\nsince = 2026-01-01\nsource = "a decision"\n'
    marker = 'lets personal data go without more"\n'
    filled = files["facts/lists.toml"].decode().replace(marker, marker + row)
    pack = loaded({**files, "facts/lists.toml": filled.encode()}, base)
    failed = [one.name for one in run_cases(pack, base) if not one.ok]
    assert failed == ["elsewhere: the list is empty", "stored elsewhere"]


def test_every_theorem_of_a_skeleton_is_proved(base: Pack) -> None:
    pytest.importorskip("z3", reason="allod[prove] is not installed: theorems are not proved here")
    from allod.policy.proof.law import law_of
    from allod.policy.proof.prove import Prover
    from allod.policy.proof.statements import of_packs

    pack = loaded(skeleton("KE", DAY), base)
    needed = set()
    for statement in of_packs([pack]):
        proof = Prover(law_of((base, pack), DAY), [statement]).prove(statement)
        assert (proof.status, proof.reason) == ("proved", ""), statement.id
        needed |= set(statement.fails_without)
    assert needed == {rule.id for rule in pack.rules}


@pytest.mark.parametrize(
    ("word", "code"), [("NG", "NG"), ("ng", "NG"), (" ke ", "KE"), ("Kenya", "KE"), ("CÔTE D'IVOIRE", "CI")]
)
def test_a_country_is_a_code_or_its_name(word: str, code: str) -> None:
    assert country_code(word) == code


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("Indonesa", "ID (Indonesia)"), ("UK", "GB (United Kingdom)"), ("KX", "K"), ("", "?"), ("ÑÑ", "?"),
        ("\x00" * 500, "?"), ("../../etc", "?"),
    ],
)  # fmt: skip
def test_a_word_that_is_no_country_names_the_nearest(word: str, nearest: str) -> None:
    with pytest.raises(Invalid) as told:
        country_code(word)
    assert "did you mean" in told.value.remedy
    assert nearest in told.value.remedy
    assert len(told.value.explain()) < 1000


def test_a_bloc_is_no_country() -> None:
    with pytest.raises(Invalid, match="EU is a bloc") as told:
        country_code("eu")
    assert " FR " in told.value.remedy


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_word_is_a_country_or_an_error_that_explains_itself(word: str) -> None:
    try:
        found = country_code(word)
    except Invalid as error:
        found = error.remedy
    assert found in jurisdiction.COUNTRIES or found.startswith(("did you mean ", "say one of "))


def test_the_command_writes_what_the_generator_makes(tmp_path: Path, base: Pack) -> None:
    done = command("Kenya", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "ke_law"
    assert set(files_of(folder)) == FILES
    pack = loaded(files_of(folder), base)
    assert run_cases(pack, base)
    assert files_of(folder) == skeleton("KE", pack.cases[0].day)
    assert "17 questions wait" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["ke_law"]
    assert (folder / "pack.toml").stat().st_mode & 0o777 == 0o644
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_command_says_in_json_what_it_did(tmp_path: Path) -> None:
    done = command("NG", "--out", "mine", "--json", cwd=tmp_path)
    told = msgspec.json.decode(done.stdout)
    assert told["id"] == "ng-law"
    assert told["shipped_for_country"] == ["ng-ndpa"]
    assert told["questions"] == 17
    assert sorted(told["files"]) == sorted(FILES)


def test_an_unknown_country_is_a_usage_error_and_writes_nothing(tmp_path: Path) -> None:
    done = command("Kenia", cwd=tmp_path)
    assert done.returncode == 2
    assert "KE (Kenya)" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "empty", "file", "link", "loose link"])
def test_nothing_that_is_there_is_overwritten(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "ke_law", tmp_path / "other"
    if kind in {"folder", "empty"}:
        target.mkdir()
    if kind == "folder":
        (target / "pack.toml").write_text("mine")
    if kind == "file":
        target.write_text("mine")
    if kind == "link":
        other.mkdir()
    if "link" in kind:
        target.symlink_to(other)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(policy_new.command, ["KE", "--out", str(target)])
    assert isinstance(result.exception, Invalid)
    assert "is there already" in result.exception.what
    assert sorted(tmp_path.rglob("*")) == before
    if kind == "folder":
        assert (target / "pack.toml").read_text() == "mine"


def test_a_folder_above_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(policy_new.command, ["KE", "--out", str(tmp_path / "no" / "ke")])
    assert isinstance(result.exception, Invalid)
    assert "there is no folder" in result.exception.what


def test_two_at_once_make_one(tmp_path: Path) -> None:
    target = tmp_path / "ke_law"
    files = skeleton("KE", DAY)

    def write(_: int) -> bool:
        try:
            policy_new._write(target, files)
        except AllodError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1
    assert files_of(target) == files
    assert [entry.name for entry in tmp_path.iterdir()] == ["ke_law"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = 3
    real = Path.write_bytes

    def write_bytes(self: Path, data: Any) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device", str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left"):
        policy_new._write(tmp_path / "ke_law", skeleton("KE", DAY))
    assert list(tmp_path.iterdir()) == []


def test_packs_that_cover_the_country_are_named() -> None:
    known = find()
    assert policy_new.covering("BR", known) == ["br-lgpd"]
    assert "eu-gdpr" in policy_new.covering("DE", known)
    assert policy_new.covering("KE", known) == []


@pytest.mark.parametrize("name", ["ng-ndpa", "id-pdp"])
def test_the_worked_packs_kept_the_questions_and_the_weights_of_their_skeleton(name: str) -> None:
    known = find()
    pack = known.load(name)
    code = pack.manifest.jurisdiction
    began = {rule.id.partition(".")[2] for rule in loaded(skeleton(code, DAY), known.load("base")).rules}
    there = {rule.id.partition(".")[2] for rule in pack.rules}
    renamed = {"id-pdp": {"localised": "public-scope", "sensitive": "specific"}}.get(name, {})
    assert {renamed.get(one, one) for one in began} <= there
    assert pack.weighting is not None
    shipped = tomllib.loads(files_of(known.found[name].folder)["facts/weights.toml"].decode())
    made = tomllib.loads(skeleton(code, DAY)["facts/weights.toml"].decode())
    assert shipped["weights"][0]["percent"] == made["weights"][0]["percent"]
    assert sum("question:" in duty.note for duty in pack.obligations) >= 5
