"""Values for the classification benchmark: identifiers, cards, accounts, phones and secrets that no one has.

Identifiers are drawn until python-stdnum, not Allod's own arithmetic, accepts them, wherever it knows the
number.
"""

# ruff: noqa: E501, PLR2004 (tables of forms, shares of ways of writing)

from __future__ import annotations

import base64
import importlib
import json
import string
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

DIGITS, UPPER, LOWER = string.digits, string.ascii_uppercase, string.ascii_lowercase
ALNUM = string.ascii_letters + DIGITS
HEX = "0123456789abcdef"


def pick(rng: random.Random, alphabet: str, count: int) -> str:
    """Draw so many characters."""
    return "".join(rng.choice(alphabet) for _ in range(count))


def pattern(rng: random.Random, form: str) -> str:
    """Fill a form: # any digit, % a digit 2 to 9, @ a capital letter."""
    return "".join(
        rng.choice(DIGITS)
        if c == "#"
        else rng.choice("23456789")
        if c == "%"
        else rng.choice(UPPER)
        if c == "@"
        else c
        for c in form
    )


@lru_cache(maxsize=128)
def valid(name: str) -> Callable[[str], bool]:
    """Return python-stdnum's check of a number."""
    module: Any = importlib.import_module("stdnum." + name)
    return module.is_valid  # type: ignore[no-any-return]


def date(rng: random.Random, form: str) -> str:
    """Draw a birth date: y, m, d are two digits each, Y four."""
    year, month, day = rng.randrange(1935, 2006), rng.randrange(1, 13), rng.randrange(1, 29)
    out = form.replace("Y", f"{year:04d}").replace("y", f"{year % 100:02d}")
    return out.replace("m", f"{month:02d}").replace("d", f"{day:02d}")


def drawn(rng: random.Random, name: str, form: str) -> str:
    """Draw until the check passes; ``<ymd>`` in the form is a date."""
    for _ in range(200_000):
        text = form
        while "<" in text:
            left, rest = text.split("<", 1)
            inner, right = rest.split(">", 1)
            text = left + date(rng, inner) + right
        text = pattern(rng, text)
        try:
            good = valid(name)(text)
        except (KeyError, ValueError, IndexError):
            good = False
        if good:
            return text
    raise AssertionError(name)


def split(text: str, sizes: str, separator: str) -> str:
    """Write a number in groups."""
    out, at = [], 0
    for size in map(int, sizes.split()):
        out.append(text[at : at + size])
        at += size
    return separator.join(out)


# type: (stdnum module, compact form, ways of writing as "group sizes|separator")
IDENTIFIERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "DE_TAX_ID": ("de.idnr", "%##########", ("11|", "2 3 3 3| ")),
    "AT_SVNR": ("at.vnr", "####<dmy>", ("10|", "4 6| ")),
    "CH_AHV": ("ch.ssn", "756##########", ("13|", "3 4 4 2|.")),
    "FR_NIR": ("fr.nir", "1<ym>7511612345", ("15|", "1 2 2 2 3 3 2| ")),
    "ES_DNI": ("es.dni", "########@", ("9|", "8 1|-")),
    "ES_NIE": ("es.nie", "X#######@", ("9|", "1 7 1|-")),
    "PT_NIF": ("pt.nif", "2########", ("9|", "3 3 3| ")),
    "IT_CODICE_FISCALE": ("it.codicefiscale", "RSSMRA<y>A01H501@", ("16|",)),
    "NL_BSN": ("nl.bsn", "#########", ("9|", "4 2 3|.", "3 3 3| ")),
    "BE_NN": ("be.nn", "<ymd>#####", ("11|", "2 2 2 3 2|*be")),
    "IE_PPS": ("ie.pps", "#######@A", ("9|",)),
    "UK_NHS": ("gb.nhs", "##########", ("10|", "3 3 4| ")),
    "SE_PERSONNUMMER": ("se.personnummer", "<ymd>####", ("6 4|-", "10|")),
    "FI_HETU": ("fi.hetu", "<dmy>-###@", ("11|",)),
    "DK_CPR": ("dk.cpr", "<dmy>####", ("6 4|-", "10|")),
    "NO_FNR": ("no.fodselsnummer", "<dmy>#####", ("11|", "6 5| ")),
    "IS_KENNITALA": ("is_.kennitala", "<dmy>###9", ("6 4|-", "10|")),
    "EE_IK": ("ee.ik", "4<ymd>####", ("11|",)),
    "LT_AK": ("lt.asmens", "3<ymd>####", ("11|",)),
    "LV_PK": ("lv.pvn", "<dmy>#####", ("6 5|-",)),
    "PL_PESEL": ("pl.pesel", "<ymd>#####", ("11|",)),
    "CZ_RC": ("cz.rc", "<ymd>####", ("6 4|/", "10|")),
    "RO_CNP": ("ro.cnp", "2<ymd>40####", ("13|",)),
    "BG_EGN": ("bg.egn", "<ymd>####", ("10|",)),
    "HR_OIB": ("hr.oib", "###########", ("11|",)),
    "SI_EMSO": ("si.emso", "<dm>98#50####", ("13|",)),
    "RS_JMBG": ("si.emso", "<dm>97#71####", ("13|",)),
    "GR_AMKA": ("gr.amka", "<dmy>#####", ("11|",)),
    "TR_TCKN": ("tr.tckimlik", "%##########", ("11|",)),
    "RU_INN": ("ru.inn", "77##########", ("12|",)),
    "UA_RNTRC": ("ua.rntrc", "3#########", ("10|",)),
    "US_SSN": ("us.ssn", "%########", ("3 2 4|-", "9|")),
    "US_ITIN": ("us.itin", "9##7#####", ("3 2 4|-",)),
    "CA_SIN": ("ca.sin", "%########", ("3 3 3| ", "3 3 3|-", "9|")),
    "MX_CURP": ("mx.curp", "BOXW<ymd>MTCZRR0#", ("18|",)),
    "BR_CPF": ("br.cpf", "###########", ("11|", "3 3 3 2|*cpf")),
    "CL_RUT": ("cl.rut", "1#######%", ("8 1|-", "2 3 3 1|*rut")),
    "AR_CUIT": ("ar.cuit", "20#########", ("2 8 1|-", "11|")),
    "EC_CI": ("ec.ci", "17########", ("10|",)),
    "CN_RIC": ("cn.ric", "110105<Ymd>####", ("18|",)),
    "KR_RRN": ("kr.rrn", "<ymd>1######", ("6 7|-", "13|")),
    "IN_AADHAAR": ("in_.aadhaar", "%###########", ("12|", "4 4 4| ")),
    "IN_PAN": ("in_.pan", "@@@P@####@", ("10|",)),
    "TH_PIN": ("th.pin", "1############", ("1 4 5 2 1|-", "13|")),
    "MY_NRIC": ("my.nric", "<ymd>10####", ("6 2 4|-", "12|")),
    "ID_NIK": ("id.nik", "317403<dmy>000#", ("16|",)),
    "IL_ID": ("il.idnr", "#########", ("9|",)),
    "ZA_ID": ("za.idnr", "<ymd>####08#", ("13|",)),
    "AU_TFN": ("au.tfn", "%########", ("3 3 3| ", "9|")),
    "NZ_IRD": ("nz.ird", "0########", ("2 3 3|*ird", "9|")),
    "PK_CNIC": ("pk.cnic", "4###########1", ("5 7 1|-",)),
    "DO_CEDULA": ("do.cedula", "00#########", ("3 7 1|-",)),
}


def identifier(rng: random.Random, kind: str) -> str:
    """Draw an identifier and one way of writing it."""
    name, form, ways = IDENTIFIERS[kind]
    text = drawn(rng, name, form)
    sizes, separator = rng.choice(ways).split("|")
    if separator == "*be":
        return f"{text[:2]}.{text[2:4]}.{text[4:6]}-{text[6:9]}.{text[9:]}"
    if separator == "*cpf":
        return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"
    if separator == "*rut":
        return f"{text[:2]}.{text[2:5]}.{text[5:8]}-{text[8:]}"
    if separator == "*ird":
        return split(text[1:], sizes, "-")
    return split(text, sizes, separator) if separator else text


_IBAN_FORMS = {
    "DE": "##################", "FR": "####################A##"[:23], "GB": "@@@@##############", "NL": "@@@@##########",
    "ES": "####################", "IT": "@######################", "AT": "################", "CH": "#################",
    "BE": "############", "PL": "########################", "PT": "#####################", "SE": "####################",
    "FI": "##############", "DK": "##############", "NO": "###########", "IE": "@@@@##############", "CZ": "####################",
    "RO": "@@@@################", "HU": "########################", "GR": "#######################", "TR": "######################",
    "SA": "####################", "AE": "###################", "BR": "#######################@#", "LU": "################",
}  # fmt: skip


def iban(rng: random.Random) -> str:
    """Draw an IBAN: country's form, check digits by ISO 7064."""
    country = rng.choice(sorted(_IBAN_FORMS))
    body = pattern(rng, _IBAN_FORMS[country].replace("A", "#"))
    as_number = "".join(str(int(c, 36)) for c in body + country + "00")
    text = f"{country}{98 - int(as_number) % 97:02d}{body}"
    assert valid("iso7064.mod_97_10")(text[4:] + text[:4]), text
    way = rng.random()
    if way < 0.5:
        return " ".join(text[i : i + 4] for i in range(0, len(text), 4))
    return text.lower() if way > 0.95 else text


_CARDS = (("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("6011", 16), ("65", 16), ("36", 14), ("38", 14), ("3530", 16), ("62", 16), ("5018", 16))  # fmt: skip


def card(rng: random.Random) -> str:
    """Draw a card number: issuer's front, Luhn at the end."""
    front, size = rng.choice(_CARDS)
    body = front + pick(rng, DIGITS, size - 1 - len(front))
    text = next(body + d for d in DIGITS if valid("luhn")(body + d))
    way = rng.random()
    if way < 0.45 or size == 14:
        return text
    sizes = "4 6 5" if size == 15 else "4 4 4 4"
    return split(text, sizes, " " if way < 0.85 else "-")


PHONES: dict[str, tuple[str, ...]] = {
    "en-us": (
        "(%##) %##-####",
        "%##-%##-####",
        "+1 %##-%##-####",
        "+1 (%##) %##-####",
        "%##.%##.####",
        "1-%##-%##-####",
    ),
    "en-gb": (
        "020 7### ####",
        "07### ######",
        "+44 7### ######",
        "+44 (0)20 7### ####",
        "01### ######",
        "0161 ### ####",
    ),
    "de": (
        "030 ########",
        "0171 #######",
        "+49 171 #######",
        "+49 (0)89 ######",
        "089/######",
        "0221-#######",
        "(0711) ######",
    ),
    "fr": ("06 ## ## ## ##", "+33 6 ## ## ## ##", "01.##.##.##.##", "06########", "+33 (0)1 ## ## ## ##"),
    "es": ("6## ### ###", "+34 6## ## ## ##", "91 ### ## ##", "6########", "+34 6########"),
    "it": ("3## #######", "+39 3## ### ####", "06 #######", "02 ########", "+39 06 ########"),
    "pt": ("91# ### ###", "+351 91# ### ###", "21 ### ## ##", "(11) 9####-####", "+55 11 9####-####"),
    "nl": ("06-########", "06 ## ## ## ##", "+31 6 ########", "020-#######", "+31 (0)20 ### ####"),
    "pl": ("### ### ###", "+48 ### ### ###", "22 ### ## ##", "50#-###-###"),
    "sv": ("070-### ## ##", "08-### ### ##", "+46 70 ### ## ##", "0709######"),
    "fi": ("040 ### ####", "050 #######", "+358 40 ### ####", "09 ### ####"),
    "da": ("## ## ## ##", "+45 ## ## ## ##", "4#######"),
    "nb": ("4## ## ###", "+47 4## ## ###", "22 ## ## ##"),
    "cs": ("60# ### ###", "+420 60# ### ###"),
    "hu": ("+36 30 ### ####", "06 30 ### ####", "06-1-###-####"),
    "ro": ("07## ### ###", "+40 7## ### ###", "021 ### ## ##"),
    "tr": ("0532 ### ## ##", "+90 532 ### ## ##", "(0212) ### ## ##"),
    "el": ("69# ### ####", "+30 210 #######", "210 #######"),
    "ru": ("8 (9##) ###-##-##", "+7 9## ###-##-##", "89#########", "+7 (495) ###-##-##"),
    "uk": ("067 ### ## ##", "+380 67 ### ## ##", "(044) ###-##-##"),
    "ja": ("090-####-####", "03-####-####", "+81 90-####-####", "0120-###-###"),
    "ko": ("010-####-####", "02-###-####", "+82 10-####-####", "010 #### ####"),
    "zh": ("138########", "139 #### ####", "+86 138 #### ####", "010-########", "021-########"),
    "hi": ("98########", "+91 98### #####", "011-########", "+91-98########"),
    "ar": ("05########", "+966 5# ### ####", "+971 50 ### ####", "0100 ### ####"),
    "he": ("052-###-####", "+972 52-###-####", "03-#######"),
}


def phone(rng: random.Random, lang: str) -> str:
    """Draw a phone number as people of a language write it."""
    return pattern(rng, rng.choice(PHONES[lang]))


_HOSTS = "gmail.com outlook.de web.de orange.fr libero.it yahoo.co.jp wp.pl seznam.cz t-online.de uni-graz.ac.at nhs.uk bund.de sub.domain.example.org naver.com kpn.nl ziggo.nl uol.com.br terra.es mail.ru ukr.net abc.io my-firm.co".split()
_GIVEN = "anna jan maria k.mueller john.doe x_y li-wei s.okafor pierre_d info2 a olga.p marta+news jos7 r.o'neil tim.van.dam 8ball k".split()


def email(rng: random.Random) -> str:
    """Draw an e-mail address."""
    local = rng.choice(_GIVEN) + (str(rng.randrange(1990)) if rng.random() < 0.4 else "")
    host = (
        rng.choice(_HOSTS)
        if rng.random() < 0.7
        else pick(rng, LOWER, rng.randrange(4, 12))
        + rng.choice([".com", ".eu", ".fr", ".info", ".health", ".museum", ".co.uk"])
    )
    text = f"{local}@{host}"
    return text.upper() if rng.random() < 0.05 else text


def password(rng: random.Random) -> str:
    """Draw a password as people and generators make them."""
    way = rng.randrange(5)
    if way == 0:
        return pick(rng, ALNUM, 11) + rng.choice("!#$%&*+?@") + rng.choice(DIGITS)
    if way == 1:
        return rng.choice(
            ["Summer", "Winter", "Berlin", "Kitten", "Dragon", "Tulpe", "Soleil", "Madrid"]
        ) + rng.choice(["2024!", "#1", "99$", "_22x", "!7"])
    if way == 2:
        return pick(rng, LOWER, 5) + pick(rng, DIGITS, 3) + rng.choice("!?#$") + pick(rng, UPPER, 2)
    if way == 3:
        return "-".join(pick(rng, ALNUM, 4) for _ in range(3)) + rng.choice(DIGITS)
    return pick(rng, ALNUM + "!#$%^&*", 16) + "a1"


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKENS: dict[str, Callable[[random.Random], str]] = {
    "AWS_KEY": lambda r: "AKIA" + pick(r, UPPER + "234567", 16),
    "GITHUB_TOKEN": lambda r: r.choice(["ghp_", "gho_", "ghs_"]) + pick(r, ALNUM, 36),
    "JWT": lambda r: (
        f"{_b64({'alg': 'HS256', 'typ': 'JWT'})}.{_b64({'sub': pick(r, DIGITS, 10), 'exp': 1767225600})}.{pick(r, ALNUM + '-_', 43)}"
    ),
    "GITLAB_TOKEN": lambda r: "glpat-" + pick(r, ALNUM + "-_", 20),
    "SLACK_TOKEN": lambda r: f"xoxb-{pick(r, DIGITS, 12)}-{pick(r, DIGITS, 12)}-{pick(r, ALNUM, 24)}",
    "STRIPE_KEY": lambda r: "sk_live_" + pick(r, ALNUM, 24),
    "GCP_KEY": lambda r: "AIza" + pick(r, ALNUM + "-_", 35),
    "OPENAI_KEY": lambda r: "sk-proj-" + pick(r, ALNUM + "-_", 47) + "x",
    "ANTHROPIC_KEY": lambda r: "sk-ant-api03-" + pick(r, ALNUM + "-_", 90) + "AA",
    "HUGGINGFACE_TOKEN": lambda r: "hf_" + pick(r, ALNUM, 34),
    "NPM_TOKEN": lambda r: "npm_" + pick(r, ALNUM, 36),
    "SENDGRID_KEY": lambda r: f"SG.{pick(r, ALNUM, 22)}.{pick(r, ALNUM, 43)}",
    "TWILIO_KEY": lambda r: "SK" + pick(r, HEX, 32),
    "VAULT_TOKEN": lambda r: "hvs." + pick(r, ALNUM, 90),
    "TELEGRAM_TOKEN": lambda r: f"{pick(r, '123456789', 10)}:AA{pick(r, ALNUM + '-_', 33)}",
    "DIGITALOCEAN_TOKEN": lambda r: "dop_v1_" + pick(r, HEX, 64),
    "DATABRICKS_TOKEN": lambda r: "dapi" + pick(r, HEX, 32),
    "AZURE_KEY": lambda r: (
        f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={pick(r, ALNUM + '+/', 86)}=="
    ),
    "PRIVATE_KEY": lambda r: (
        f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{pick(r, ALNUM + '+/', 60)}\n{pick(r, ALNUM + '+/', 64)}\n-----END RSA PRIVATE KEY-----"
    ),
}
