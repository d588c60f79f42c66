"""Make the example again: a small log of simulated answers, cosigned, exported, one receipt in every form.

    python examples/verify/make.py

Keys, salts and times are new each time; the home they came from is thrown away: nobody can add to this log.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from allod.domain.decision import Conditions, DecidingRule, Exclusion
from allod.domain.usage import LedgerRow, Usage
from allod.receipts.canonical import canonical
from allod.receipts.commitment import commitment, digest, pseudonym
from allod.receipts.cose import statement_of
from allod.receipts.cosignature import Cosigner
from allod.receipts.ids import new_id
from allod.receipts.leaves import IntentFacts, TerminalFacts, exclusions
from allod.receipts.notes import parse_note
from allod.receipts.tlog_policy import Witness, k_of_n, write_policy
from allod.store.cosigned import demand, keep
from allod.store.export import export_tiles
from allod.store.home import make_home
from allod.store.store import Store
from allod.store.writer import Published

HERE = Path(__file__).resolve().parent
ASKED = b'{"model":"auto","messages":[{"role":"user","content":"Extract the dose: 20 mg ramipril."}]}'
ANSWERED = b'{"choices":[{"message":{"role":"assistant","content":"20 mg"}}]}'
REQUESTS = 21
SHOWN = 9


def answer(store: Store, n: int) -> tuple[str, bytes, bytes]:
    """Record one simulated answer; returns its id and the salts."""
    at_ms, salts = time.time_ns() // 1_000_000, (os.urandom(32), os.urandom(32))
    name, law = new_id(store.keys.origin, at_ms, os.urandom(10)), digest(b"the law in force")
    record = canonical({"example": n})
    usage, cost = Usage(input_tokens=24, output_tokens=3), Decimal("0.000027")
    store.append_intent(
        IntentFacts(
            id=name, at_ms=at_ms, tenant=pseudonym(store.keys.secret, "tenant", "st-elisabeth"),
            app=pseudonym(store.keys.secret, "app", "triage"), surface="chat",
            request=commitment(salts[0], ASKED), classes=("personal", "phi", "special"), pack=law, fleet=law,
            decision=digest(record), purpose="treatment", plan=("ward-llm",),
        ),
        app="triage", salts=salts, record=record,
    )  # fmt: skip
    store.append_attempt(
        name, 1, "ward-llm", started_at_ms=at_ms, reserve_usd=cost, input_tokens=24, price_digest=law
    )  # fmt: skip
    rule = DecidingRule(
        id="residency.5-operator", law="GDPR Art. 48", got="US", required="none", source="example", remedy=""
    )
    row = LedgerRow(
        receipt=name, attempt=1, app="triage", task=None, deployment="ward-llm", started_at_ms=at_ms,
        status="answered", basis="reported", usage=usage, cost_usd=cost, price_digest=law,
    )  # fmt: skip
    end = TerminalFacts(
        id=name, at_ms=at_ms + 40, status="answered", response=commitment(salts[1], ANSWERED),
        deployment="ward-llm", model="scripted", engine="scripted", evidence="simulated", usage=usage,
        conditions=Conditions(process=True, rest=True, transit=True, audit=True, operator=True),
        excluded=exclusions([Exclusion(deployment="cloud-llm", rules=(rule,))]),
    )  # fmt: skip
    store.append_terminal(end, (row,))
    return name, *salts


def cosigned(store: Store, names: dict[str, Cosigner]) -> str:
    """Have three witnesses cosign the log as it is; returns the policy two of whom must be met."""
    known = [Witness(name=name, key=one.key) for name, one in names.items()]
    policy = k_of_n(known, 2, [store.keys.signer.key])
    newest, at_s = store.reader.newest(), int(time.time())
    text = parse_note(newest.checkpoint).text
    lines = "".join(one.line(text, at_s) for one in names.values())
    demand(store, policy)
    keep(store, Published(newest.size, newest.checkpoint + lines.encode()))
    return write_policy(policy)


def main() -> None:
    """Write everything beside this file again."""
    names = {
        "auditor": Cosigner("auditor.example", "ed25519", os.urandom(32)),
        "university": Cosigner("university.example", "ed25519", os.urandom(32)),
        "court": Cosigner("court.example", "ml-dsa-44", os.urandom(32)),
    }
    with tempfile.TemporaryDirectory() as root:
        store = Store.open(make_home(Path(root) / "home"))
        made = [answer(store, n) for n in range(REQUESTS)]
        store.flush()
        (HERE / "policy").write_text(cosigned(store, names))
        name, asked, answered = made[SHOWN]
        file, signer = store.receipt_file(name), store.keys.signer
        assert isinstance(file, bytes)
        (HERE / "receipt.json").write_bytes(file)
        (HERE / "receipt.tlog-proof").write_text(json.loads(file)["terminal"]["proof"])
        (HERE / "leaf.json").write_text(json.loads(file)["terminal"]["leaf"])
        statement = statement_of(signer, file)
        (HERE / "receipt.cose").write_bytes(statement)
        (HERE / "receipt.rfc9942").write_bytes(cbor2.loads(statement).value[1][394][0])
        (HERE / "key").write_text(signer.key.vkey() + "\n")
        public = Ed25519PublicKey.from_public_bytes(signer.key.public)
        (HERE / "key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        shutil.rmtree(HERE / "log", ignore_errors=True)
        export_tiles(store.reader, HERE / "log")
        store.close()
    (HERE / "request.json").write_bytes(ASKED)
    (HERE / "response.json").write_bytes(ANSWERED)
    (HERE / "salts.json").write_text(json.dumps({"request": asked.hex(), "response": answered.hex()}) + "\n")


if __name__ == "__main__":
    main()
