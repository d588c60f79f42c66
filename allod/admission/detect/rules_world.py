"""Identifiers of America, Asia, Africa and Oceania; see ``rules``."""

# ruff: noqa: E501 (words of many languages)

from __future__ import annotations

from typing import Final

from allod.admission.detect import checks as e
from allod.admission.detect import checks_world as c
from allod.admission.detect.rules import Rule, rule

AMERICA: Final[tuple[Rule, ...]] = (
    rule(
        "US_SSN",
        "9*9",
        c.us_ssn,
        "ssn, social security, soc sec, social sec, ss number, ss no, ssns, numero de seguro social, seguro social, =sss, =ss",
        r"\d{3}-\d{2}-\d{4}",
        checked=False,
    ),
    rule(
        "US_ITIN",
        "9*9",
        c.us_itin,
        "itin, taxpayer identification, individual taxpayer, =tin, tax id",
        r"9\d{2}-\d{2}-\d{4}",
        checked=False,
    ),
    rule(
        "US_NPI", "9*10", c.us_npi, "npi, national provider, provider identifier, provider number, npi number"
    ),
    rule(
        "US_MBI",
        "9A999A99AA99 9AA9AA9AA99 9A99A99AA99 9AA9A99AA99 9A99AA9AA99",
        c.us_mbi,
        "medicare, mbi, beneficiary, medicare number",
        r"\d[A-Z][A-Z0-9]\d-[A-Z][A-Z0-9]\d-[A-Z]{2}\d{2}",
    ),
    rule("US_DEA", "AA9999999", c.us_dea, "dea, dea number, dea no, drug enforcement"),
    rule(
        "CA_SIN",
        "9*9",
        c.ca_sin,
        "sin, social insurance, assurance sociale, =nas, sin number, numero d assurance sociale",
    ),
    rule(
        "CA_HEALTH",
        "9*10",
        e.luhn,
        "ohip, health card, phn, personal health number, carte sante, assurance maladie",
    ),
    rule("MX_CURP", "AAAA999999AAAAAA99 AAAA999999AAAAAAA9", c.mx_curp, "curp, clave unica", alone=True),
    rule(
        "MX_RFC",
        "AAAA999999AAA AAAA9999999A9 AAAA999999AA9 AAAA999999A99 AAAA999999999 AAAA9999999AA AAAA99999999A AAAA999999A9A",
        c.mx_rfc,
        "rfc, registro federal, contribuyente",
        checked=False,
    ),
    rule("MX_NSS", "9*11", e.luhn, "nss, imss, seguro social, seguridad social, numero de seguridad"),
    rule("BR_CPF", "9*11", c.br_cpf, "cpf, cadastro de pessoa, =cic, cpf mf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    rule("BR_PIS", "9*11", c.br_pis, "pis, pasep, =nis, =nit, pis pasep, nis pis", r"\d{3}\.\d{5}\.\d{2}-\d"),
    rule("BR_CNS", "9*15", c.br_cns, "cns, cartao nacional de saude, cartao sus, =sus, cartao do sus"),
    rule("BR_RG", "9*9 99999999A", c.br_rg, "rg, registro geral, identidade, =r g", checked=False),
    rule(
        "CL_RUT",
        "9*8 9*9 9999999A 99999999A",
        c.cl_rut,
        "rut, =run, rol unico, rol único tributario, r.u.t.",
        r"\d{1,2}\.\d{3}\.\d{3}-[\dK]",
    ),
    rule(
        "AR_CUIT",
        "9*11",
        c.ar_cuit,
        "cuit, cuil, clave unica de identificacion, cuit cuil",
        r"2[034567]-\d{8}-\d",
    ),
    rule("AR_DNI", "9*8 9*7", e.varied, "dni, documento nacional, documento, =d n i, libreta", checked=False),
    rule("UY_CI", "9*8", c.uy_ci, "cedula, ci, cédula de identidad, =c i", r"\d\.\d{3}\.\d{3}-\d"),
    rule(
        "CO_CC",
        "9*10 9*8 9*7",
        e.varied,
        "cedula de ciudadania, cedula, =cc, =c c, tarjeta de identidad, cédula no",
        checked=False,
    ),
    rule("CO_NIT", "9*10", c.co_nit, "nit, identificacion tributaria, =n i t"),
    rule("EC_CI", "9*10", c.ec_ci, "cedula, ci, cédula de identidad, cédula de ciudadanía, =c i"),
    rule("PE_DNI", "9*8", e.varied, "dni, documento nacional, =d n i", checked=False),
    rule("PE_CUI", "9*9 99999999A", c.pe_cui, "cui, codigo unico, dni"),
    rule(
        "DO_CEDULA", "9*11", c.do_cedula, "cedula, cédula de identidad, cedula dominicana", r"\d{3}-\d{7}-\d"
    ),
    rule(
        "VE_CI",
        "A999999999 A99999999 A9999999",
        c.ve_rif,
        "rif, cedula, =ci, =c i, registro de informacion fiscal",
        r"[VE]-\d{8}-\d",
    ),
    rule("CR_CEDULA", "9*9", e.varied, "cedula, cédula de identidad", r"[1-9]-\d{4}-\d{4}", checked=False),
    rule("GT_CUI", "9*13", c.gt_cui, "dpi, =cui, documento personal de identificacion", r"\d{4} \d{5} \d{4}"),
    rule(
        "CU_NI",
        "9*11",
        c.dated_front,
        "carne de identidad, carné de identidad, numero de identidad",
        checked=False,
    ),
)

ASIA: Final[tuple[Rule, ...]] = (
    rule(
        "CN_RIC",
        "9*18 99999999999999999A",
        c.cn_ric,
        "身份证, 身份證, 公民身份, 证件号, 居民身份, resident identity, identity card, sfz, 身份号码",
        alone=True,
    ),
    rule(
        "KR_RRN",
        "9*13",
        c.kr_rrn,
        "주민등록번호, 주민번호, 주민등록, resident registration, rrn, 외국인등록번호, 외국인등록",
        r"\d{6}-[1-8]\d{6}",
    ),
    rule(
        "JP_MYNUMBER",
        "9*12",
        c.jp_my_number,
        "マイナンバー, 個人番号, my number, mynumber, individual number",
    ),
    rule(
        "IN_AADHAAR",
        "9*12",
        c.in_aadhaar,
        "aadhaar, aadhar, आधार, uidai, =uid, adhaar, ஆதார், ఆధార్, আধার, ಆಧಾರ್, આધાર, adhar, ആധാർ, ਆਧਾਰ",
    ),
    rule(
        "IN_PAN",
        "AAAAA9999A",
        c.in_pan,
        "pan, permanent account, पैन, pan card, pan number, income tax",
        r"[A-Z]{3}P[A-Z]\d{4}[A-Z]",
    ),
    rule(
        "IN_VOTER",
        "AAA9999999",
        e.anything_mixed,
        "voter, epic, मतदाता, voter id, election card",
        checked=False,
    ),
    rule("SG_NRIC", "A9999999A", c.sg_nric, "nric, fin, =ic, identity card, singapore, =uin", alone=True),
    rule("TW_ID", "A999999999", c.tw_id, "身分證, 身份證, 身分证, taiwan, national id, 身分證字號, 統一編號"),
    rule(
        "HK_ID",
        "A9999999 AA9999999 A999999A AA999999A",
        c.hk_id,
        "hkid, 香港身份證, 身份證, hong kong id, identity card",
        r"[A-Z]{1,2}\d{6}\([\dA]\)",
    ),
    rule(
        "TH_PIN",
        "9*13",
        c.th_pin,
        "เลขประจำตัวประชาชน, บัตรประชาชน, เลขบัตรประชาชน, ประจำตัวประชาชน, thai id, citizen id, เลขประจำตัว",
        r"\d-\d{4}-\d{5}-\d{2}-\d|\d \d{4} \d{5} \d{2} \d",
    ),
    rule(
        "MY_NRIC",
        "9*12",
        c.my_nric,
        "mykad, kad pengenalan, =ic, nric, no kp, =kp, no ic, ic no, no k p, my kad",
        r"\d{6}-\d{2}-\d{4}",
        checked=False,
    ),
    rule(
        "ID_NIK",
        "9*16",
        c.id_nik,
        "nik, ktp, nomor induk kependudukan, nomor ktp, e-ktp, kependudukan",
        checked=False,
    ),
    rule(
        "PH_SSS",
        "9*10 9*12",
        e.varied,
        "sss, philhealth, pag-ibig, philsys, umid, =tin, pagibig",
        checked=False,
    ),
    rule(
        "VN_CCCD",
        "9*12",
        c.vn_cccd,
        "cccd, căn cước, cmnd, chứng minh, số định danh, căn cước công dân",
        checked=False,
    ),
    rule(
        "IL_ID", "9*9 9*8", c.il_id, 'תעודת זהות, ת.ז., ת״ז, מספר זהות, ת"ז, teudat zehut, israeli id, זהות'
    ),
    rule("AE_EID", "9*15", c.ae_eid, "emirates id, الهوية, رقم الهوية, eid", alone=True),
    rule(
        "SA_NID",
        "9*10",
        c.sa_nid,
        "الهوية الوطنية, رقم الهوية, iqama, الإقامة, إقامة, national id, absher, الهوية",
    ),
    rule("KW_CID", "9*12", c.kw_cid, "civil id, الرقم المدني, البطاقة المدنية, المدني"),
    rule("IR_MELLI", "9*10", c.ir_melli, "کد ملی, کدملی, شماره ملی, melli, kod melli, كد ملي, کد ملي"),
    rule(
        "PK_CNIC",
        "9*13",
        c.pk_cnic,
        "cnic, nicop, شناختی کارڈ, شناختی, national identity",
        r"\d{5}-\d{7}-\d",
        checked=False,
    ),
    rule(
        "BD_NID",
        "9*10 9*13 9*17",
        e.varied,
        "nid, জাতীয় পরিচয়পত্র, জাতীয় পরিচয়, এনআইডি, national id",
        checked=False,
    ),
    rule(
        "LK_NIC",
        "999999999A 9*12",
        c.lk_nic,
        "nic, ජාතික හැඳුනුම්පත, national identity, nic no, nic number",
        r"\d{9}[VX]",
        checked=False,
    ),
    rule("NP_CITIZENSHIP", "9*11", e.varied, "नागरिकता, citizenship certificate", checked=False),
)

SOUTH: Final[tuple[Rule, ...]] = (
    rule(
        "ZA_ID",
        "9*13",
        c.za_id,
        "south african id, id number, identity number, id nommer, identiteitsnommer, rsa id, said",
        alone=True,
    ),
    rule(
        "EG_NID",
        "9*14",
        c.eg_nid,
        "الرقم القومي, رقم قومي, egyptian national, national id, بطاقة",
        alone=True,
    ),
    rule(
        "NG_NIN",
        "9*11",
        e.varied,
        "nin, national identification number, =bvn, bank verification, nimc",
        checked=False,
    ),
    rule("KE_ID", "9*8 9*7", e.varied, "kenyan id, huduma, kitambulisho, national id, =id no", checked=False),
    rule("KE_PIN", "A999999999A", c.ke_pin, "kra, kra pin, =pin, tax pin", r"A\d{9}[A-Z]", checked=False),
    rule(
        "GH_PIN",
        "AAA9999999999",
        c.gh_pin,
        "ghana card, ghanacard, nia",
        r"GHA-\d{9}-\d",
        alone=True,
        checked=False,
    ),
    rule("TN_CIN", "9*8", e.varied, "cin, carte d identite nationale, بطاقة التعريف", checked=False),
    rule(
        "MA_CIN",
        "A999999 AA999999 AA99999 A99999",
        e.anything_mixed,
        "cin, cnie, carte nationale, البطاقة الوطنية",
        checked=False,
    ),
    rule(
        "DZ_NIN",
        "9*18",
        e.varied,
        "numero d identification national, رقم التعريف الوطني, =nin",
        checked=False,
    ),
    rule("MU_NID", "A999999999999A A9999999999999", c.mu_nid, "mauritius, national id, =nid, nic"),
    rule("AU_TFN", "9*9 9*8", c.au_tfn, "tfn, tax file, tax file number, tax file no"),
    rule("AU_MEDICARE", "9*10 9*11", c.au_medicare, "medicare, medicare card, medicare number, medicare no"),
    rule("NZ_IRD", "9*9 9*8", c.nz_ird, "ird, inland revenue, ird number, ird no"),
    rule("NZ_NHI", "AAA9999 AAA99AA", c.nz_nhi, "nhi, national health index, nhi number"),
)

DOCUMENTS: Final[tuple[Rule, ...]] = (
    rule(
        "PASSPORT",
        "9*9 9*8 9*7 A9999999 A99999999 AA9999999 AA999999 AA99999 A999999 AAA999999 AA99999999 99AA99999 A9AAA9999 "
        "A99AA99A9 A99AAA999 A9AA99999 AAAAA9999 A99999 A99A99A99 AAA9999999 A99A99999 AA99A9999",
        e.anything_mixed,
        "passport, reisepass, passnummer, pass nr, passeport, pasaporte, passaporto, passaporte, paspoort, paspoortnummer, "
        "paszport, paszportu, passi numero, passin numero, pasnummer, útlevél, pașaport, pasaport, διαβατήριο, διαβατηριου, "
        "загранпаспорт, паспорт, паспорта, 护照, 護照, パスポート, 旅券, 여권, पासपोर्ट, جواز السفر, جواز سفر, דרכון, หนังสือเดินทาง, "
        "hộ chiếu, paspor, cestovní pas, pasa, putovnica, putovnice, potni list, passinumber, pases numurs, paso numeris",
        checked=False,
    ),
    rule(
        "DRIVER_LICENSE",
        "9*7 9*8 9*9 9*10 A9999999 A99999999 A999999999999 AA999999A AAAAA999999AA9AA AAAAA999999A99AA "
        "AAAAA999999AAAAA A99999999999 A9999999999999 A99AA999A99 A999AAA99A9 A99A99A9A99 AA9999999A 9*12 AA99999999999 "
        "A9999999999 AA9999999999999 AAA999999999 A9AA99A9A99 A99AAA99A99 A999999999 A99999999999999",
        e.anything_mixed,
        "driver license, drivers license, driver licence, driving licence, driving license, driver s license, "
        "driver s licence, license number, =dl, dl number, führerschein, permis de conduire, carné de conducir, "
        "licencia de conducir, permiso de conducir, patente di guida, carta de condução, =cnh, rijbewijs, prawo jazdy, "
        "körkort, kørekort, førerkort, ajokortti, водительское удостоверение, водительских прав, 驾驶证, 免許証, 운전면허, "
        "ehliyet, vezetői engedély, řidičský průkaz, permis auto",
        checked=False,
    ),
    rule(
        "MEDICAL_RECORD",
        "9*5 9*6 9*7 9*8 9*9 9*10 A9999999 A999999 AA999999 AAA999999 AA99999 A99999 AAA9999999 AAA99999 A99999999",
        e.anything_mixed,
        "mrn, medical record, medical record number, patient id, patient number, patient no, hospital number, patientennummer, "
        "patienten nr, patienten id, patientenid, fallnummer, numero de dossier medical, dossier patient, numero patient, "
        "=ipp, numero de historia clinica, historia clinica, =nhc, cartella clinica, prontuario, patiëntnummer, "
        "numer pacjenta, potilasnumero, patientnummer, 患者番号, 病历号, 病案号, 住院号, 등록번호 환자, 환자번호, номер карты пациента, "
        "медицинской карты",
        checked=False,
    ),
    rule(
        "BANK_ACCOUNT",
        "9*6 9*7 9*8 9*9 9*10 9*11 9*12 9*13 9*14 9*16 9*17 9*18 9*20 9*24 9*26",
        e.varied,
        "bank account, account no, account number, acct no, acct number, kontonummer, konto nr, numero de compte, "
        "compte bancaire, cuenta bancaria, numero de cuenta, numero di conto, conto corrente, conta corrente, conta bancaria, "
        "rekeningnummer, numer konta, numer rachunku, tilinumero, bankkonto, 口座番号, 계좌번호, 银行账号, 银行卡号, 帐号, खाता संख्या, "
        "номер счета, расчетный счет, sort code, =clabe, =cbu, =ccc, =rib, routing number, bank acct, checking account, savings account",
        checked=False,
    ),
)
