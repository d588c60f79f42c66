"""Check digits: our arithmetic equals python-stdnum's wherever that library knows the number."""

from __future__ import annotations

import importlib
import random
import string

import pytest
from stdnum import luhn, verhoeff

from allod.admission.detect import checks, checks_world
from allod.admission.detect.cards import card
from allod.admission.detect.model import CLASSES, PERSONAL_TYPES, SECRET_TYPES, TYPES
from allod.admission.detect.numbers import RULES
from allod.admission.detect.tokens import TOKENS

ALIKE = [
    (checks.de_tax_id, "de.idnr", "9" * 11),
    (checks.es_dni, "es.dni", "99999999A"),
    (checks.nl_bsn, "nl.bsn", "9" * 9),
    (checks.pl_pesel, "pl.pesel", "9" * 11),
    (checks.uk_nhs, "gb.nhs", "9" * 10),
    (checks.hr_oib, "hr.oib", "9" * 11),
    (checks.ee_lt, "ee.ik", "9" * 11),
    (checks.gr_afm, "gr.vat", "9" * 9),
    (checks.tr_tckn, "tr.tckimlik", "9" * 11),
    (checks.ru_inn, "ru.inn", "9" * 12),
    (checks.ua_rntrc, "ua.rntrc", "9" * 10),
    (checks.pl_nip, "pl.nip", "9" * 10),
    (checks.fr_spi, "fr.nif", "9" * 13),
    (checks.uk_utr, "gb.utr", "9" * 10),
    (checks.pt_cc, "pt.cc", "999999999AA9"),
    (checks.cz_rc, "cz.rc", "9" * 10),
    (checks.luhn, "luhn", "9" * 14),
    (checks.verhoeff, "verhoeff", "9" * 9),
    (checks.mod11_10, "iso7064.mod_11_10", "9" * 11),
    (checks_world.us_ssn, "us.ssn", "9" * 9),
    (checks_world.ca_sin, "ca.sin", "9" * 9),
    (checks_world.br_cpf, "br.cpf", "9" * 11),
    (checks_world.cl_rut, "cl.rut", "9" * 9),
    (checks_world.pe_cui, "pe.cui", "9" * 9),
    (checks_world.do_cedula, "do.cedula", "9" * 11),
    (checks_world.co_nit, "co.nit", "9" * 10),
    (checks_world.in_aadhaar, "in_.aadhaar", "9" * 12),
    (checks_world.in_pan, "in_.pan", "AAAAA9999A"),
    (checks_world.il_id, "il.idnr", "9" * 9),
    (checks_world.pk_cnic, "pk.cnic", "9" * 13),
    (checks_world.au_tfn, "au.tfn", "9" * 9),
]
"""The numbers that hold no date, on which both must agree exactly."""
OURS_ARE_THEIRS = [
    (checks.fr_nir, "fr.nir", "9" * 15),
    (checks.at_svnr, "at.vnr", "9" * 10),
    (checks.pt_nif, "pt.nif", "9" * 9),
    (checks.emso, "si.emso", "9" * 13),
    (checks_world.ec_ci, "ec.ci", "9" * 10),
    (checks_world.ve_ci, "ve.rif", "V999999999"),
    (checks.cy_tic, "cy.vat", "99999999A"),
]
"""Where we ask for more (a person's number, not a firm's): what we take, they take."""
THEIRS_ARE_OURS = [
    (checks.se_personnummer, "se.personnummer", "<ymd>9999"),
    (checks.no_fnr, "no.fodselsnummer", "<dmy>99999"),
    (checks.bg_egn, "bg.egn", "<ymd>9999"),
    (checks.be_nn, "be.nn", "<ymd>99999"),
    (checks.fi_hetu, "fi.hetu", "<dmy>-999A"),
    (checks.lv_pk, "lv.pvn", "<dmy>99999"),
    (checks.gr_amka, "gr.amka", "<dmy>99999"),
    (checks_world.cn_ric, "cn.ric", "110105<Ymd>9999"),
    (checks_world.kr_rrn, "kr.rrn", "<ymd>1999999"),
    (checks_world.th_pin, "th.pin", "9" * 13),
    (checks_world.za_id, "za.idnr", "<ymd>9999089"),
    (checks_world.nz_ird, "nz.ird", "9" * 9),
    (checks_world.us_itin, "us.itin", "9" * 9),
    (checks.si_tax, "si.ddv", "9" * 8),
    (checks.es_nie, "es.nie", "X9999999A"),
]
"""Where they read a clock or a list of places: what they take, we take."""


def draw(rng: random.Random, form: str) -> str:
    day, month, year = rng.randrange(1, 29), rng.randrange(1, 13), rng.randrange(1930, 2000)
    for name, value in (
        ("<Ymd>", f"{year}{month:02d}{day:02d}"),
        ("<ymd>", f"{year % 100:02d}{month:02d}{day:02d}"),
        ("<dmy>", f"{day:02d}{month:02d}{year % 100:02d}"),
    ):
        form = form.replace(name, "".join(chr(0xE000 + int(c)) for c in value))
    out = "".join(
        rng.choice(string.digits) if c == "9" else rng.choice(string.ascii_uppercase) if c == "A" else c
        for c in form
    )
    return "".join(str(ord(c) - 0xE000) if 0xE000 <= ord(c) < 0xE00A else c for c in out)


def theirs(name: str, text: str) -> bool:
    try:
        return bool(importlib.import_module("stdnum." + name).is_valid(text))
    except KeyError:  # a list of places without the one asked for
        return False


@pytest.mark.parametrize(("ours", "name", "form"), ALIKE, ids=lambda v: v if isinstance(v, str) else "")
def test_equals_stdnum(ours, name, form):
    rng = random.Random(name)
    texts = [draw(rng, form) for _ in range(600)]
    assert [t for t in texts if bool(ours(t)) != theirs(name, t)] == []
    assert any(ours(t) for t in texts)


@pytest.mark.parametrize(
    ("ours", "name", "form"), OURS_ARE_THEIRS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_what_we_take_stdnum_takes(ours, name, form):
    rng = random.Random(name)
    taken = [t for t in (draw(rng, form) for _ in range(6000)) if ours(t)]
    assert taken
    assert [t for t in taken if not theirs(name, t)] == []


@pytest.mark.parametrize(
    ("ours", "name", "form"), THEIRS_ARE_OURS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_what_stdnum_takes_we_take(ours, name, form):
    rng = random.Random(name)
    taken = [t for t in (draw(rng, form) for _ in range(1500)) if theirs(name, t)]
    assert taken
    assert [t for t in taken if not ours(t)] == []


def test_examples_of_registers():
    assert checks.de_pension("65180539W001")  # from the register's own description
    assert checks.de_health("A123456780")
    assert checks.hu_tax_id("8071592153")
    assert checks.ch_ahv("7569217076985")
    front = "19830812008"
    assert checks.lu_matricule(front + luhn.calc_check_digit(front) + verhoeff.calc_check_digit(front))
    assert checks_world.us_npi("1234567893")
    assert checks_world.us_dea("FB1234563")
    assert checks_world.us_mbi("1EG4TE5MK73")
    assert checks_world.sg_nric("S1234567D")
    assert checks_world.tw_id("A123456789")
    assert checks_world.hk_id("A1234563")
    assert checks_world.ae_eid("78419751234567" + luhn.calc_check_digit("78419751234567"))
    assert checks_world.sa_nid("1234567897")
    assert checks_world.nz_nhi("ZZZ0016")
    assert checks_world.uy_ci("12345672")
    assert checks_world.jp_my_number("123456789018")
    assert checks_world.ir_melli("0499370899")


def test_every_check_takes_every_string_of_its_shape():
    """No check raises, whatever digits and letters stand in the shapes it is asked about."""
    rng = random.Random(1)
    for rule in RULES:
        for shape in rule.shapes[:6]:
            for _ in range(30):
                rule.check(draw(rng, shape))
            for filler in ("0", "9"):
                rule.check(shape.replace("9", filler))


def test_random_numbers_rarely_speak_for_themselves():
    """What is taken without a label passes its check once in a hundred random strings, or more rarely."""
    rng = random.Random(2)
    for rule in (r for r in RULES if r.alone):
        for shape in rule.shapes[:3]:
            passed = sum(bool(rule.check(draw(rng, shape))) for _ in range(800))
            assert passed <= 800 * (
                0.06 if rule.type in ("ES_DNI", "SG_NRIC", "GH_PIN", "ES_NIE") else 0.015
            ), rule.type


def test_cards_need_luhn_and_an_issuer():
    assert card("4111111111111111") > card("6304273733980") >= 0
    assert card("4111111111111112") == 0
    assert card("0000000000000000") == 0
    assert card("490154203237518") < 45  # an IMEI passes Luhn


def test_every_type_has_its_class_and_its_name():
    assert {r.type for r in RULES} <= TYPES
    assert {t.type for t in TOKENS} <= SECRET_TYPES
    assert not SECRET_TYPES & PERSONAL_TYPES
    assert set(CLASSES) | PERSONAL_TYPES == TYPES
    countries = {r.type.split("_")[0] for r in RULES if "_" in r.type and len(r.type.split("_")[0]) == 2}
    assert len(countries) >= 60
