"""Protective markings: what states, firms and lawyers write on what must not leave.

A marking is recognised by its form: a phrase nobody writes otherwise, capitals, or its place at the head of a
line. A sentence that asks what a marking means is not marked by it.
"""

# ruff: noqa: E501, RUF001 (phrases of many languages)

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import re2

from allod.admission.detect.model import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIND_MARKS: Final[dict[str, str]] = {
    "MARKING_STATE": "cui,controlled,vs-nfd,vs-nur,vs – n,vs - n,vs-v,vs nfd,dienstgebrauch,geheim,restreint,spécial france,très secret,tres secret,secret d,confidentiel d,nato ,cosmic top,"
    "restricted,official,uk eyes,uk secret,austeo,top secret,secret,noforn,orcon,fvey,fouo,law enforcement sensitive,sensitive security,sensitive but,stg.,stg ,departementaal,dep.v.,difusión,"
    "reservado,secreto,ultrassecreto,sigiloso,riserva,segret,tajne,zastrzeżone,poufne,hemlig,salassa,rajoitettu,salainen,tjenestebrug,hemmelig,strengt,begrenset,konfidensielt,vyhrazené,tajné,"
    "служебного пользования,дсп,секретно,особой важности,таємно,protected,confidentiel ue,eu confidential,limite ue,vertraulich,confidential//,绝密,机密,秘密,極秘,機密,秘,극비,기밀,비밀,गोपनीय,سري,סודי,ลับ,hizmete,εμπιστευτικο",
    "MARKING_PRIVILEGED": "privileged,attorney,litigation,counsel,privilege,anwalt,mandatsgeheimnis,verteidigerpost,secret professionnel,avocat,secreto profesional,sigilo profissional,segreto professionale,beroepsgeheim,"
    "verschoningsrecht,tajemnica adwokacka,адвокатская тайна,保密特权,秘匿特権",
    "MARKING_CONFIDENTIAL": "confiden,vertraulich,vertrouwelijk,poufne,rtrolig,luottamukselli,důvěrné,bizalmas,confidențial,gizli,конфиденциальн,конфіденційно,εμπιστευτικ,riservato,严格保密,商业秘密,公司机密,商业机密,社外秘,部外秘,"
    "取扱注意,企業秘密,영업비밀,회사기밀,rahasia,tlp:,tlp :,proprietary,company secret,firm secret,corporate secret,need to know,need-to-know,need-to,geheimnis,sperrvermerk,do not,distribution,weitergabe",
    "MARKING_INTERNAL": "use only,internal only,internal,tlp:,tlp :,intern,interno,wewnętrznego,sisäiseen,belső használatra,внутреннего,внутрішнього,内部,社内,대외비,내부",
    "MARKING_EXPORT": "itar,export admin,arms,eccn,usml,export,ear99,(ear,the ear,exportkontrolle,ausfuhrgenehmigung,außenwirtschaftsgesetz,double usage",
    "MARKING_BCSI": "bcsi,bes cyber,ceii,critical energy",
    "INSIDER_INFORMATION": "public,mnpi,insider,inside information,price-sensitive,price sensitive,embargo,noch nicht öffentlich,sperrfrist,privilegiada,privilégiée,内幕信息,未公表,미공개",
    "TRADE_SECRET": "trade secret,geheimnis,our ,unser,notre ,nuestr,nossa,nostra,onze ,nasz",
}
MARKS_OF: Final[dict[str, tuple[str, ...]]] = {
    kind: tuple(dict.fromkeys(listing.split(","))) for kind, listing in _KIND_MARKS.items()
}
"""For each kind the literals, lower case, of which one stands in every text that bears such a marking."""

_HEAD: Final = "\0"
_TAIL: Final = "\1"


class _Kind(msgspec.Struct, frozen=True, eq=False):
    """The phrases of one kind: those that count anywhere, and those that count at the head of a line."""

    anywhere: Any
    at_head: Any


def _any(*phrases: str) -> _Kind:
    """Compile phrases for RE2; ``_HEAD`` in front and ``_TAIL`` at the end mark those of a line's head.

    RE2 knows words of ASCII only, so boundaries of words are tested on each match.
    """
    head = [p.replace(_HEAD, "").replace(_TAIL, "").replace(r"\b", "") for p in phrases if _HEAD in p]
    plain = [p.replace(_TAIL, "").replace(r"\b", "") for p in phrases if _HEAD not in p]
    return _Kind(re2.compile("|".join(plain)), re2.compile("|".join(head)) if head else None)


_BEFORE_HEAD: Final = re.compile(r"(?:\A|\n)[ \t>#*\[(|/=-]{0,8}\Z|[\[(]\Z")
_AFTER_HEAD: Final = re.compile(r"[ \t]*(?:[\])*|:.!/,;–—-]|\n|\Z)")


_STATE: Final = _any(
    r"\bCUI//[A-Z/ -]{2,60}", _HEAD + r"CUI(?:\s?[/-]\s?[A-Z-]{2,20})?" + _TAIL, r"\b(?:CONTROLLED UNCLASSIFIED INFORMATION|Controlled by: )",
    r"\bVS[ ]?[-–][ ]?(?:NfD|NFD|NUR FÜR DEN DIENSTGEBRAUCH|Nur für den Dienstgebrauch|VERTRAULICH|Vertr)\b",
    r"(?i:\bnur für den dienstgebrauch\b)", r"\b(?:STRENG GEHEIM|STRENG[- ]VERTRAULICH|AMTLICH GEHEIMGEHALTEN)\b", _HEAD + "GEHEIM" + _TAIL,
    r"\b(?:DIFFUSION RESTREINTE|Diffusion [Rr]estreinte|SPÉCIAL FRANCE|TR[EÈ]S SECRET|SECRET D[EÉ]FENSE|CONFIDENTIEL D[EÉ]FENSE)\b",
    r"\bNATO (?:RESTRICTED|CONFIDENTIAL|SECRET)\b", r"\bCOSMIC TOP SECRET\b",
    r"\b(?:RESTREINT UE|EU RESTRICTED|CONFIDENTIEL UE|EU CONFIDENTIAL|SECRET UE|EU SECRET|TR[EÈ]S SECRET UE|EU TOP SECRET|LIMITE UE)\b",
    r"\bOFFICIAL[ ]?[-–—:][ ]?(?:SENSITIVE|Sensitive)\b", r"\b(?:UK (?:EYES ONLY|SECRET|TOP SECRET)|AUSTEO)\b",
    r"\b(?:TOP SECRET|SECRET|CONFIDENTIAL)//[A-Z/, -]{2,60}", _HEAD + "(?:TOP )?SECRET" + _TAIL, r"\bTOP SECRET\b", r"\b(?:NOFORN|ORCON|FVEY)\b",
    r"\b(?:FOUO|FOR OFFICIAL USE ONLY|For Official Use Only|LAW ENFORCEMENT SENSITIVE|SENSITIVE SECURITY INFORMATION|SENSITIVE BUT UNCLASSIFIED)\b",
    r"\b(?:STG\.? (?:ZEER )?GEHEIM|STG\.? CONFIDENTIEEL|[Dd]epartementaal [Vv]ertrouwelijk|DEPARTEMENTAAL VERTROUWELIJK|DEP\.V\.)",
    r"\b(?:DIFUSIÓN LIMITADA|Difusión Limitada)\b", _HEAD + "(?:RESERVADO|SECRETO|ULTRASSECRETO|SIGILOSO)" + _TAIL,
    r"\b(?:RISERVATISSIMO|SEGRETISSIMO)\b", _HEAD + "(?:RISERVATO|SEGRETO)" + _TAIL, r"\b(?:ŚCIŚLE TAJNE|ZASTRZEŻONE)\b", _HEAD + "(?:TAJNE|POUFNE)" + _TAIL,
    r"\b(?:KVALIFICERAT HEMLIG|BEGRÄNSAT HEMLIG)\b", _HEAD + "HEMLIG" + _TAIL, r"\b(?:SALASSA PIDETTÄVÄ|KÄYTTÖ RAJOITETTU|ERITTÄIN SALAINEN)\b",
    r"\bTIL TJENESTEBRUG\b", r"\b(?:STRENGT HEMMELIG|STRENGT FORTROLIG|BEGRENSET|KONFIDENSIELT)\b", r"\b(?:VYHRAZENÉ|PŘÍSNĚ TAJNÉ|PRÍSNE TAJNÉ)\b",
    r"(?i:\bдля служебного пользования\b)", r"\bДСП\b", r"\b(?:СОВЕРШЕННО СЕКРЕТНО|ОСОБОЙ ВАЖНОСТИ|ЦІЛКОМ ТАЄМНО)\b", _HEAD + "(?:СЕКРЕТНО|ТАЄМНО)" + _TAIL,
    r"\bPROTECTED(?: [ABC]\b|//[A-Z]{2,12})", _HEAD + "PROTECTED" + _TAIL, _HEAD + r"【?\s*(?:绝密|机密|秘密|極秘|機密|秘|극비|기밀|비밀|गोपनीय|अति गोपनीय|سري للغاية|سري|סודי ביותר|סודי|ลับมาก|ลับ)\s*(?:★|】|\]|:|：|\n|$)",
    _HEAD + "RESTRICTED(?: DATA)?" + _TAIL, r"\bHIZMETE ÖZEL\b", r"\bΑΔΙΑΒΑΘΜΗΤΟ ΕΜΠΙΣΤΕΥΤΙΚΟ\b",
)  # fmt: skip
_FIRM: Final = _any(
    r"(?i:\b(?:strictly|highly|most|company|business|commercial(?:ly)? in|taken in) confiden(?:tial|ce)\b)", r"(?i:\bcommercial[- ]in[- ]confidence\b)",
    r"(?i:\b(?:streng|höchst|absolut|firmen) ?vertraulich\b)", r"(?i:\bstrictement confidentiel(?:le)?s?\b)", r"(?i:\b(?:estrictamente|altamente|rigurosamente|estritamente) confidencia(?:l|les|is)\b)",
    r"(?i:\bstrettamente (?:riservato|confidenziale)\b)", r"(?i:\bstri(?:k|c)t vertrouwelijk\b)", r"(?i:\b(?:ściśle|scisle) poufne\b)", r"(?i:\b(?:strängt|strengt) f[öo]rtroligt?\b)",
    r"(?i:\behdottoman luottamuksellinen\b)", r"(?i:\bpřísně důvěrné\b)", r"(?i:\bszigorúan bizalmas\b)", r"(?i:\bstrict confidențial\b)", r"(?i:\bçok gizli\b)",
    r"(?i:\bстрого конфиденциально\b)", r"(?i:\bсуворо конфіденційно\b)", r"(?i:\bάκρως εμπιστευτικό\b)", r"严格保密|商业秘密|公司机密|商业机密|社外秘|部外秘|取扱注意|企業秘密|영업비밀|회사기밀",
    r"\b(?:CONFIDENTIAL|VERTRAULICH|CONFIDENTIEL(?:LE)?|CONFIDENCIAL|CONFIDENZIALE|VERTROUWELIJK|POUFNE|FÖRTROLIGT|FORTROLIGT?|LUOTTAMUKSELLINEN|DŮVĚRNÉ|BIZALMAS|CONFIDENȚIAL|GİZLİ|ΕΜΠΙΣΤΕΥΤΙΚΟ|КОНФИДЕНЦИАЛЬНО|КОНФІДЕНЦІЙНО|RAHASIA)\b",
    _HEAD + r"(?i:confidential|vertraulich|confidentiel(?:le)?|confidencial|confidenziale|riservato|vertrouwelijk|poufne|förtroligt|fortrolig|luottamuksellinen|důvěrné|bizalmas|конфиденциально|конфіденційно)[ \t]*(?:[:\])*–—]|-\s|\n)",
    r"\bTLP[ ]?:[ ]?(?:RED|AMBER(?:\+STRICT)?)\b", r"(?i:\b(?:company|firm|corporate) (?:secret|proprietary)\b)", r"(?i:\bproprietary (?:and|&) confidential\b|\bconfidential (?:and|&) proprietary\b)",
    r"\b(?:PROPRIETARY|COMPANY SECRET|NEED[ -]TO[ -]KNOW)\b", r"(?i:\b(?:geschäfts|betriebs)geheimnis(?:se)? (?:der|des|von|unser)|\bSperrvermerk\b)",
    r"(?i:\bdo not (?:distribute|forward|share) (?:outside|beyond|externally)\b|\bnot for (?:further |external )?distribution\b|\bnicht zur weitergabe\b)",
)  # fmt: skip
_INTERNAL: Final = _any(
    r"(?i:\b(?:for )?(?:internal|company) use only\b)", r"(?i:\binternal only\b)", r"\bTLP[ ]?:[ ]?GREEN\b", r"(?i:\bnur (?:für den|zum|zur) internen (?:gebrauch|verwendung|dienstgebrauch)\b|\bnur intern\b|\bintern – nicht)",
    r"(?i:\b(?:à |réservé à un |pour )?usage interne(?: uniquement| exclusivement| seulement)?\b)", r"(?i:\b(?:solo |sólo |exclusivamente )?(?:para |per )?uso interno\b)", r"(?i:\b(?:alleen|uitsluitend) voor intern gebruik\b)",
    r"(?i:\b(?:wyłącznie |tylko )?do użytku wewnętrznego\b)", r"(?i:\b(?:endast|kun|bare) (?:för|til|for) internt? br(?:uk|ug)\b)", r"(?i:\bvain sisäiseen käyttöön\b)", r"(?i:\bpouze pro interní (?:potřebu|použití)\b)",
    r"(?i:\bcsak belső használatra\b)", r"(?i:\bдля внутреннего (?:использования|пользования)\b)", r"(?i:\bдля внутрішнього використання\b)", r"内部资料|仅供内部|内部使用|社内限|社内用|대외비|내부용|내부 전용",
    _HEAD + r"(?:INTERNAL|INTERN|INTERNE|INTERNO)[ \t]*(?:[:\])*–—]|-\s|\n|$)",
)  # fmt: skip
_PRIVILEGED: Final = _any(
    r"(?i:\bprivileged (?:and|&|/) confidential\b|\bconfidential (?:and|&|/) privileged\b)", r"(?i:\battorney[- ]client(?:[- ]communication)? privileged\b|\bsubject to (?:attorney|legal|solicitor|litigation)[- a-z]{0,24} privilege\b|\blegally privileged\b|\blegal(?:ly)? professional privilege applies\b)",
    r"\b(?:ATTORNEY[- ]CLIENT PRIVILEGED?|ATTORNEY WORK PRODUCT|LEGALLY PRIVILEGED|Attorney Work Product|PRIVILEGED COMMUNICATION)\b", _HEAD + r"(?i:privileged)[ \t]*(?:[:\])*–—]|-\s|\n)",
    r"(?i:\bprepared (?:in anticipation of litigation|at the (?:direction|request) of counsel)\b)", r"(?i:\banwaltlich privilegiert\b|\banwaltskorrespondenz\b|\bunterliegt (?:dem|der) (?:anwaltsgeheimnis|mandatsgeheimnis|anwaltlichen)|\bverteidigerpost\b)",
    r"(?i:\bcouvert par le secret professionnel\b|\bcorrespondance (?:confidentielle )?(?:d['’]|entre )avocats?\b|\bconfidentiel avocat\b)", r"(?i:\bprotegido por (?:el )?secreto profesional\b|\bsujeto a(?:l)? secreto profesional\b|\bsigilo profissional (?:do|de) advogado\b|\bcoperto da segreto professionale\b|\bberoepsgeheim advocaat\b|\bverschoningsrecht\b|\btajemnica adwokacka\b)",
    r"(?i:\bour (?:outside )?counsel (?:advises|advised|recommends)\b|\bcounsel advises (?:that )?we\b)", r"(?i:\bадвокатская тайна\b)|律师.{0,6}保密特权|弁護士.{0,4}秘匿特権",
)  # fmt: skip
_EXPORT: Final = _any(
    r"\bITAR(?:[- ](?:controlled|restricted|regulated|technical data|data|item)s?\b|\))", r"\(ITAR\b", r"(?i:\b(?:subject to|controlled (?:by|under)|restricted (?:by|under)) (?:the )?(?:ITAR|EAR|International Traffic in Arms|Export Administration Regulations))",
    r"\bECCN:? ?[0-9][A-E][0-9]{3}", r"\bUSML Cat(?:egory|\.)? ?[IVX]{1,5}", r"(?i:\bexport[- ]controlled (?:information|technical data|technology|data)\b|\bWARNING[:\s-]{1,4}This document contains technical data whose export\b)", r"\b(?:EXPORT[- ]CONTROLLED|EAR99)\b",
    r"(?i:\bunterliegt (?:der|dem) (?:exportkontrolle|ausfuhrgenehmigungspflicht|außenwirtschaftsgesetz)\b|\bausfuhrgenehmigungspflichtig\b|\bsoumis au contrôle des exportations\b|\bbien[s]? à double usage\b)",
)  # fmt: skip
_BCSI: Final = _any(
    r"\bBCSI\b",
    r"(?i:\bBES cyber system information\b)",
    r"\bCEII\b",
    r"(?i:\bcritical energy(?:/electric)? infrastructure information\b)",
)
_INSIDER: Final = _any(
    r"(?i:\bmaterial(?:,)? non-?public\b)", r"\bMNPI\b", r"(?i:\b(?:contains|constitutes|this is) (?:inside|insider|price[- ]sensitive) information\b)", r"(?i:\bnot (?:yet )?public (?:until|before)\b|\b(?:strictly )?embargo(?:ed)? until\b|\bunder embargo until\b)",
    r"(?i:\binsiderinformation(?:en)? (?:gemäß|nach|im sinne|:)|\bnoch nicht öffentlich\b|\bsperrfrist bis\b|\bpas encore public\b|\bsous embargo jusqu|\binformación privilegiada:|\binformation privilégiée :)", _HEAD + r"(?:INSIDE|INSIDER) INFORMATION" + _TAIL, r"内幕信息|重要事実（未公表）|미공개 중요정보",
)  # fmt: skip
_TRADE: Final = _any(
    r"\bTRADE SECRET\b", r"(?i:\b(?:our|unser(?:e|es|er)?|notre|nuestr[ao]|nossa|nostra|onze|nasz[ae]?) (?:unreleased|unpublished|proprietary|secret|unveröffentlicht\w*|geheim\w*|confidentielle|secret[ae]?|niepublikowan\w*) (?:[a-zà-ÿ-]{3,20} )?(?:recipe|formula|process|alloy|design|algorithm|compound|rezept\w*|formel|verfahren|legierung|recette|formule|procédé|receta|fórmula|receita|ricetta|recept|receptura|product|produkt|produit|prototype|prototyp|schematic))",
    r"(?i:\bcontains? trade secrets? of\b|\benthält (?:geschäfts|betriebs)geheimnisse\b|\b(?:ist|sind) (?:ein )?(?:geschäfts|betriebs)geheimnis)",
)  # fmt: skip

KINDS: Final[tuple[tuple[str, _Kind], ...]] = (
    ("MARKING_STATE", _STATE),
    ("MARKING_PRIVILEGED", _PRIVILEGED),
    ("MARKING_CONFIDENTIAL", _FIRM),
    ("MARKING_INTERNAL", _INTERNAL),
    ("MARKING_EXPORT", _EXPORT),
    ("MARKING_BCSI", _BCSI),
    ("INSIDER_INFORMATION", _INSIDER),
    ("TRADE_SECRET", _TRADE),
)
TOPIC: Final = re.compile(
    r"(?i)\s*(?:please |bitte |can you |could you |kannst du |können sie |peux-tu |pouvez-vous )?(?:what(?:'s| is| are| does| do| did|s)|define|explain|describe|how (?:is|are|do|does|to)|who (?:is|was|are)|when (?:is|was|does)|why|"
    r"difference between|compare|summari[sz]e (?:what|the (?:concept|history|rules))|tell me about|translate|meaning of|list the|give an overview|was (?:ist|sind|bedeute[nt]|heißt|war)|erklär\w*|erläuter\w*|wie (?:wird|werden|funktioniert|entsteht)|unterschied|"
    r"qu['’]est-ce|que signifie|explique\w*|définis|quelle est la (?:différence|définition)|comment (?:fonctionne|traite)|quels sont|qué (?:es|son|significa)|que (?:es|significa)|explica\w*|define|diferencia|o que é|qual é|explique|"
    r"cos['’]è|che cos|spiega\w*|qual è|wat (?:is|zijn|betekent)|leg uit|wyjaśnij|czym jest|co to|co oznacza|vad (?:är|betyder|innebär)|förklara|mitä|mikä|selitä|hvad (?:er|betyder)|hva (?:er|betyr)|forklar|co je|mi az|ce este|nedir|τι είναι|"
    r"что такое|что значит|объясни|поясни|що таке|什么是|什麼是|解释|説明して|とは|무엇|설명해|क्या है|समझा|ما هو|ما هي|اشرح|מה זה|מהו|apa itu|jelaskan|giải thích|คืออะไร)"
)
_SENTENCE: Final = re.compile(r"[.!?\n。！？]\s*|:\s+(?=[A-Z])")


def topical(text: str, at: int) -> bool:
    """Tell whether the sentence around a place asks about a topic instead of stating a fact."""
    begin = 0
    left = max(0, at - 240)
    for match in _SENTENCE.finditer(text, left, at):
        begin = match.end()
    return TOPIC.match(text, begin or left) is not None


def markings(text: str, marks: frozenset[str]) -> Iterator[Hit]:
    """Yield protective markings; ``marks`` are the literals that the one pass over the text has found."""
    for name, kind in KINDS:
        if marks.isdisjoint(MARKS_OF[name]):
            continue
        for match in kind.anywhere.finditer(text):
            start, end = match.span()
            if _whole(text, start, end) and not topical(text, start):
                yield Hit(start, end, name, 110.0)
        if kind.at_head is None:
            continue
        for match in kind.at_head.finditer(text):
            start, end = match.span()
            end = start + len(text[start:end].rstrip(" \t\n:-–—)]*"))
            if (
                _BEFORE_HEAD.search(text, max(0, start - 9), start) is not None
                and _whole(text, start, end)
                and _AFTER_HEAD.match(text, end) is not None
                and not topical(text, start)
            ):
                yield Hit(start, end, name, 109.0)


def _whole(text: str, start: int, end: int) -> bool:
    """Tell whether a match is no part of a longer word; scripts without blanks have no such parts."""
    left, right = text[max(0, start - 1) : start + 1], text[end - 1 : end + 1]
    return not (len(left) == 2 and left.isalnum() and ord(left[1]) < _NO_BLANKS) and not (  # noqa: PLR2004 (two characters)
        len(right) == 2 and right.isalnum() and ord(right[0]) < _NO_BLANKS  # noqa: PLR2004
    )


_NO_BLANKS: Final = 0x2E80
