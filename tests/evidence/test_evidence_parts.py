"""The parts of reports: cells nobody can run, identifiers, filing rules, the register's configuration."""

from __future__ import annotations

import csv
import io
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from evidence_world import AT, CONFIG, LEI, OTHER_LEI, D
from hypothesis import example, given
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.domain.register import Register
from allod.evidence import lei, write
from allod.evidence.paper import Finding, Gap, LogState, Report, Sheet, columns, fixed
from allod.evidence.roi_check import check
from allod.evidence.roi_codes import BY_CODE, TEMPLATES
from allod.evidence.roi_rows import Rows
from allod.evidence.tables import safe, write_sheet
from allod.evidence.world import OTHERS, Count, World, tally
from allod.gateway.cli import report
from allod.gateway.config import parse
from allod.store.extract import Entry, Terminal

HOSTILE = st.text(alphabet=st.sampled_from("=+-@\t\r\n ,;\"'<>&|x0\0é\u2028"), max_size=12)


def entry(n: int, purpose: str) -> Entry:
    end = Terminal(id=f"r_{n:08}_", app="a", status="answered", time="", classes=(), decision=D, pack=D,
                   fleet=D,                   attempts=1, purpose=purpose)  # fmt: skip
    return Entry(received_at_ms=AT + n, surface="chat", intent_index=n, terminal_index=n, end=end)


def paper(*rows: tuple[str, ...]) -> Report:
    sheet = Sheet(id="t", title="T", columns=columns("a A\nb B"), rows=fixed(rows))
    hostile = "<script>alert(1)</script>"
    return Report(
        kind="t", title=hostile, law=(hostile,), tenant=hostile, scope=hostile, since="", until="",
        made_at="",        log=LogState(origin="o", size=1, root="r", checkpoint=hostile, vkey="v"),
        fleet=hostile, packs=(hostile,),
        figures=((hostile, hostile),), sheets=(sheet,), gaps=(Gap(where=hostile, what=hostile),),
        findings=(Finding(rule=hostile, where=hostile, detail=hostile),), cannot_know=(hostile,),
        notes=(hostile,),
    )  # fmt: skip


@given(HOSTILE)
@example(" \t")
def test_no_cell_is_taken_for_a_formula_or_breaks_a_line(text: str) -> None:
    cell = safe(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not set(cell) & {"\r", "\n", "\0"}
    assert safe(cell) == cell
    out = io.StringIO()
    write_sheet(out, Sheet(id="t", title="T", columns=columns("a A\nb B"), rows=fixed([(text, "x")])))
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [["a", "b"], [cell, "x"]]


class Tags(HTMLParser):
    """Collects every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


@given(HOSTILE, HOSTILE)
def test_nothing_in_a_page_is_markup_of_somebody_else(one: str, two: str) -> None:
    page = "".join(write.html(paper((one, two + "<img src=x onerror=alert(1)>")), linked=True))
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"script", "img", "iframe", "svg"}


def test_a_page_shows_so_many_rows_and_says_how_many_there_are() -> None:
    page = "".join(
        write.html(paper(*[("x", str(n)) for n in range(write.MOST_ROWS_ON_PAPER + 1)]), linked=False)
    )
    assert page.count("<tr>") == write.MOST_ROWS_ON_PAPER + 1
    assert "the first 5000 of 5001 rows" in page


@pytest.mark.parametrize("text", [LEI, OTHER_LEI, "7LTWFZYICNSX8D621K86", "213800WSGIIZCXF1P572"])
def test_a_right_lei_passes_and_every_change_of_one_letter_or_digit_is_seen(text: str) -> None:
    assert lei.fault(text) is None
    for at in range(20):
        for letter in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            if letter != text[at] and letter.isdigit() == text[at].isdigit():
                assert lei.fault(text[:at] + letter + text[at + 1 :]) is not None


@pytest.mark.parametrize("text", ["", LEI[:-1], LEI + "0", LEI.lower(), LEI[:-1] + "\n", "\u0665" + LEI[1:]])
def test_what_is_no_lei_is_none(text: str) -> None:
    assert lei.fault(text) is not None


def test_counts_are_bounded_and_nothing_is_lost() -> None:
    entries = [entry(n, f"p{n % 50}") for n in range(1000)]
    counts = tally(entries, lambda e: [e.end.purpose or ""], OTHERS, most=10)
    assert len(counts) == 11
    assert sum(count.requests for count in counts.values()) == 1000
    assert counts[OTHERS].requests == 800
    empty = Count()
    assert empty.cells() == ("0", "", "", "", "")


def rows_of(text: str, used: tuple[tuple[str, str], ...] = (("credit", "frankfurt"),)) -> Rows:
    config = parse(text)
    world = World(
        fleet=config.fleet, fleet_digest=D, register=config.register, day=date(2026, 3, 1), made_at_ms=AT,
        since_ms=0, until_ms=AT, entries=lambda: iter(()),
        log=LogState(origin="o", size=0, root="", checkpoint="", vkey=""),
    )  # fmt: skip
    return Rows(world, used)


def faults(rows: Rows, **indicators: bool) -> set[tuple[str, str]]:
    said = {t.code: bool(rows.tables.get(t.code)) for t in TEMPLATES} | indicators
    return {(f.rule, f.where) for f in check(rows.tables, said) if f.rejects}


def test_the_register_has_its_columns_in_official_order_and_passes_the_filing_rules() -> None:
    rows = rows_of(CONFIG)
    assert faults(rows) == set()
    for template in TEMPLATES:
        numbers = [int(name[1:]) for name in template.columns]
        assert numbers == sorted(numbers)
        assert set(template.key) | set(template.mandatory) <= set(template.columns)
    assert len(BY_CODE["B_02.02"].columns) == 18
    assert rows.tables["B_02.02"] == [
        ("C-7", LEI, OTHER_LEI, "LEI", "F1", "eba_TA:S19", "2025-01-01", "9999-12-31", "", "90", "180",
         "eba_GA:IE",         "eba_GA:DE", "eba_BT:x28", "eba_GA:DE", "eba_GA:DE", "eba_ZZ:x793",
         "eba_ZZ:x796"),
        ("C-7", LEI, OTHER_LEI, "LEI", "F1", "eba_TA:S19", "2025-01-01", "9999-12-31", "", "90", "180",
         "eba_GA:IE",         "eba_GA:DE", "eba_BT:x28", "eba_GA:US", "eba_GA:DE", "eba_ZZ:x793",
         "eba_ZZ:x796"),
    ]  # fmt: skip
    assert rows.tables["B_05.02"] == [
        ("C-7", "eba_TA:S19", OTHER_LEI, "LEI", "1", "Not applicable", "Not applicable"),
        ("C-7", "eba_TA:S19", "IE1234567", "IE_VAT", "2", OTHER_LEI, "LEI"),
    ]
    assert rows.tables["B_07.01"] == [
        ("C-7", OTHER_LEI, "LEI", "eba_TA:S19", "eba_ZZ:x960", "eba_ZZ:x964", "2025-05-01", "eba_BT:x28",
         "eba_ZZ:x966",         "eba_ZZ:x793", "eba_BT:x28", "ward-llm"),
    ]  # fmt: skip
    assert not [gap for gap in rows.gaps if gap.where.startswith("B_02.02")]


def test_what_nobody_gave_is_empty_a_gap_and_rule_805_where_it_is_a_key() -> None:
    bare = re.sub(
        r"\[\[contract\]\].*?\n\n",
        '[[contract]]\nreference = "C-7"\nprovider = "us-cloud"\n\n',
        CONFIG,
        flags=re.DOTALL,
    )
    rows = rows_of(bare.replace('at_rest = ["DE", "US"]', 'at_rest = ["EEA"]'))
    row = dict(zip(BY_CODE["B_02.02"].columns, rows.tables["B_02.02"][0], strict=True))
    assert (row["c0060"], row["c0070"], row["c0080"], row["c0100"], row["c0150"], row["c0170"]) == ("",) * 6
    said = {(gap.where, gap.what) for gap in rows.gaps}
    assert (
        "B_02.02 c0150",
        "deployment frankfurt: a country of storage is not known, or only a bloc",
    ) in said
    assert ("B_07.01", "contract C-7: not assessed (contract.exit)") in said
    assert any(rule == "805" and "c0060" in where for rule, where in faults(rows))
    assert "B_07.01" not in rows.tables


def test_rules_806_807_and_808_are_found() -> None:
    rows = rows_of(CONFIG)
    rows.tables["B_02.01"] *= 2
    assert {rule for rule, _ in faults(rows)} == {"806"}
    rows = rows_of(CONFIG)
    del rows.tables["B_06.01"]
    assert {rule for rule, _ in faults(rows)} == {"807"}
    rows = rows_of(CONFIG)
    assert faults(rows, **{"B_01.03": True, "B_02.01": False}) == {("808", "B_01.03"), ("808", "B_02.01")}
    unnamed = rows_of(CONFIG.replace('[[provider]]\nid = "us-cloud"', '[[provider]]\nid = "nobody"'))
    assert {rule for rule, _ in faults(unnamed)} >= {"805"}


def test_a_wrong_lei_and_a_word_of_no_list_are_findings() -> None:
    wrong = LEI[:-1] + "6"
    rows = rows_of(
        CONFIG.replace(f'\nlei = "{LEI}"', f'\nlei = "{wrong}"').replace(
            'type = "standalone"', 'type = "solo"'
        )
    )
    said = {t.code: bool(rows.tables.get(t.code)) for t in TEMPLATES}
    assert any(f.rule == "ISO 17442" and "B_01.01" in f.where for f in check(rows.tables, said))
    assert any("'solo' is none of standalone" in gap.what for gap in rows.gaps)


def test_a_register_that_was_never_written_is_all_gaps_and_no_invention() -> None:
    rows = rows_of(CONFIG[: CONFIG.index("[register]")])
    assert {cell for table in rows.tables.values() for row in table for cell in row} <= {
        "", "2026-03-01", "9999-12-31", "F1",
    }  # fmt: skip
    assert len(rows.gaps) > 10
    assert parse(CONFIG[: CONFIG.index("[register]")]).register == Register()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('reference = "C-7"', 'reference = "C-7"\nrefrence = "x"', "refrence"),
        ('provider = "us-cloud"', 'provider = "us-clod"', "us-cloud"),
        ('where = "equipment"', 'where = "basement"', "basement"),
        ('classes = ["phi"]\npurposes = ["treatment"]\ncontract', 'classes = ["fi"]\ncontract', "fi"),
        ("rank = 2", "rank = 1", "rank"),
        ('recipient = "us-cloud"', 'recipient = "nobody"', "nobody"),
        ('function = "F1"\nsource', 'function = "F9"\nsource', "F9"),
        ('deployment = "ward-llm"\nowner', 'deployment = "ward"\nowner', "ward-llm"),
        ("definitions = { c0040", "definitions = { c0041", "c0041"),
        ('country = "DE"\ntype', 'country = "XX"\ntype', "XX"),
        ("start = 2025-01-01", 'start = "2025-01-01"', "start"),
    ],
)  # fmt: skip
def test_a_typo_in_the_register_is_an_error_that_names_it(old: str, new: str, told: str) -> None:
    assert old in CONFIG
    with pytest.raises(Invalid) as error:
        parse(CONFIG.replace(old, new, 1))
    assert told in error.value.what + error.value.why


def test_the_example_in_the_docs_is_read_whole() -> None:
    page = (Path(__file__).parents[2] / "docs/reports.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    register = parse(CONFIG[: CONFIG.index("[register]")] + example).register
    for table in (
        "functions",
        "providers",
        "contracts",
        "activities",
        "models",
        "declared",
        "subcontractors",
    ):
        assert getattr(register, table), table
    assert register.contracts["C-7"].exit.reason == "migration"
    assert not faults(rows_of(CONFIG[: CONFIG.index("[register]")] + example))


def test_an_operator_with_entry_and_contract_is_registered() -> None:
    fleet = parse(CONFIG).fleet
    assert {o.id: o.registered for o in fleet.operators.values()} == {
        "self": False,
        "us-cloud": True,
        "mystery": False,
    }


def test_the_last_day_of_a_period_counts_whole() -> None:
    assert report._until("2025-11-25", AT) == 1_764_028_800_000 + 86_400_000
    assert report._until("2025-11-25T01:00:00+01:00", AT) == 1_764_028_800_000
    assert report._until("30d", AT) == AT - 30 * 86_400_000


def test_a_struct_of_the_register_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Register().controller = "x"  # type: ignore[misc]
    assert msgspec.to_builtins(Register())["declared"] == {}
