"""Own packs and changes under four eyes on real homes: what is not signed by whom it must be never starts."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from world import Inside, World, deployment

from allod.domain.errors import AllodError, Integrity, Invalid
from allod.gateway import changes, compose, ownpacks, placing, worlds
from allod.store.home import Home
from gateway.offices import DAY, LOOSE, NOW_MS, STRICT, Office, refuses


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office under four eyes, its first change approved and logged."""
    office = Office(tmp_path_factory.mktemp("watched") / "home", four_eyes=True)
    office.change(reason="the first")
    office.begin()
    return office


@pytest.fixture
def eyes(watched: Office, tmp_path: Path) -> Office:
    return watched.copied(tmp_path / "home")


# --- four eyes


def test_with_four_eyes_nothing_starts_before_it_was_approved(tmp_path: Path) -> None:
    office = Office(tmp_path / "home", four_eyes=True)
    refuses(office, "nothing has been approved")
    change = office.propose()
    refuses(office, "nothing has been approved")
    office.approve(change)
    office.begin()


def test_a_change_is_proposed_by_one_role_and_approved_by_another_and_is_one_leaf(eyes: Office) -> None:
    eyes.apps[0]["classes"] = ["public"]
    eyes.write()
    refuses(eyes, "app ward: classes: [phi] -> [public]")
    change = eyes.propose("alice", reason="the ward is public now")
    assert change.proposal.widening
    for by, words in (("alice", "second pair"), ("carol", "second pair")):
        with pytest.raises(Integrity, match=words):
            eyes.approve(change, by)
    with pytest.raises(Invalid, match="no signer"):
        eyes.approve(change, "mallory")
    eyes.approve(change, "bob")
    eyes.begin()
    eyes.begin()
    first, second = eyes.notices("change")
    assert (first["facts"]["number"], second["facts"]["number"]) == ("1", "2")
    assert second["detail"] == "the ward is public now"
    facts = second["facts"]
    assert (facts["proposer"], facts["approver"]) == ("alice (author)", "bob (compliance)")
    assert facts["change"] == change.digest
    assert facts["follows"] == first["facts"]["change"]
    assert facts["difference"] == change.proposal.difference
    assert facts["configuration_before"] == first["facts"]["configuration"] != facts["configuration"]
    assert len(facts["approver_r"] + facts["approver_s"]) == 128
    told = (eyes.root / "changes" / f"0002-{change.id}" / "difference.txt").read_text()
    assert "app ward: classes: [phi] -> [public]" in told
    assert "app ward -> there" in told


@pytest.mark.parametrize(
    "edit",
    [
        lambda o: o.write(relax={"residency.4-audit": {"reason": "r", "signer": "alice"}}),
        lambda o: o.write(bloc=["EEA", "US"]),
        lambda o: o.write(allowed_addresses=["10.0.0.1"]),
        lambda o: o.deployments.append(deployment("new", "answer")) or o.write(),
        lambda o: o.deployments[0].update(price="free") or o.write(),
        lambda o: o.deployments.reverse() or o.write(),
        lambda o: o.signers.pop("carol") and o.write(),
        lambda o: o.signers["carol"].update(role="compliance") or o.write(),
        lambda o: o.own(STRICT, "alice", "bob"),
        lambda o: o.write(four_eyes=False),
    ],
)
def test_no_governed_part_changes_without_approval(eyes: Office, edit: Callable[[Office], Any]) -> None:
    edit(eyes)
    refuses(eyes, "not what was approved")
    eyes.change()
    eyes.begin()


def test_what_is_not_governed_may_change(eyes: Office) -> None:
    eyes.home.config.write_text("# a word\n" + eyes.text() + "\n[server]\nport = 9000\n[log]\nbatch_ms = 9\n")
    eyes.begin()


def test_another_configuration_on_the_command_line_is_no_way_round(eyes: Office, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    eyes.four_eyes = False
    other.write_text(eyes.text())
    refuses(eyes, "four_eyes: true -> false", path=other)


def test_four_eyes_are_turned_off_by_four_eyes_only(eyes: Office) -> None:
    eyes.four_eyes = False
    eyes.write()
    refuses(eyes, "four_eyes: true -> false")
    eyes.change(reason="off")
    eyes.begin()
    eyes.apps[0]["classes"] = ["public"]
    eyes.write()
    eyes.begin()


def test_a_folder_put_back_or_deleted_does_not_fit_the_log(eyes: Office, tmp_path: Path) -> None:
    shutil.copytree(eyes.root / "changes", tmp_path / "changes")
    first = eyes.home.config.read_bytes()
    eyes.apps.pop()
    eyes.write()
    eyes.change()
    eyes.begin()
    second = eyes.home.config.read_bytes()
    shutil.rmtree(eyes.root / "changes")
    shutil.copytree(tmp_path / "changes", eyes.root / "changes")
    eyes.home.config.write_bytes(first)
    refuses(eyes, "the log knows a change")
    shutil.rmtree(eyes.root / "changes")
    eyes.home.config.write_bytes(second.replace(b"four_eyes = true", b"four_eyes = false"))
    refuses(eyes, "the log knows a change")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("configuration.toml", "configuration"),
        ("difference.txt", "difference"),
        ("proposal.note", "proposal"),
        ("packs/base/policies.cedar", ""),
    ],
)
def test_a_proposal_that_was_touched_is_not_approved(eyes: Office, name: str, words: str) -> None:
    eyes.apps.pop()
    eyes.write()
    change = eyes.propose()
    path = change.path / name
    path.write_bytes(path.read_bytes().replace(b"press", b"prexs") + b"# more\n")
    if name.startswith("packs/base"):
        eyes.approve(change)  # a copy of a shipped pack is only kept; the one in force is the package's
        eyes.apps.append({"id": "late"})
        eyes.write()
        with pytest.raises(Integrity, match="altered"):
            eyes.propose()
        return
    with pytest.raises(Integrity) as caught:
        eyes.approve(change)
    assert words in caught.value.what
    assert len(changes.chain(eyes.home)) == 1


@pytest.mark.parametrize("name", ["..", ".", "a b", "other", ""])
def test_a_proposal_that_carries_a_pack_nobody_signed_for_places_nothing(eyes: Office, name: str) -> None:
    eyes.apps.pop()
    eyes.write()
    change = eyes.propose()
    (change.path / "packs" / "other").mkdir()
    (change.path / "packs" / f"{name}.sig").write_text("x")
    before = sorted(path.name for path in eyes.root.iterdir())
    with pytest.raises(Integrity):
        eyes.approve(change)
    assert sorted(path.name for path in eyes.root.iterdir()) == before
    assert not (eyes.root / "packs").exists()


def test_a_difference_that_lies_is_found_out_though_it_is_signed(
    eyes: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    eyes.apps[0]["classes"] = ["public"]
    eyes.write()
    with monkeypatch.context() as lying:
        lying.setattr(changes, "describe", lambda *_a, **_k: ("nothing is written differently\n", False))
        change = eyes.propose(reason="harmless")
    with pytest.raises(Integrity, match="difference"):
        eyes.approve(change)


@pytest.mark.parametrize("name", ["configuration.toml", "proposal.note", "approval.note"])
def test_an_approved_change_that_was_touched_stops_the_start(eyes: Office, name: str) -> None:
    path = next((eyes.root / "changes").glob(f"0001-*/{name}"))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(AllodError):
        changes.before(eyes.home, changes.chain(eyes.home)[-1], DAY)


def test_the_signers_of_before_decide_about_the_signers_of_after(eyes: Office) -> None:
    eyes.add("mallory", "compliance")
    eyes.add("eve", "author")
    eyes.write()
    with pytest.raises(Invalid, match="no signer 'mallory'"):
        eyes.propose("mallory")
    change = eyes.propose("alice", reason="two more")
    with pytest.raises(Invalid, match="no signer 'mallory'"):
        eyes.approve(change, "mallory")
    eyes.approve(change, "bob")
    eyes.apps.pop()
    eyes.write()
    eyes.change("eve", "mallory")
    eyes.begin()


def test_a_change_that_would_lock_everybody_out_is_refused(eyes: Office) -> None:
    for name in ("bob", "carol"):
        eyes.signers.pop(name)
    eyes.write()
    with pytest.raises(Integrity, match="nobody"):
        eyes.propose()


def test_a_proposal_of_another_home_or_of_yesterday_does_not_count(eyes: Office, tmp_path: Path) -> None:
    eyes.apps.pop()
    eyes.write()
    one, two = eyes.propose(reason="one"), eyes.propose("bob", reason="two")
    eyes.approve(two, "alice")
    with pytest.raises(Invalid, match="overtaken"):
        eyes.approve(one)
    with pytest.raises(Invalid, match="approved already"):
        eyes.approve(two, "alice")
    other = Office(tmp_path / "other", four_eyes=True)
    shutil.copytree(eyes.root / "keys" / "signers", other.root / "keys" / "signers", dirs_exist_ok=True)
    other.signers = eyes.signers
    other.write()
    (other.root / "changes" / "open").mkdir(parents=True, exist_ok=True)
    first = next((eyes.root / "changes").glob("0001-*"))
    shutil.copytree(first, other.root / "changes" / "open" / first.name.partition("-")[2])
    with pytest.raises(Integrity, match="not of this place"):
        other.approve(first.name.partition("-")[2])


def test_a_pack_is_proposed_with_its_signatures_and_put_into_place(eyes: Office, tmp_path: Path) -> None:
    folder = eyes.pack(folder=tmp_path / "draft")
    eyes.packs = ["house"]
    new = tmp_path / "new.toml"
    new.write_text(eyes.text())
    with pytest.raises(Integrity, match="not signed"):
        eyes.propose(config=new, packs=(folder,))
    eyes.sign("alice", folder=folder)
    change = eyes.propose(config=new, packs=(folder,))
    assert not (eyes.root / "packs").exists()
    eyes.approve(change)
    assert (eyes.root / "packs" / "house" / "pack.toml").is_file()
    eyes.begin()
    eyes.pack(LOOSE, version="2.0.0", folder=folder)
    ownpacks.signature_file(folder).unlink()
    eyes.sign("alice", folder=folder)
    with pytest.raises(Integrity, match="two signatures"):
        eyes.propose(packs=(folder,))
    eyes.sign("bob", folder=folder)
    change = eyes.change(packs=(folder,))
    assert "pack house counts as a widening" in change.difference()
    eyes.begin()
    assert [leaf["facts"]["widening"] for leaf in eyes.notices("pack")] == ["no", "yes"]


# --- crashes, and two at once


class Died(BaseException):
    """The process ended here."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[str]]:
    """Die before the ``at``-th change of a file."""
    steps: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            if len(steps) == at:
                raise Died
            steps.append(name)
            return real(*args, **more)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(placing, "write_file", wrapped("write", placing.write_file))
        patch.setattr(changes, "write_file", wrapped("write", changes.write_file))
        patch.setattr(placing.shutil, "rmtree", wrapped("rmtree", shutil.rmtree))
        patch.setattr(Path, "rename", wrapped("rename", Path.rename))
        patch.setattr(Path, "unlink", wrapped("unlink", Path.unlink))
        patch.setattr(Path, "mkdir", wrapped("mkdir", Path.mkdir))
        yield steps


def test_a_crash_at_any_instant_of_an_approval_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "widening", lambda *_: None)  # proved elsewhere, and slow to prove so often
    ready = Office(tmp_path / "ready", four_eyes=True)
    ready.own(LOOSE, "alice")
    ready.change(reason="the first")
    draft = ready.pack(STRICT, version="1.1.0", folder=tmp_path / "draft")
    ready.sign("alice", folder=draft)
    ready.apps[1]["purposes"] = ["news"]
    new = tmp_path / "new.toml"
    new.write_text(ready.text())
    change = ready.propose(config=new, packs=(draft,))
    outcomes, at = set(), 0
    while True:
        office = ready.copied(tmp_path / f"home-{at}")
        died = False
        with dying(monkeypatch, at) as steps:
            try:
                office.approve(change)
            except Died:
                died = True
        setting = office.setting()
        house = next(one.pack for one in setting.own if one.pack.id == "house")
        purposes = setting.config.fleet.apps["press"].purposes
        state = (house.version, purposes, len(changes.chain(office.home)))
        assert state in {("1.0.0", (), 1), ("1.1.0", ("news",), 2)}, (at, steps, state)
        outcomes.add(state)
        assert not (office.root / "changes" / "placing").exists()
        policy = compose.decider(setting.fleet, setting.packs).policy
        changes.enforce(setting, policy, DAY)
        shutil.rmtree(office.root)
        if not died:
            break
        at += 1
    assert len(outcomes) == 2
    assert at > 10, "the approval was interrupted in many places"


def _approve(root: str, name: str, by: str, start: float, answers: Any) -> None:
    time.sleep(max(0.0, start - time.time()))
    try:
        changes.approve(Home(Path(root)), name, by=by, now_ms=NOW_MS)
        answers.put("approved")
    except AllodError as error:
        answers.put(f"{type(error).__name__}: {error.what}")


def test_of_two_approvals_at_once_one_wins(eyes: Office) -> None:
    eyes.add("dora", "compliance")
    eyes.write()
    eyes.change(reason="dora too")
    eyes.apps.pop()
    eyes.write()
    change = eyes.propose()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    start = time.time() + 0.2
    runs = [
        context.Process(target=_approve, args=(str(eyes.root), change.id, by, start, answers))
        for by in ("bob", "dora", "bob")
    ]
    for run in runs:
        run.start()
    told = sorted(answers.get(timeout=30) for _ in runs)
    for run in runs:
        run.join(10)
    assert told.count("approved") == 1
    assert sum("approved already" in text for text in told) == 2
    assert len(changes.chain(eyes.home)) == 3
    eyes.begin()


def test_an_approval_beside_a_running_gateway_is_logged_by_its_next_start(tmp_path: Path) -> None:
    office = Office(tmp_path / "home", four_eyes=True)
    office.change(reason="the first")
    world = World(office.root, office.home.config.read_text())
    with Inside(world):
        office.apps[1]["purposes"] = ["news"]
        new = tmp_path / "new.toml"
        new.write_text(office.text())
        change = office.propose(config=new)
        done = world.here("policy", "approve", change.id, "--by", "bob", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["logged"] is False
    assert [leaf["facts"]["number"] for leaf in office.notices("change")] == ["1"]
    with Inside(world):
        pass
    assert [leaf["facts"]["number"] for leaf in office.notices("change")] == ["1", "2"]
    start = office.notices("start")[-1]["facts"]
    assert (start["change"], start["four_eyes"]) == (change.digest, "yes")
    assert world.here("log", "verify").returncode == 0


def test_the_commands_do_it_all_and_tell_by_exit_code(tmp_path: Path) -> None:
    office = Office(tmp_path / "home", four_eyes=True)
    world = World(office.root, office.home.config.read_text())
    made = world.here("policy", "key", "dora", "--out", str(tmp_path / "dora.key"), "--json")
    assert json.loads(made.stdout)["key"].startswith("dora+")
    assert "PRIVATE" not in made.stdout + made.stderr
    folder = office.pack(folder=tmp_path / "draft")
    done = world.here("policy", "sign", str(folder), "--by", "alice", "--json")
    assert json.loads(done.stdout)["pack"] == "house"
    assert world.here("policy", "verify", str(folder)).returncode == 0
    (folder / "obligations.toml").write_text("# other\n")
    assert world.here("policy", "verify", str(folder)).returncode == 3
    assert world.here("up", "--port", "0").returncode == 3
    done = world.here("policy", "propose", "--by", "alice", "--reason", "first", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["state"], found["number"]) == (0, "open", 1)
    assert world.here("policy", "approve", found["id"], "--by", "alice").returncode == 3
    done = world.here("policy", "approve", found["id"], "--by", "bob", "--json")
    assert (done.returncode, json.loads(done.stdout)["logged"]) == (0, True)
    listed = json.loads(world.here("policy", "changes", "--json").stdout)
    assert [(c["number"], c["state"]) for c in listed["changes"]] == [(1, "approved")]
    shown = world.here("policy", "changes", found["id"])
    assert "alice (author)" in shown.stdout
    assert world.here("policy", "verify").returncode == 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_in_the_middle_of_an_approval_leaves_the_old_or_the_new(eyes: Office) -> None:
    eyes.apps.pop()
    eyes.write()
    change = eyes.propose()
    old = changes.before(eyes.home, changes.chain(eyes.home)[-1], DAY)[0]
    assert old is not None
    environ = {**os.environ, "ALLOD_HOME": str(eyes.root)}
    words = [sys.executable, "-m", "allod", "policy", "approve", change.id, "--by", "bob"]
    for n in range(4):
        with subprocess.Popen(
            words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            time.sleep(0.25 + 0.07 * n)
            run.kill()
        eyes.setting()
        approved = changes.chain(eyes.home)
        assert len(approved) in (1, 2)
        if len(approved) == 2:
            eyes.begin()
            break
    else:
        eyes.approve(change)
    eyes.begin()
