"""Special categories (GDPR Art. 9) and health of a person: vocabulary beside a person, never vocabulary alone.

A disease, drug or absence by illness raises only where the same text also speaks of somebody: a name, a title, a
relative, a patient, the writer. A question about a topic raises nothing. This finds what is said plainly; what is
only implied is for the label, or for the second opinion of a local model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from allod.admission.detect.markings import topical
from allod.admission.detect.model import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

HEALTH_WORDS: Final = """
diabet,cancer,krebs,tumor,tumour,karzinom,carcinom,leukemi,leukäm,leucem,lymphom,metasta,chemother,chimiothér,quimioter,hiv,aids,vih,hepatit,tuberkul,tubercul,covid,depress,dépress,depresj,schizo,bipolar,autis,adhs,adhd,tdah,epilep,migrain,migräne,
parkinson,alzheimer,demen,demenz,démence,stroke,schlaganfall,avc,infarct,infarkt,infarto,herzinfarkt,arrhythm,hypertens,bluthochdruck,asthma,asthme,asma,copd,pneumoni,lungenentzündung,bandscheib,fraktur,fracture,knochenbruch,arthrit,arthros,rheuma,multiple sklerose,
multiple sclerosis,sclérose,lupus,crohn,colitis,dialys,diálisis,transplant,insulin,metformin,ritalin,methylphenidat,prozac,sertralin,fluoxetin,antidepress,opioid,methadon,ibuprofen 800,warfarin,levothyroxin,statin,antibiotik,chemo,biopsy,biopsie,biopsia,mri,mrt,irm,
ct scan,ecg,ekg,ultraschall,befund,diagnos,anamnes,krankgeschrieben,krankschreib,krankgemeldet,arbeitsunfähig,sick leave,sick note,arrêt maladie,baja médica,de baja por,malattia,in malattia,baixa médica,atestado,ziekgemeld,ziek gemeld,zwolnienie lekarskie,sjukskriv,sykmeld,
sygemeld,sairaslom,pracovní neschopnost,schwanger,pregnan,enceinte,embaraz,incinta,grávida,gravid,zwanger,w ciąży,raskaana,abortion,abtreibung,fehlgeburt,miscarriage,ivf,suicid,suizid,selbstmord,burnout,burn-out,psychiat,psychother,rehab,entzug,alkoholabhängig,alcoholic,
addict,overdose,allerg,zöliakie,behinder,disabilit,handicap,schwerbehindert,rollstuhl,wheelchair,surgery,operiert,opéré,operad,operat,discharged,entlassen aus,hospitali,hospitalis,eingeliefert,icu,intensivstation,allergi,symptom,blood pressure,blutdruck,hba1c,blutwert,
blood test,analyse de sang,laborwert,pulse,temperature 3,fever,fieber,fièvre,fiebre,febbre,febre,gorączk,feber,kuume,choroba,chory na,nowotwor,cukrzyc,gruźlic,depresja,sjukdom,cancer,sokeri,diabetes,syöpä,syöpää,masennus,raskaus,rakovina,cukrovk,rákos,cukorbeteg,
рак ,онколог,диабет,туберкул,гепатит,вич,депресс,беременн,инфаркт,инсульт,больничн,хворі,вагітн,діабет,糖尿病,癌,がん,透析,肺炎,うつ病,鬱,妊娠,高血圧,脳梗塞,入院,手術,患者,診断,認知症,统合失调,艾滋,抑郁,怀孕,高血压,住院,确诊,病历,化疗,당뇨,암 ,암을,우울증,임신,투석,고혈압,입원,
수술,진단,결핵,कैंसर,मधुमेह,टीबी,गर्भवती,डायबिटीज,अवसाद,दिल का दौरा,अस्पताल में भर्ती,एचआईवी,سرطان,السكري,حامل,اكتئاب,סרטן,סוכרת,בהריון,דיכאון,kanker,hamil,ung thư,tiểu đường,เบาหวาน,มะเร็ง,gebelik,kanser,hamile,şeker hastası,καρκινος,διαβητη,εγκυος,καρκίνο
"""
SPECIAL_WORDS: Final = """
homosexual,homosexuell,homosexualité,homosexualidad,omosessual,lesbian,lesbisch,lesbienne,bisexual,bisexuell,transgender,transsexuel,coming out,is gay,schwul,is queer,sexual orientation,sexuelle orientierung,orientation sexuelle,orientación sexual,sexleven,
converted to,konvertiert,s'est converti,se convirtió,muslim,moslem,musulman,musulmán,muçulman,jewish,jüdisch,juif,juive,judío,judía,ebreo,ebrea,catholic,katholisch,catholique,católic,evangelisch,protestant,buddhist,hindu ,sikh,atheist,islam,jehova,kirchensteuer,kirchenmitglied,
union member,trade union,gewerkschaft,ig metall,verdi-mitglied,syndicat,syndiqué,sindicat,sindacat,vakbond,związku zawodow,fackförening,fagforening,ammattiliit,member of the party,parteimitglied,mitglied der,membre du parti,militante de,political views,politische meinung,opinions politiques,
opiniones políticas,votes for,wählt die,ethnic origin,ethnische herkunft,origine ethnique,origen étnico,racial origin,roma family,sinti,genetic test,gentest,test génétique,brca,dna profile,fingerprint,fingerabdruck,empreinte digitale,huella dactilar,biometri,face scan,irisscan,
イスラム教に改宗,同性愛,労働組合,동성애,노조원,同性恋,工会,गे है,समलैंगिक,धर्म परिवर्तन,гомосексуал,мусульман,профсоюз,membro do sindicato
"""
HEALTH_MARKS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(w.strip("\n") for w in HEALTH_WORDS.replace("\n", "").split(",") if w.strip())
)
SPECIAL_MARKS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(w.strip("\n") for w in SPECIAL_WORDS.replace("\n", "").split(",") if w.strip())
)
_SOMEBODY: Final = re.compile(
    r"(?i)(?<!\w)(?:(?:my|our|his|her) (?:son|daughter|wife|husband|mother|father|mom|mum|dad|brother|sister|child|kid|baby|colleague|neighbou?r|boss|friend|partner|aunt|uncle|grand(?:mother|father|ma|pa)|employee|patient|client|student)|the patient|patient (?:is|was|has|had|presents|complains|reports)|this patient|"
    r"\d{1,3}[- ]?(?:year|yr)s?[- ]?old (?:male|female|man|woman|boy|girl|patient)|i (?:have|had|was|am|suffer|take|was diagnosed)|i'm (?:pregnant|diabetic|hiv|suffering|allergic)|"
    r"(?:mein|meine|meiner|meinem|meinen|unser|unsere|unserer|unserem) (?:sohn|tochter|frau|mann|mutter|vater|bruder|schwester|kind|kollege|kollegin|nachbar|nachbarin|chef|chefin|freund|freundin|oma|opa|partner|partnerin|mitarbeiter|mitarbeiterin|patient|patientin)|der patient|die patientin|"
    r"(?:herr|frau) [A-ZÄÖÜ]\w+|ich (?:habe|leide|bin|nehme|wurde)|\d{1,3}[- ]?jährige[rn]?|"
    r"(?:mon|ma|notre) (?:fils|fille|femme|mari|mère|père|frère|sœur|enfant|collègue|voisin|voisine|patron|ami|amie|patient|patiente)|le patient|la patiente|(?:madame|monsieur|mme|m\.) [A-ZÀ-Þ]\w+|j['’]ai|je (?:suis|souffre|prends)|"
    r"(?:mi|nuestr[oa]) (?:hijo|hija|esposa|esposo|marido|mujer|madre|padre|hermano|hermana|colega|vecino|vecina|jefe|jefa|amigo|amiga|paciente)|el paciente|la paciente|(?:señora?|sr\.|sra\.) [A-ZÀ-Þ]\w+|tengo|estoy|"
    r"(?:mio|mia|nostr[oa]) (?:figlio|figlia|moglie|marito|madre|padre|fratello|sorella|collega)|il paziente|la paziente|(?:meu|minha|nosso|nossa) (?:filho|filha|esposa|marido|mãe|pai|irmão|irmã|colega|paciente|vizinh[oa])|o paciente|a paciente|"
    r"(?:mijn|onze) (?:zoon|dochter|vrouw|man|moeder|vader|broer|zus|collega|buurman|buurvrouw)|de patiënt|(?:mój|moja|mojego|mojej|nasz|nasza) (?:syn|syna|córka|córki|żona|mąż|matka|ojciec|brat|siostra|kolega|koleżanka)|pacjent(?:ka)?|"
    r"(?:min|vår|mitt) (?:son|dotter|fru|man|mamma|pappa|bror|syster|kollega|granne|barn|datter|søn|kone)|patienten|(?:poikani|tyttäreni|vaimoni|mieheni|äitini|isäni|veljeni|siskoni|kollegani|naapurini)|potilas|"
    r"(?:мой|моя|моего|моей|у моего|у моей) (?:сын|сына|дочь|дочери|жена|жены|муж|мужа|мать|мама|мамы|отец|отца|брат|сестра|коллега)|пациент(?:ка)?|у меня)(?!\w)|"
    r"患者さん|母は|父は|息子|娘が|娘は|妻は|妻が|夫は|夫が|私は|我的?(?:妈妈|母亲|爸爸|父亲|儿子|女儿|妻子|丈夫|同事)|病人|患者|제 (?:아들|딸|아내|남편|어머니|아버지)|환자|मेरी (?:माँ|मां|बेटी|पत्नी|बहन)|मेरे (?:पिता|बेटे|पति|भाई)|मरीज|أمي|أبي|ابني|ابنتي|زوجتي|زوجي|المريض|אמא שלי|אבא שלי|הבן שלי|הבת שלי|החולה"
)
SURE: Final = 50.0


def special(text: str, marks: frozenset[str], people: list[Hit]) -> Iterator[Hit]:
    """Yield words of health and of other special categories in a text that speaks of somebody.

    Args:
        text: the text.
        marks: the literals that the one pass over the text has found, lower case.
        people: names of persons found in it.

    """
    health = [mark for mark in HEALTH_MARKS if mark in marks]
    other = [mark for mark in SPECIAL_MARKS if mark in marks]
    if not health and not other:
        return
    lower = text.lower()
    if len(lower) != len(text):
        return
    somebody = [(m.start(), m.end()) for m in _SOMEBODY.finditer(text)] + [(h.start, h.end) for h in people]
    if not somebody:
        return
    for kind, found in (("HEALTH", health), ("SPECIAL_CATEGORY", other)):
        for mark in found:
            at = lower.find(mark)
            while at >= 0:
                inside_word = at > 0 and lower[at - 1].isalpha() and len(mark) <= 4 and mark.isascii()  # noqa: PLR2004
                if not inside_word and _near(at, somebody) and not topical(text, at):
                    end = at + len(mark.rstrip())
                    while end < len(text) and text[end].isalpha() and text[end].isascii() == mark.isascii():
                        end += 1
                    yield Hit(at, end, kind, SURE)
                    break
                at = lower.find(mark, at + len(mark))


REACH_CHARS: Final = 240


def _near(at: int, somebody: list[tuple[int, int]]) -> bool:
    return any(start - REACH_CHARS <= at <= end + REACH_CHARS for start, end in somebody)
