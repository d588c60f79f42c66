"""Checks of answers through a real gateway: run on what a base says, recorded, and failing closed."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from operators import Region
from world import Inside, Trap, World, chat, config, deployment, until

from allod.assurance import compiling, sandbox
from allod.domain.chat import Chunk, Finished
from allod.domain.errors import Invalid
from allod.domain.fleet import CascadeTask, CheckFile
from allod.gateway import cascadefile
from allod.gateway.checks import children, probing
from allod.gateway.checks.files import with_files
from allod.gateway.config import parse
from gateway.lineages import ends, log_of
from gateway.promised import PATH, TASK, Minds, ask, begun, fleet, opened, running, settled, standing

SCHEMA = """CREATE TABLE wards (id INTEGER, name TEXT, beds INTEGER);
INSERT INTO wards VALUES (1, 'A', 24), (2, 'B', 12);
"""
TESTS = "assert twice(4) == 8\nassert twice(-1) == -2\n"
FILES = {"checks/twice.py": TESTS, "checks/wards.sql": SCHEMA}
GOOD_CODE = "Here:\n```python\ndef twice(n):\n    return 2 * n\n```"
BAD_CODE = "Here:\n```python\ndef twice(n):\n    return n + 1\n```"
SOURCES = "Answer from these.\n[1] Ward A has twenty-four beds in all.\n[2] Ward B is closed on Sundays."

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("compile:python", {}, GOOD_CODE, "```python\ndef twice(n:\n```"),
    ("compile:json", {}, '{"a": 1}', '{"a": 1'),
    ("compile:sql", {}, "```sql\nSELECT 1\n```", "```sql\nSELEC 1\n```"),
    ("arithmetic", {}, "4 x 2 = 8", "4 x 2 = 9"),
    ("citation", {}, "“Ward A has twenty-four beds” [1]", "“Ward A has forty beds” [1]"),
    ("tests", {"tests": "checks/twice.py"}, GOOD_CODE, BAD_CODE),
    (
        "sql",
        {"schema": "checks/wards.sql", "columns": ["name"], "some_rows": True},
        "```sql\nSELECT name FROM wards WHERE beds > 20\n```",
        "```sql\nDELETE FROM wards RETURNING name\n```",
    ),
]


def says(text: str) -> Callable[[int], str]:
    return lambda _: text


def asked(inside: Inside, **more: Any) -> Any:
    body = chat(TASK, "?", stream=False, **more)
    body["messages"] = [{"role": "system", "content": SOURCES}, {"role": "user", "content": "twice 4"}]
    return inside.chat(body, app="ward")


@pytest.mark.parametrize(("check", "own", "right", "wrong"), CASES, ids=[case[0] for case in CASES])
def test_what_passes_is_delivered_and_what_does_not_is_answered_by_the_reference(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds,
    check: str, own: dict[str, Any], right: str, wrong: str,
) -> None:  # fmt: skip
    kind = check.split(":", maxsplit=1)[0]
    all_of = {"check": [check], "audit_share": Decimal("0.001"), **own}
    with running(tmp_path, region, trap, own=all_of, files=FILES) as inside:
        begun(inside, minds, base=says(right), reference=says("the reference"))
        opened(inside, kind)
        whole = ends(inside, asked(inside).receipt)[0]
        assert (whole["deployment"], whole["floor"]["rule"]) == ("small", kind)
        assert (whole["floor"]["base_passed"], whole["floor"].get("base_failed")) == (check, None)
        minds.says["tiny-1"] = says(wrong)
        answer = asked(inside)
        whole = ends(inside, answer.receipt)[0]
        assert whole["deployment"] == "large"
        assert whole["steps"][-1][1] == "escalation"
        assert (whole["floor"].get("base_passed"), whole["floor"]["base_failed"]) == (None, f"{check}=failed")
        assert "the reference" in answer.body.decode()
        assert trap.touched == 0


def test_the_cheapest_check_comes_first_and_nothing_is_run_after_a_failure(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["tests", "compile:python"], "tests": "checks/twice.py", "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(inside, minds, base=says(GOOD_CODE))
        opened(inside, "tests+compile")
        said = ends(inside, asked(inside).receipt)[0]["floor"]
        assert said["base_passed"] == "compile:python tests"
        minds.says["tiny-1"] = says("```python\ndef (\n```")
        said = ends(inside, asked(inside).receipt)[0]["floor"]
        assert (said["base_failed"], "base_passed" in said) == ("compile:python=failed", False)


def test_audits_hold_the_rows_of_two_queries_against_each_other_and_not_their_words(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["sql", "agreement"], "schema": "checks/wards.sql", "audit_share": 1}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(
            inside,
            minds,
            base=says("SELECT name FROM wards ORDER BY id"),
            second=says("```sql\nselect w.name as n from wards w order by w.beds desc;\n```"),
            reference=says("SELECT name FROM wards WHERE 1 ORDER BY id ASC"),
        )
        assert [leaf["facts"]["differences"] for leaf in _audits(inside)] == ["0 0"]
        minds.says["tiny-1"] = says("SELECT name FROM wards WHERE id = 1")
        opened(inside, "sql+agreement")
        whole = ends(inside, asked(inside).receipt)[0]
        settled(inside)
        said = whole["floor"]
        assert (said["base_passed"], said["second_passed"], said["agreement"]) == ("sql", "sql", "failed")
        assert whole["deployment"] == "large"
        assert _audits(inside)[-1]["facts"]["differences"] == "0 -1"


def _audits(inside: Inside) -> list[dict[str, Any]]:
    settled(inside)
    inside.gateway.store.flush()
    return [leaf for leaf in log_of(inside) if leaf.get("subject") == "audit"]


def test_where_tests_say_what_is_right_an_audit_does_not_compare_code(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py", "audit_share": 1}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        other = "```python\ntwice = lambda n: n + n\n```"
        begun(inside, minds, base=says(GOOD_CODE), reference=says(other))
        assert [leaf["facts"]["differences"] for leaf in _audits(inside)] == ["0"]


@pytest.mark.parametrize("stream", ["hold", "base"])
def test_streams_wait_for_the_check_or_say_what_came_of_it(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, stream: str
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py", "stream": stream, "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(inside, minds, base=says(BAD_CODE), reference=says("the reference"))
        opened(inside, "tests")
        taken = inside.start("/v1/chat/completions", chat(TASK, "twice 4", stream=True), app="ward")
        body, headers = taken.read(), taken.headers
        whole = ends(inside, taken.receipt)[0]
        if stream == "hold":
            assert whole["deployment"] == "large"
            assert b"return n" not in body
        else:
            assert headers["allod-answer"] == "base"
            assert (whole["deployment"], whole["floor"]["check"]) == ("small", "failed")
        assert whole["floor"]["base_failed"] == "tests=failed"


# --- hostile answers

LOOP = "```python\nwhile True: pass\n```"
LARGE = (
    "WITH RECURSIVE c(x) AS (SELECT randomblob(900000) UNION ALL SELECT randomblob(900000) FROM c)\n"
    "SELECT x FROM c ORDER BY x"
)
HOSTILE = [
    ("compile:python", {}, "```python\n" + "(" * 200_000 + "\n```"),
    ("compile:python", {}, "```python\n" + "x" + ".a" * 100_000 + "\n```"),
    ("compile:xml", {}, '<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;&b;">]><a>&d;</a>'),
    ("compile:json", {}, "[" * 200_000),
    ("arithmetic", {}, "1 = 9" + "^9" * 50_000),
    ("arithmetic", {}, "((((" * 50_000 + " = 1"),
    ("citation", {}, '"' * 200_001),
    ("tests", {"tests": "checks/twice.py"}, "```python\nimport os\nos._exit(0)\n```"),
    ("tests", {"tests": "checks/twice.py"}, "```python\nx = bytearray(4 << 30)\n```"),
    ("tests", {"tests": "checks/twice.py"}, "```python\nimport os\nwhile True: os.fork()\n```"),
    ("tests", {"tests": "checks/twice.py"}, "```python\nimport os\nos.kill(os.getppid(), 9)\n```"),
    ("sql", {"schema": "checks/wards.sql"}, "ATTACH '{there}/made.db' AS made"),
    ("sql", {"schema": "checks/wards.sql"}, "VACUUM INTO '{there}/made.db'"),
    ("sql", {"schema": "checks/wards.sql"}, "SELECT 1; PRAGMA writable_schema = 1"),
    (
        "sql",
        {"schema": "checks/wards.sql"},
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c",
    ),
    (
        "sql",
        {"schema": "checks/wards.sql"},
        LARGE,
    ),
]


def test_hostile_answers_fail_their_check_and_the_gateway_goes_on(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    """Each is read by the very code a gateway runs; none takes long, writes a file, or ends anything."""
    own = {"check": ["compile:python"], "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(inside, minds, base=says(GOOD_CODE))
        checking = inside.gateway.promises.checking
        loop = inside._loop
        assert loop is not None
        for n, (check, more, text) in enumerate(HOSTILE):
            files = {k: CheckFile(v) for k, v in more.items()}
            task = SimpleNamespace(cascade=CascadeTask(check=(check,), check_s=5, **files))
            held = msgspec_fleet(inside, task)
            found, texts = with_files(held, inside.world.root)
            checking._texts = {**checking._texts, **texts}
            said = text.replace("{there}", str(tmp_path))
            events = (Chunk(text=said), Chunk(finish="stop"), Finished())
            started = time.monotonic()
            read = asyncio.run_coroutine_threadsafe(
                checking.read(found.tasks["t"].cascade, {}, events), loop
            ).result(20)
            assert not any(read.passed.values()), (n, check, said[:40])
            assert read.verdicts[0][1] in {"failed", "late", "broke"}
            assert time.monotonic() - started < 8, (n, check)
        assert not list(tmp_path.glob("**/made.db"))
        assert not checking.children.pids
        assert asked(inside).status == 200


def msgspec_fleet(inside: Inside, task: Any) -> Any:
    own = msgspec.structs.replace(inside.gateway.fleet.tasks[TASK], name="t", cascade=task.cascade)
    return msgspec.structs.replace(inside.gateway.fleet, tasks={"t": own})


def test_a_check_that_takes_too_long_has_failed(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py", "check_s": 1, "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(inside, minds, base=says(LOOP), reference=says("the reference"))
        opened(inside, "tests")
        started = time.monotonic()
        answer = asked(inside)
        assert 0.9 < time.monotonic() - started < 4
        assert "the reference" in answer.body.decode()
        assert ends(inside, answer.receipt)[0]["floor"]["base_failed"] == "tests=late"
        until(lambda: not inside.gateway.promises.checking.children.pids)


def test_a_check_leaves_the_reference_time_before_the_deadline(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py", "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, files=FILES, deadline_ms=1_500) as inside:
        begun(inside, minds, base=says(LOOP), reference=says("the reference"))
        opened(inside, "tests")
        answer = asked(inside)
        assert (answer.status, "the reference" in answer.body.decode()) == (200, True)
        assert ends(inside, answer.receipt)[0]["floor"]["base_failed"] == "tests=late"


def test_whoever_leaves_leaves_no_check_behind(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py", "audit_share": Decimal("0.001")}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(inside, minds, base=says(LOOP), reference=says("the reference"))
        opened(inside, "tests")
        running_now = inside.gateway.promises.checking.children
        gone = http.client.HTTPConnection("127.0.0.1", inside.port)
        headers = {"authorization": f"Bearer {inside.world.key('ward')}", "content-type": "application/json"}
        body = json.dumps(chat(TASK, "twice 4", stream=False))
        gone.request("POST", PATH, body, headers)
        until(lambda: running_now.pids)
        gone.sock.shutdown(socket.SHUT_RDWR)
        gone.close()
        until(lambda: not running_now.pids, 3)
        inside.gateway.store.flush()
        last = [leaf for leaf in log_of(inside) if leaf["kind"] == "terminal"][-1]
        assert last["status"] == "aborted"


def test_content_of_answers_and_of_checks_is_in_no_log(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py", "audit_share": 1}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(
            inside,
            minds,
            base=says("```python\nraise ValueError('zebrafish')\n```"),
            reference=says("zebrafish"),
        )
        opened(inside, "tests")
        asked(inside)
        settled(inside)
        inside.gateway.store.flush()
        assert "zebrafish" not in json.dumps(log_of(inside))
        assert "zebrafish" not in caplog.text


# --- where it cannot be run


def test_without_a_sandbox_the_reference_answers_and_everybody_is_told(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, **_: bool) -> tuple[str, ...]:
        return ("/bin/sh", "-c", f"cat >/dev/null; echo 'no sandbox: none here' >&{fd}")

    monkeypatch.setattr(children, "command", none)
    monkeypatch.setattr(sandbox, "command", none)
    own = {"check": ["tests"], "tests": "checks/twice.py"}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        minds.says |= {"tiny-1": says(GOOD_CODE), "big-9": says("the reference")}
        whole = ends(inside, ask(inside, 1).receipt)[0]
        assert (whole["deployment"], whole["floor"]["why"]) == ("large", "no-sandbox")
        assert minds.asked == ["big-9"]
        gateway = inside.gateway
        assert probing.unable(gateway.fleet, gateway.config.check_files) == {TASK: "no-sandbox"}
        assert "no sandbox" in probing.sentence(TASK, "no-sandbox")


@pytest.mark.parametrize(
    ("name", "text", "own", "why"),
    [
        ("checks/wards.sql", "CREATE TABEL x;", {"check": ["sql"], "schema": "checks/wards.sql"}, "schema"),
        (
            "checks/wards.sql",
            "ATTACH '/tmp/x' AS x",
            {"check": ["sql"], "schema": "checks/wards.sql"},
            "schema",
        ),
        ("checks/twice.py", "assert twice(", {"check": ["tests"], "tests": "checks/twice.py"}, "tests"),
    ],
)
def test_a_file_that_is_none_closes_its_task_alone_and_the_doctor_says_so(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds, name: str, text: str, own: Any, why: str
) -> None:
    with running(tmp_path, region, trap, own=own, files={name: text}) as inside:
        minds.says |= {"tiny-1": says(GOOD_CODE), "big-9": says("the reference")}
        whole = ends(inside, ask(inside, 1).receipt)[0]
        assert (whole["deployment"], whole["floor"]["why"]) == ("large", why)
        world = inside.world
    if why == "tests":
        found = json.loads(world.here("doctor", "--json").stdout)["findings"]
        assert next(f for f in found if f["name"] == f"checks {TASK}")["state"] == "note"
        assert json.loads(world.here("eval", "promise", "--json").stdout)["cannot_check"] == {TASK: why}


def test_another_file_is_another_promise_and_a_missing_one_no_start(
    tmp_path: Path, region: Region, trap: Trap, minds: Minds
) -> None:
    own = {"check": ["tests"], "tests": "checks/twice.py"}
    with running(tmp_path, region, trap, own=own, files=FILES) as inside:
        begun(inside, minds, base=says(GOOD_CODE))
        first = standing(inside).policy
        world = inside.world
    said = json.loads(world.here("explain", "--app", "ward", "--task", TASK, "--json").stdout)["promise"]
    assert (said["checks"], said["key"]) == (["tests"], "tests")
    assert "checks: tests" in world.here("explain", "--app", "ward", "--task", TASK).stdout
    with running(tmp_path, region, trap, own=own, files={"checks/twice.py": TESTS + "\n"}) as inside:
        assert ask(inside, 1).status == 200
        assert standing(inside).policy != first
    (tmp_path / "home" / "checks" / "twice.py").unlink()
    said = world.here("doctor", "--json")
    assert "twice.py" in said.stdout
    (tmp_path / "home" / "checks" / "twice.py").symlink_to("/etc/hostname")
    assert "not in the folder" in world.here("doctor", "--json").stdout


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"check": ["compile:cobol"]}, "not known"),
        ({"check": ["tests"]}, "missing"),
        ({"check": ["sql"]}, "missing"),
        ({"check": ["agreement"], "tests": "a.py"}, "not used"),
        ({"check": ["tests"], "tests": "../a.py"}, "no path"),
        ({"check": ["tests"], "tests": "/etc/a.py"}, "no path"),
        ({"check": ["agreement"], "key": "tests"}, "not used"),
        ({"check": ["agreement"], "margin": [1]}, "not used"),
        ({"check": ["margin"], "margin": []}, "1 to 5"),
        ({"check": ["margin"], "margin": [1, 1]}, "1 to 5"),
        ({"check": ["margin"], "margin": [Decimal("0.0001")]}, "1 to 5"),
        ({"check": ["margin"], "margin": ["2"]}, "1 to 5"),
        ({"check": ["agreement"], "columns": ["a"]}, "not used"),
        ({"check": ["numeric"], "check_s": 0}, "from 1"),
        ({"check": ["citation", *(f"compile:{x}" for x in cascadefile.LANGUAGES)]}, "too many checks"),
    ],
)
def test_checks_that_mean_nothing_are_an_error(
    tmp_path: Path, region: Region, trap: Trap, own: dict[str, Any], why: str
) -> None:
    with pytest.raises(Invalid) as error:
        parse(config(fleet(region, trap), tasks=[{"name": TASK, "cascade": own}]))
    assert why in error.value.explain()


def test_the_languages_a_configuration_may_name_are_those_that_are_compiled() -> None:
    assert set(cascadefile.LANGUAGES) == set(compiling.LANGUAGES)


def test_I6_checks_run_behind_the_wall_of_the_air_gap_too(tmp_path: Path) -> None:
    """A process of its own, its loop as in production."""
    tasks = [{"name": TASK, "cascade": {"check": ["tests"], "tests": "checks/twice.py", "base": "small"}}]
    text = config(
        [
            deployment("small", "answer", quality={"default": Decimal("0.6")}),
            deployment("large", "echo", quality={"default": Decimal("0.9")}),
        ],
        tasks=tasks,
        tenant={"air_gapped": True},
    )
    world = World(tmp_path / "home", text)
    for name, body in FILES.items():
        (world.root / name).parent.mkdir(exist_ok=True)
        (world.root / name).write_text(body)
    with world.up("ward") as up:
        assert not [notice for notice in up.notices if "sandbox" in notice]
        said = up.chat(chat(TASK, "twice 4", stream=False), app="ward")
        assert said.status == 200
        floor = up.leaf(said.receipt, app="ward")["floor"]
    assert "why" not in floor, "the probe at the start ran in its sandbox, behind the wall"
