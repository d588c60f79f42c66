"""Languages and queries inside the sandbox: what is one passes, what is none or does more than read fails."""

from __future__ import annotations

import platform
from typing import Any

import pytest

from allod.assurance.blocks import Block, fenced, written_in
from allod.assurance.querying import Broken, opened, queried, statements
from allod.assurance.sandbox import Order, run

SCHEMA = "CREATE TABLE w (id INTEGER, name TEXT); INSERT INTO w VALUES (1, 'a'), (2, 'b');"
linux = pytest.mark.skipif(platform.system() != "Linux", reason="the sandbox is Linux's seccomp")


def said(kind: Any, code: str, **more: Any) -> str:
    return run(Order(kind=kind, code=code, word="WORD", cpu_s=2, memory_bytes=256 << 20, **more))


@linux
@pytest.mark.parametrize(
    ("language", "right", "wrong"),
    [
        ("python", "def f():\n    return 1\n", "def f(:"),
        ("json", '{"a": [1]}', '{"a": 1, "a": 2}'),
        ("toml", "a.b = 1", "a = "),
        ("xml", "<a><b/></a>", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'),
        ("sql", "SELECT a FROM nowhere WHERE b = ?", "SELECT a FROM nowhere WHERE ("),
        ("sql", "INSERT INTO x VALUES (1); DELETE FROM y", "PRAGMA user_version = 3"),
    ],
)
def test_a_language_is_told_from_what_is_none_and_nothing_is_run(
    language: str, right: str, wrong: str
) -> None:
    assert said("compile", right, language=language) == "WORD"
    found = said("compile", wrong, language=language)
    assert found
    assert found != "WORD"
    assert wrong not in found


@linux
def test_names_are_resolved_over_a_schema() -> None:
    assert said("compile", "SELECT name FROM w", language="sql", schema=SCHEMA) == "WORD"
    assert said("compile", "SELECT colour FROM w", language="sql", schema=SCHEMA) != "WORD"


@linux
def test_rows_are_compared_in_order_only_where_the_query_orders_them() -> None:
    one = said("query", "SELECT id FROM w ORDER BY id", schema=SCHEMA)
    assert one.startswith("WORD ")
    assert said("query", "select id as n from w order by id asc;", schema=SCHEMA) == one
    assert said("query", "SELECT id FROM w ORDER BY id DESC", schema=SCHEMA) != one
    bag = said("query", "SELECT id FROM w", schema=SCHEMA)
    assert said("query", "SELECT id FROM (SELECT id FROM w ORDER BY id DESC)", schema=SCHEMA) == bag
    assert said("query", "SELECT id, name FROM w", schema=SCHEMA) != bag
    assert said("query", "SELECT * FROM w", schema=SCHEMA, columns=("ID", "name"), some=True)[:4] == "WORD"
    assert said("query", "SELECT * FROM w", schema=SCHEMA, columns=("id",)) == "other columns"
    assert said("query", "SELECT * FROM w WHERE 0", schema=SCHEMA, some=True) == "no rows"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO w VALUES (3, 'c')",
        "INSERT INTO w VALUES (3, 'c') RETURNING id",
        "DROP TABLE w",
        "CREATE TEMP TABLE t (a)",
        "ATTACH 'x.db' AS x",
        "VACUUM INTO 'x.db'",
        "PRAGMA writable_schema = 1",
        "SELECT * FROM pragma_table_info('w')",
        "SELECT load_extension('x')",
        "BEGIN",
        "SELECT id FROM nowhere",
        "SELECT zeroblob(2000000000)",
        "SELECT ?",
        "",
    ],
)
def test_a_query_does_nothing_but_read(sql: str) -> None:
    """Also without the child around it: the authorizer alone refuses."""
    database = opened(SCHEMA)

    def ask() -> None:
        for one in statements(sql):
            queried(database, one)

    with pytest.raises(Broken):
        ask()
    assert queried(database, "SELECT * FROM w").count == 2


def test_steps_rows_and_statements_are_bounded() -> None:
    database = opened(SCHEMA)
    forever = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    with pytest.raises(Broken, match="steps"):
        queried(database, forever + "SELECT sum(x) FROM c")
    with pytest.raises(Broken, match="rows"):
        queried(database, forever + "SELECT x FROM c LIMIT 20000")
    for sql in ("SELECT 1;" * 17, ";" * 100, "SELECT '" + ";" * 70_000):
        with pytest.raises(Broken):
            statements(sql)
    assert len(statements("SELECT ';'; -- ;\nSELECT 2;")) == 2
    assert statements("SELECT 1; -- all; of them\n/* and; no more */ ;") == ("SELECT 1;",)
    with pytest.raises(Broken, match="schema"):
        opened("ATTACH 'x.db' AS x")


def test_blocks_are_read_by_their_language() -> None:
    text = "So:\n```python\na = 1\n```\nand\n~~~~ SQL\n```\nSELECT 1\n~~~~\n```\nplain\n```\n"
    assert fenced(text) == (
        Block("python", "a = 1"),
        Block("sql", "```\nSELECT 1"),
        Block("", "plain"),
    )
    assert written_in("python", text) == ("a = 1",)
    assert written_in("json", text) == ("plain",)
    assert written_in("python", "a = 1") == ("a = 1",)
    assert written_in("python", "```sql\nSELECT 1\n```") == ()
    assert written_in("python", "```python\na = 1") == (), "a block that never ends is none"
    assert written_in("python", "```python\n \n```") == ()
    assert fenced("```\n\n```\n" * 65) is None
