"""What a national identifier looks like, how it is checked and what people call it.

``Rule.alone`` says that the check is so strict (about one random number in two hundred or fewer passes) that
the number speaks for itself; ``form`` is a way of writing that does; everything else needs a label near it. A
number called something else (``order``, ``Teilenummer``) is not taken unless its own label is nearer.
"""

# ruff: noqa: E501 (words of many languages)

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from allod.admission.detect.context import Words, words


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of identifier.

    Attributes:
        type: name of the finding.
        shapes: compact forms, digits as 9 and letters as A.
        check: tells whether a compact string is one.
        names: labels that call it so.
        form: spelling that needs no label, or None.
        alone: needs no label in compact form.
        checked: the check is arithmetic, so that a general label (``ID number``) is enough.

    """

    type: str
    shapes: tuple[str, ...]
    check: Callable[[str], bool]
    names: Words
    form: re.Pattern[str] | None = None
    alone: bool = False
    checked: bool = True


def rule(
    kind: str,
    shapes: str,
    check: Callable[[str], bool],
    names: str,
    form: str | None = None,
    *,
    alone: bool = False,
    checked: bool = True,
) -> Rule:
    """Make a rule; ``shapes`` are separated by blanks, ``9*11`` stands for eleven nines."""
    return Rule(
        type=kind,
        shapes=tuple("9" * int(s[2:]) if s.startswith("9*") else s for s in shapes.split()),
        check=check,
        names=words(names),
        form=None if form is None else re.compile(form),
        alone=alone,
        checked=checked,
    )


GENERAL: Final = words(
    """
    national id, nationalid, identity number, identity card, identity no, id number, id no, id card, citizen id,
    citizen number, personal id, personal number, personal identification, personal code, personal identity,
    identification number, identification no, social security, social insurance, national insurance, tax id,
    tax number, tax identification, taxpayer, tax payer, =tin, tax no, government id, resident number, insured number,
    health insurance number, insurance number, national number, national registration, population register,
    ausweisnummer, personalausweis, personenkennzahl, personenkennziffer, steuernummer, steuer id, steuerid,
    steuerliche identifikation, steueridentifikation, versicherungsnummer, identifikationsnummer, sozialversicherung,
    numero fiscal, identifiant fiscal, numero d identite, carte d identite, numero national, securite sociale,
    numero de securite, assurance maladie, registre national, numero d assure, identifiant national, numero personnel,
    documento de identidad, numero de identidad, identificacion fiscal, identificacion personal, seguridad social,
    numero de identificacion, cedula, documento nacional, carnet de identidad, documento d identita,
    identificativo fiscale, tessera sanitaria, numero di identita, codice identificativo, carta d identita,
    identificacao fiscal, numero de contribuinte, contribuinte, documento de identidade, numero de identificacao,
    cartao de cidadao, cartao do cidadao, seguranca social,
    identiteitsnummer, identificatienummer, rijksregister, persoonsnummer, sofinummer, burgerservice, identiteitskaart,
    numer identyfikacyjny, numer ewidencyjny, dowod osobisty, numer dowodu, identyfikator podatkowy,
    identitetsnummer, personnummer, personnr, personnumret, identifikationsnummer, fodselsnummer, id nummer, idnummer,
    henkilotunnus, henkilotunnuksen, henkilotunnukse, tunnusnumero,
    rodne cislo, rodneho cisla, identifikacni cislo, identifikacne cislo, cislo pojistence, maticni broj, maticna stevilka,
    jmbg, osobni identifikacijski, davcna stevilka, szemelyi, azonosito, cod numeric, numar de identificare,
    kimlik, vatandaslik, asmens kodas, isikukood, personas kods,
    идентификационен, егн, идентификационный, идентификационный номер, идентификационного, налогоплательщика,
    идентифікаційний, податкового, реєстраційний номер облікової, персональный номер, личный номер, единен граждански,
    ταυτοτητα, ταυτότητα, μητρωου, μητρώου, αριθμος ταυτοτητας,
    תעודת זהות, מספר זהות, ת ז, الهوية, رقم الهوية, الرقم القومي, الرقم الوطني, رقم الإقامة, کد ملی, کدملی, شناسه ملی,
    身份证, 身份證, 身分證, 證件號碼, 证件号码, 公民身份, マイナンバー, 個人番号, 주민등록, 주민번호, 신분증, 외국인등록,
    आधार, पहचान, पैन, เลขประจำตัวประชาชน, บัตรประชาชน, เลขบัตรประชาชน, kad pengenalan, nomor induk, nomor ktp, =nik, =ktp,
    can cuoc, cmnd, cccd, so dinh danh
    """
)
"""Words that call a number a person's official number without saying which."""
