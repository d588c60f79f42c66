"""Check digits and dates inside identifiers; each function takes a compact string and never raises.

Written from the public descriptions of the numbers (national registers, ISO/IEC 7064, ISO 13616); the tests
hold them equal to python-stdnum where that library knows the number. No function reads a clock: a birth
date in the future is a matter of the day, and the day is nobody's business here.
"""

# ruff: noqa: PLR2004 (the numbers are those of the registers)

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from operator import mul
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DAYS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_D: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_P: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_AS_NUMBERS: Final = {ord("A") + i: str(10 + i) for i in range(26)}
_FAR_EASTERN: Final = "0123456789X"


def number(char: str) -> int:
    """Digits as they are, A to Z as 10 to 35, anything else as 0."""
    code = ord(char)
    if 48 <= code <= 57:
        return code - 48
    return code - 55 if 65 <= code <= 90 else 0


def weighted(s: str, weights: Sequence[int]) -> int:
    """Return the sum of the characters times their weights."""
    if s.isdecimal():
        return sum(map(mul, map(int, s), weights))
    return sum(number(c) * w for c, w in zip(s, weights, strict=False))


def luhn(s: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    digits = list(map(int, s))
    return (sum(digits[-1::-2]) + sum([_DOUBLED[n] for n in digits[-2::-2]])) % 10 == 0


def mod97(s: str) -> bool:
    """ISO/IEC 7064 MOD 97-10 as IBAN uses it: the first four characters moved to the end."""
    return int((s[4:] + s[:4]).translate(_AS_NUMBERS)) % 97 == 1


def mod11_10(s: str) -> bool:
    """ISO/IEC 7064 MOD 11,10."""
    rest = 10
    for c in s[:-1]:
        rest = (rest + number(c)) % 10 or 10
        rest = rest * 2 % 11
    return (rest + number(s[-1])) % 10 == 1


def mod11_2(s: str) -> bool:
    """ISO/IEC 7064 MOD 11-2."""
    rest = 0
    for c in s[:-1]:
        rest = (rest + number(c)) * 2 % 11
    return _FAR_EASTERN[(12 - rest) % 11] == s[-1]


def verhoeff(s: str) -> bool:
    """Verhoeff 1969, dihedral group D5."""
    check = 0
    for place, c in enumerate(reversed(s)):
        check = int(_D[check][int(_P[place % 8][ord(c) - 48])])
    return check == 0


def ean(s: str) -> bool:
    """GS1 check digit, weights 1 and 3 from the right."""
    return sum(number(c) * (3 if i % 2 else 1) for i, c in enumerate(reversed(s))) % 10 == 0


def month_day(month: int, day: int) -> bool:
    """Tell whether a month has such a day (29 February always)."""
    return 1 <= month <= 12 and 1 <= day <= _DAYS[month]


def ymd(s: str, at: int = 0) -> bool:
    """``YYMMDD`` at a place."""
    return month_day(int(s[at + 2 : at + 4]), int(s[at + 4 : at + 6]))


def dmy(s: str, at: int = 0) -> bool:
    """``DDMM`` at a place."""
    return month_day(int(s[at + 2 : at + 4]), int(s[at : at + 2]))


def long_ymd(s: str, at: int = 0) -> bool:
    """``YYYYMMDD`` at a place, years 1900 to 2099."""
    return s[at : at + 2] in ("19", "20") and ymd(s, at + 2)


@lru_cache(maxsize=64)
def stdnum(name: str) -> Callable[[str], bool]:
    """Return python-stdnum's ``is_valid`` of a number that reads no clock, imported at its first use."""
    module: Any = import_module("stdnum." + name)
    return module.is_valid  # type: ignore[no-any-return]


def varied(s: str) -> bool:
    """Tell whether it is more than one character repeated."""
    return len(set(s)) > 1


# --- Europe ---------------------------------------------------------------------------------------------


def de_tax_id(s: str) -> bool:
    """Identifikationsnummer (AO 139b): of ten digits one occurs two or three times, the rest once."""
    if s[0] == "0":
        return False
    counts = sorted((s[:10].count(d) for d in set(s[:10])), reverse=True)
    return counts[0] in (2, 3) and counts[1] == 1 and mod11_10(s)


def de_pension(s: str) -> bool:
    """Versicherungsnummer (VKVV 4): area, birth date, initial, serial, digit of weighted cross sums."""
    if not (month_day(int(s[4:6]), int(s[2:4]) % 50) or month_day(int(s[4:6]), int(s[2:4]))):
        return False
    letters = f"{ord(s[8]) - 64:02d}"
    plain = s[:8] + letters + s[9:11]
    total = sum(
        n // 10 + n % 10
        for n in (int(c) * w for c, w in zip(plain, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    )
    return total % 10 == int(s[11])


def de_health(s: str) -> bool:
    """Krankenversichertennummer: letter as two digits, then modulus 10 with weights 1 and 2."""
    plain = f"{ord(s[0]) - 64:02d}{s[1:9]}"
    total = sum(_cross(int(c) * (2 if i % 2 else 1)) for i, c in enumerate(plain))
    return s[0].isalpha() and total % 10 == int(s[9])


def _cross(n: int) -> int:
    return n // 10 + n % 10


def icao(s: str) -> bool:
    """Check digit of ICAO 9303 (passports, identity cards): weights 7, 3, 1."""
    return weighted(s[:-1], (7, 3, 1) * 12) % 10 == number(s[-1])


def fr_nir(s: str) -> bool:
    """Numéro d'inscription au répertoire: sex, birth, department (2A and 2B as 19 and 18), key modulus 97."""
    month = int(s[3:5])
    if s[0] not in "123478" or not (1 <= month <= 12 or 20 <= month <= 42 or 50 <= month <= 99):
        return False
    department = {"2A": "19", "2B": "18"}.get(s[5:7], s[5:7])
    if not department.isdigit():
        return False
    return 97 - int(s[:5] + department + s[7:13]) % 97 == int(s[13:])


def es_dni(s: str) -> bool:
    """Documento nacional de identidad: letter by modulus 23; X, Y, Z stand for 0, 1, 2 at the front (NIE)."""
    digits = s[:-1].translate({88: "0", 89: "1", 90: "2", 75: "", 76: "", 77: ""})
    return digits.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == s[-1] and varied(digits)


def nl_bsn(s: str) -> bool:
    """Burgerservicenummer: elfproef with the last digit negative."""
    return varied(s) and weighted(s, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pl_pesel(s: str) -> bool:
    """PESEL: the century is added to the month."""
    return (
        month_day(int(s[2:4]) % 20, int(s[4:6])) and weighted(s, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0
    )


def se_personnummer(s: str) -> bool:
    """Personnummer, or samordningsnummer with 60 added to the day."""
    s = s[-10:]
    return month_day(int(s[2:4]), int(s[4:6]) % 60) and luhn(s)


def fi_hetu(s: str) -> bool:
    """Henkilötunnus: modulus 31 over date and serial; the century sign may be present."""
    plain = s[:6] + s[-4:]
    if not plain[:9].isdigit() or not dmy(plain):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(plain[:9]) % 31] == plain[9]


def dk_cpr(s: str) -> bool:
    """CPR number: a birth date and four digits; the modulus is not used since 2007."""
    return dmy(s) and varied(s)


def no_fnr(s: str) -> bool:
    """Fødselsnummer, or D-number with 40 added to the day: two check digits."""
    day, month = int(s[:2]), int(s[2:4])
    return (
        month_day(month % 40, day % 40)
        and weighted(s, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(s, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def is_kennitala(s: str) -> bool:
    """Kennitala of a person: birth date, check digit at the ninth place."""
    return dmy(s) and s[9] in "089" and weighted(s, (3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def be_nn(s: str) -> bool:
    """Rijksregisternummer: birth date (20 or 40 added to the month), modulus 97, 2 in front from 2000."""
    month = int(s[2:4]) % 20
    if not (month_day(month, int(s[4:6])) or (month == 0 and int(s[4:6]) <= 31)):
        return False
    rest = int(s[9:])
    return 97 - int(s[:9]) % 97 == rest or 97 - int("2" + s[:9]) % 97 == rest


def lu_matricule(s: str) -> bool:
    """Matricule: birth date, Luhn, and Verhoeff over the first eleven digits."""
    return long_ymd(s) and luhn(s[:12]) and verhoeff(s[:11] + s[12])


def at_svnr(s: str) -> bool:
    """Sozialversicherungsnummer: check digit at the fourth place, birth date at the end; months to 15."""
    if s[0] == "0" or not 1 <= int(s[4:6]) <= 31 or not 1 <= int(s[6:8]) <= 15:
        return False
    return weighted(s, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(s[3])


def ch_ahv(s: str) -> bool:
    """AHV number: country 756, GS1 check digit."""
    return s.startswith("756") and ean(s)


def it_codice_fiscale(s: str) -> bool:
    """Codice fiscale with omocodia, by python-stdnum."""
    return stdnum("it.codicefiscale")(s)


def pt_nif(s: str) -> bool:
    """NIF of a natural person: 1, 2, 3 or 45 in front, modulus 11."""
    check = 11 - weighted(s[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return (s[0] in "123" or s[:2] == "45") and (0 if check > 9 else check) == int(s[8]) and varied(s)


def ie_pps(s: str) -> bool:
    """PPS number: letter by modulus 23; the second letter counts with weight 9."""
    last = s[8:] or "W"
    if last not in "ABHTWX":
        return False
    extra = ord(last) - 64 if last in "ABH" else 0
    total = weighted(s[:7], (8, 7, 6, 5, 4, 3, 2)) + 9 * extra
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == s[7]


def uk_nhs(s: str) -> bool:
    """NHS number: modulus 11."""
    return varied(s) and weighted(s, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def uk_nino(s: str) -> bool:
    """National Insurance number: the prefixes HMRC allots; no check digit."""
    return (
        s[0] not in "DFIQUV"
        and s[1] not in "DFIOQUV"
        and s[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
        and (len(s) == 8 or s[8] in "ABCD")
    )


def cz_rc(s: str) -> bool:
    """Rodné číslo: birth date (20, 50 or 70 added to the month), divisible by 11; nine digits before 1954."""
    if not month_day(int(s[2:4]) % 50 % 20, int(s[4:6])):
        return False
    if len(s) == 9:
        return int(s[:2]) <= 53 and s[6:] != "000"
    return int(s) % 11 == 0 or (int(s[:9]) % 11 == 10 and s[9] == "0")


def hu_taj(s: str) -> bool:
    """TAJ szám: weights 3 and 7, modulus 10."""
    return varied(s) and weighted(s[:8], (3, 7) * 4) % 10 == int(s[8])


def hu_tax_id(s: str) -> bool:
    """Adóazonosító jel: 8 in front, days since 1867, modulus 11."""
    return s[0] == "8" and weighted(s[:9], range(1, 10)) % 11 == int(s[9])


def hu_personal_id(s: str) -> bool:
    """Személyi azonosító: sex, birth date, modulus 11 (descending weights from 1997)."""
    if s[0] not in "12345678" or not ymd(s, 1):
        return False
    return int(s[10]) in (
        weighted(s[:10], range(1, 11)) % 11,
        weighted(s[:10], range(10, 0, -1)) % 11,
    )


def ro_cnp(s: str) -> bool:
    """Cod numeric personal: sex and century, birth date, county, weights 279146358279."""
    check = weighted(s[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    county = int(s[7:9])
    return (
        s[0] != "0"
        and ymd(s, 1)
        and (1 <= county <= 52 or county in (70, 80, 81, 82, 83))
        and (1 if check == 10 else check) == int(s[12])
    )


def bg_egn(s: str) -> bool:
    """EGN: birth date (20 or 40 added to the month), modulus 11."""
    month = int(s[2:4])
    month -= 40 if month > 40 else 20 if month > 20 else 0
    return month_day(month, int(s[4:6])) and weighted(s[:9], (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10 == int(
        s[9]
    )


def hr_oib(s: str) -> bool:
    """OIB: MOD 11,10."""
    return varied(s) and mod11_10(s)


def emso(s: str) -> bool:
    """EMŠO, JMBG, EMBG: birth date with a three-digit year, modulus 11."""
    if not dmy(s) or s[4] not in "09":
        return False
    check = 11 - weighted(s[:12], (7, 6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if check > 9 else check) == int(s[12])


def ee_lt(s: str) -> bool:
    """Isikukood and asmens kodas: sex and century, birth date, two rounds of modulus 11."""
    if s[0] not in "12345678" or not ymd(s, 1):
        return False
    check = weighted(s[:10], (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = weighted(s[:10], (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return check == int(s[10])


def lv_pk(s: str) -> bool:
    """Personas kods: birth date and modulus 11; from 2017 serials that begin with 32 and hold no date."""
    if s[:2] == "32":
        return True
    return dmy(s) and (1 + weighted(s[:10], (10, 5, 8, 4, 2, 1, 6, 3, 7, 9))) % 11 % 10 == int(s[10])


def gr_amka(s: str) -> bool:
    """AMKA: birth date, Luhn."""
    return dmy(s) and luhn(s)


def gr_afm(s: str) -> bool:
    """AFM: powers of two, modulus 11."""
    return varied(s) and weighted(s[:8], (256, 128, 64, 32, 16, 8, 4, 2)) % 11 % 10 == int(s[8])


def tr_tckn(s: str) -> bool:
    """T.C. kimlik number: two check digits."""
    if s[0] == "0":
        return False
    n = [int(c) for c in s]
    tenth = (sum(n[0:9:2]) * 7 - sum(n[1:8:2])) % 10
    return tenth == n[9] and sum(n[:10]) % 10 == n[10]


def ru_snils(s: str) -> bool:
    """SNILS: descending weights, modulus 101."""
    return varied(s[:9]) and weighted(s[:9], range(9, 0, -1)) % 101 % 100 == int(s[9:])


def ru_inn(s: str) -> bool:
    """INN of a person, twelve digits: two check digits modulus 11."""
    return (
        varied(s)
        and weighted(s[:10], (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10 == int(s[10])
        and weighted(s[:11], (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10 == int(s[11])
    )


def ua_rntrc(s: str) -> bool:
    """RNOKPP: modulus 11."""
    return varied(s) and weighted(s[:9], (-1, 5, 7, 9, 4, 6, 10, 5, 7)) % 11 % 10 == int(s[9])


def md_idnp(s: str) -> bool:
    """IDNP: 0, 2 in front, weights 7, 3, 1, modulus 10."""
    return s[0] in "02" and weighted(s[:12], (7, 3, 1) * 4) % 10 == int(s[12])


def kz_iin(s: str) -> bool:
    """IIN: birth date, century, two rounds of modulus 11."""
    if not ymd(s) or s[6] not in "0123456":
        return False
    check = weighted(s[:11], range(1, 12)) % 11
    if check == 10:
        check = weighted(s[:11], (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)) % 11
    return check == int(s[11])


def fr_spi(s: str) -> bool:
    """Numéro fiscal: 0 to 3 in front, the last three digits are the rest modulus 511."""
    return s[0] in "0123" and int(s[:10]) % 511 == int(s[10:])


def es_nie(s: str) -> bool:
    """Número de identidad de extranjero: X, Y or Z in front (K, L, M: older numbers)."""
    return s[0] in "XYZKLM" and es_dni(s)


def es_ss(s: str) -> bool:
    """Número de la Seguridad Social: province, number, rest modulus 97."""
    body = s[:10] if s[2] != "0" else s[:2] + s[3:10]
    return 1 <= int(s[:2]) <= 53 and int(body) % 97 == int(s[10:])


def pt_cc(s: str) -> bool:
    """Cartão de cidadão: eight digits, check digit, version and a Luhn over letters as numbers."""
    if len(s) == 8:
        return varied(s)
    total = 0
    for i, char in enumerate(reversed(s)):
        value = number(char) * (2 if i % 2 else 1)
        total += value - 9 if value > 9 and i % 2 else value
    return total % 10 == 0


def uk_utr(s: str) -> bool:
    """UTR: check digit in front, modulus 11."""
    return varied(s) and "21987654321"[weighted(s[1:], (6, 7, 8, 9, 10, 5, 4, 3, 2)) % 11] == s[0]


def mt_id(s: str) -> bool:
    """Maltese identity card: digits and one of the letters in use."""
    return s[-1] in "MGAPLHBZ"


def cy_tic(s: str) -> bool:
    """Cypriot TIC of a person: 0 in front, letter modulus 26."""
    odd = {"0": 1, "1": 0, "2": 5, "3": 7, "4": 9, "5": 13, "6": 15, "7": 17, "8": 19, "9": 21}
    total = sum(odd[d] if i % 2 == 0 else int(d) for i, d in enumerate(s[:8]))
    return s[0] == "0" and chr(65 + total % 26) == s[8]


def pl_nip(s: str) -> bool:
    """NIP: modulus 11."""
    return varied(s) and weighted(s[:9], (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(s[9])


def pl_id_card(s: str) -> bool:
    """Dowód osobisty: three letters, check digit, five digits; weights 7, 3, 1."""
    return weighted(s[:3] + s[4:], (7, 3, 1, 7, 3, 1, 7, 3)) % 10 == int(s[3])


def si_tax(s: str) -> bool:
    """Davčna številka: modulus 11."""
    check = 11 - weighted(s[:7], (8, 7, 6, 5, 4, 3, 2)) % 11
    return s[0] != "0" and (0 if check >= 10 else check) == int(s[7])


def al_nid(s: str) -> bool:
    """Albanian NID: decade letter, year, month (50 added for women), day."""
    return month_day(int(s[2:4]) % 50, int(s[4:6]))


def ua_unzr(s: str) -> bool:
    """UNZR: birth date, number, weights 7, 3, 1."""
    return long_ymd(s) and weighted(s[:12], (7, 3, 1) * 4) % 10 == int(s[12])


def by_id(s: str) -> bool:
    """Belarusian identification number: sex and century, birth date, region, weights 7, 3, 1."""
    return s[0] in "123456" and dmy(s, 1) and weighted(s[:13], (7, 3, 1) * 5) % 10 == int(s[13])


def anything_mixed(s: str) -> bool:
    """No check digit: letters and digits, whatever the label says it is."""
    return any(c.isdigit() for c in s) and varied(s)
