"""Packs: what may be in one, what proves it, and what is refused at the door."""

from __future__ import annotations

import pytest
from policy_worlds import FORBIDS, SEAL_RULE, base_files, forbid, load, pack_files, pack_without

from allod.domain.errors import Integrity, Invalid
from allod.policy import Pack, load_pack, run_cases, run_lint


def test_the_shipped_pack_proves_itself_and_says_that_nobody_reviewed_it(base: Pack) -> None:
    failed = [result for result in run_cases(base) if not result.ok]
    assert failed == []
    assert len(run_cases(base)) > 40
    assert run_lint(base) == ()
    assert base.reviewed is False
    assert base.digest.startswith("sha256:")
    assert (
        load_pack({**base_files(), "__init__.py": b"x", "facts/__pycache__/a.pyc": b""}).digest == base.digest
    )


def test_a_case_that_is_wrong_fails_and_a_rule_without_cases_is_told(base: Pack) -> None:
    files = base_files()
    files["cases/residency.toml"] = files["cases/residency.toml"].replace(
        b'rules = ["residency.1-process"]', b'rules = ["residency.2-rest"]', 1
    )
    results = [result for result in run_cases(load_pack(files)) if not result.ok]
    assert [result.name for result in results] == ["processing outside"]
    assert "got deny by residency.1-process; expected deny by residency.2-rest" in results[0].detail
    del files["cases/premises.toml"]
    lacking = {r.name for r in run_cases(load_pack(files)) if not r.ok}
    assert {"coverage of airgap", "coverage of provenance.ban"} <= lacking


@pytest.mark.parametrize("rule_id", FORBIDS)
def test_the_cases_notice_the_loss_of_any_rule(rule_id: str) -> None:
    failed = [result for result in run_cases(pack_without(rule_id)) if not result.ok]
    assert failed
    assert all(rule_id in result.detail for result in failed)


def test_cases_of_another_pack_run_on_the_base(base: Pack) -> None:
    cases = (
        base_files()["cases/premises.toml"].decode().split("[[case]]")[0]
        + '[[case]]\nname = "low"\ndecision = "deny"\nclasses = ["confidential"]\n'
        + 'rules = ["eu-csf.5-supply"]\n'
        + '[[case]]\nname = "high"\ndecision = "allow"\nclasses = ["confidential"]\n'
        + 'covers = ["eu-csf.5-supply"]\n'
        + 'set = { "deployment.seal" = [4, 4, 4, 4, 3, 3, 4, 3] }\n'
    )
    pack = load(pack_files("eu-csf", forbid("eu-csf.5-supply", SEAL_RULE), cases=cases))
    assert [result.ok for result in run_cases(pack, base)] == [True] * 3
    with pytest.raises(Invalid, match="need the base pack"):
        run_cases(pack)


HEAD = b'id = "x"\nversion = "1"\nstatus = "in-force"\n'
THEOREM = b'[[theorem]]\nid = "t"\ntext = ""\ngiven = "true"\n%b\n'
GOOD = forbid("x.1", 'when { context.classes.contains("phi") }')


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        (GOOD + GOOD, "there twice"),
        (GOOD.replace('@id("x.1")', ""), "lacks @id"),
        (GOOD.replace('@id("x.1")', '@id("")'), "lacks @id"),
        (GOOD.replace('@law("Act 1")', ""), "lacks @law"),
        (GOOD.replace('@remedy("Remedy of x.1.")', ""), "lacks @remedy"),
        (forbid("x.1", "when { resource.approved }").replace("forbid (", "permit ("), "wrong permits"),
        (forbid("x.1", "when { resource.atRst }"), "does not fit its schema"),
        (forbid("x.1", 'when { ip("10.0.0.1").isLoopback() }'), "operator that Allod does not know"),
        (GOOD.replace("principal is Allod::App", "principal == ?principal"), "template"),
        ("forbid (", "cannot be read"),
        (forbid("x.1", 'when { !context.classes.contains("public") }'), "could admit more"),
        (forbid("x.1", 'when { true } unless { context.classes.contains("public") }'), "could admit more"),
        (forbid("x.1", "when { context.classes.isEmpty() }"), "could admit more"),
        (forbid("x.1", 'when { context.classes == ["phi"] }'), "could admit more"),
        (forbid("x.1", 'when { ["phi"].containsAll(context.classes) }'), "could admit more"),
        (forbid("x.1", "when { context.link_up }"), "could admit more"),
        (forbid("x.1", "when { context.pseudonymised }"), "could admit more"),
        (forbid("x.1", 'when { resource.agreements.contract.contains("x") }'), "could admit more"),
        (forbid("x.1", "when { resource.agreements.contract.isEmpty() }"), "could admit more"),
        (forbid("x.1", "when { true } unless { resource.operator.agreements == resource.agreements }"),
         "could admit more"),
        (forbid("x.1", 'when { true } unless { principal.attestations.declared.contains("dpia") }'), None),
        (forbid("x.1", 'when { !resource.operator.attestations.attested.containsAny(["a", "b"]) }'), None),
        (forbid("x.1", "when { true } unless { context.pseudonymised }"), None),
        (forbid("x.1", 'when { {Value: context.classes}.Value.contains("a") == false }'), "could admit"),
        (forbid("x.1", 'when { if context.classes.contains("a") then false else true }'), "could admit"),
        (forbid("x.1", "when { resource.approved } unless { !context.link_up }"), "could admit more"),
        (forbid("x.1", "when { " + "!" * 3 + "(" * 70 + "resource.approved" + ")" * 70 + " }"), None),
        (forbid("x.1", "when { " + "(" * 700 + "resource.approved" + ")" * 700 + " }"), "nested too deep"),
        (forbid("x.1", "when { " + "true && " * 9000 + "true }"), "too long a policy"),
        (forbid("x.1", 'when { !(!(context.classes.contains("phi"))) && !context.link_up }'), None),
        (forbid("x.1", 'when { context.classes.containsAll(["phi", "special"]) }'), None),
        (forbid("x.1", 'when { ["phi"].containsAny(context.classes) }'), None),
        (forbid("x.1", 'when { context has purpose && context.purpose == "ads" }'), None),
    ],
)  # fmt: skip
def test_what_a_pack_may_say(policies: str, says: str | None) -> None:
    files = pack_files("x", policies)
    if says is None:
        assert load(files).rules[0].id == "x.1"
        return
    with pytest.raises(Invalid) as error:
        load(files)
    assert says in error.value.explain()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"pack.toml": HEAD + b'reviewr = "me"\n'}, Invalid, "reviewr"),
        ({"pack.toml": b'id = "x"\nversion = "1"\nstatus = "draft"\n'}, Invalid, "draft"),
        ({"pack.toml": HEAD + b"max_age_days = -1\n"}, Invalid, "max_age"),
        ({"pack.toml": b"id = "}, Invalid, "pack.toml"),
        ({"pack.toml": b"\xff"}, Integrity, "UTF-8"),
        ({"../evil.toml": b""}, Integrity, "no place"),
        ({"facts/a/b.toml": b""}, Integrity, "no place"),
        ({"run.sh": b""}, Integrity, "no place"),
        ({"policies.cedar": b" " * ((1 << 20) + 1)}, Integrity, "too large"),
        ({"theorems.toml": THEOREM % b'holds="true"\nfails_without=["y.1"]'}, Invalid, "y.1"),
        ({"theorems.toml": THEOREM % b'holds="resource.atRst"\nfails_without=[]'}, Invalid, "atRst"),
        ({"theorems.toml": THEOREM % b'holds="true } unless { 1"\nfails_without=[]'}, Invalid, "holds"),
        ({"obligations.toml": b'[[obligation]]\narticle = "1"\nmode = "enforce"\n'}, Invalid, "no rule"),
        ({"obligations.toml": b'[[obligation]]\narticle = "1"\nmode = "evidence"\n'}, Invalid, "no report"),
        ({"schema.cedarschema": b""}, Invalid, "brings a schema"),
        ({"pack.toml": HEAD + b"valid_from = 2027-01-01\nvalid_until = 2026-01-01"}, Invalid, "it begins"),
        ({"pack.toml": HEAD.replace(b"in-force", b"repealed")}, Invalid, "without a date"),
        ({"pack.toml": HEAD + b'classes = ["phi"]\n'}, Invalid, "adds the class"),
        ({"pack.toml": HEAD.replace(b'"x"', b'"../x"')}, Invalid, "no pack id"),
        ({"facts/w.toml": b'[[weights]]\nid = "w"\nobjectives = ["a"]\npercent = [100]'}, Invalid, "whole"),
        ({"policies.cedar": GOOD.replace("@law", '@since("soon") @law').encode()}, Invalid, "is no date"),
        ({"policies.cedar": GOOD.replace("@law", '@sinse("2027-01-01") @law').encode()}, Invalid, "@sinse"),
        ({"policies.cedar": GOOD.replace("@law", '@verified("yes") @law').encode()}, Invalid, "says only no"),
        ({"obligations.toml": b'[[obligation]]\narticle = "Art 1"\nmode = "enforce"\nrules = ["y.1"]\n'},
         Invalid, "y.1"),
        ({f"cases/{n}.toml": b"" for n in range(300)}, Integrity, "too many"),
        ({"cases/a.toml": b'[[case]]\nname = "n"\n'}, Invalid, "cases/a.toml"),
    ],
)  # fmt: skip
def test_hostile_and_broken_packs(change: dict[str, bytes], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        load({**pack_files("x", GOOD), **change})
    assert says in caught.value.explain()


@pytest.mark.parametrize("name", ["pack.toml", "policies.cedar", "theorems.toml", "obligations.toml"])
def test_a_pack_lacking_a_file(name: str) -> None:
    files = pack_files("x", GOOD)
    del files[name]
    with pytest.raises(Invalid, match=name):
        load(files)


def test_the_schema_is_the_base_packs() -> None:
    with pytest.raises(Invalid, match="cannot be read alone"):
        load_pack(pack_files("x", GOOD))
    files = base_files()
    del files["schema.cedarschema"]
    with pytest.raises(Invalid, match="the pack has no schema"):
        load_pack(files, load(pack_files("x", GOOD)).schema)


def test_the_base_pack_keeps_its_one_permit() -> None:
    files = base_files()
    extra = GOOD.replace("forbid (", "permit (").replace("context.classes", "principal.purposes")
    files["policies.cedar"] += extra.encode()
    with pytest.raises(Invalid, match="wrong permits"):
        load_pack(files)


def test_load_pack_digest_follows_every_file() -> None:
    digests = {load_pack(base_files()).digest}
    for name in base_files():
        if name.endswith((".toml", ".cedar", ".cedarschema")):
            digests.add(load_pack({**base_files(), name: base_files()[name] + b"\n"}).digest)
    assert len(digests) == 9
