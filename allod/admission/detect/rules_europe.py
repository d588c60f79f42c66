"""Identifiers of Europe and its neighbours; see ``rules``."""

# ruff: noqa: E501, RUF001 (words of many languages)

from __future__ import annotations

from itertools import product
from typing import Final

from allod.admission.detect import checks as c
from allod.admission.detect.rules import Rule, rule


def _omocodia() -> str:
    """Every shape of a codice fiscale: seven of its digits may be letters."""
    return " ".join("AAAAAA{}{}A{}{}A{}{}{}A".format(*combination) for combination in product("9A", repeat=7))


WEST: Final[tuple[Rule, ...]] = (
    rule(
        "DE_TAX_ID",
        "9*11",
        c.de_tax_id,
        "steuer id, steuerid, steuer identifikationsnummer, steueridentifikationsnummer, identifikationsnummer, =idnr, "
        "steuerliche identifikation, steueridnr, steuer idnr, =tin, german tax, steuernummer, steuer nr, =stid",
        r"\d{2} \d{3} \d{3} \d{3}",
        alone=True,
    ),
    rule(
        "DE_PENSION",
        "99999999A999",
        c.de_pension,
        "rentenversicherung, versicherungsnummer, sozialversicherungsnummer, sozialversicherung, =rvnr, =svnr, =sv nr, "
        "versicherungs nr, sv nummer, rv nummer",
        alone=True,
    ),
    rule(
        "DE_HEALTH_INSURANCE",
        "A999999999",
        c.de_health,
        "krankenversicher, versichertennummer, versicherten nr, krankenkasse, =kvnr, =kv nr, gesundheitskarte, "
        "versichertennr, =egk",
    ),
    rule(
        "DE_ID_CARD",
        "A99A99A999 A999999999 A9A99A9999 AA99A99999 A99A99A99 AA9999999 A99999999",
        c.anything_mixed,
        "personalausweis, ausweisnummer, ausweis nr, ausweisnr, =perso, personalausweisnummer, aufenthaltstitel",
        checked=False,
    ),
    rule(
        "AT_SVNR",
        "9*10",
        c.at_svnr,
        "sozialversicherungsnummer, versicherungsnummer, =svnr, =sv nr, sv nummer, sozialversicherung, svnummer, ecard, "
        "sozialvers, vsnr",
        r"\d{4}[ /-]\d{6}|\d{4} \d{2} \d{2} \d{2}",
        alone=True,
    ),
    rule(
        "CH_AHV",
        "9*13",
        c.ch_ahv,
        "ahv, =avs, oasi, =nss, sozialversicherungsnummer, ahvn13, navs, numero avs, numero d assure",
        alone=True,
    ),
    rule(
        "FR_NIR",
        "9*15 999999A99999999",
        c.fr_nir,
        "securite sociale, numero de secu, =secu, =nir, insee, carte vitale, numero ss, =nss, assure social, "
        "immatriculation, n de ss, n ss, no ss, assure, assuree",
        r"[1-478] \d{2} \d{2} (?:\d{2}|2[AB]) \d{3} \d{3} \d{2}",
        alone=True,
    ),
    rule(
        "FR_SPI",
        "9*13",
        c.fr_spi,
        "numero fiscal, identifiant fiscal, =spi, reference fiscale, n fiscal, numero fiscal de reference, tax id, =tin",
    ),
    rule(
        "ES_DNI",
        "99999999A",
        c.es_dni,
        "dni, =nif, documento nacional, documento de identidad, d n i",
        r"\d{8}[ -]?[A-Z]|\d{2}\.\d{3}\.\d{3}[ -]?[A-Z]",
        alone=True,
    ),
    rule(
        "ES_NIE",
        "A9999999A",
        c.es_nie,
        "nie, =nif, extranjero, residencia, tarjeta de residencia, n i e",
        r"[XYZ]-?\d{7}-?[A-Z]",
        alone=True,
    ),
    rule(
        "ES_SS",
        "9*12",
        c.es_ss,
        "seguridad social, afiliacion, =nuss, =naf, =nss, numero de la seguridad",
        r"\d{2}[/ -]\d{8}[/ -]\d{2}",
    ),
    rule(
        "PT_NIF",
        "9*9",
        c.pt_nif,
        "nif, contribuinte, identificacao fiscal, numero fiscal, n fiscal, =nic, numero de identificacao fiscal",
    ),
    rule(
        "PT_CC",
        "99999999 999999999AA9",
        c.pt_cc,
        "cartao de cidadao, cartao do cidadao, bilhete de identidade, =cc, numero do cc",
        checked=False,
    ),
    rule(
        "IT_CODICE_FISCALE",
        _omocodia(),
        c.it_codice_fiscale,
        "codice fiscale, =cf, =c f, fiscale, tessera sanitaria",
        r"[A-Z]{3} [A-Z]{3} [0-9A-Z]{5} [0-9A-Z]{5}",
        alone=True,
    ),
    rule(
        "NL_BSN",
        "9*9",
        c.nl_bsn,
        "bsn, burgerservicenummer, burgerservice, sofi, sofinummer, persoonsnummer, burger service nummer, "
        "bsn nummer, citizen service number",
    ),
    rule(
        "BE_NN",
        "9*11",
        c.be_nn,
        "rijksregister, registre national, numero national, nationaal nummer, insz, =niss, =rrn, rijksregisternummer, "
        "nationalregister, numero de registre",
        r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}",
        alone=True,
    ),
    rule(
        "LU_MATRICULE",
        "9*13",
        c.lu_matricule,
        "matricule, =cns, numero d identification, identifikationsnummer",
        alone=True,
    ),
    rule(
        "IE_PPS",
        "9999999A 9999999AA",
        c.ie_pps,
        "pps, =ppsn, personal public service, pps number, =rsi, rsi number, ppsno",
    ),
    rule(
        "UK_NHS",
        "9*10",
        c.uk_nhs,
        "nhs, nhs number, national health service, nhs no, patient number, chi number, =h&c",
    ),
    rule(
        "UK_NINO",
        "AA999999A AA999999",
        c.uk_nino,
        "national insurance, =ni, nino, ni number, ni no, n i number, insurance number",
        r"[A-Z]{2}[ -]\d{2}[ -]\d{2}[ -]\d{2}[ -][A-D]",
        checked=False,
    ),
    rule("UK_UTR", "9*10", c.uk_utr, "utr, unique taxpayer reference, tax reference, taxpayer reference"),
    rule(
        "MT_ID",
        "9999999A 999999A 99999A 9999A",
        c.mt_id,
        "maltese id, malta id, karta tal identita, identity card, id card, =id",
        checked=False,
    ),
    rule(
        "CY_TIC", "99999999A", c.cy_tic, "cyprus tax, =tic, αφτ, αριθμος φορολογικου, tax identification code"
    ),
)

NORTH: Final[tuple[Rule, ...]] = (
    rule(
        "SE_PERSONNUMMER",
        "9*10 9*12",
        c.se_personnummer,
        "personnummer, personnumret, personnr, pnr, samordningsnummer, =p nr, swedish personal, födelsenummer, person nr, pers nr, persnr",
        r"(?:19|20)?\d{6}[-+]\d{4}",
    ),
    rule(
        "FI_HETU",
        "9999999999 999999999A 999999A9999 999999A999A",
        c.fi_hetu,
        "henkilötunnus, henkilötunnuk, hetu, hetun, henkilötunnukseni, sotu, sosiaaliturvatunnus, =ht, personbeteckning",
        r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]",
    ),
    rule(
        "DK_CPR",
        "9*10",
        c.dk_cpr,
        "cpr, cpr nummer, cprnummer, personnummer, cpr nr, cprnr, danish cpr",
        checked=False,
    ),
    rule(
        "NO_FNR",
        "9*11",
        c.no_fnr,
        "fødselsnummer, fodselsnr, personnummer, fnr, =f nr, d nummer, dnummer, fodsels, norwegian id",
        r"\d{6}[ -]\d{5}",
        alone=True,
    ),
    rule("IS_KENNITALA", "9*10", c.is_kennitala, "kennitala, kennitolu, =kt", r"\d{6}-\d{4}"),
    rule("EE_IK", "9*11", c.ee_lt, "isikukood, isikukoodi, =ik, estonian id, personal code", alone=True),
    rule("LT_AK", "9*11", c.ee_lt, "asmens kodas, asmens kodo, =ak, =a k, lithuanian", alone=True),
    rule(
        "LV_PK",
        "9*11",
        c.lv_pk,
        "personas kods, personas koda, =pk, =p k, latvian, personas kodu",
        r"\d{6}-\d{5}",
    ),
)

EAST: Final[tuple[Rule, ...]] = (
    rule("PL_PESEL", "9*11", c.pl_pesel, "pesel, peselu, pesel nr, numer pesel, ewidencyjny"),
    rule("PL_NIP", "9*10", c.pl_nip, "nip, identyfikacji podatkowej, numer nip", checked=True),
    rule(
        "PL_ID_CARD",
        "AAA999999",
        c.pl_id_card,
        "dowód osobisty, dowodu osobistego, nr dowodu, numer dowodu, dowod",
    ),
    rule(
        "CZ_RC",
        "9*9 9*10",
        c.cz_rc,
        "rodné číslo, rodneho cisla, rodnym cislem, =rc, =r c, číslo pojištěnce, pojistenec, czech birth number, birth number",
        r"\d{6}/\d{3,4}",
    ),
    rule("SK_RC", "9*9 9*10", c.cz_rc, "rodné číslo, rodneho cisla, slovak birth number, =r č, =rč"),
    rule("HU_TAJ", "9*9", c.hu_taj, "taj, taj szám, tajszam, társadalombiztosítási, taj kartya"),
    rule("HU_TAX_ID", "9*10", c.hu_tax_id, "adóazonosító, adoazonosito jel, adószám, adojel"),
    rule(
        "HU_PERSONAL_ID",
        "9*11",
        c.hu_personal_id,
        "személyi szám, személyi azonosító, szemelyi szama",
        alone=True,
    ),
    rule("RO_CNP", "9*13", c.ro_cnp, "cnp, cod numeric personal, codul numeric", alone=True),
    rule("BG_EGN", "9*10", c.bg_egn, "егн, единен граждански номер, egn, граждански номер, ЛНЧ"),
    rule("HR_OIB", "9*11", c.hr_oib, "oib, osobni identifikacijski broj, oiba, oibom"),
    rule("SI_EMSO", "9*13", c.emso, "emšo, emso, enotna matična številka, maticna stevilka", alone=True),
    rule("SI_TAX", "9*8", c.si_tax, "davčna številka, davcna, davcno stevilko"),
    rule("RS_JMBG", "9*13", c.emso, "jmbg, матични број, matični broj, јмбг", alone=True),
    rule("MK_EMBG", "9*13", c.emso, "embg, ембг, единствен матичен, матичен број", alone=True),
    rule("AL_NID", "A99999999A", c.al_nid, "nid, numri personal, nipt, numri i identitetit", checked=False),
    rule("GR_AMKA", "9*11", c.gr_amka, "amka, αμκα, α.μ.κ.α., κοινωνικης ασφαλισης", alone=True),
    rule("GR_AFM", "9*9", c.gr_afm, "afm, αφμ, α.φ.μ., φορολογικου μητρωου, φορολογικού μητρώου"),
    rule(
        "TR_TCKN",
        "9*11",
        c.tr_tckn,
        "tc kimlik, kimlik, tckn, t.c. kimlik, =tc, vatandaşlık, kimlik no, kimlik numarası, türkiye cumhuriyeti",
    ),
    rule(
        "RU_SNILS",
        "9*11",
        c.ru_snils,
        "снилс, snils, страхового, страховой номер",
        r"\d{3}-\d{3}-\d{3}[ -]\d{2}",
    ),
    rule("RU_INN", "9*12", c.ru_inn, "инн, inn, налогоплательщика"),
    rule(
        "RU_PASSPORT",
        "9*10",
        c.varied,
        "паспорт, паспорта, паспортные, серия и номер, passport series, серия",
        checked=False,
    ),
    rule(
        "UA_RNTRC",
        "9*10",
        c.ua_rntrc,
        "рнокпп, іпн, ідентифікаційний, ідентифікаційний код, податковий номер, облікової картки, =інн, rnokpp, rntrc, =ipn",
    ),
    rule("UA_UNZR", "9*13", c.ua_unzr, "унзр, запису в реєстрі, unzr", r"\d{8}-\d{5}"),
    rule(
        "BY_ID",
        "9999999A999AA9",
        c.by_id,
        "идентификационный номер, личный номер, асабісты нумар, личный",
        alone=True,
    ),
    rule("MD_IDNP", "9*13", c.md_idnp, "idnp, cod personal, numar de identificare, идентификационный код"),
    rule("KZ_IIN", "9*12", c.kz_iin, "иин, жсн, iin, =jsn, жеке сәйкестендіру", alone=True),
    rule(
        "GE_PN",
        "9*11",
        c.varied,
        "პირადი ნომერი, პირადი, georgian personal number, piradi nomeri",
        checked=False,
    ),
    rule("AM_PSN", "9*10", c.varied, "հծհ, armenian social card, սոցիալական քարտ", checked=False),
    rule(
        "AZ_FIN",
        "9AA9AA9 9A9A9A9 9AAAAAA AAAAAAA 99AA9A9",
        c.anything_mixed,
        "fin kod, fin code, =fin, şəxsiyyət",
        checked=False,
    ),
)
