"""Sentences, layouts and look-alikes of the classification benchmark; none is taken from the development data.

``{v}`` is the value, ``{k}`` a machine's name for it. A template's fold is drawn from its text, so that one
can look at the errors of some folds and judge by the others.
"""

# ruff: noqa: E501, RUF001 (sentences of many languages)

from __future__ import annotations

# layouts: label and value in the ways files, forms and programs write them
LAYOUTS: tuple[str, ...] = (
    "{l}: {v}",
    "{l} {v}",
    "{l} = {v}",
    "{l}:\n{v}",
    "{l}\t{v}",
    "- {l} – {v}\n- status – open",
    "| {l} | {v} |\n| plan | basic |",
    "**{l}:** {v}",
    '{{"{k}": "{v}", "active": true}}',
    "{k}: '{v}'\nregion: north",
    "<person><{k}>{v}</{k}><plan>b</plan></person>",
    "id;{k};city\n7;{v};Graz\n",
    "row,{l},note\n1,{v},ok\n",
    "INSERT INTO people ({k}) VALUES ('{v}');",
    "{v} ({l})",
    "> {l}: {v}\n> thanks",
    "2026-03-04 10:11:12 INFO update {k}={v} done",
)

# sentences per national identifier: (language, sentence); labels for the layouts
SENTENCES: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "DE_TAX_ID": (
        ("Steuer-ID", "Steueridentifikationsnummer", "IdNr."),
        (
            ("de", "Das Finanzamt führt mich unter der Identifikationsnummer {v}, bitte prüfen."),
            (
                "de",
                "Für die Gehaltsabrechnung brauchen Sie noch meine steuerliche Identifikationsnummer: {v}",
            ),
            ("en", "Her German tax ID is {v}; payroll starts in May."),
        ),
    ),
    "AT_SVNR": (
        ("SVNR", "Sozialversicherungsnummer"),
        (
            ("de", "Der Lehrling ist mit der Versicherungsnummer {v} bei der ÖGK gemeldet."),
            ("de", "Laut e-card lautet die SV-Nummer {v}."),
        ),
    ),
    "CH_AHV": (
        ("AHV-Nr.", "Numéro AVS"),
        (
            ("de", "Die neue Kollegin hat die AHV-Nummer {v}."),
            ("fr", "Son numéro AVS est le {v}, merci de le saisir."),
        ),
    ),
    "FR_NIR": (
        ("N° de sécurité sociale", "NIR"),
        (
            ("fr", "L'assurée {v} demande le remboursement de ses soins (sécu)."),
            ("fr", "Voici le numéro de sécu de ma mère : {v}"),
            ("fr", "Sur sa carte Vitale figure le {v}."),
        ),
    ),
    "ES_DNI": (
        ("DNI", "N.I.F."),
        (
            ("es", "La inquilina, con DNI {v}, firmará mañana."),
            ("es", "Adjunto copia del documento nacional de identidad {v} de mi hermano."),
            ("en", "The Spanish guest showed DNI {v} at reception."),
        ),
    ),
    "ES_NIE": (
        ("NIE", "Nº NIE"),
        (
            ("es", "El trabajador extranjero con NIE {v} empieza el lunes."),
            ("es", "Mi NIE: {v}, caduca en junio."),
        ),
    ),
    "PT_NIF": (
        ("NIF", "Contribuinte"),
        (
            ("pt", "Pode emitir o recibo com o NIF {v}, por favor."),
            ("pt", "O número de contribuinte do meu pai é {v}."),
        ),
    ),
    "IT_CODICE_FISCALE": (
        ("Codice fiscale", "C.F."),
        (
            ("it", "Il paziente ha fornito il codice fiscale {v} allo sportello."),
            ("it", "Per la fattura: {v} (codice fiscale)."),
        ),
    ),
    "NL_BSN": (
        ("BSN", "Burgerservicenummer"),
        (
            ("nl", "Kunt u het burgerservicenummer {v} controleren?"),
            ("nl", "De cliënt met BSN {v} is verhuisd."),
            ("en", "Employee BSN (Netherlands): {v}"),
        ),
    ),
    "BE_NN": (
        ("Rijksregisternummer", "Numéro national", "INSZ"),
        (
            ("nl", "Zijn rijksregisternummer is {v}."),
            ("fr", "Le registre national indique {v} pour cette personne."),
        ),
    ),
    "IE_PPS": (
        ("PPSN", "PPS Number"),
        (
            ("en", "Revenue asked for my PPS number, it is {v}."),
            ("en", "Please add PPSN {v} to the payroll file."),
        ),
    ),
    "UK_NHS": (
        ("NHS No", "NHS number"),
        (
            ("en", "The GP letter quotes NHS number {v} for this child."),
            ("en", "Could you look up the patient, NHS no. {v}, on the spine?"),
        ),
    ),
    "SE_PERSONNUMMER": (
        ("Personnummer", "Pers.nr"),
        (
            ("sv", "Patientens personnummer {v} saknas i journalen."),
            ("sv", "Kan du boka tid åt {v} (personnummer)?"),
            ("en", "Swedish personal number {v} was verified with BankID."),
        ),
    ),
    "FI_HETU": (
        ("Henkilötunnus", "HETU"),
        (
            ("fi", "Asiakkaan hetu on {v}, tarkista osoite."),
            ("fi", "Lähetän henkilötunnuksen {v} suojatusti."),
        ),
    ),
    "DK_CPR": (
        ("CPR-nummer", "CPR"),
        (("da", "Borgeren med CPR {v} har klaget."), ("da", "Mit CPR-nummer er {v}.")),
    ),
    "NO_FNR": (
        ("Fødselsnummer", "Fnr"),
        (("nb", "Søkeren har fødselsnummer {v}."), ("nb", "Oppgi personnummer: {v}")),
    ),
    "IS_KENNITALA": (
        ("Kennitala", "Kt."),
        (("is", "Kennitala mín er {v}."), ("is", "Reikningur á kt. {v} barst í gær.")),
    ),
    "EE_IK": (
        ("Isikukood",),
        (("et", "Minu isikukood on {v}."), ("et", "Patsient, isikukood {v}, tuleb homme.")),
    ),
    "LT_AK": (
        ("Asmens kodas",),
        (("lt", "Mano asmens kodas yra {v}."), ("lt", "Kliento asmens kodas {v} patvirtintas.")),
    ),
    "LV_PK": (
        ("Personas kods",),
        (("lv", "Mans personas kods ir {v}."), ("lv", "Pacienta personas kods: {v}")),
    ),
    "PL_PESEL": (
        ("PESEL", "Nr PESEL"),
        (("pl", "Pacjentka o numerze PESEL {v} prosi o wypis."), ("pl", "Do umowy wpisz PESEL {v}.")),
    ),
    "CZ_RC": (
        ("Rodné číslo", "RČ"),
        (("cs", "Pojištěnec má rodné číslo {v}."), ("cs", "Uveďte prosím r.č. {v} do formuláře.")),
    ),
    "RO_CNP": (
        ("CNP", "Cod numeric personal"),
        (("ro", "Angajatul are CNP {v}."), ("ro", "CNP-ul meu este {v}, vă rog să verificați.")),
    ),
    "BG_EGN": (("ЕГН",), (("bg", "Моето ЕГН е {v}."), ("bg", "Лице с ЕГН {v} подаде молба."))),
    "HR_OIB": (("OIB",), (("hr", "Moj OIB je {v}."), ("hr", "Zaposlenik s OIB-om {v} dolazi sutra."))),
    "SI_EMSO": (("EMŠO",), (("sl", "Moj EMŠO je {v}."), ("sl", "Vpišite EMŠO {v} v obrazec."))),
    "RS_JMBG": (("JMBG",), (("sr", "Moj JMBG je {v}."), ("sr", "Građanin sa JMBG {v} traži izvod."))),
    "GR_AMKA": (("ΑΜΚΑ", "AMKA"), (("el", "Ο ΑΜΚΑ μου είναι {v}."), ("el", "Ασθενής με ΑΜΚΑ {v}."))),
    "TR_TCKN": (
        ("T.C. Kimlik No", "TCKN"),
        (("tr", "Müşterinin TC kimlik numarası {v}."), ("tr", "Kimlik no {v} olan hasta aradı.")),
    ),
    "RU_INN": (("ИНН",), (("ru", "Мой ИНН {v}, пришлите справку."), ("ru", "Физлицо, ИНН: {v}"))),
    "UA_RNTRC": (("РНОКПП", "ІПН"), (("uk", "Мій ІПН {v}."), ("uk", "Ідентифікаційний код клієнта: {v}"))),
    "US_SSN": (
        ("SSN", "Social Security Number"),
        (
            ("en", "The applicant's social security number ends the form: {v}"),
            ("en", "I lost the card with my social on it, SSN {v}."),
            ("es", "Su número de seguro social es {v}."),
        ),
    ),
    "US_ITIN": (
        ("ITIN",),
        (
            ("en", "He files with ITIN {v}."),
            ("en", "Individual taxpayer identification number {v} was rejected."),
        ),
    ),
    "CA_SIN": (
        ("SIN", "Social Insurance Number", "NAS"),
        (("en", "My Canadian SIN is {v}."), ("fr", "Mon numéro d'assurance sociale est {v}.")),
    ),
    "MX_CURP": (("CURP",), (("es", "La CURP del alumno es {v}."), ("es", "Registre {v} como CURP."))),
    "BR_CPF": (
        ("CPF", "CPF/MF"),
        (
            ("pt", "O titular, CPF {v}, autorizou o débito."),
            ("pt", "Favor conferir o cadastro de pessoa física {v}."),
        ),
    ),
    "CL_RUT": (
        ("RUT", "R.U.T."),
        (("es", "El RUT del cliente es {v}."), ("es", "Boleta a nombre de Camila, RUT {v}.")),
    ),
    "AR_CUIT": (
        ("CUIT", "CUIL"),
        (("es", "El monotributista con CUIT {v} facturó."), ("es", "Mi CUIL es {v}.")),
    ),
    "EC_CI": (
        ("Cédula", "C.I."),
        (("es", "Portador de la cédula {v} retiró el sobre."), ("es", "Mi cédula de identidad es {v}.")),
    ),
    "CN_RIC": (
        ("身份证号", "身份证号码"),
        (("zh", "请核对他的身份证 {v} 是否有效。"), ("zh", "本人公民身份号码为{v}，特此说明。")),
    ),
    "KR_RRN": (
        ("주민등록번호", "주민번호"),
        (("ko", "환자의 주민번호는 {v} 입니다."), ("ko", "{v} 주민등록번호로 조회해 주세요.")),
    ),
    "IN_AADHAAR": (
        ("Aadhaar", "आधार संख्या"),
        (("hi", "ग्राहक का आधार {v} सत्यापित करें।"), ("en", "KYC pending for Aadhaar no {v}.")),
    ),
    "IN_PAN": (("PAN",), (("en", "TDS was deducted against PAN {v}."), ("hi", "मेरा पैन {v} है।"))),
    "TH_PIN": (
        ("เลขประจำตัวประชาชน",),
        (("th", "เลขบัตรประชาชนของฉันคือ {v}"), ("en", "Thai national ID {v} was scanned.")),
    ),
    "MY_NRIC": (
        ("No. KP", "MyKad"),
        (("ms", "Nombor kad pengenalan saya {v}."), ("en", "MyKad {v} belongs to the tenant.")),
    ),
    "ID_NIK": (("NIK", "No. KTP"), (("id", "NIK saya adalah {v}."), ("id", "Mohon cek nomor KTP {v} ini."))),
    "IL_ID": (
        ("ת.ז.", "תעודת זהות"),
        (("he", "מספר תעודת זהות שלי הוא {v}."), ("en", "Israeli ID (teudat zehut) {v} was provided.")),
    ),
    "ZA_ID": (
        ("ID number", "SA ID"),
        (("en", "The South African ID number {v} failed the bureau check."), ("af", "My ID-nommer is {v}.")),
    ),
    "AU_TFN": (
        ("TFN", "Tax File Number"),
        (("en", "Her tax file number, {v}, goes to the super fund."), ("en", "Please quote TFN {v}.")),
    ),
    "NZ_IRD": (
        ("IRD number",),
        (("en", "My IRD number is {v}."), ("en", "Inland Revenue has {v} as the IRD no.")),
    ),
    "PK_CNIC": (("CNIC",), (("en", "The CNIC {v} has expired."), ("ur", "میرا شناختی کارڈ نمبر {v} ہے"))),
    "DO_CEDULA": (("Cédula",), (("es", "La cédula {v} figura en el padrón."), ("es", "Mi cédula es {v}."))),
}

PHONE: dict[str, tuple[str, ...]] = {
    "en-us": (
        "You can text me at {v} after six.",
        "Her cell is {v}, leave a voicemail.",
        "Emergency contact: mother, {v}",
    ),
    "en-gb": ("Ring the surgery back on {v} please.", "The landlord's mobile number is {v}.", "Tel: {v}"),
    "de": (
        "Meine Handynummer ist {v}, am besten abends.",
        "Unter {v} ist er tagsüber erreichbar.",
        "Tel.: {v}",
    ),
    "fr": ("Vous pouvez me joindre au {v} le matin.", "Son portable : {v}", "Tél. {v}"),
    "es": ("Mi móvil es el {v}.", "Teléfono de contacto: {v}", "Puede llamarme al {v} por la tarde."),
    "it": ("Il mio cellulare è {v}.", "Recapito telefonico: {v}", "Chiamatemi al {v} dopo le 18."),
    "pt": ("O meu telemóvel é o {v}.", "Telefone: {v}", "Me liga no {v} amanhã."),
    "nl": ("Mijn mobiele nummer is {v}.", "U kunt haar bellen op {v}.", "Telefoon: {v}"),
    "pl": ("Mój numer telefonu to {v}.", "Proszę dzwonić pod {v}.", "Tel. {v}"),
    "sv": ("Mitt mobilnummer är {v}.", "Du når henne på telefon {v}.", "Mobil: {v}"),
    "fi": ("Puhelinnumeroni on {v}.", "Tavoitat minut numerosta {v}.", "Puh. {v}"),
    "da": ("Mit telefonnummer er {v}.", "Ring til mig på {v}.", "Tlf. {v}"),
    "nb": ("Mobilnummeret mitt er {v}.", "Ring meg på {v}.", "Tlf: {v}"),
    "cs": ("Můj telefon je {v}.", "Zavolejte mi na {v}.", "Mobil: {v}"),
    "hu": ("A telefonszámom {v}.", "Hívjon a {v} számon.", "Tel: {v}"),
    "ro": ("Numărul meu de telefon este {v}.", "Sunați-mă la {v}.", "Mobil: {v}"),
    "tr": ("Telefon numaram {v}.", "Beni {v} numarasından arayın.", "Cep: {v}"),
    "el": ("Το τηλέφωνό μου είναι {v}.", "Καλέστε με στο {v}.", "Κινητό: {v}"),
    "ru": ("Мой телефон {v}.", "Позвоните мне по номеру {v}.", "Тел.: {v}"),
    "uk": ("Мій телефон {v}.", "Зателефонуйте мені за номером {v}.", "Моб.: {v}"),
    "ja": ("私の携帯は{v}です。", "電話番号：{v}", "{v}までご連絡ください。"),
    "ko": ("제 휴대폰 번호는 {v}입니다.", "연락처: {v}", "{v}로 전화 주세요."),
    "zh": ("我的手机号是{v}。", "联系电话：{v}", "请拨打{v}。"),
    "hi": ("मेरा मोबाइल नंबर {v} है।", "फोन: {v}", "मुझे {v} पर कॉल करें।"),
    "ar": ("رقم هاتفي {v}.", "جوال: {v}", "اتصل بي على {v}."),
    "he": ("הטלפון שלי הוא {v}.", "נייד: {v}", "אפשר להתקשר אליי ל-{v}."),
}

EMAIL: tuple[tuple[str, str], ...] = (
    ("en", "Forward the scan to {v} before noon."), ("de", "Antworten bitte an {v}, danke!"), ("fr", "Écrivez-moi à {v}."), ("es", "Mi correo es {v}"),
    ("it", "Scrivimi pure a <{v}>"), ("pt", "Envie para {v}; obrigado."), ("nl", "Mail naar {v}."), ("pl", "Adres e-mail: {v}"), ("ja", "連絡先は{v}です。"),
    ("ko", "이메일은 {v}입니다."), ("zh", "邮箱：{v}，谢谢"), ("ru", "Почта: {v}"), ("ar", "البريد {v}"), ("xx", 'From: "A B" <{v}>\nTo: x'), ("xx", "mailto:{v}?subject=hi"), ("xx", '{{"email":"{v}","ok":1}}'), ("xx", "a;{v};b"),
)  # fmt: skip
IBAN: tuple[tuple[str, str], ...] = (
    ("en", "Refund the deposit to {v} please."), ("de", "Mein Konto: {v}, Verwendungszweck Miete."), ("fr", "Mon RIB : {v}"), ("es", "Domicilie el recibo en {v}."),
    ("it", "IBAN {v} presso Banca Etica"), ("nl", "Graag storten op {v} o.v.v. factuur."), ("pl", "Numer konta {v}"), ("xx", "iban={v}"), ("xx", '"account":"{v}"'), ("xx", "payee,{v},EUR 20.00"), ("tr", "IBAN'ım {v} şeklindedir."), ("ar", "رقم الآيبان {v}"),
)  # fmt: skip
CARD: tuple[tuple[str, str], ...] = (
    ("en", "I was charged twice on {v}, exp 09/27."), ("en", "Visa ending? No, the full number is {v}."), ("de", "Meine Kreditkarte {v} wurde gestohlen."), ("fr", "Ma carte bancaire {v} est bloquée."),
    ("es", "Pagué con la tarjeta {v} ayer."), ("it", "La carta {v} è scaduta."), ("pt", "Meu cartão {v} não passa."), ("nl", "Mijn creditcard {v} is kwijt."), ("pl", "Karta {v} została zablokowana."),
    ("sv", "Mitt kort {v} fungerar inte."), ("fi", "Korttini {v} on kadonnut."), ("ja", "カード番号は{v}です。"), ("ko", "카드 번호 {v} 분실했어요."), ("zh", "我的信用卡{v}被盗刷。"), ("ru", "Моя карта {v} заблокирована."), ("xx", '{{"pan":"{v}","cvv":"***"}}'), ("xx", "name;card;exp\nA;{v};09/27\n"),
)  # fmt: skip
PASSWORD: tuple[tuple[str, str], ...] = (
    ("en", "The wifi passphrase here is {v}, enjoy."), ("en", "login admin, password {v}"), ("en", "My old password was {v} but it expired."), ("de", "Kennwort für das Portal: {v}"), ("de", "Das Passwort lautet {v}, nicht weitergeben."),
    ("fr", "Le mot de passe temporaire est {v}."), ("es", "La contraseña del router es {v}"), ("it", "La password di accesso è {v}."), ("pt", "A senha do cofre é {v}."), ("nl", "Het wachtwoord is {v}."), ("pl", "Hasło do panelu: {v}"), ("sv", "Lösenordet är {v}."), ("fi", "Salasana on {v}"),
    ("da", "Adgangskoden er {v}."), ("cs", "Heslo je {v}"), ("hu", "A jelszó: {v}"), ("tr", "Şifre: {v}"), ("ru", "Пароль от сервера: {v}"), ("uk", "Мій пароль {v}"), ("ja", "パスワードは「{v}」です。"), ("ko", "비밀번호: {v}"), ("zh", "密码：{v}"), ("hi", "पासवर्ड {v} है"), ("ar", "كلمة المرور: {v}"),
    ("xx", "DB_PASSWORD={v}"), ("xx", 'db:\n  user: app\n  password: "{v}"'), ("xx", '{{"username":"root","password":"{v}"}}'), ("xx", "mysql://app:{v}@10.0.0.7:3306/shop"), ("xx", "Server=db;User Id=sa;Password={v};Encrypt=true"), ("xx", "spring.datasource.password={v}"), ("xx", "client_secret: {v}"), ("xx", "user,password\nsa,{v}\n"), ("xx", "const apiSecret = '{v}';"), ("xx", "curl -u deploy:{v} https://repo.example.org/x"),
)  # fmt: skip
TOKEN: tuple[tuple[str, str], ...] = (
    ("en", "I accidentally pushed {v} to the repo."), ("de", "Im Log steht {v} im Klartext."), ("fr", "Le jeton {v} a fuité."), ("es", "Usa {v} para la integración."), ("xx", "token: {v}"), ("xx", "KEY={v} make deploy"), ("xx", "Authorization: Bearer {v}"), ("xx", 'headers = {{"X-Key": "{v}"}}'), ("ja", "キーは {v} です"), ("ru", "Ключ {v} больше не работает"), ("xx", "https://api.example.org/v1?key={v}"), ("xx", "{v}"),
)  # fmt: skip

# look-alikes: nothing in them is anyone's; the slots are filled with random digits (#), letters (@), hex (~)
LOOKALIKES: tuple[str, ...] = (
    "Your order ##########@ shipped with DHL, tracking JJD##############.", "UPS 1Z#@#@#@########## left the depot at 14:##.", "ISBN 978-3-16-######-#, second edition.", "EAN 40############ out of stock.",
    "GTIN 0#############, batch L#######.", "Invoice 2026-######## is due on the 14th.", "Rechnung Nr. #########, Kundennummer ########.", "Auftrag ########## wurde storniert.", "Facture n° ########## du 3 mars.",
    "Pedido ########### confirmado.", "Zamówienie nr ########### zostało wysłane.", "注文番号：###########、発送済み。", "订单号 ##############，已发货。", "주문번호 ############ 배송 중", "Номер заказа ##########", "Ordine n. ##########, riferimento ########.",
    "Bestelling ######### is onderweg, klantnummer ########.", "Beställning ########## är skickad.", "Tilaus ########## on lähetetty.", "Serial number ###########, firmware 4.##.#.", "Seriennummer: ############", "IMEI 35#############", "VIN WVWZZZ1KZAW######",
    "sha256 ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", "commit ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~ fixes the build", "md5: ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", "id ~~~~~~~~-~~~~-4~~~-a~~~-~~~~~~~~~~~~ not found", 'etag "~~~~~~~~~~~~~~~~"',
    "v##.#.####-rc# breaks on Node 20.#.#", "Build 10.0.#####.#### (x64)", "48.####, 2.#### is the meeting point; alt 35.2 m", "lat=52.######&lon=13.######", "geo:37.######,-122.######", "epoch 17######## s, 17########### ms, 17############## us", "2026-0#-1#T0#:##:##.###Z pump start",
    "at 1700######.###### the kernel logged 0x~~~~~~~~", "DB##.DBW## = ####, M###.#, %IW##", "Tag FIC-####.PV 12.## m3/h, setpoint 13.00", "Register 4#### holds 0x~~~~ (Modbus)", "CAS 7###-##-#, C#H##N#O#, M = 1##.## g/mol", "Al#Si#O##(OH)#, density 2.## g/cm3", "IP 10.##.##.#, netmask 255.255.255.0, MAC 0~:1~:2~:3~:4~:5~",
    "fe80::~~~~:~~~~:fe##:####%eth0", "The budget is 1 ### ###,## EUR over 36 months.", "Umsatz: #.###.###,## € (Vorjahr #.###.###,## €)", "Population: 1#,###,### people in 2#,### km2", "It ran ##### hours at #### rpm and #.## bar.", "Articles 28 and 32 GDPR, recital ##, case C-###/##", "arXiv:24##.#####v2, doi:10.1###/j.x.2024.######", "PMID ########, NCT########",
    "Flight LH#### to FRA, seat ##A, PNR @@@@@@", "IMG_2024####_######.jpg and scan-########.pdf", "for i in range(########): x[i] = 0x~~~~~~~~ ^ ##", "const MASK = 0b1010; let n = ##########n;", "SELECT * FROM t WHERE id = ######### LIMIT 50", "ERROR ########: job ######### failed with exit code ###", "pid=#####, tid=####, port=####, rss=#########", "Part no. @@-######-## replaces ########-@.", "Teil @@@.###.###.## passt in Gerät ###-####", "SKU ########, qty ###, lot @######", "Ticket #######, priority 2, reopened", "ISO ####-#:20## and DIN EN #####-#", "Score 3:2 (1:1), attendance ##,###", "Sum of 1##### and 2##### is 3#####", "bolts M8x## DIN 93#, 1## pcs, 0.## kg each",
    "The meeting is on 12.0#.2026 at 10:30, room ###.", "Le 14/0#/2026 à 9h##, salle ##.", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4", "git clone git@github.com:acme/tool-####.git", "npm i left-pad@1.#.# @types/node@20.##.#", "logo@2x.png and icon@3x.webp", "regex: ^\\d{3}-\\d{2}-\\d{4}$ is for what?", "Load 4##.## kN, span 12.## m, S###J2", "GET /api/v2/items/########## HTTP/1.1 200 #####", "Container MSKU#######, bill of lading ##########", "Meter reading ######.# kWh, meter no. ##########", "Zählerstand ######, Zählernummer ##########", "Patent EP#######B1, US 10,###,###", "Bible 3:16, Homer Il. 2.###-###", "Chess: 1. e4 e5 2. Nf3 Nc6, ELO ####", "Genome chr7:117######-117######, rs#########", "Frequency 145.### MHz, 10## hPa", "Unit test ####/#### passed in ##.## s", "Area code ranges 1000-#### are reserved", "Vol. ##, No. #, pp. ####-####", "Bus M##, line ###, every ## minutes", "Lotto: 3 14 22 31 38 45, Zusatzzahl 7", "Fibonacci: 1 1 2 3 5 8 13 21 34 55 89 144", "Pi is 3.14159265358979323846", "uuid=~~~~~~~~~~~~4~~~9~~~~~~~~~~~~~~~", "CSS: #~~~~~~, rgba(##,##,##,0.5)", "Model RTX 40##, 1#### CUDA cores, bus 0000:0#:00.0",
)  # fmt: skip
FORCED: tuple[str, ...] = (
    "Order {v} has shipped.", "Die Teilenummer {v} ist ausverkauft.", "Facture {v} réglée.", "Número de pedido: {v}", "Serial number {v}", "invoice_no={v}", "Tracking: {v}", "Zamówienie {v}", "ordernummer {v}", "注文番号 {v}", "订单号：{v}", "Ticket {v} is closed.",
)  # fmt: skip

PROSE: tuple[str, ...] = (
    "A password should be long; length matters more than symbols, and reuse is the real danger. Change it only when it may be known to others.", "Tokens are the units a model reads. The token limit is 8192, and each request costs about 0.002 dollars per 1000 tokens.",
    "Das Passwort muss mindestens zwölf Zeichen haben und darf nicht im Wörterbuch stehen. Nach drei Fehlversuchen wird das Konto gesperrt.", "Le mot de passe doit comporter au moins 12 caractères, dont une majuscule et un chiffre.", "La contraseña debe tener 8 caracteres como mínimo y caduca a los 90 días.",
    "The secret of good bread is time: 18 hours at 5 degrees, then 45 minutes at 230. The key is patience.", "How do I reset my password? Go to settings, choose Security, then Reset password, and follow the 3 steps.", "She passed the exam in 2021 with 94 points, the pass mark being 60.", "API keys should be rotated every 90 days; never commit them. Use a vault such as HashiCorp's.",
    "In OAuth2 the access token is short-lived (3600 s) while the refresh token lasts 30 days.", "Het wachtwoord is verlopen. Kies een nieuw wachtwoord met minstens 10 tekens.", "Hasło musi mieć co najmniej 8 znaków, w tym jedną cyfrę.", "パスワードは8文字以上で、数字を1つ以上含めてください。", "密码长度至少为8位，必须包含数字和字母。", "비밀번호는 8자 이상이어야 합니다.", "Пароль должен содержать не менее 8 символов.",
    "password = getpass.getpass()  # never hard-code it", "token = os.environ['API_TOKEN']\nclient = Client(token=token, timeout=30)", "if user.password_hash != hash_password(form.password): raise AuthError('wrong password')", "ALTER TABLE users ADD COLUMN password_reset_token VARCHAR(64) NULL;", "The session key is derived with HKDF-SHA256 from X25519; see RFC 7748 section 6.1.", "password: <your-password-here>\napi_key: ${API_KEY}\nsecret: '{{ vault.secret }}'",
    "Max tokens: 4096. Temperature: 0.7. Stop token: </s>.", "The login page has 2 fields, username and password, and a link called Forgot password?", "Pin 13 drives the LED; pin 7 is ground. GPIO17 is physical pin 11.", "Primary key id, foreign key customer_id, unique key (tenant, name).", "Der Schlüssel zum Erfolg ist Geduld; der Schlüsselanhänger kostet 4,99.", "La clave del éxito es la constancia, según el capítulo 12.", "Tomorrow's standup moves to 9:15; bring the Q3 numbers and the roadmap v2.",
    "The 2026 report counts 1,204 sites in 31 countries, up from 988.", "Photosynthesis turns 6 CO2 and 6 H2O into C6H12O6 and 6 O2.", "Summarise the plot of the novel in 200 words and list 5 themes.", "Write a haiku about autumn rain on a tin roof.", "Bitte fasse den Artikel in drei Sätzen zusammen.", "Explique la différence entre TCP et UDP à un débutant.", "Escribe una función en Python que ordene una lista de 10000 números.", "Traduci in inglese: il treno parte alle 8 e 40 dal binario 12.",
)  # fmt: skip

MARKINGS: tuple[tuple[str, str], ...] = (
    ("restricted", "VS - NUR FÜR DEN DIENSTGEBRAUCH\nLagebild Nord"), ("restricted", "CUI//SP-EXPT\nMemo on the pump"), ("restricted", "DIFFUSION RESTREINTE\nNote au directeur"), ("restricted", "NATO RESTRICTED - exercise plan"), ("restricted", "RESTREINT UE/EU RESTRICTED\nWorking paper"), ("restricted", "OFFICIAL-SENSITIVE: draft reply"), ("restricted", "DIFUSIÓN LIMITADA\nInforme"), ("restricted", "Для служебного пользования\nОтчёт"),
    ("confidential", "Streng vertraulich - nur für den Vorstand"), ("confidential", "STRICTLY CONFIDENTIAL\nTerm sheet"), ("confidential", "Document strictement confidentiel, ne pas diffuser"), ("confidential", "TLP:AMBER indicators of the intrusion"), ("confidential", "社外秘\n来期の計画"), ("confidential", "Estrictamente confidencial: propuesta"), ("confidential", "Ściśle poufne. Projekt umowy"), ("confidential", "[CONFIDENTIAL] board minutes"),
    ("internal", "Nur für den internen Gebrauch: Dienstplan"), ("internal", "INTERNAL USE ONLY - price list"), ("internal", "À usage interne uniquement : organigramme"), ("internal", "Solo para uso interno. Lista de turnos"), ("internal", "TLP:GREEN newsletter"), ("confidential", "ATTORNEY-CLIENT PRIVILEGED\nRe: dispute"), ("restricted", "EXPORT-CONTROLLED: drawings of the seal"), ("restricted", "BCSI - one-line diagram substation 4"),
    ("", "What does TLP:AMBER mean?"), ("", "Explain the levels of NATO RESTRICTED and EU RESTRICTED."), ("", "Was bedeutet VS-NfD?"), ("", "The secret garden is a confidential tone of voice, he said."), ("", "Is there a restricted area near the internal courtyard?"), ("", "Qu'est-ce que la diffusion restreinte ?"),
)  # fmt: skip
