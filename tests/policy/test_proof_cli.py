"""``allod policy prove`` and ``allod policy diff`` as a person or a script runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from policy_worlds import forbid, pack_files

from allod.gateway.cli import policy_diff, policy_prove
from allod.gateway.packs import files_of, find

DAY = "2026-11-25"
CONFIG = """
[tenant]
id = "clinic"
home = "DE"
bloc = ["DE", "FR"]
packs = ["base", "us-hipaa"]

[tenant.relax.airgap]
reason = "board decision 12"
signer = "A. Huber"

[[app]]
id = "triage"
classes = ["phi"]

[[operator]]
id = "self"
own = true
seat = "DE"
controlled_from = ["DE"]
compelled_by = []

[[deployment]]
id = "ward"
engine = "openai"
model = "m"
base_url = "http://127.0.0.1:8000/v1"
operator = "self"
processing = { value = "DE", grade = "measured", as_of = 2026-11-01, source = "audit 3" }
at_rest = "none"
transit = ["DE"]
on_premises = true
records_auditable = true
inspectable = true
"""


def run(command: Any, *args: str, home: Path) -> Result:
    return CliRunner(env={"ALLOD_HOME": str(home)}).invoke(command, list(args), catch_exceptions=False)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def own_pack(folder: Path, body: str, theorems: str = "monotone = true\n", version: str = "1.0.0") -> Path:
    files = pack_files("x", forbid("x.1", body))
    files["pack.toml"] = files["pack.toml"].replace(b"1.0.0", version.encode())
    return write(folder, {**files, "theorems.toml": theorems.encode()})


THEOREM = (
    'monotone = true\n[[theorem]]\nid = "own"\ntext = "Only ours."\n'
    'given = "{}"\nholds = "{}"\nfails_without = ["x.1"]\n'
)
OURS = "when { !resource.operator.own }"


def test_prove_a_pack_by_folder(tmp_path: Path) -> None:
    good = own_pack(tmp_path / "good", OURS, THEOREM.format("true", "resource.operator.own"))
    done = run(policy_prove.command, "--pack", str(good), "--as-of", DAY, home=tmp_path)
    assert done.exit_code == 0, done.output
    assert "proved        own   1 rule, 2 of 2 mutants broken" in done.output
    assert "takes for granted" in done.output
    assert "no person has reviewed pack base, x" in done.output


def test_what_is_refuted_fails_with_a_request_and_a_deployment(tmp_path: Path) -> None:
    pack = own_pack(tmp_path / "p", OURS, THEOREM.format("true", "resource.approved && resource.embedded"))
    done = run(policy_prove.command, "--pack", str(pack), "--as-of", DAY, home=tmp_path)
    assert done.exit_code == 1
    assert "REFUTED       own" in done.output
    assert "claim  Only ours." in done.output
    assert f"request.day = {DAY}" in done.output
    assert "deployment.approved = true" in done.output
    assert "5 of 6 theorems proved: see above" in done.output


def test_what_says_nothing_fails(tmp_path: Path) -> None:
    pack = own_pack(tmp_path / "p", OURS, THEOREM.format("true", "resource.approved"))
    done = run(policy_prove.command, "--pack", str(pack), "--as-of", DAY, "--json", home=tmp_path)
    assert done.exit_code == 1
    data = json.loads(done.output)
    assert data["ok"] is False
    proof = next(one for one in data["reports"][0]["proofs"] if one["id"] == "own")
    assert proof["status"] == "says-nothing"
    assert proof["reason"] == "it survives x.1 deleted, x.1 negated"
    assert [mutant["broken"] for mutant in proof["mutants"]] == [False, False]


def test_prove_the_configuration_with_its_waiver_its_fleet_and_its_facts(tmp_path: Path) -> None:
    (tmp_path / "allod.toml").write_text(CONFIG)
    done = run(policy_prove.command, "--as-of", DAY, "--json", home=tmp_path)
    assert done.exit_code == 1  # the waived rule carried the air gap
    data = json.loads(done.output)
    (report,) = data["reports"]
    assert report["relaxed"] == ["airgap"]
    status = {one["id"]: one["status"] for one in report["proofs"]}
    assert {name for name, found in status.items() if found != "proved"} == {"cable-out", "air-gap"}
    assert status["residency.DE+FR"] == "proved"
    assert [need["agreement"] for need in report["needs"] if need["data_class"] == "phi"] == ["baa"]
    assert data["fleet"]["reach"]["ward"]
    assert "residency.1-process" in data["fleet"]["never_decides"]
    facts = {fact["path"]: fact for fact in data["facts"]}
    assert facts["deployment.ward.processing"]["grade"] == "measured"
    assert facts["deployment.ward.processing"]["age_days"] == 24
    (tmp_path / "allod.toml").write_text(CONFIG.replace('"base", "us-hipaa"', '"base"'))
    told = run(policy_prove.command, "--as-of", DAY, home=tmp_path)
    assert "waived, so no proof counts on them: airgap" in told.output
    assert "waived: airgap" in told.output
    assert "deployment.ward.processing" in told.output
    assert "24 days old" in told.output
    assert "residency.MERCOSUR   5 rules, 10 of 10 mutants broken" in told.output


def test_diff_tells_what_changed_and_whether_it_widens(tmp_path: Path) -> None:
    old = own_pack(tmp_path / "old", OURS)
    new = own_pack(tmp_path / "new", "when { !resource.operator.own && resource.embedded }", version="2.0.0")
    done = run(policy_diff.command, str(old), str(new), "--as-of", DAY, home=tmp_path)
    assert done.exit_code == 0
    assert "version: 1.0.0 -> 2.0.0" in done.output
    assert "~ rule x.1: conditions" in done.output
    assert f"IT WIDENS: on {DAY} this is permitted, which before was denied by x.1" in done.output
    assert "operator.own = false" in done.output
    strict = run(policy_diff.command, str(old), str(new), "--no-widening", "--json", home=tmp_path)
    assert strict.exit_code == 1
    data = json.loads(strict.output)
    assert data["widens"] is True
    assert data["widening"]["counterexample"]["against"] == ["x.1"]
    assert data["changes"]["rules"]["changed"][0]["id"] == "x.1"
    back = run(policy_diff.command, str(new), str(old), "--no-widening", home=tmp_path)
    assert back.exit_code == 0
    assert "permits nothing that the old version does not" in back.output
    same = run(policy_diff.command, "us-hipaa", "us-hipaa", "--json", home=tmp_path)
    assert json.loads(same.output)["widens"] is False


def test_diff_of_a_shipped_pack_and_a_copy_with_a_lesser_demand(tmp_path: Path) -> None:
    files = files_of(find().found["us-hipaa"].folder)
    text = files["policies.cedar"].decode()
    assert 'resource.agreements.contract.contains("baa")' in text
    weaker = text.replace("agreements.contract.contains", "agreements.declared.contains")
    folder = write(tmp_path / "weaker", {**files, "policies.cedar": weaker.encode()})
    done = run(policy_diff.command, "us-hipaa", str(folder), "--as-of", DAY, "--json", home=tmp_path)
    facts = json.loads(done.output)["widening"]["counterexample"]["facts"]
    assert "baa (declared)" in facts["deployment.agreements"] + facts["operator.agreements"]


def without_solver(*args: str, home: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; sys.modules['z3'] = None; "
        f"sys.argv = {['allod', *args]!r}; from allod.gateway.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"ALLOD_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_solver_nothing_is_called_proved(tmp_path: Path) -> None:
    told = without_solver("policy", "prove", "--pack", "base", home=tmp_path)
    assert told.returncode == 5
    assert "pip install 'allod[prove]'" in told.stderr
    assert "proved" not in told.stdout
    old, new = own_pack(tmp_path / "old", OURS), own_pack(tmp_path / "new", "when { false }")
    told = without_solver("policy", "diff", str(old), str(new), home=tmp_path)
    assert told.returncode == 5
    assert "~ rule x.1" in told.stdout  # what needs no solver is told
    assert "take it for a widening" in told.stdout
    assert "pip install 'allod[prove]'" in told.stdout
    told = without_solver("policy", "diff", str(old), str(new), "--json", home=tmp_path)
    assert json.loads(told.stdout)["widens"] is None


def test_usage(tmp_path: Path) -> None:
    assert run(policy_prove.command, "--as-of", "yesterday", home=tmp_path).exit_code == 2
    assert run(policy_diff.command, "base", home=tmp_path).exit_code == 2
    code = "import sys; sys.argv = ['allod', 'policy', 'prove', '--pack', 'no-such']; "
    told = subprocess.run(
        [sys.executable, "-c", code + "from allod.gateway.cli import main; main()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert "no-such" in told.stderr
