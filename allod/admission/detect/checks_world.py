"""Check digits of identifiers outside Europe; see ``checks``."""

# ruff: noqa: PLR2004 (the numbers are those of the registers)

from __future__ import annotations

from typing import Final

from allod.admission.detect.checks import (
    dmy,
    long_ymd,
    luhn,
    mod11_2,
    month_day,
    number,
    stdnum,
    varied,
    verhoeff,
    weighted,
    ymd,
)

_TEN: Final = 10
_TAIWAN: Final = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
_US_NEVER: Final = frozenset({"078051120", "219099999", "123456789"})
_CO_WEIGHTS: Final = (3, 7, 13, 17, 19, 23, 29, 37, 41, 43, 47, 53)


# --- America --------------------------------------------------------------------------------------------


def us_ssn(s: str) -> bool:
    """Social security number: area, group and serial that exist; no check digit."""
    return s[:3] not in ("000", "666") and s[0] != "9" and s[3:5] != "00" and s[5:] != "0000" and varied(s)


def us_itin(s: str) -> bool:
    """ITIN: 9 in front, groups 50 to 65, 70 to 88, 90 to 92 and 94 to 99."""
    group = int(s[3:5])
    return s[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94)


def us_npi(s: str) -> bool:
    """National provider identifier: Luhn with 80840 in front (45 CFR 162.406)."""
    return s[0] in "12" and luhn("80840" + s)


def ca_sin(s: str) -> bool:
    """Social insurance number: Luhn."""
    return s[0] not in "08" and luhn(s) and varied(s)


def mx_curp(s: str) -> bool:
    """CURP, by python-stdnum."""
    return stdnum("mx.curp")(s)


def br_cpf(s: str) -> bool:
    """CPF: two check digits modulus 11."""
    first = 11 - weighted(s[:9], range(10, 1, -1)) % 11
    second = 11 - weighted(s[:10], range(11, 1, -1)) % 11
    return (
        varied(s)
        and (0 if first >= _TEN else first) == int(s[9])
        and (0 if second >= _TEN else second) == int(s[10])
    )


def cl_rut(s: str) -> bool:
    """RUT: modulus 11 with K."""
    total = sum(int(c) * (2 + i % 6) for i, c in enumerate(reversed(s[:-1])))
    return varied(s[:-1]) and "0K987654321"[total % 11] == s[-1]


def ar_cuit(s: str) -> bool:
    """CUIT or CUIL of a person: 20, 23, 24, 27 in front, modulus 11."""
    check = 11 - weighted(s[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return s[:2] in ("20", "23", "24", "25", "26", "27") and {11: 0, 10: 9}.get(check, check) == int(s[10])


def uy_ci(s: str) -> bool:
    """Cédula de identidad: weights 2987634, modulus 10."""
    return varied(s) and -weighted(s[:7], (2, 9, 8, 7, 6, 3, 4)) % 10 == int(s[7])


def ec_ci(s: str) -> bool:
    """Cédula: province, person, Luhn."""
    return (1 <= int(s[:2]) <= 24 or s[:2] in ("30", "50")) and s[2] <= "6" and luhn(s)


def pe_cui(s: str) -> bool:
    """CUI: eight digits of the DNI and a check digit or letter."""
    rest = weighted(s[:8], (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return s[8] in ("65432110987"[rest], "KJIHGFEDCBA"[rest])


def do_cedula(s: str) -> bool:
    """Cédula of the Dominican Republic: Luhn."""
    return varied(s) and luhn(s)


def ve_ci(s: str) -> bool:
    """Venezuelan RIF of a person: V or E in front, modulus 11."""
    first = {"V": 4, "E": 8}.get(s[0])
    if first is None:
        return False
    return "00987654321"[(first + weighted(s[1:9], (3, 2, 7, 6, 5, 4, 3, 2))) % 11] == s[9]


def co_nit(s: str) -> bool:
    """NIT: prime weights, modulus 11."""
    total = sum(int(c) * w for c, w in zip(reversed(s[:-1]), _CO_WEIGHTS, strict=False))
    return varied(s) and "01987654321"[total % 11] == s[-1]


# --- Asia, Africa, Oceania ------------------------------------------------------------------------------


def cn_ric(s: str) -> bool:
    """Resident identity number (GB 11643): division, birth date, MOD 11-2."""
    return s[0] in "12345689" and long_ymd(s, 6) and mod11_2(s)


def kr_rrn(s: str) -> bool:
    """Resident registration number: birth date, sex and century; the check digit only before October 2020."""
    if s[6] == "0" or not ymd(s):
        return False
    check = (11 - weighted(s[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    late = s[6] in "3478" and s[:4] >= "2010" and s[0] in "23"
    return check == int(s[12]) or late


def jp_my_number(s: str) -> bool:
    """Individual number (My Number): modulus 11."""
    rest = weighted(s[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return varied(s) and (0 if rest <= 1 else 11 - rest) == int(s[11])


def in_aadhaar(s: str) -> bool:
    """Aadhaar: Verhoeff, not a palindrome, first digit 2 to 9."""
    return s[0] not in "01" and s != s[::-1] and verhoeff(s)


def in_pan(s: str) -> bool:
    """PAN: the fourth letter is the kind of holder (P is a person, H a family)."""
    return s[3] in "PHABCFGJKLT" and s[5:9] != "0000"


def sg_nric(s: str) -> bool:
    """NRIC and FIN: weights 2765432, modulus 11."""
    total = weighted(s[1:8], (2, 7, 6, 5, 4, 3, 2))
    total += {"T": 4, "G": 4, "M": 3}.get(s[0], 0)
    table = {
        "S": "JZIHGFEDCBA",
        "T": "JZIHGFEDCBA",
        "F": "XWUTRQPNMLK",
        "G": "XWUTRQPNMLK",
        "M": "XWUTRQPNJLK",
    }
    if s[0] == "M":
        return table["M"][10 - total % 11] == s[8] or table["M"][total % 11] == s[8]
    return s[0] in table and table[s[0]][total % 11] == s[8]


def tw_id(s: str) -> bool:
    """National identification card: letter as two digits, modulus 10; the second place is the sex."""
    if s[0] not in _TAIWAN or s[1] not in "1289":
        return False
    area = _TAIWAN.index(s[0]) + 10
    return (area // 10 + area % 10 * 9 + weighted(s[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hk_id(s: str) -> bool:
    """Hong Kong identity card: one or two letters, modulus 11 with A for ten."""
    body = s[:-1].rjust(8)
    total = sum((36 if c == " " else number(c)) * w for c, w in zip(body, range(9, 1, -1), strict=True))
    return "0A987654321"[total % 11] == s[-1]


def th_pin(s: str) -> bool:
    """Thai personal number: modulus 11."""
    return s[0] != "0" and varied(s) and (11 - weighted(s[:12], range(13, 1, -1)) % 11) % 10 == int(s[12])


def my_nric(s: str) -> bool:
    """MyKad: birth date and place of birth; no check digit."""
    return ymd(s) and s[6:8] not in (
        "00",
        "17",
        "18",
        "19",
        "20",
        "69",
        "70",
        "73",
        "80",
        "81",
        "94",
        "95",
        "96",
        "97",
    )


def id_nik(s: str) -> bool:
    """NIK: province, birth date (40 added for women); no check digit."""
    day = int(s[6:8])
    return 11 <= int(s[:2]) <= 96 and month_day(int(s[8:10]), day - 40 if day > 40 else day)


def il_id(s: str) -> bool:
    """Teudat zehut: Luhn over nine digits."""
    return varied(s) and luhn(s)


def za_id(s: str) -> bool:
    """South African identity number: birth date, citizenship, Luhn."""
    return ymd(s) and s[10] in "012" and luhn(s)


def ae_eid(s: str) -> bool:
    """Emirates ID: 784, year of birth, Luhn."""
    return s[:3] == "784" and s[3:5] in ("19", "20") and luhn(s)


def sa_nid(s: str) -> bool:
    """Saudi national identity or residence number: 1 or 2 in front, Luhn."""
    return s[0] in "12" and varied(s) and luhn(s)


def ir_melli(s: str) -> bool:
    """Kod-e melli: modulus 11."""
    rest = weighted(s[:9], range(10, 1, -1)) % 11
    return varied(s) and int(s[9]) == (rest if rest < 2 else 11 - rest)


def eg_nid(s: str) -> bool:
    """Egyptian national number: century, birth date, governorate."""
    return s[0] in "23" and ymd(s, 1) and (1 <= int(s[7:9]) <= 35 or s[7:9] == "88")


def pk_cnic(s: str) -> bool:
    """CNIC: province 1 to 7, last digit the sex."""
    return s[0] in "1234567" and s[12] != "0" and varied(s)


def lk_nic(s: str) -> bool:
    """Sri Lankan NIC: year and day of the year (500 added for women)."""
    day = int(s[2:5]) if len(s) == _TEN else int(s[4:7])
    return 1 <= day % 500 <= 366 and (len(s) == _TEN or s[:2] in ("19", "20"))


def vn_cccd(s: str) -> bool:
    """Vietnamese citizen number: province up to 096, century and sex, year."""
    return 1 <= int(s[:3]) <= 96 and s[3] in "0123"


def au_tfn(s: str) -> bool:
    """Tax file number: weights modulus 11, eight or nine digits."""
    weights = (1, 4, 3, 7, 5, 8, 6, 9, 10) if len(s) == 9 else (10, 7, 8, 4, 6, 3, 5, 1)
    return varied(s) and weighted(s, weights) % 11 == 0


def au_medicare(s: str) -> bool:
    """Medicare card number: 2 to 6 in front, check digit at the ninth place."""
    return s[0] in "23456" and weighted(s[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(s[8])


def nz_ird(s: str) -> bool:
    """IRD number: two rounds of modulus 11."""
    plain = s.rjust(9, "0")
    if not 10_000_000 < int(plain) < 200_000_000:
        return False
    check = -weighted(plain[:8], (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    if check == _TEN:
        check = -weighted(plain[:8], (7, 4, 3, 2, 5, 2, 7, 6)) % 11
    return check == int(plain[8])


def nz_nhi(s: str) -> bool:
    """NHI number of New Zealand: three letters without I and O, modulus 11 (2019 form: modulus 24)."""
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    if any(c not in alphabet for c in s[:3]):
        return False
    values = [alphabet.index(c) + 1 if c in alphabet else number(c) for c in s[:6]]
    total = sum(v * w for v, w in zip(values, range(7, 1, -1), strict=True))
    if s[6].isdigit():
        return total % 11 != 0 and (11 - total % 11) % 10 == int(s[6])
    return alphabet[23 - total % 24] == s[6]


def bd_nid(s: str) -> bool:
    """Bangladeshi number of ten, thirteen or seventeen digits; no check digit."""
    return varied(s)


def dated_front(s: str) -> bool:
    """``YYMMDD`` in front."""
    return ymd(s)


def dated_front_dmy(s: str) -> bool:
    """``DDMM`` in front."""
    return dmy(s)


def anything(s: str) -> bool:
    """No check digit at all: the label must say what it is."""
    return varied(s)


def us_mbi(s: str) -> bool:
    """Medicare beneficiary identifier: eleven places of fixed kinds, letters without S, L, O, I, B, Z."""
    return len(s) == 11 and s[0] in "123456789" and not set(s) & set("SLOIBZ")


def us_dea(s: str) -> bool:
    """DEA registration: two letters and a check digit over odd and twice the even digits."""
    odd, even = sum(int(d) for d in s[2:8:2]), sum(int(d) for d in s[3:8:2])
    return s[0] in "ABCDEFGHJKLMPRSTUX" and (odd + 2 * even) % 10 == int(s[8])


def mx_rfc(s: str) -> bool:
    """RFC of a person: four letters and a birth date."""
    return ymd(s, 4)


def br_pis(s: str) -> bool:
    """PIS, PASEP, NIS: weights modulus 11."""
    check = 11 - weighted(s[:10], (3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return varied(s) and (0 if check >= _TEN else check) == int(s[10])


def br_cns(s: str) -> bool:
    """Cartão Nacional de Saúde: 1, 2, 7, 8 or 9 in front, weights 15 to 1, modulus 11."""
    return s[0] in "12789" and weighted(s, range(15, 0, -1)) % 11 == 0


def br_rg(s: str) -> bool:
    """RG of São Paulo: weights 2 to 9, modulus 11 with X."""
    check = -weighted(s[:8], range(2, 10)) % 11
    return "0123456789X"[check] == s[8]


def ve_rif(s: str) -> bool:
    """Venezuelan cédula (V or E and seven or eight digits) or RIF of a person (with its check digit)."""
    return s[0] in "VE" and (len(s) < _TEN or ve_ci(s))


def gt_cui(s: str) -> bool:
    """CUI of Guatemala: number, check digit modulus 11, department and town."""
    return weighted(s[:8], range(2, 10)) % 11 == int(s[8]) and 1 <= int(s[9:11]) <= 22


def kw_cid(s: str) -> bool:
    """Civil ID of Kuwait: century, birth date, modulus 11."""
    return (
        s[0] in "123"
        and ymd(s, 1)
        and 11 - weighted(s[:11], (2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11 == int(s[11])
    )


def ke_pin(s: str) -> bool:
    """KRA PIN of a person: A in front; no check digit that is published."""
    return s[0] == "A"


def gh_pin(s: str) -> bool:
    """Ghana card: GHA in front; no check digit that is published."""
    return s.startswith("GHA")


def mu_nid(s: str) -> bool:
    """National identity card of Mauritius: initial, birth date, modulus 17."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if not dmy(s, 1):
        return False
    return alphabet[(17 - sum((14 - i) * alphabet.index(x) for i, x in enumerate(s[:13]))) % 17] == s[13]
