"""Special categories (GDPR Art. 9) and health of a person: vocabulary beside a person, never vocabulary alone.

A disease, drug or absence by illness raises only where the same text also speaks of somebody: a name, a
title, a relative, a patient, the writer. A question about a topic raises nothing. This finds what is said
plainly; what is only implied is for the label, or for the second opinion of a local model.
"""

# ruff: noqa: E501, RUF001 (words of many languages)

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from allod.admission.detect.markings import topical
from allod.admission.detect.model import Hit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEALTH_WORDS: Final = """
diabet,cancer,krebs,tumor,tumour,karzinom,carcinom,leukemi,leukäm,leucem,lymphom,metasta,chemother,chimiothér,quimioter,hiv,vih,hepatit,tuberkul,tubercul,covid,depressi,dépressi,depresj,schizophren,bipolar,autis,adhs,adhd,tdah,epilep,migrain,migräne,
parkinson,alzheimer,demenz,demenc,démence,dementia, stroke ,schlaganfall,avc,infarct,infarkt,infarto,herzinfarkt,arrhythm,hypertens,bluthochdruck,asthma,asthme,asma,copd,pneumoni,lungenentzündung,bandscheib,fraktur,fracture,knochenbruch,arthrit,arthros,rheuma,multiple sklerose,
multiple sclerosis,sclérose,lupus,crohn,colitis,dialys,diálisis,transplant,insulin,metformin,ritalin,methylphenidat,prozac,sertralin,fluoxetin,antidepress,opioid,methadon,warfarin,levothyroxin,vastatin,antibiotik,chemo ,biopsy,biopsie,biopsia,mri,mrt,irm,
ct scan,ecg,ekg,ultraschall,arztbefund,laborbefund,diagnosed with,diagnosis of,diagnosis:,diagnose:,diagnostiqu,diagnosticad,diagnostizier,diagnosticat,anamnes,krankgeschrieben,krankschreib,krankgemeldet,arbeitsunfähig,sick leave,sick note,arrêt maladie,baja médica,de baja por,malattia,baixa médica,atestado médico,ziekgemeld,
ziek gemeld,zwolnienie lekarskie,sjukskriv,sykmeld,sygemeld,sairaslom,pracovní neschopnost,schwanger,pregnan,enceinte,embaraz,incinta,grávida,gravid,zwanger,w ciąży,raskaana,abortion,abtreibung,fehlgeburt,miscarriage,ivf,suicid,suizid,selbstmord,burnout,burn-out,psychiat,psychother,entzugsklinik,
alkoholabhängig,alcoholic,addicted to,overdose,allergi,zöliakie,behinderung,schwerbehinder,behinderte,disabilit,rollstuhl,wheelchair,surgery,operiert,opéré,operado de,operada de,operato al,operata al,operated on,discharged from,entlassen aus,hospitalis,hospitaliz,eingeliefert,icu,intensivstation,blood pressure,blutdruck,hba1c,
blutwert,blood test,analyse de sang,laborwert,fever,fieber,fièvre,fiebre,febbre,febre,gorączk,feber,kuume,chory na,chora na,nowotwor,cukrzyc,gruźlic,sjukdom,syöpä,masennus,raskaus,rakovin,cukrovk,rákos,cukorbeteg,рак ,онколог,диабет,туберкул,гепатит,вич,депресс,беременн,инфаркт,инсульт,больничн,хворі,вагітн,діабет,糖尿病,癌,がん,
透析,肺炎,うつ病,鬱,妊娠,高血圧,脳梗塞,入院,手術,診断,認知症,統合失調,艾滋,抑郁,怀孕,高血压,住院,确诊,病历,化疗,당뇨,암 ,암을,우울증,임신,투석,고혈압,입원,수술,진단,결핵,कैंसर,मधुमेह,टीबी,गर्भवती,डायबिटीज,अवसाद,दिल का दौरा,अस्पताल में भर्ती,एचआईवी,سرطان,السكري,حامل,اكتئاب,סרטן,סוכרת,בהריון,דיכאון,kanker, hamil ,ung thư,
tiểu đường,เบาหวาน,มะเร็ง,gebelik,kanser,hamile,şeker hastası,διαβητη,εγκυος,καρκίνο
"""
SPECIAL_WORDS: Final = """
homosexual,homosexuell,homosexualité,homosexualidad,omosessual,lesbian,lesbisch,lesbienne,bisexual,bisexuell,transgender,transsexuel,coming out,is gay,schwul,is queer,sexual orientation,sexuelle orientierung,orientation sexuelle,orientación sexual,converted to islam,converted to juda,converted to christian,converted to catholic,
converted to hindu,converted to buddh,zum islam,zum judentum,zum christentum,s'est converti,se convirtió al,muslim,moslem,musulman,musulmán,muçulman,jewish,jüdisch,juif,juive,judío,judía,ebreo,ebrea,catholic,katholisch,catholique,católic,evangelisch,protestant,buddhist,hindu ,sikh,atheist,jehova,kirchensteuer,kirchenmitglied,
union member,trade union,gewerkschaft,ig metall,verdi-mitglied,syndicat,syndiqué,sindicato,sindacat,vakbond,związku zawodow,fackförening,fagforening,ammattiliit,member of the party,parteimitglied,mitglied der partei,mitglied der spd,mitglied der cdu,mitglied der grünen,mitglied der afd,membre du parti,militante de,political views,
politische meinung,opinions politiques,opiniones políticas,ethnic origin,ethnische herkunft,origine ethnique,origen étnico,racial origin,roma family,genetic test,gentest,test génétique,brca,dna profile,イスラム教に改宗,同性愛,労働組合,동성애,노조원,同性恋,工会,गे है,समलैंगिक,धर्म परिवर्तन,гомосексуал,мусульман,профсоюз
"""
HEALTH_MARKS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(w for w in HEALTH_WORDS.replace("\n", "").split(",") if w.strip())
)
SPECIAL_MARKS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(w for w in SPECIAL_WORDS.replace("\n", "").split(",") if w.strip())
)
_SOMEBODY: Final = re.compile(
    r"(?i)(?<!\w)(?:(?:my|our|his|her) (?:son|daughter|wife|husband|mother|father|mom|mum|dad|brother|sister|child|kid|baby|colleague|neighbou?r|boss|friend|partner|aunt|uncle|grand(?:mother|father|ma|pa)|employee|patient|client|student)|the patient|patient (?:is|was|has|had|presents|complains|reports)|this patient|"
    r"\d{1,3}[- ]?(?:year|yr)s?[- ]?old (?:male|female|man|woman|boy|girl|patient)|"
    r"(?:mein|meine|meiner|meinem|meinen|unser|unsere|unserer|unserem) (?:sohn|tochter|frau|mann|mutter|vater|bruder|schwester|kind|kollege|kollegin|nachbar|nachbarin|chef|chefin|freund|freundin|oma|opa|partner|partnerin|mitarbeiter|mitarbeiterin|patient|patientin)|der patient|die patientin|"
    r"(?:herr|frau) [A-ZÄÖÜ]\w+|\d{1,3}[- ]?jährige[rn]?|"
    r"(?:mon|ma|notre) (?:fils|fille|femme|mari|mère|père|frère|sœur|enfant|collègue|voisin|voisine|patron|ami|amie|patient|patiente)|le patient|la patiente|(?:madame|monsieur|mme|m\.) [A-ZÀ-Þ]\w+|"
    r"(?:mi|nuestr[oa]) (?:hijo|hija|esposa|esposo|marido|mujer|madre|padre|hermano|hermana|colega|vecino|vecina|jefe|jefa|amigo|amiga|paciente)|el paciente|la paciente|(?:señora?|sr\.|sra\.) [A-ZÀ-Þ]\w+|"
    r"(?:mio|mia|nostr[oa]) (?:figlio|figlia|moglie|marito|madre|padre|fratello|sorella|collega)|il paziente|la paziente|(?:meu|minha|nosso|nossa) (?:filho|filha|esposa|marido|mãe|pai|irmão|irmã|colega|paciente|vizinh[oa])|o paciente|a paciente|"
    r"(?:mijn|onze) (?:zoon|dochter|vrouw|man|moeder|vader|broer|zus|collega|buurman|buurvrouw)|de patiënt|(?:mój|moja|mojego|mojej|nasz|nasza) (?:syn|syna|córka|córki|żona|mąż|matka|ojciec|brat|siostra|kolega|koleżanka)|pacjent(?:ka)?|"
    r"(?:min|vår|mitt) (?:son|dotter|fru|man|mamma|pappa|bror|syster|kollega|granne|barn|datter|søn|kone)|patienten|(?:poikani|tyttäreni|vaimoni|mieheni|äitini|isäni|veljeni|siskoni|kollegani|naapurini)|potilas|"
    r"(?:мой|моя|моего|моей|у моего|у моей) (?:сын|сына|дочь|дочери|жена|жены|муж|мужа|мать|мама|мамы|отец|отца|брат|сестра|коллега)|пациент(?:ка)?)(?!\w)|"
    r"患者さん|母は|父は|息子|娘が|娘は|妻は|妻が|夫は|夫が|我的?(?:妈妈|母亲|爸爸|父亲|儿子|女儿|妻子|丈夫|同事)|病人|患者|제 (?:아들|딸|아내|남편|어머니|아버지)|환자|मेरी (?:माँ|मां|बेटी|पत्नी|बहन)|मेरे (?:पिता|बेटे|पति|भाई)|मरीज|أمي|أبي|ابني|ابنتي|زوجتي|زوجي|المريض|אמא שלי|אבא שלי|הבן שלי|הבת שלי|החולה"
)
_MYSELF: Final = re.compile(
    r"(?i)(?<!\w)(?:i (?:have|had|am|suffer from|take|was|got|live with)|i['’](?:m|ve)|ich (?:habe|leide an|bin|nehme|wurde)|j['’]ai|je (?:suis|souffre|prends)|tengo|estoy|padezco|tomo|ho avuto|sono|soffro|"
    r"eu tenho|tenho|estou|ik (?:heb|ben|gebruik)|mam|jestem|choruję|jag (?:har|är)|jeg (?:har|er)|minulla on|mám|jsem|у меня|я болею|у мене|私は|我(?:有|得|被|患)|저는|मुझे|عندي|أعاني|יש לי|אני)(?!\w)|私は|我(?:有|得|被|患)|저는"
)
SURE: Final = 20.0
_NO_BLANKS: Final = 0x0900
"""From here on scripts write words without blanks, or with marks that count as letters."""
REACH_CHARS, NEAR_CHARS, MAX_PLACES = 200, 48, 24


def special(text: str, marks: frozenset[str], people: Callable[[str], list[Hit]]) -> Iterator[Hit]:
    """Yield the first word of health and the first of another special category that speaks of somebody.

    Args:
        text: the text.
        marks: the literals that the one pass over the text has found, lower case.
        people: finds names of persons in a piece of text.

    """
    for kind, known in (("HEALTH", HEALTH_MARKS), ("SPECIAL_CATEGORY", SPECIAL_MARKS)):
        present = [mark for mark in known if mark in marks]
        if present:
            hit = next(_first(text, kind, present, people), None)
            if hit is not None:
                yield hit


def _first(text: str, kind: str, present: list[str], people: Callable[[str], list[Hit]]) -> Iterator[Hit]:
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c.lower()[:1] or " " for c in text)
    places = sorted({place for mark in present for place in _places(lower, mark)})
    for start, stop in places[:MAX_PLACES]:
        end = stop
        if not topical(text, start) and _of_somebody(text, start, end, people):
            while end < len(text) and text[end].isalpha() and text[end].isascii():
                end += 1
            yield Hit(start, end, kind, SURE)


def _places(lower: str, mark: str) -> Iterator[tuple[int, int]]:
    """Yield where a word stands; a short one must stand alone."""
    word = mark.strip()
    at = lower.find(mark)
    while at >= 0:
        start = at + mark.index(word)
        end = start + len(word)
        short = len(word) <= 4 and ord(word[0]) < _NO_BLANKS  # noqa: PLR2004 (letters)
        if not short or not (lower[start - 1 : start].isalpha() or lower[end : end + 1].isalpha()):
            yield start, end
        at = lower.find(mark, at + len(mark))


def _of_somebody(text: str, start: int, end: int, people: Callable[[str], list[Hit]]) -> bool:
    """Tell whether the words around a place speak of a relative, a patient, a named person or the writer."""
    left = max(0, start - REACH_CHARS)
    if _MYSELF.search(text, max(0, start - NEAR_CHARS), start) is not None:
        return True
    if _SOMEBODY.search(text, left, end + REACH_CHARS) is not None:
        return True
    return len(people(text[left : end + REACH_CHARS])) > 0
