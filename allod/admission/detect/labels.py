"""What numbers are called that are no one's personal identifier, and what phones and cards are called.

The words are compared folded (no case, no accents; see ``context``).
"""

# ruff: noqa: E501 (words of many languages)

from __future__ import annotations

from typing import Final

from allod.admission.detect.context import Words, fold, words

_OTHER_WORDS: Final = """
order orders orderid ordernumber orderno invoice invoices invoiceno bill part parts partno partnumber pn article
item items itemno sku serial serialno serialnumber sn batch lot model version versions ver build builds revision rev
release ticket tickets issue case incident jira reference references ref tracking trackingno shipment parcel
consignment container waybill awb     contract booking reservation confirmation pnr flight isbn isbn10
isbn13 issn ean ean13 gtin upc barcode imei imsi iccid meid vin mac doi pmid arxiv cas rfc iso din ieee asin
timestamp timestamps epoch unix nanoseconds milliseconds microseconds hash commit checksum sha md5 sha1 sha256 crc
uuid guid sensor tag tags plc register offset port pid thread seed nonce latitude longitude lat lon lng coordinates
coordinate gps price amount total sum budget revenue population distance pressure temperature frequency voltage
counter count reading firmware device asset inventory catalogue catalog cat stock product productno po purchase
requisition quote quotation rma warranty transaction txn txid block receipt voucher coupon license licence patent
grant docket section paragraph page chapter table figure row line error errno code exit status job run trace span
correlation zip postcode hs tariff
assembly drawing drawings sample samples specimen vial probe proben muestra echantillon campione prove rows row katalognummer katalogowy katalogowe aktennummer zahlpunkt pages lines items blocks
bestellung bestellnummer bestellnr auftrag auftragsnummer auftragsnr rechnung rechnungsnummer rechnungsnr teil
teilenummer teilenr artikel artikelnummer artikelnr artnr seriennummer seriennr charge chargennummer chargennr
version vorgang vorgangsnummer aktenzeichen az ticketnummer sendung sendungsnummer sendungsverfolgung paket
kundennummer kundennr kdnr vertrag vertragsnummer vertragsnr buchung buchungsnummer zaehler zahler zahlernummer
zahlerstand gerat geratenummer inventarnummer materialnummer betrag summe messwert bauteil lieferschein
lieferscheinnummer angebot angebotsnummer referenz referenznummer mitteilung zeitstempel prufsumme fehlercode
commande commandes facture factures piece pieces article articles serie lot dossier suivi colis livraison
contrat reservation devis montant total horodatage capteur reference references modele
pedido pedidos factura facturas pieza articulo referencia referencias serie lote expediente envio paquete
seguimiento   contrato reserva presupuesto importe modelo albaran sensor
encomenda fatura peca artigo referencia lote processo rastreio   contrato reserva montante valor nota
ordine fattura pezzo articolo riferimento lotto pratica spedizione pacco   contratto prenotazione importo
bestelling bestelnummer ordernummer factuur factuurnummer onderdeel onderdeelnummer artikel artikelnummer
serienummer partij zaak zaaknummer zending pakket   klantnummer contractnummer boeking bedrag kenmerk
zamowienie zamowienia faktura faktury czesc czesci artykul seria seryjny partia sprawa przesylka przesylki paczka
    umowa umowy rezerwacja kwota
bestallning ordernummer fakturanummer artikelnummer serienummer parti arende arendenummer paket kundnummer avtal
bokning belopp ordre varenummer sagsnummer kundenummer pakke
tilaus tilausnumero lasku laskunumero osanumero tuotenumero sarjanumero era asiakasnumero sopimus varaus viite
viitenumero lahetys seurantakoodi
objednavka objednavky faktura dil vyrobni zasilka   smlouva rendeles szamla cikkszam gyari szallitas
comanda factura piesa serie colet   contract siparis fatura parca seri urun kargo   sozlesme
""".split()
_OTHERS_FOREIGN: Final = """
заказ, заказа, детал, каталож, накладная, счет-фактура, артикул, деталь, партия, серийный, отправление, трек, замовлення, рахунок, поръчка, фактура, παραγγελια, τιμολογιο,
订单, 订单号, 发票, 零件, 料号, 产品编号, 序列号, 批号, 版本, 快递, 单号, 物流, 时间戳, 編號, 注文, 請求書, 部品番号, 品番, 型番, 製造番号, シリアル, ロット, 追跡番号, 伝票, バージョン,
お問い合わせ番号, 주문, 송장, 부품, 품번, 일련번호, 운송장, 버전, 배송, ऑर्डर, चालान, आदेश, इनवॉइस, पार्ट, طلب, فاتورة, الطلب, شحنة, הזמנה, חשבונית, คำสั่งซื้อ, ใบแจ้งหนี้
"""
_OTHERS_LONG: Final = """
customer number, customer no, customer id, client number, client no, client id, numero de cliente, numero cliente, numero de client, numero client, n client, kunden nr, kunden nummer, klant nr, numer klienta, nr klienta,
codice cliente, numero do cliente, codigo de cliente, zakaznicke cislo, musteri no, 客户号, 客户编号, お客様番号, 고객번호
"""
_FOREIGN: Final = words(_OTHERS_FOREIGN + "," + _OTHERS_LONG)
OTHERS: Final[Words] = Words(tuple(sorted({fold(w) for w in _OTHER_WORDS})) + _FOREIGN.exact, _FOREIGN.parts)


PHONE: Final[Words] = words(
    """
    phone, telephone, =puh, =zap, 来电, 回拨, 回电, tekstmelding, textmeddelande, =marcar, marque al, μηνυμα, træffes, hor av, liguem, واتساب, للتواصل, ☎, 📞, 📱, ✆, my number is, number is my,         meine nummer, mon numero, mi numero, il mio numero, o meu numero, meu numero, mijn nummer, moj numer, mitt nummer, numeroni, 내 번호, 제 번호, मेरा नंबर, 私の番号, мой номер, мій номер, numerum, numaram, tel, =tels, telef, telefon, mobile, mobil, =mob, =mobiel, cell, cellphone, fax,
                        =sms, whatsapp, viber, hotline, helpline,
      kontakt, landline, voicemail, switchboard,   =ph, =phn, msisdn,
    anruf,         zuruckrufen, ruckruf, handy, festnetz, durchwahl, erreichbar, erreichen, rufnummer, anzurufen,
    portable, appeler, appelez, appelle, rappeler, rappelez, joindre, joignable, joignez, numero de tel, composez,
    llamar, llame, llama, llamen, llamada, movil, celular, telefono, marque el, =fijo, telefone, ligar,     ligacao, telemovel,
    contacte, contato, chiamare, chiama, richiamare, richiami, chiamate, chiami, cellulare, recapito, contatt,
      bellen, gebeld, terugbellen, terugbel, telefoon, mobiel, bereikbaar, bereiken, 06 nummer,
    zadzwon, dzwonic, oddzwonic, oddzwon, telefonu, komork, dzwon,   kontaktowy,
    ringa, =ringer, mobilnr, =mob, =tlf, =tfn,   ring, mobilnummer, soita, soitta, puhelin, puhelimi, kannykka, tavoit, numerosta, numeroon, gsm,
    volat, zavolat, zavolejte, zavolajte, =volejte, telefonni, hivjon, hivja, hivhato, sunati,   apelati,   arayin, arayabilir,
    aramak, =cep, cep telefonu, helista, skambink, zvanit, nazovite, pokli, pozovite, zvonit, nazvat,
    καλεστε, τηλεφων, τηλ, κινητο, звон, телефон, тел, моб, перезвон, зателефон, телефонуй, дзвон, обад, номер для связи,
    电话, 手机, 致电, 拨打, 联系, 來電, 打给, 電話, 携帯, 連絡, でんわ, ファックス, おかけ, 전화, 연락, 휴대폰, 핸드폰, 휴대전화, 팩스,
    फोन, फ़ोन, कॉल, मोबाइल, संपर्क, दूरभाष, فون, هاتف, اتصل, الاتصال, جوال, موبايل, تلفن, تماس, موبایل, טלפון, נייד, התקשר, להתקשר, טלפ, חייג, תתקשר,
    โทร, เบอร์, มือถือ, dien thoai, =goi, =sdt, hubungi, telepon, telpon, =hp, tawagan, phoned, ফোন, தொலைபேசி, ఫోన్, simu
    """
)
PHONE_VERB: Final[Words] = words(
    """
    =call, =calls, called, =calling, callback, =ring, =rang, =rings, =dial, dialing, text me, texted, =text, =cell, signal me, reach, contact, answering at, messages to, =office, =desk, =rufen, =ruf, =rufe, =ruft, =bel, =ara, =kom, =suna, =nas, =liga, =ligue, extension
    """
)
"""Words that also have other meanings: the number itself must look like a phone's."""
CARD: Final[Words] = words(
    """
    card, cards, visa, mastercard, amex, american express, diners, discover, maestro, debit, credit, =cc, =ccn, =pan,
    kreditkart, =karte, kartennummer, bankkarte, girokarte, carte, carte bancaire, carte bleue, =cb, tarjeta, cartao, carta di,
    carta, =kort, kortnummer, kreditkort, betalkort, betaalkaart, creditcard, =kaart, pinpas, kortti, kortin, kortil, luottokort, =karta,
    karty, karte, kartou, karta kredytowa, kartya, bankkartya, =card, cardul, =kart, kredi karti, kartim, kartes, карт, карта, καρτα, בכרטיס,
    כרטיס, بطاقة, کارت, カード, クレジット, 卡号, 信用卡, 银行卡, 卡, 카드, कार्ड, บัตร, =kartu
    """
)
IBAN: Final[Words] = words(
    "iban, bank, konto, compte, cuenta, conto, rekening, account, überweis, virement, transfer"
)


NUMBER: Final[Words] = words(
    """
    number, numero, nummer, numeret, nummeret, numer, numara, =nr, =no, cislo, szam, broj, stevilka, номер, номера, αριθμ, 番号, 번호, 号码, 號碼, नंबर, رقم, מספר, หมายเลข, nomor, =so, numeris,
    signal pa, =app, appen, whats, =save, =sms
    """
)
"""Words that say no more than that it is a number; only for numbers that look like a phone's."""
