"""What is found, where, and what is left alone."""

# ruff: noqa: RUF001 (examples of many languages)

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from allod.admission.bench import classes, detect, detector
from allod.admission.detect import Config, Detector
from allod.admission.detect.model import PERSONAL_TYPES, SECRET_TYPES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name):
    if str(BENCHMARKS) not in sys.path:
        sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    for name in ("classification_values", "classification_texts", "classification_later"):
        load(name)
    return load("classification")


SPANS = [
    ("Meine Steuer-ID lautet 86883214577.", "86883214577", "DE_TAX_ID"),
    ("INSEE : 2 79 02 16 879 818 63", "2 79 02 16 879 818 63", "FR_NIR"),
    ("O CPF da cliente: 874.343.629-36", "874.343.629-36", "BR_CPF"),
    ("mi documento es el 72107120G", "72107120G", "ES_DNI"),
    ("födda: 551225-8202", "551225-8202", "SE_PERSONNUMMER"),
    ("hetu 190776-397A", "190776-397A", "FI_HETU"),
    ("주민등록번호는 691222-1259113이고", "691222-1259113", "KR_RRN"),
    ('{"taxId":"86883214577"}', "86883214577", "DE_TAX_ID"),
    ("customerBsn=674520841", "674520841", "NL_BSN"),
    ("ssn536904399", "536904399", "US_SSN"),
    ("NINO AB 12 34 56 C", "AB 12 34 56 C", "UK_NINO"),
    ("HKID A123456(3)", "A123456(3)", "HK_ID"),
    ("Rentenversicherungsnummer 65180539W001", "65180539W001", "DE_PENSION"),
    ("Passport no. C01X00T47", "C01X00T47", "PASSPORT"),
    ("MRN 00482913 ward 4", "00482913", "MEDICAL_RECORD"),
    ("Call me on 07911 123456!", "07911 123456", "PHONE"),
    ("+44(0)292018429", "+44(0)292018429", "PHONE"),
    ("Fax: 345-899-3560x4587", "345-899-3560x4587", "PHONE"),
    ("☎ 030 1234567", "030 1234567", "PHONE"),
    ("to anna@example.org.", "anna@example.org", "EMAIL"),
    ("メールはa.b@example.comです", "a.b@example.com", "EMAIL"),
    ("иван@пример.рф", "иван@пример.рф", "EMAIL"),
    ("IBAN GB29 NWBK 6016 1331 9268 19, ok", "GB29 NWBK 6016 1331 9268 19", "IBAN"),
    ("Karte 4111-1111-1111-1111 gesperrt", "4111-1111-1111-1111", "CARD"),
    ("She was born on 2 May 1984 in Graz", "2 May 1984", "DATE_OF_BIRTH"),
    ("生年月日：1984年5月2日", "1984年5月2日", "DATE_OF_BIRTH"),
    ("wohnt Lindenstraße 8, 50674 Köln", "Lindenstraße 8, 50674 Köln", "STREET_ADDRESS"),
    ("at 14 Mill Lane today", "14 Mill Lane", "STREET_ADDRESS"),
    ("mora na Rua das Flores 100, Curitiba", "Rua das Flores 100", "STREET_ADDRESS"),
    ("Frau Krüger ruft an", "Krüger", "PERSON"),
    ("account holder Gareth O'Brien.", "Gareth O'Brien", "PERSON"),
    ("山田陽一さんに", "山田陽一", "PERSON"),
    ("윤영순님께", "윤영순", "PERSON"),
    ("कृपया विक्रम सिंह को", "विक्रम सिंह", "PERSON"),
    ("Звонил Владимир Иванович Петров", "Владимир Иванович Петров", "PERSON"),
    ("postgres://svc:Gr8-Otter!91@db7:5432/x", "Gr8-Otter!91", "PASSWORD"),
    ("Das Passwort für db7 lautet Xy9!kdPQ.", "Xy9!kdPQ", "PASSWORD"),
    ("パスワードは「Dragon_22x」です。", "Dragon_22x", "PASSWORD"),
    ("user,password\nanna,Xy9!kdPQ\n", "Xy9!kdPQ", "PASSWORD"),
    ("export TOKEN=NMorilwiJEfhnd", "NMorilwiJEfhnd", "PASSWORD"),
    ("PIN: 4711", "4711", "PASSWORD"),
]


@pytest.mark.parametrize(
    ("text", "piece", "kind"), SPANS, ids=[s[2] + "-" + str(i) for i, s in enumerate(SPANS)]
)
def test_span(text, piece, kind):
    assert (text.index(piece), text.index(piece) + len(piece), kind) in detect(text)


NOTHING = """
In 2023 we sold 86883214577 units.|The constant is 299792458 m/s.|RFC 2119 and RFC 8174
see https://example.com/items/4111111111111111/view|48.8583701,2.2922926,17z|build-20240312143000-abc123
serial: 4C:5A:11:22:33:44|ffmpeg -b:v 5000000 -r 30|Call stack depth 1234567 exceeded|callback(12345678)
text size 12345678|mobile-first breakpoint 1024 768|fax machines sold 1234567 in 1990|UTC+05:30|a=+1234567890
port 8080-8090|10.0.0.1:8080|token bucket: 100 req/s|secretary general of 2021|pin 4: VCC, pin 12: GND
primary_key=id|cache_key=user:42:v3|api version: 2024-02-15-preview|US$1,234,567.89|CHF 1'234'567.00
order#4111111111111111|Order no: 4111 1111 1111 1111|Tracking 1Z999AA10123456784|IMEI 490154203237518
room 0815 4711|2024-01-01 to 2024-12-31|MAX_INT 2147483647|status=200 bytes=123456789|@angular/core@17.0.2
git clone git@github.com:acme/tool.git|logo@2x.png|Die Teilenummer 98965155434 ist nicht lieferbar.
password: required|Passwort: bitte bei IT erfragen|password = os.environ['DB_PASS']|password: ${DB_PASSWORD}
max_tokens=4096|postgres://user:password@localhost/db|export PATH=$PWD/.venv/bin:$PATH|Use SHA-256 here.
What does VS-NfD mean?|Keep it confidential between us.|What is attorney-client privilege?
Angela Merkel war Bundeskanzlerin.|What did Emmanuel Macron say?|The Grand Hotel in New York
Explain the difference between type 1 and type 2 diabetes.|I have a diagnostics question about the operator.
"""


@pytest.mark.parametrize("text", [t for line in NOTHING.strip().split("\n") for t in line.split("|")])
def test_look_alikes_raise_nothing(text):
    assert detect(text) == []
    assert classes(text) == {"personal"}


def test_readme_types_are_all_known():
    named = (
        "PERSON PHONE EMAIL IBAN CARD DE_TAX_ID FR_NIR ES_DNI NL_BSN PL_PESEL BR_CPF SE_PERSONNUMMER FI_HETU"
    )
    assert set((named + " KR_RRN UK_NHS IN_AADHAAR AWS_KEY GITHUB_TOKEN JWT PASSWORD").split()) <= (
        PERSONAL_TYPES | SECRET_TYPES
    )


def test_the_nearest_label_names_the_number():
    assert detect("order 4505577104, NHS number 5588420829") == [(29, 39, "UK_NHS")]
    assert detect("NHS number known; order number 5588420829") == []


def test_columns_are_named_by_their_heading():
    rows = "id;bsn;note\n1;674520841;a\n2;123456782;b\n"
    assert [t for _, _, t in detect(rows)] == ["NL_BSN", "NL_BSN"]
    assert detect("id;part;note\n1;674520841;a\n2;123456782;b\n") == []


def test_a_list_is_named_once():
    text = "BSN: " + ", ".join(["674520841"] * 40)
    assert len(detect(text)) == 40


def test_long_tables_keep_their_heading():
    rng = random.Random(3)
    good = [n for n in (f"{rng.randrange(10**9):09d}" for _ in range(30_000)) if _elfproef(n)][:1500]
    text = "nr,naam,bsn\n" + "\n".join(f"{i},x,{n}" for i, n in enumerate(good))
    assert len(text) > 2 * 8192
    scan = detector().scan(text)
    assert scan.complete
    assert scan.types == {"NL_BSN": len(good)}


def _elfproef(n):
    return (
        len(set(n)) > 1
        and sum(int(c) * w for c, w in zip(n, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True)) % 11 == 0
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("VS-NfD\nLage", "restricted"),
        ("CUI//SP-PRVCY", "restricted"),
        ("DIFFUSION RESTREINTE", "confidential"),
        ("NATO RESTRICTED", "restricted"),
        ("OFFICIAL-SENSITIVE", "restricted"),
        ("RESTREINT UE/EU RESTRICTED", "restricted"),
        ("Для служебного пользования", "restricted"),
        ("Streng vertraulich!", "confidential"),
        ("TLP:AMBER+STRICT", "confidential"),
        ("社外秘", "confidential"),
        ("Privileged: counsel advises we settle", "confidential"),
        ("Internal use only", "internal"),
        ("Nur für den internen Gebrauch", "internal"),
        ("gains Kp 4.1, Ki 0.3 (ITAR).", "restricted"),
        ("Not public until Thursday: EBITDA", "confidential"),
        ("Our unreleased alloy recipe: 62.4 Ni", "confidential"),
        ("export TOKEN=u74LkPyjhNUaG#", "confidential"),
        ("Frau Krüger ist wegen eines Bandscheibenvorfalls krankgeschrieben.", "phi"),
        ("佐藤さんは先月から透析を受けています。", "special"),
        ("Amina converted to Islam and wants Fridays off.", "special"),
    ],
)
def test_class(text, name):
    assert name in classes(text)


def test_classes_of_packs_only_where_the_tenant_knows_them():
    text = "ATTORNEY-CLIENT PRIVILEGED"
    base = Detector().scan(text)
    assert base.classes == {"confidential"}
    law = Detector(Config(known_classes=Config().known_classes | {"privileged"})).scan(text)
    assert law.classes == {"privileged", "confidential"}
    assert law.findings[0].class_ == "privileged"


def test_figures_on_held_out_templates(bench):
    """The reach of the issue, on templates whose errors nobody looked at (folds 2 to 4)."""
    rng = random.Random(7)
    rows = [r for r in bench.positives(rng, 2) + bench.negatives(rng, 3) if r.fold not in bench.OPEN]
    tallies, flagged = bench.score(rows, errors=False)
    structured = [tallies[name, ""] for name in bench.STRUCTURED]
    found, missed, false = (sum(getattr(t, n) for t in structured) for n in ("found", "missed", "false"))
    assert found + missed > 100
    assert found / (found + missed) >= 0.97
    assert found / (found + false) >= 0.95
    national, secret = tallies["NATIONAL_ID", ""], tallies["SECRET", ""]
    assert national.found / (national.found + national.missed) >= 0.92
    assert national.found / (national.found + national.false) >= 0.95
    assert secret.found / (secret.found + secret.missed) >= 0.90
    assert flagged["prose"] == 0
    assert flagged["look-alike"] <= 0.02 * sum(r.type == "look-alike" for r in rows)
