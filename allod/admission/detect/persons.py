"""Names of persons: a raise, never a gate.

A first name from the gazetteer beside a capitalised word, a title or a phrase that introduces a name, an
honorific in Japanese, Korean or Chinese. Who is not in the lists and has no title is not found, and a
capitalised pair can be no person: measured in docs/classification.md.
"""

# ruff: noqa: E501, RUF001 (words of many languages)

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from allod.admission.detect.context import fold
from allod.admission.detect.model import Hit
from allod.admission.detect.names_latin import LATIN, LONE
from allod.admission.detect.names_other import (
    ARABIC,
    CHINESE_FAMILY,
    CJK_FAMILY,
    CYRILLIC,
    DEVANAGARI,
    FIGURES,
    GREEK,
    HEBREW,
    KOREAN_FAMILY,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UPPER: Final = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŌŎŐŒŔŖŘŚŜŞŠȘŢŤŦȚŨŪŬŮŰŲŴŶŸŹŻŽ"
_LETTER: Final = r"A-Za-zÀ-ÖØ-öø-ɏẀ-ỿ"
_WORD: Final = rf"(?:[{_UPPER}](?:['’][{_UPPER}])?[{_LETTER}]+(?:['’-][{_LETTER}]+)*|[{_UPPER}]\.|[{_UPPER}](?![{_LETTER}.]))"
_PARTICLE: Final = (
    r"(?:de la|de las|de los|van der|van den|van de|von der|von dem|vom|zu|zur|zum|von|van|ter|ten|te|de|del|della|dello|di|da|das|dos|do|du|des|le|la|"
    r"al|el|bin|bint|ibn|ben|abu|af|av|Mc|Mac|O['’]|d['’]|y|e|i)"
)
SEQUENCE: Final = re.compile(
    rf"(?<![{_LETTER}0-9_@#/.\\-]){_WORD}(?:[ \u00a0](?:{_PARTICLE}[ ]){{0,2}}{_WORD}){{0,4}}(?![{_LETTER}0-9_@])"
)
_STRONG_TITLES: Final = (
    "Mr Mrs Ms Miss Mx Dr Prof Sir Herr Herrn Frau Fräulein Hr Mme Mlle Mmes Monsieur Madame Mademoiselle Maître Señora Señor Señorita Sra Sr Srta Doña Dona Senhora Senhor Sig Sig.ra Sig.na Signor "
    "Signora Signorina Dott Dott.ssa Avv Mevrouw Meneer Mevr Dhr Mw heer Pan Pani Pana Panią Panem Paní Pán Pána Fru Fröken Herra Rouva Hra Rva Frú Domnul Doamna Gospodin Gospođa Gospod Gospa Bayan Sayın Nurse "
    "Doctor Professor Detective Judge M."
).split()
_WEAK_TITLES: Final = (
    "Dame Lady Lord Rev Fr Dipl Me Don Ing Officer Captain Patient Patientin patient patiente paciente paziente pacjent pacjentka patiënt potilas employee colleague neighbour neighbor tenant applicant customer "
    "client Kollege Kollegin Bewerber Bewerberin Mitarbeiter Mitarbeiterin Kunde Kundin Nachbar Nachbarin Kreditnehmer Kreditnehmerin Mandant Mandantin Mieter Mieterin cliente clienta empleado empleada collègue "
    "salarié salariée locataire voisin voisine dipendente collega vicino vicina werknemer buurman buurvrouw klient klientka kolega koleżanka pracownik kollega kunden asiakas työntekijä naapuri funcionário "
    "funcionária vizinho vizinha"
).split()
_INTRODUCTIONS: Final = """
my name is, my name's, name:, named, i am called, i'm, this is, full name, signed, sincerely, regards, cheers, dear, hi, hello, account holder, cardholder, beneficiary, insured, patient:, customer:, employee:, contact:, attn, c/o, on behalf of,
mein name ist, ich heiße, ich bin, name ist, heißt, inhaber, inhaberin, kontoinhaber, kontoinhaberin, empfänger, empfängerin, absender, absenderin, ansprechpartner, ansprechpartnerin, versicherter, versicherte, liebe, lieber, hallo, grüße,
je m'appelle, mon nom est, s'appelle, titulaire, bénéficiaire, destinataire, bonjour, cher, chère, nom :, nom:, me llamo, mi nombre es, se llama, titular, beneficiario, estimado, estimada, querido, querida, nombre:, mi chiamo, si chiama,
intestato a, intestata a, intestatario, caro, cara, gentile, nome:, meu nome é, chamo-me, me chamo, em nome de, mijn naam is, ik heet, op naam van, ten name van, t.n.v., beste, geachte, naam:, nazywam się, właściciel, właścicielka, odbiorca,
na nazwisko, imię i nazwisko, jag heter, mitt namn är, kontoinnehavare, innehavare, namn:, jeg hedder, jeg heter, mit navn er, mitt navn er, navn:, nimeni on, tilinomistaja, saaja, nimi:, jmenuji se, jméno:, volám sa, numele meu este,
mă numesc, nume:, zovem se, ime i prezime, benim adım, adım, ismim, adı soyadı, a nevem, név:, call, contact, remind, tell, ask, invite, email, phone, meet, kid, with, for, from, to, by,
son, daughter, wife, husband, mother, father, brother, sister, boss, child, friend, partner, sohn, tochter, frau, mann, mutter, vater, bruder, schwester, chef, chefin, kind, freund, freundin, oma, opa, fils, fille, femme, mari, mère, père, frère,
sœur, ami, amie, patron, hijo, hija, esposa, esposo, marido, mujer, madre, padre, hermano, hermana, jefe, jefa, amigo, amiga, vecino, vecina, figlio, figlia, moglie, marito, fratello, sorella, filho, filha, mãe, pai, irmão, irmã, zoon, dochter,
vrouw, man, moeder, vader, broer, zus, baas, syn, córka, żona, mąż, matka, ojciec, brat, siostra, dotter, mamma, pappa, bror, syster, søn, datter, kone, rufen sie, rappeler, llame a, ligue para, richiamare, bel, do, ring, soita, para, à, an
"""
_SELF: Final = frozenset(
    " ".join(fold(phrase).split())
    for phrase in (
        "my name is,my name's,name ist,mein name ist,ich heiße,je m'appelle,mon nom est,me llamo,mi nombre es,mi chiamo,chamo-me,me chamo,meu nome é,mijn naam is,ik heet,nazywam się,jag heter,mitt namn är,jeg hedder,jeg heter,"
        "mit navn er,nimeni on,jmenuji se,mă numesc,numele meu este,account holder,cardholder,inhaber,inhaberin,kontoinhaber,kontoinhaberin,titulaire,titular,intestato a,intestata a,intestatario,op naam van,właściciel,właścicielka,"
        "kontoinnehavare,tilinomistaja,full name,adım,ismim,benim adım"
    ).split(",")
)


def _by_last_word(phrases: Iterable[str]) -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for phrase in phrases:
        plain = " ".join(fold(phrase).split())
        if plain:
            table.setdefault(plain.rsplit(" ", 1)[-1], []).append(" " + plain)
    return {last: tuple(dict.fromkeys(forms)) for last, forms in table.items()}


_INTRODUCED: Final = _by_last_word(_INTRODUCTIONS.replace("\n", "").split(","))
_STRONG: Final = frozenset(fold(t).strip().replace(" ", "") for t in _STRONG_TITLES)
_CAPITALISED: Final = frozenset(
    "m ms mr mrs mx dr hr fr sig sr sra pan me avv mw prof don ing sir fru her lady lord miss".split()
)
_TITLES: Final = _STRONG | frozenset(fold(t).strip() for t in _WEAK_TITLES)
BEFORE_CHARS: Final = 28
_OPENERS: Final = ' \n\t:\u00a0"(*>'
_CALLERS: Final = frozenset(
    phrase.strip().rsplit(" ", 1)[-1].lower()
    for phrase in (*_INTRODUCTIONS.replace("\n", "").split(","), *_STRONG_TITLES, *_WEAK_TITLES)
    if phrase.strip()
)
"""Last words of whatever introduces a name: most words before a capital are none of these."""
_NOT_NAMES: Final = frozenset(
    """
    the this that these those our your his her its their please thank thanks best kind regards dear hello good morning afternoon evening monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december street road avenue lane drive court square park university college school hospital clinic institute company corporation inc ltd llc gmbh ag sa sas srl spa bv nv ab oy as plc group bank airport station hotel restaurant
    museum church bridge river lake mount mountain island county city town state republic kingdom north south east west new great grand department ministry office act law article section chapter page table figure version windows linux server cloud data
    system project team board committee council commission union party government parliament court internet web api model prize award cup league open championship series theory theorem equation effect law principle method algorithm test scale index
    syndrome disease day week month year summary report meeting agenda product products service services support sales marketing finance engineering manager director engineer developer officer president minister chancellor king queen prince princess
    der die das den dem des ein eine einen einem einer und oder ist sind war bitte herr frau firma straße strasse platz weg allee universität schule klinik krankenhaus amt behörde gesetz artikel abschnitt kapitel seite tabelle projekt sitzung gruppe verein
    le la les un une des du de et ou est sont rue avenue place école université hôpital société loi article page projet réunion el los las una unos y o es son calle plaza escuela universidad hospital empresa ley artículo proyecto reunión
    il lo gli i via piazza scuola università ospedale società legge articolo progetto het een en of straat school universiteit ziekenhuis bedrijf wet artikel ulica szkoła szpital firma ustawa artykuł och eller gatan skolan sjukhus lag
    gdpr hipaa dora eu us uk un nato who iso din ieee http https url json xml sql html css pdf csv
    """.split()
)
_HONORIFIC: Final = re.compile(
    r"([一-龥々]{1,4}(?:[ 　]?[一-龥々ぁ-んァ-ヶ]{1,4})?)(?:さん|様|さま|氏|殿|君|くん|ちゃん|先生|部長|課長|社長|係長)"
)
_HAN: Final = re.compile(r"[一-龥々]{2,6}(?:[ 　][一-龥々]{1,3})?[ぁ-んァ-ヶ]{0,3}")
_FAMILIES: Final = frozenset(f for f in CJK_FAMILY if len(f) > 1)
_SCRIPTS: Final = re.compile("[ก-๎一-龥가-힣]")
_KANA: Final = re.compile("[ぁ-ヶ]")
_JAPANESE_SUFFIX: Final = frozenset("駅市区町村県山川島寺橋港城池湖神社大学病院高校株")
_CHINESE: Final = re.compile(
    rf"(?:(?:姓名|名字|联系人|患者|病人|客户|员工|收件人|户名|申请人|我叫|名叫)(?:是|为|：|:|叫)?\s?([{CHINESE_FAMILY}][一-龥]{{1,2}}))|([{CHINESE_FAMILY}][一-龥]{{0,2}})(?:先生|女士|小姐|同志|医生|老师|经理|教授|主任)|(?:给|请联系|联系|致电)([{CHINESE_FAMILY}][一-龥]{{1,2}})(?=[，,。打致电的]|$)"
)
_KOREAN: Final = re.compile(
    rf"(?<![가-힣])([{KOREAN_FAMILY}][가-힣]{{2}})(?=(?:님|씨|군|양|선생|과장|부장|대리|사원|팀장|교수|환자|고객)(?:[^가-힣]|[은는이가을를의에께]))|(?:이름은|이름:|성명:|성명은|고객명|환자명|예금주|수신인|담당자)\s?:?\s?([{KOREAN_FAMILY}][가-힣]{{2}})"
)
_OTHER_WORD: Final = re.compile(
    r"[\u0370-\u03ff\u1f00-\u1fffЀ-ӿ\u0590-\u05ff\u0600-\u06ff\u0900-\u097f'’-]{2,}"
)
_PATRONYMIC: Final = re.compile(r"(?:ович|евич|ьич|овна|евна|ична|івна|ївна)(?:а|у|ем|ом|е|ой|ы|ю)?$")
_THAI: Final = re.compile(r"(?:นางสาว|นาย|นาง|ด\.ช\.|ด\.ญ\.|คุณ)\s?[ก-๎]{2,20}(?:\s[ก-๎]{2,24})?")
_OTHER_TITLE: Final = frozenset(
    "श्री श्रीमती सुश्री डॉ कुमारी السيد السيدة الدكتور الدكتورة آقای خانم דר מר גב господин госпожа товарищ пан пані κ κος κα κυριος κυρια".split()
)
_PLACE_BEFORE: Final = frozenset(
    "San Santa Santo St St. Saint Sankt Sao São Fort Mount Port Lake Los Las New".split()
)
_PARTICLE_FIRST: Final = frozenset("de la le van von di da del du el al ter ten".split())
SURE, LIKELY, MAYBE = 36.0, 30.0, 24.0


def persons(text: str) -> list[Hit]:
    """Find names of persons in a text; people of public life named alone are left out."""
    out = list(_latin(text))
    if not text.isascii():
        if _SCRIPTS.search(text) is not None:
            out += _eastern(text)
        out += _other_scripts(text)
    return out


def _latin(text: str) -> Iterator[Hit]:
    for match in SEQUENCE.finditer(text):
        start, sequence = match.start(), match.group()
        if " " in sequence or _bare(sequence) in LATIN or _called(text, start):
            yield from _sequence(text, start, sequence)


def _called(text: str, start: int) -> bool:
    """Tell whether the word before a place may introduce a name: most words do not."""
    before = text[max(0, start - BEFORE_CHARS) : start]
    if not before or before[-1] not in _OPENERS or before.isspace():
        return False
    last = before.rsplit(None, 1)[-1].lower()
    return last in _CALLERS or not last[-1].isalpha()


def _sequence(text: str, start: int, sequence: str) -> Iterator[Hit]:
    """Read one sequence of capitalised words: a name may begin at any of them."""
    words = sequence.split(" ") if " " in sequence else [sequence]
    before = _Before(text, start)
    at = start
    for index, word in enumerate(words):
        place, at = at, at + len(word) + 1
        if word[0].islower() or (index and words[index - 1] in _PLACE_BEFORE):
            continue
        plain = _bare(word)
        first = plain in LATIN or ("-" in plain and plain.split("-")[0] in LONE)
        title = _title(words[index - 1]) if index else before.title()
        if not first and not title and (index or not before.introduced()):
            continue
        last = _last(words, index)
        end = _end(text, place, words, index, last)
        score = _score(
            text,
            place,
            end,
            plain,
            last - index + 1,
            first=first,
            title=title,
            before=None if index else before,
        )
        if score:
            if not _public(text[place:end]):
                yield Hit(place, end, "PERSON", score)
            return


def _score(
    text: str,
    start: int,
    end: int,
    plain: str,
    count: int,
    *,
    first: bool,
    title: int,
    before: _Before | None,
) -> float:
    """Return how sure a name is that begins with the word ``plain`` and has so many words, 0 for none."""
    usable = plain not in _NOT_NAMES
    if title and (usable or (count > 1 and plain in _PARTICLE_FIRST)) and (title > 1 or first or count > 1):
        return SURE if title > 1 else LIKELY
    if not usable:
        return 0.0
    if (
        before is not None
        and before.introduced()
        and ((first and (count > 1 or plain in LONE)) or before.itself())
    ):
        return LIKELY
    if first and count > 1:
        return LIKELY if plain in LONE else MAYBE
    return MAYBE if plain in LONE and len(plain) > 3 and _alone_is_name(text, start, end) else 0.0  # noqa: PLR2004


class _Before:
    """What stands before a sequence, folded once and only when asked for."""

    __slots__ = ("_last", "_phrase", "_text", "_words", "start")

    def __init__(self, text: str, start: int) -> None:
        self._text, self.start = text, start
        self._words: list[str] | None = None
        self._last = ""
        self._phrase: str | None = None

    def _read(self) -> list[str]:
        if self._words is None:
            piece = self._text[max(0, self.start - BEFORE_CHARS) : self.start]
            self._words = []
            if piece and piece[-1] in _OPENERS:
                self._last = "" if piece.isspace() else piece.rsplit(None, 1)[-1]
                last = self._last.lower()
                if last in _CALLERS or not last[-1:].isalpha():
                    self._words = fold(piece).split()
        return self._words

    def title(self) -> int:
        """2 for a title only persons have, 1 for a role, 0 for none."""
        return _title(self._last) if self._read() else 0

    def introduced(self) -> bool:
        """Tell whether a phrase stands before it that introduces a name."""
        if self._phrase is None:
            self._phrase = ""
            words = self._read()
            forms = _INTRODUCED.get(words[-1], ()) if words else ()
            if forms:
                window = " " + " ".join(words)
                self._phrase = max((f for f in forms if window.endswith(f)), key=len, default="").strip()
        return self._phrase != ""

    def itself(self) -> bool:
        """Tell whether that phrase can introduce nothing but a name ("my name is")."""
        return self._phrase in _SELF


def _bare(word: str) -> str:
    """Return a word as the gazetteer writes it: folded, hyphens kept, without a genitive."""
    plain = word.lower().removesuffix("'s").removesuffix("’s")
    if not plain.isascii() or not plain.isalpha():
        plain = fold(plain).strip().replace(" ", "-")
    return plain


def _title(word: str) -> int:
    """2 for a title only persons have, 1 for a role, 0 for neither; short ones need their capital."""
    bare = word.lstrip("(\"'“„*>[").rstrip(".:")
    plain = fold(bare).strip().replace(" ", "")
    if plain in _CAPITALISED and not (bare[:1].isupper() and bare.replace(".", "").isalpha()):
        return 0
    return 2 if plain in _STRONG else 1 if plain in _TITLES else 0


def _last(words: list[str], index: int) -> int:
    """Return the index of the last word of a name that begins at ``index``: at most five more."""
    last = index
    for step in range(index + 1, min(len(words), index + 6)):
        word = words[step]
        if word[0].isupper():
            if _bare(word) in _NOT_NAMES or (word.isupper() and len(word) > 2 and not words[index].isupper()):  # noqa: PLR2004
                break
            last = step
    return last


def _end(text: str, start: int, words: list[str], index: int, last: int) -> int:
    """Return where a name ends: without a genitive or a full stop that is not an initial's."""
    end = start + sum(len(word) + 1 for word in words[index : last + 1]) - 1
    if text[end - 2 : end] in ("'s", "’s"):
        end -= 2
    return end - 1 if text[end - 1] == "." and len(words[last]) > 2 else end  # noqa: PLR2004


_ALONE_AFTER: Final = re.compile(
    r"(?:['’]s\b|,? (?:is|was|has|had|will|said|says|wants|asked|called|lives|works|told|wrote|needs|converted|lebt|wohnt|ist|hat|war|sagt|möchte|arbeitet|a|est|habite|veut|dit|travaille|vive|tiene|quiere|dice|trabaja|è|ha|vuole|lavora|mora|trabalha|tem|quer|woont|heeft|werkt|wil|"
    r"mieszka|ma|pracuje|bor|har|är|arbetar|on|asuu|haluaa|työskentelee|and I)\b)"
)


def _alone_is_name(text: str, start: int, end: int) -> bool:
    """Tell whether a lone first name stands as a person would: before a verb or a genitive, or as an address."""
    if _ALONE_AFTER.match(text, end):
        return True
    return text[end : end + 1] in (",", ":") and (start == 0 or text[start - 1] == "\n")


def _public(name: str) -> bool:
    plain = " ".join(fold(name).split())
    return plain in FIGURES or any(
        plain.endswith(" " + figure) for figure in (plain.split(" ", 1)[-1],) if figure in FIGURES
    )


def _eastern(text: str) -> Iterator[Hit]:
    for match in _HONORIFIC.finditer(text):
        name = match.group(1)
        family = next((f for f in CJK_FAMILY if f in name), None)
        if family is not None:
            begin = match.start(1) + name.index(family)
            yield Hit(begin, match.end(1), "PERSON", SURE)
    if _KANA.search(text) is not None:
        yield from _japanese(text)
    for pattern in (_CHINESE, _KOREAN):
        for match in pattern.finditer(text):
            group = next(i for i in range(1, pattern.groups + 1) if match.start(i) >= 0)
            yield Hit(match.start(group), match.end(group), "PERSON", LIKELY)
    for match in _THAI.finditer(text):
        yield Hit(match.start(), match.end(), "PERSON", LIKELY)


def _japanese(text: str) -> Iterator[Hit]:
    """Yield family names of the list with one to three characters that could be a given name."""
    for match in _HAN.finditer(text):
        run = match.group()
        family = next((run[:size] for size in (3, 2) if run[:size] in _FAMILIES), None)
        if family is None:
            continue
        given = run[len(family) :].lstrip(" 　")
        cut = _PARTICLE_JA.search(given)
        given = given[: cut.start()] if cut else given
        if 1 <= len(given) <= 3 and not set(given) & _JAPANESE_SUFFIX:  # noqa: PLR2004 (characters of a given name)
            end = match.start() + run.index(given, len(family)) + len(given)
            yield Hit(match.start(), end, "PERSON", MAYBE)


_PARTICLE_JA: Final = re.compile("[はがをにのとへでもや]|さん|様")


def _other_scripts(text: str) -> Iterator[Hit]:
    """Cyrillic, Greek, Devanagari, Arabic and Hebrew: a first name of the list and the word beside it."""
    words = [(m.start(), m.end(), m.group()) for m in _OTHER_WORD.finditer(text)]
    done = -1
    for index, (at, end, word) in enumerate(words):
        start = at
        if start < done:
            continue
        plain = fold(word)
        upper = word[:1].isupper()
        cased = word[:1].lower() != word[:1].upper()
        known = (
            (upper and (plain in CYRILLIC or _stem(plain) or plain in GREEK))
            or word in DEVANAGARI
            or word in ARABIC
            or word in HEBREW
        )
        titled = index > 0 and fold(words[index - 1][2]) in _OTHER_TITLE
        if not known and not (titled and (upper or not cased)):
            continue
        last = end
        for _, nend, other in words[index + 1 : index + 3]:
            if text[last : last + 1] != " " or (cased and not other[:1].isupper()):
                break
            if not cased and (last != end or other in _PARTICLES_OTHER):
                break
            last = nend
        if (
            index > 0
            and cased
            and words[index - 1][2][:1].isupper()
            and words[index - 1][1] == start - 1
            and _PATRONYMIC.search(fold(text[end + 1 : last]))
        ):
            start = words[index - 1][0]
        if last > end or titled:
            done = last
            yield Hit(start, last, "PERSON", LIKELY)


_PARTICLES_OTHER: Final = frozenset(
    "को की का के से ने में पर और है हैं था थी जी في من إلى على هو هي و את של על עם ב ל".split()
)


def _stem(plain: str) -> bool:
    """Undo the commonest Slavic endings of a first name."""
    return any(
        plain[: -len(tail)] + back in CYRILLIC
        for tail, back in (
            ("а", ""),
            ("у", ""),
            ("ом", ""),
            ("ой", "а"),
            ("е", "а"),
            ("у", "а"),
            ("ы", "а"),
            ("и", "я"),
            ("ю", "я"),
            ("ю", "й"),
            ("я", "й"),
            ("ем", "й"),
            ("ей", "я"),
        )
        if plain.endswith(tail)
    )
