"""A bank's world for reports: a home filled through the public interface, and its configuration."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from allod.domain.decision import Conditions, DecidingRule, Exclusion
from allod.domain.usage import LedgerRow, Usage
from allod.gateway import compose
from allod.gateway.cli import program
from allod.receipts.canonical import canonical
from allod.receipts.commitment import commitment, digest, pseudonym
from allod.receipts.ids import id_prefix, ulid
from allod.receipts.leaves import IntentFacts, TerminalFacts, exclusions
from allod.store.home import load_keys, make_home
from allod.store.store import Store
from allod.store.writer import Settings

AT = 1_764_099_301_000
DAY_MS = 86_400_000
LEI = "529900T8BM49AURSDO55"
OTHER_LEI = "5493001KJTIIGC8Y1R12"
D = digest(b"x")

CONFIG = """
[tenant]
id = "nordbank"
home = "DE"
bloc = ["EEA"]
min_seal = [3, 3, 3, 3, 3, 3, 3, 3]

[[app]]
id = "credit"
classes = ["personal"]
function = "F1"
risk = "high"
attestations = { human-oversight = { value = true, source = "A. Weber", as_of = 2025-06-01 } }

[[app]]
id = "ward"
classes = ["phi"]
purposes = ["treatment", "research"]

[[app]]
id = "press"
classes = ["public"]

[[operator]]
id = "self"
own = true
seat = "DE"
controlled_from = ["DE"]
compelled_by = []

[[operator]]
id = "us-cloud"
seat = { value = "IE", grade = "attested", source = "extract of the register, Dublin" }
controlled_from = ["US"]
compelled_by = { value = ["US-CLOUD-ACT", "US-FISA-702"], grade = "declared", source = "legal memo 7" }
agreements.dpa = true
agreements.scc = { value = true, grade = "contract", source = "DPA annex 4", expires = 2099-01-01 }

[[operator]]
id = "mystery"
seat = "IN"

[[deployment]]
id = "ward-llm"
engine = "scripted"
model = "answer"
operator = "self"
processing = "DE"
at_rest = "none"
transit = ["DE"]
on_premises = true
records_auditable = true
inspectable = true
seal = { value = [4, 4, 4, 4, 3, 3, 4, 2], grade = "attested", as_of = 2025-01-01, source = "audit 12" }
price = { input_usd_mtok = 1, output_usd_mtok = 2 }

[[deployment]]
id = "frankfurt"
engine = "scripted"
model = "echo"
operator = "us-cloud"
processing = "DE"
at_rest = ["DE", "US"]
transit = ["DE"]
retention_days = { value = 30, grade = "contract" }
price = { input_usd_mtok = 5, output_usd_mtok = 30 }

[[deployment]]
id = "pune"
engine = "scripted"
model = "obey"
operator = "mystery"
processing = "IN"
price = { input_usd_mtok = 1, output_usd_mtok = 1 }

[[task]]
name = "score"

[register]
lei = "529900T8BM49AURSDO55"
name = "Nordbank AG"
country = "DE"
type = "credit-institution"
hierarchy = "outside-group"
parent_lei = "529900T8BM49AURSDO55"
competent_authority = "BaFin"
currency = "EUR"
total_assets = 4200000000
integrated = 2025-01-17
updated = 2025-03-31
controller = "Nordbank AG, Kiel"
contact = "privacy@nordbank.example"
officer = "M. Adeyemi"
definitions = { c0040 = "No customer data" }

[[function]]
id = "F1"
name = "Credit scoring"
activity = "eba_TA:x163"
critical = true
assessed_on = 2025-02-01
rto_hours = 4
rpo_hours = 1
impact = "high"

[[provider]]
id = "us-cloud"
code = "5493001KJTIIGC8Y1R12"
code_type = "LEI"
name = "=Example Cloud Ltd"
person = "legal"
parent_code = "5493001KJTIIGC8Y1R12"
parent_code_type = "LEI"

[[provider]]
id = "chips"
code = "IE1234567"
code_type = "IE_VAT"
name = "Chips Ltd"
person = "legal"
country = "IE"
parent_code = "IE1234567"
parent_code_type = "IE_VAT"

[[contract]]
reference = "C-7"
provider = "us-cloud"
type = "standalone"
services = ["S19"]
currency = "EUR"
annual_cost = 120000.50
start = 2025-01-01
end = 9999-12-31
notice_days = 90
provider_notice_days = 180
law = "IE"
provision = "DE"
sensitiveness = "high"
reliance = "material"
[contract.exit]
substitutability = "highly-complex"
reason = "migration"
audited_on = 2025-05-01
exit_plan = true
reintegration = "difficult"
impact = "high"
alternatives = true
alternative = "ward-llm"

[[subcontractor]]
contract = "C-7"
service = "S19"
provider = "chips"
rank = 2
recipient = "us-cloud"

[[activity]]
purpose = "treatment"
subjects = ["patients"]
erasure = "ten years after the end of treatment"
security = "encryption, four eyes"

[[inventory]]
deployment = "ward-llm"
owner = "Dr. Kaya"
purpose = "summaries of findings"
validated_on = 2025-04-01
validated_by = "Model Risk"
limits = "German only"
monitoring = "monthly sample"

[[declared]]
id = "mri-7"
name = "MRI with image triage"
where = "equipment"
supplier = "Scanner SA"
processing = "DE"
at_rest = ["US"]
compelled_by = ["US-CLOUD-ACT"]
model = "triage-net 3"
classes = ["phi"]
purposes = ["treatment"]
contract = "C-7"
function = "F1"
source = "data sheet 4"
as_of = 2025-02-02
"""


class Bank:
    """One home, filled request by request."""

    def __init__(self, root: Path, text: str = CONFIG) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home = make_home(root)
        self.home.config.write_text(text)
        self.keys = load_keys(self.home)
        self.n = 0
        self.at_ms = AT

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = Store.open(self.home, settings=Settings(gather_s=0.001, segment_bytes=4 << 20))
        try:
            yield store
            store.flush()
        finally:
            store.close()

    def ask(
        self,
        store: Store,
        app: str,
        deployment: str | tuple[str, ...] | None = "ward-llm",
        *,
        classes: tuple[str, ...] = ("personal",),
        subject: str | None = None,
        purpose: str | None = None,
        task: str | None = None,
        status: str = "answered",
        ends: bool = True,
        excluded: tuple[Exclusion, ...] = (),
        fleet: str = D,
    ) -> str:
        """Put one request into the log, attempts and ledger included; returns its receipt."""
        self.n += 1
        at_ms = self.at_ms + self.n * 1000
        names = (deployment,) if isinstance(deployment, str) else deployment or ()
        salts = (os.urandom(32), os.urandom(32))
        record = canonical({"n": self.n})
        receipt = id_prefix(self.keys.origin) + ulid(at_ms, os.urandom(10))
        intent = IntentFacts(
            id=receipt,
            at_ms=at_ms,
            tenant="p_t",
            app=pseudonym(self.keys.secret, "app", app),
            surface="chat",
            request=commitment(salts[0], b"q"),
            classes=classes,
            pack=D,
            fleet=fleet,
            decision=digest(record),
            purpose=purpose,
            task=task,
            plan=names,
        )
        store.append_intent(intent, app=app, salts=salts, record=record, subject=subject)
        rows = []
        for number, name in enumerate(names, 1):
            store.append_attempt(
                receipt,
                number,
                name,
                started_at_ms=at_ms,
                reserve_usd=Decimal(1),
                input_tokens=7,
                price_digest=D,
            )
            answered = status == "answered" and name == names[-1]
            rows.append(row(receipt, number, app, task, name, at_ms, "answered" if answered else "failed"))
        if ends:
            store.append_terminal(end(receipt, at_ms, status, salts[1], names, excluded), rows)
        return receipt

    def run(self, *args: str) -> Result:
        """Run a command of Allod on this home, in this process."""
        before = os.environ.get("ALLOD_HOME")
        os.environ["ALLOD_HOME"] = str(self.root)
        try:
            return CliRunner().invoke(program, args, catch_exceptions=True)
        finally:
            if before is None:
                del os.environ["ALLOD_HOME"]
            else:
                os.environ["ALLOD_HOME"] = before

    def setting(self) -> Any:
        """The setting of this home."""
        os.environ["ALLOD_HOME"] = str(self.root)
        try:
            return compose.setting()
        finally:
            del os.environ["ALLOD_HOME"]


def row(
    receipt: str, number: int, app: str, task: str | None, deployment: str, at_ms: int, status: Any
) -> LedgerRow:
    """The ledger row of one attempt."""
    return LedgerRow(
        receipt=receipt, attempt=number, app=app, task=task, deployment=deployment, started_at_ms=at_ms,
        status=status, basis="reported", usage=Usage(input_tokens=5, output_tokens=6),
        cost_usd=Decimal("0.25"), price_digest=D,
    )  # fmt: skip


def end(
    receipt: str,
    at_ms: int,
    status: Any,
    salt: bytes,
    names: tuple[str, ...],
    excluded: tuple[Exclusion, ...],
) -> TerminalFacts:
    """How a request ended."""
    return TerminalFacts(
        id=receipt,
        at_ms=at_ms + 900,
        status=status,
        response=commitment(salt, b"a") if status == "answered" else None,
        deployment=names[-1] if names else None,
        model=f"{names[-1]}-model" if names else None,
        engine="scripted" if names else None,
        evidence="operator-claims" if names else None,
        conditions=Conditions(process=True, rest=True, transit=True, audit=False, operator=False),
        excluded=exclusions(excluded),
        usage=Usage(input_tokens=5, output_tokens=6) if names else None,
        attempts=len(names),
    )


def left_out(name: str, *rules: str) -> Exclusion:
    """An excluded deployment."""
    return Exclusion(
        deployment=name,
        rules=tuple(
            DecidingRule(
                id=rule, law="GDPR Art 44", got="US", required="EEA", source="configuration", remedy="none"
            )
            for rule in rules
        ),
    )


def busy(bank: Bank) -> dict[str, str]:
    """A week of requests; returns some receipts by what they are."""
    out: dict[str, str] = {}
    with bank.store() as store:
        out["own"] = bank.ask(
            store, "ward", classes=("personal", "phi", "special"), purpose="treatment", subject="patient-1"
        )
        out["abroad"] = bank.ask(
            store,
            "ward",
            "frankfurt",
            classes=("personal", "phi", "special"),
            purpose="research",
            subject="patient-1",
        )
        out["twice"] = bank.ask(store, "credit", ("pune", "frankfurt"), subject="patient-2", task="score")
        out["refused"] = bank.ask(
            store, "credit", None, status="refused", excluded=(left_out("frankfurt", "residency.5-operator"),)
        )
        out["public"] = bank.ask(store, "press", "frankfurt", classes=("public",))
        out["gone"] = bank.ask(store, "credit", "old-region")
        for _ in range(5):
            bank.ask(store, "credit", "frankfurt", purpose="scoring")
    return out


def seconds() -> float:
    """Time for measuring."""
    return time.process_time()


def decode(data: bytes) -> Any:
    """Read JSON."""
    return msgspec.json.decode(data)
