from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from allod.domain.decision import Conditions, DecidingRule, Exclusion
from allod.domain.errors import Integrity, Invalid
from allod.domain.money import rfc3339
from allod.domain.usage import Usage
from allod.receipts.canonical import canonical, parse
from allod.receipts.commitment import StreamCommitment, commitment, digest, opens, pseudonym
from allod.receipts.file import read_leaf
from allod.receipts.handling import Handling
from allod.receipts.ids import id_prefix, is_id, is_origin, new_id, origin_from, time_of, ulid
from allod.receipts.leaves import (
    IntentFacts,
    NoticeFacts,
    TerminalFacts,
    exclusions,
    intent_leaf,
    leaf_time,
    notice_leaf,
    terminal_leaf,
)

D = digest(b"something")
kinds = st.dictionaries(
    st.text(max_size=60) | st.sampled_from(["EMAIL", "IBAN"]), st.integers(1, 2**60), max_size=40
)
INTENT = IntentFacts(
    id="r_799d48f3_01KAY867ME4K6YPXCY6ESP6P6X",
    at_ms=1_764_099_301_005,
    tenant="p_" + "0" * 32,
    app="p_" + "1" * 32,
    surface="chat",
    request=D,
    classes=("personal", "phi", "special"),
    pack=D,
    fleet=D,
    decision=D,
    purpose="treatment",
    task="extract",
    plan=("ward-llm", "spare"),
)
TERMINAL = TerminalFacts(
    id=INTENT.id,
    at_ms=INTENT.at_ms + 80,
    status="answered",
    response=D,
    deployment="ward-llm",
    model="reference",
    engine="llamacpp",
    evidence="self-run",
    weights=D,
    sandbox="seccomp+netns",
    conditions=Conditions(process=True, rest=True, transit=True, audit=True, operator=False),
    usage=Usage(input_tokens=230, output_tokens=12, cache_write_1h_tokens=3),
    cost_usd=Decimal("0.001250"),
    price_digest=D,
    basis="reported",
    attempts=1,
)
HASH = bytes(32)

anything = (
    st.text(max_size=400) | st.text(st.characters(max_codepoint=0x1F), max_size=300) | st.just("\ud800x")
)
names = anything.filter(bool)
lists = st.lists(names, max_size=40).map(tuple)


def rule(name: str) -> DecidingRule:
    return DecidingRule(id=name, law="", got="unknown", required="EEA", source="", remedy="")


def test_an_intent_leaf_says_what_was_known() -> None:
    facts, leaf = intent_leaf(INTENT)
    assert facts is INTENT
    assert msgspec.json.decode(leaf) == {
        "v": 1,
        "kind": "intent",
        "id": INTENT.id,
        "time": "2025-11-25T19:35:01.005Z",
        "tenant": INTENT.tenant,
        "app": INTENT.app,
        "surface": "chat",
        "request": D,
        "classes": ["personal", "phi", "special"],
        "pack": D,
        "fleet": D,
        "decision": D,
        "purpose": "treatment",
        "task": "extract",
        "plan": ["ward-llm", "spare"],
        "durability": "default",
    }


def test_an_intent_leaf_counts_what_was_found_and_names_nothing_else() -> None:
    many = {f"K{n:02d}": n for n in range(1, 30)}
    data = Handling(detected={"IBAN": 1, "EMAIL": 2}, detector="detect-1", dropped=many)
    leaf = msgspec.json.decode(intent_leaf(msgspec.structs.replace(INTENT, data=data))[1])
    assert leaf["data"]["detected"] == {"EMAIL": 2, "IBAN": 1}
    assert "covered" not in leaf["data"]
    assert len(leaf["data"]["dropped"]) == 17
    assert sum(leaf["data"]["dropped"].values()) == sum(many.values())
    assert list(leaf["data"]["dropped"]) == sorted(leaf["data"]["dropped"])
    assert "data" not in msgspec.json.decode(intent_leaf(INTENT)[1])


def test_a_terminal_leaf_repeats_the_intent_and_says_how_it_ended() -> None:
    leaf = msgspec.json.decode(terminal_leaf(INTENT, HASH, TERMINAL))
    assert leaf["intent"] == "sha256:" + "00" * 32
    assert leaf["cost_usd"] == "0.00125"
    assert leaf["tokens"] == {"cache_write_1h": 3, "input": 230, "output": 12}
    assert leaf["conditions"]["operator"] is False
    for name in ("tenant", "app", "request", "pack", "fleet", "decision", "purpose", "task", "durability"):
        assert leaf[name] == getattr(INTENT, name)


@given(
    st.builds(
        IntentFacts,
        id=st.just(INTENT.id),
        at_ms=st.integers(0, 4_102_444_800_000),
        tenant=names,
        app=names,
        surface=names,
        request=names,
        classes=lists,
        pack=names,
        fleet=names,
        decision=names,
        purpose=st.none() | anything,
        task=st.none() | anything,
        plan=lists,
        parents=lists,
        durability=st.sampled_from(["default", "strict"]),
        data=st.none() | st.builds(Handling, covered=kinds, detected=kinds, detector=names, dropped=kinds),
    ),
    st.builds(
        TerminalFacts,
        id=st.just(INTENT.id),
        at_ms=st.integers(0, 4_102_444_800_000),
        status=st.sampled_from(["answered", "refused", "aborted", "failed"]),
        reason=anything,
        detail=st.text(max_size=3000) | anything,
        response=st.none() | names,
        deployment=st.none() | names,
        model=st.none() | names,
        engine=st.none() | names,
        engine_version=st.none() | names,
        engine_digest=st.none() | names,
        weights=st.none() | names,
        template=st.none() | names,
        adapter=st.none() | names,
        sandbox=st.none() | names,
        evidence=st.just("self-run"),
        notice=st.none() | names,
        relaxed=lists,
        usage=st.none()
        | st.builds(Usage, input_tokens=st.integers(-5, 2**70), output_tokens=st.integers(0, 2**60)),
        cost_usd=st.none() | st.decimals(0, 10**9, places=9),
        attempts=st.integers(0, 100),
        excluded=st.lists(st.tuples(names, lists), max_size=30).map(
            lambda pairs: exclusions(Exclusion(deployment=d, rules=tuple(map(rule, r))) for d, r in pairs)
        ),
    ),
)
def test_whatever_the_facts_a_leaf_is_canonical_and_under_4_kb(
    intent: IntentFacts, facts: TerminalFacts
) -> None:
    written, first = intent_leaf(intent)
    last = terminal_leaf(written, HASH, facts)
    for leaf, kind in ((first, "intent"), (last, "terminal")):
        read = read_leaf(leaf, kind)
        assert rfc8785.dumps(read) == leaf
        assert len(leaf) < 4096
    a, b = msgspec.json.decode(first), msgspec.json.decode(last)
    assert {k: a.get(k) for k in ("tenant", "app", "classes", "purpose", "task", "parents")} == {
        k: b.get(k) for k in ("tenant", "app", "classes", "purpose", "task", "parents")
    }


def test_twenty_excluded_deployments_with_nine_rules_each_fit_whole() -> None:
    excluded = exclusions(
        Exclusion(
            deployment=f"a-deployment-with-a-long-name-{d}",
            rules=tuple(rule(f"residency.{(d + r) % 14}-condition-name") for r in range(9)),
        )
        for d in range(20)
    )
    leaf = read_leaf(
        terminal_leaf(INTENT, HASH, msgspec.structs.replace(TERMINAL, status="refused", excluded=excluded)),
        "terminal",
    )
    assert "excluded_digest" not in leaf
    assert len(leaf["excluded"]) == 20
    name, numbers = leaf["excluded"][3]
    assert name.endswith("-3")
    assert [leaf["rules"][n] for n in numbers] == [
        f"residency.{(3 + r) % 14}-condition-name" for r in range(9)
    ]


def test_more_exclusions_than_fit_become_their_digest_and_the_first_ones() -> None:
    excluded = exclusions(
        Exclusion(deployment=f"deployment-{d}", rules=tuple(rule(f"rule-{d}-{r}") for r in range(9)))
        for d in range(60)
    )
    data = terminal_leaf(INTENT, HASH, msgspec.structs.replace(TERMINAL, excluded=excluded, detail="x" * 500))
    leaf = read_leaf(data, "terminal")
    assert leaf["excluded_count"] == 60
    assert 0 < len(leaf["excluded"]) < 60
    assert leaf["excluded_digest"] == digest(
        canonical({"excluded": excluded.entries, "rules": excluded.rules})
    )
    assert [leaf["rules"][n] for n in leaf["excluded"][1][1]] == [f"rule-1-{r}" for r in range(9)]


def test_detail_is_cut_before_anything_else() -> None:
    leaf = read_leaf(
        terminal_leaf(INTENT, HASH, msgspec.structs.replace(TERMINAL, detail="\u00fc" * 5000)), "terminal"
    )
    assert len(leaf["detail"].encode()) <= 512
    assert leaf["deployment"] == "ward-llm"


@pytest.mark.parametrize("evidence", ["operator-claims", "tee-attested", "simulated", None])
@pytest.mark.parametrize("name", ["weights", "adapter", "template"])
def test_a_remote_model_never_carries_a_weights_digest(name: str, evidence: str | None) -> None:
    facts = msgspec.structs.replace(TERMINAL, evidence=evidence, weights=None)
    terminal_leaf(INTENT, HASH, facts)
    with pytest.raises(Integrity, match="weights"):
        terminal_leaf(INTENT, HASH, msgspec.structs.replace(facts, **{name: D}))


@given(st.dictionaries(names, anything, max_size=40), anything, names)
def test_a_notice_is_canonical_and_under_4_kb(facts: dict[str, str], detail: str, subject: str) -> None:
    data = notice_leaf(
        NoticeFacts(id=INTENT.id, at_ms=0, tenant="p_0", subject=subject, detail=detail, facts=facts)
    )
    read_leaf(data, "notice")


@given(st.integers(0, 253_402_300_799_999))
def test_leaf_time_is_rfc_3339_in_milliseconds(at_ms: int) -> None:
    assert leaf_time(at_ms) == rfc3339(at_ms)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_receipt_id_carries_its_log_and_time(at_ms: int, random10: bytes) -> None:
    origin = origin_from(b"\x01" * 8)
    receipt = new_id(origin, at_ms, random10)
    assert is_origin(origin)
    assert is_id(receipt)
    assert receipt.startswith(id_prefix(origin))
    assert time_of(receipt) == at_ms
    value = 0
    for letter in receipt[11:]:
        value = value * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(letter)
    assert value == at_ms << 80 | int.from_bytes(random10, "big")


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time(at_ms: int, a: bytes, b: bytes) -> None:
    assert ulid(at_ms, a) < ulid(at_ms + 1, b)


def test_ids_out_of_range_are_refused() -> None:
    for at_ms, chance in ((-1, bytes(10)), (2**48, bytes(10)), (0, bytes(9))):
        with pytest.raises(Invalid):
            ulid(at_ms, chance)
    for text in (
        "r_799d48f3_81KAY867ME4K6YPXCY6ESP6P6X",
        "r_799D48F3_01KAY867ME4K6YPXCY6ESP6P6X",
        "r_799d48f3_01KAY867ME4K6YPXCY6ESP6P6I",
        "",
    ):
        assert not is_id(text)
        with pytest.raises(Invalid):
            time_of(text)


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(max_size=50), max_size=9))
def test_a_stream_is_committed_to_as_its_whole(salt: bytes, pieces: list[bytes]) -> None:
    stream = StreamCommitment(salt)
    for piece in pieces:
        stream.update(piece)
    body = b"".join(pieces)
    assert stream.text() == commitment(salt, body)
    assert opens(stream.text(), salt, body)
    assert not opens(stream.text(), salt, body + b"x")
    assert not opens(stream.text(), bytes(31) + b"\x01" if salt != bytes(31) + b"\x01" else bytes(32), body)


def test_salts_and_secrets_have_their_length() -> None:
    for salt in (b"", bytes(31), bytes(33)):
        with pytest.raises(Invalid):
            commitment(salt, b"")
        with pytest.raises(Invalid):
            StreamCommitment(salt)
    with pytest.raises(Invalid):
        pseudonym(b"short", "app", "triage")


def test_pseudonyms_keep_kinds_and_homes_apart() -> None:
    one = pseudonym(bytes(32), "app", "triage")
    assert one == pseudonym(bytes(32), "app", "triage")
    assert len({one, pseudonym(bytes(32), "tenant", "triage"), pseudonym(b"\x01" * 32, "app", "triage")}) == 3


def test_a_leaf_of_another_kind_or_version_is_refused() -> None:
    _, leaf = intent_leaf(INTENT)
    with pytest.raises(Integrity):
        read_leaf(leaf, "terminal")
    for bad in (
        leaf.replace(b'"v":1', b'"v":2'),
        b"[]",
        b"{}",
        leaf[:-1],
        canonical({"kind": "intent", "v": 1, "x": "y" * 4090}),
    ):
        with pytest.raises(Integrity):
            read_leaf(bad, "intent")
    assert parse(leaf, what="it")["id"] == INTENT.id
