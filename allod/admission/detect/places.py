"""Street addresses with a house number, and dates of birth: only where the text says what they are."""

# ruff: noqa: E501, RUF001 (words of many languages)

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import re2

from allod.admission.detect.model import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS_MARKS: Final = (
    "straße,strasse,str.,weg ,platz ,allee,gasse ,damm ,ufer , ring ,street, st.,road, rd,avenue, ave,lane,drive, dr,boulevard,blvd,close ,crescent,terrace,court , square, way,"
    "rue ,chemin ,impasse ,quai ,allée ,place , calle ,calle ,c/ ,avenida,av. ,avda,plaza ,paseo ,carrer ,carretera ,camino ,via ,viale ,piazza ,corso ,vicolo ,largo ,"
    "straat,laan ,gracht,plein ,kade ,dijk ,singel,rua ,travessa ,praça ,alameda ,ul. ,ulica ,ulicy ,al. ,aleja ,aleje ,os. ,gatan,vägen,gata ,väg ,vej ,gade ,vei ,veien,gate ,katu ,tie ,"
    "kuja ,utca,út ,tér ,ulice,třída,náměstí,strada ,str ,bulevardul,sokak,sokağı,caddesi,cad.,mahallesi,ул.,улица,улице,проспект,пр-т,переулок,вул.,вулиця,οδος,οδό,po box,p.o. box,postfach,番地,丁目,路,街,번길,로 ,길 ,नगर,मार्ग,"
    "jalan ,jl. ,đường ,شارع,רחוב,ถนน"
).split(",")
BIRTH_MARKS: Final = (
    "birth,born,d.o.b,dob,geburt,geboren,geb.,naissance,né le,née le,né(e),nacimiento,nacid,fecha de nac,nascita,nato il,nata il,nascimento,nascid,geboorte,urodz,ur.,född,fødsel,fodsel,født,fodt,syntym,"
    "narozen,narodený,narodena,születés,született,naștere,nascut,născut,doğum,γεννησ,рожден,родил,народж,ражд,生日,出生,生年月日,生まれ,생년월일,태어,जन्म,تاريخ الميلاد,مواليد,תאריך לידה,נולד,วันเกิด,tanggal lahir,lahir,ngày sinh,sinh ngày,rođen,rojstva,sünni,dzim,gim"
).split(",")

_N: Final = r"[0-9]{1,5}(?:\s?[-/]\s?[0-9]{1,4})?\s?[a-zA-Z]?(?![0-9A-Za-z])"
_W: Final = r"[A-ZÀ-ÖØ-ÞĀ-Ž][\w'’.-]{1,30}"
_CITY: Final = rf"(?:,?\s+(?:[A-Z]{{1,2}}-)?[0-9]{{4,5}}(?:\s?[A-Z]{{2}})?\s+{_W}(?:\s{_W})?)?"
_FORMS: Final = (
    # Lindenstraße 8, 50674 Köln
    rf"(?:{_W}[ -]){{0,3}}(?:[\wÀ-ž-]{{2,30}}(?:straße|strasse|str\.|weg|platz|allee|gasse|damm|ufer|ring|steig|chaussee)|{_W}(?:-| )(?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|Damm|Ufer|Ring))\s{_N}{_CITY}",
    # 14 Mill Lane
    rf"(?<![0-9.])[0-9]{{1,5}}[A-Za-z]?,?\s(?:[NSEW]\.?\s)?(?:{_W}\s){{1,3}}(?:Street|St\.?|Road|Rd\.?|Avenue|Ave\.?|Lane|Ln\.?|Drive|Dr\.?|Boulevard|Blvd\.?|Close|Crescent|Terrace|Court|Ct\.?|Square|Sq\.?|Way|Place|Pl\.?|Parkway|Gardens|Grove|Hill|Row|Mews|Highway|Hwy)\b(?:,?\s(?:Apt|Suite|Unit|Flat)\.?\s?#?[0-9A-Z-]{{1,6}})?",
    # 12 bis rue de la Paix, 75002 Paris
    rf"(?<![0-9.])[0-9]{{1,4}}(?:\s?(?:bis|ter|quater))?,?\s(?:rue|avenue|av\.|boulevard|bd\.?|place|chemin|impasse|quai|allée|allées|cours|route|square|passage)\s(?:(?:de|du|des|la|le|les|l['’]|d['’])\s?)*{_W}(?:[\s-](?:(?:de|du|des|la|le|et|l['’])\s)?{_W}){{0,3}}{_CITY}",
    # Calle Mayor 5, Via Roma 12, Rua das Flores 100
    rf"(?:Calle|C/|Avenida|Avda?\.?|Av\.|Plaza|Pza\.|Paseo|Carrer|Carretera|Camino|Ronda|Travesía|Via|Viale|V\.le|Piazza|P\.zza|Corso|C\.so|Vicolo|Largo|Strada|Rua|R\.|Travessa|Praça|Alameda|Estrada|calle|avenida|via|viale|piazza|corso|rua|praça|travessa)\s(?:(?:de|del|de la|de los|de las|da|do|das|dos|della|dei|delle|degli|d['’]|la|el)\s)*{_W}(?:\s(?:(?:de|del|da|do|e|y|della|dei)\s)?{_W}){{0,3}},?\s(?:n[.º°]?\s?|nº\s?|núm\.?\s?|número\s)?{_N}{_CITY}",
    # Keizersgracht 221
    rf"(?:{_W}\s){{0,2}}[A-Z][\w'-]{{2,30}}(?:straat|laan|gracht|plein|kade|weg|dijk|singel|hof|steeg|dreef|markt)\s{_N}(?:,?\s[0-9]{{4}}\s?[A-Z]{{2}}\s{_W})?",
    # ul. Marszałkowska 10/5
    rf"(?:ul\.|ulica|ulicy|al\.|aleja|alei|os\.|pl\.)\s(?:{_W}\s?){{1,3}}\s?{_N}(?:\s?m\.\s?[0-9]{{1,4}})?",
    # Storgatan 5, Mannerheimintie 12 A, Vesterbrogade 3
    rf"[A-ZÅÄÖÆØ][\wåäöæøÅÄÖÆØ-]{{2,30}}(?:gatan|gata|vägen|väg|gränd|torget|vej|vejen|gade|gaden|vei|veien|gate|gata|plass|katu|tie|kuja|polku|tori|puistikko)\s{_N}",
    # Kossuth Lajos utca 5., Vodičkova ulice 12
    rf"(?:{_W}\s){{1,3}}(?:utca|út|tér|körút|u\.|ulice|třída|náměstí|ulica|námestie|sokak|sokağı|caddesi|bulvarı)\s(?:no:?\s?)?{_N}",
    rf"(?:Strada|Str\.|Bulevardul|Bd\.|Calea|Aleea|Șoseaua)\s(?:{_W}\s?){{1,3}},?\s(?:nr\.?\s?)?{_N}",
    r"(?:ул\.|улица|улице|проспект|пр-т|пр\.|переулок|пер\.|вул\.|вулиця|бул\.)\s?[А-ЯЁІЇЄ][\w-]{2,30}(?:\s[А-ЯЁІЇЄ][\w-]{2,30})?,?\s(?:д\.?|дом|буд\.|№)?\s?[0-9]{1,4}(?:,?\s(?:кв|корп|к)\.?\s?[0-9]{1,4})?",
    r"(?:οδός|οδό|Οδός|Λεωφόρος|λεωφόρος)\s[Α-ΩΆΈΉΊΌΎΏ][\w]{2,30}\s[0-9]{1,4}",
    r"(?i:\bP\.?\s?O\.? Box|\bPostfach|\bApartado(?: de correos)?|\bBoîte postale|\bCasella postale|\bPostbus)\s[0-9][0-9 ]{1,8}(?![0-9])",
    r"[一-龥]{2,3}[都道府県][一-龥ぁ-んァ-ヶ]{1,10}[市区町村郡][一-龥ぁ-んァ-ヶー]{0,12}[0-9一二三四五六七八九十]{1,4}(?:丁目|番地|[-ー−][0-9]{1,4})[0-9番地号-]{0,12}",
    r"(?:[一-龥]{2,8}(?:省|市|区|區|县|縣)){1,3}[一-龥]{1,10}(?:路|街|巷|大道|道)[0-9]{1,5}(?:号|號|弄)(?:[0-9A-Z]{1,5}(?:室|楼|樓|栋|单元))?",
    r"[가-힣]{1,6}(?:시|도|구|군)\s(?:[가-힣]{1,6}(?:시|구|군|읍|면)\s)?[가-힣0-9]{1,10}(?:로|길)\s?[0-9]{1,4}(?:-[0-9]{1,4})?",
    rf"(?:Jalan|Jl\.)\s{_W}(?:\s{_W}){{0,3}}\s(?:No\.?\s?)?{_N}",
)


@lru_cache(maxsize=1)
def _addresses() -> tuple[re.Pattern[str], ...]:
    """Compile the forms at their first use."""
    return tuple(re.compile(rf"(?<![\w])(?:{form})") for form in _FORMS)


_NOT_AN_ADDRESS: Final = re.compile(
    r"(?i)(?:umweg|beweg|deswegen|unterwegs|einweg|mehrweg|arbeitsplatz|marktplatz|steckplatz|speicherplatz|bildschirm|boxring|spring|string|monitoring|engineering|manufacturing|scoring|layout|output|input|debut)"
)

_MONTHS: Final = (
    "jan[a-z]*|feb[a-z]*|mar[a-zç]*|apr[a-z]*|ma[yi][a-z]*|jun[a-z]*|jul[a-z]*|aug[a-z]*|sep[a-z]*|oct[a-z]*|okt[a-z]*|nov[a-z]*|dec[a-z]*|dez[a-z]*|märz|mai|janvier|février|mars|avril|juin|juillet|août|"
    "septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|"
    "janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro|januari|februari|maart|mei|juli|augustus|oktober|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|września|października|"
    "listopada|grudnia|tammikuuta|helmikuuta|maaliskuuta|huhtikuuta|toukokuuta|kesäkuuta|heinäkuuta|elokuuta|syyskuuta|lokakuuta|marraskuuta|joulukuuta|января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря|"
    "ocak|şubat|mart|nisan|mayıs|haziran|temmuz|ağustos|eylül|ekim|kasım|aralık|ledna|února|března|dubna|května|června|července|srpna|září|října|listopadu|prosince"
)
_DATE_FORM: Final = (
    rf"(?<![0-9])(?:[0-3]?[0-9][./ -]{{1,2}}[01]?[0-9][./ -]{{1,2}}(?:19|20)?[0-9]{{2}}|(?:19|20)[0-9]{{2}}[./ -]{{1,2}}[01]?[0-9][./ -]{{1,2}}[0-3]?[0-9]|[0-3]?[0-9](?:\.|st|nd|rd|th|er|º)?\s(?:de |of )?(?:{_MONTHS})\.?(?:\s|,\s?|\sde\s)(?:19|20)[0-9]{{2}}|"
    rf"(?:{_MONTHS})\.?\s[0-3]?[0-9](?:st|nd|rd|th)?,?\s(?:19|20)[0-9]{{2}}|(?:19|20)[0-9]{{2}}\s?[年년]\s?[01]?[0-9]\s?[月월]\s?[0-3]?[0-9]\s?[日일])(?![0-9])"
)


@lru_cache(maxsize=1)
def _date() -> re.Pattern[str]:
    """Compile the form of a date at its first use."""
    return re.compile(_DATE_FORM, re.IGNORECASE)


_BIRTH: Final = re2.compile(
    r"(?i)(?:date[ _]?of[ _]?birth|birth[ _-]?da(?:te|y)|d\.?o\.?b\.?|born|geburtsdatum|geburtstag|geboren|geb\.|geb\.-dat|date de naissance|née?(?:\(e\))? le|né\(e\)|nacimiento|nacid[oa]|data di nascita|nat[oa] il|nascimento|nascid[oa]|"
    r"geboortedatum|data urodzenia|urodzon|ur\.|födelsedatum|född|fødselsdato|født|syntymäaika|syntynyt|datum narození|narozen|narodený|dátum narodenia|születési|született|data nașterii|născut|doğum tarih|doğum|γεννησ|γέννησ|γεννήθ|дата рождения|родил|рождения|дата народження|"
    r"народи|дата на раждане|роден|生日|出生|生年月日|生まれ|생년월일|태어난|जन्म|تاريخ الميلاد|مواليد|תאריך לידה|נולד|วันเกิด|tanggal lahir|lahir|ngày sinh|sinh ngày|datum rođenja|rođen|datum rojstva|rojen|sünniaeg|sündinud|dzimšanas|gimimo)"
)
REACH_CHARS: Final = 40
LEFT_CHARS, RIGHT_CHARS = 56, 88
_NUMBER: Final = re.compile(r"[0-9一二三四五六七八九十]")
SURE: Final = 60.0


def addresses(text: str, marks: frozenset[str]) -> Iterator[Hit]:
    """Yield street addresses: a street by its word, and a house number within reach of it."""
    present = [mark for mark in ADDRESS_MARKS if mark in marks]
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c.lower()[:1] for c in text)
    windows = sorted({at for mark in present for at in _all(lower, mark)})
    last = 0
    for at in windows:
        start, end = max(last, at - LEFT_CHARS), min(len(text), at + RIGHT_CHARS)
        if at < last or _NUMBER.search(text, start, end) is None:
            continue
        for pattern in _addresses():
            match = pattern.search(text, start, end)
            if match is not None and _NOT_AN_ADDRESS.search(match.group()) is None:
                last = match.end()
                yield Hit(match.start(), match.end(), "STREET_ADDRESS", SURE - 20)
                break


def _all(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


def births(text: str) -> Iterator[Hit]:
    """Yield dates that are called a date of birth shortly before (or, in Chinese, Japanese, Korean, after)."""
    for word in _BIRTH.finditer(text):
        start, end = word.span()
        if start and text[start - 1].isalnum() and text[start].isascii():
            continue
        found = _date().search(text, end, min(len(text), end + REACH_CHARS))
        if found is None and not text[start:end].isascii():
            near = list(_date().finditer(text, max(0, start - 20), start))
            found = near[-1] if near and start - near[-1].end() <= 2 else None  # noqa: PLR2004
        if found is not None:
            yield Hit(found.start(), found.end(), "DATE_OF_BIRTH", SURE)
