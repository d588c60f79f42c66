"""What numbers are called that are no one's personal identifier, and what phones and cards are called.

The words are compared folded (no case, no accents; see ``context``).
"""

from __future__ import annotations

from typing import Final

from allod.admission.detect.context import Words, fold, words

_OTHER_WORDS: Final = """
order orders orderid ordernumber orderno invoice invoices invoiceno bill part parts partno partnumber pn article
item items itemno sku serial serialno serialnumber sn batch lot model version versions ver build builds revision rev
release ticket tickets issue case incident jira reference references ref tracking trackingno shipment parcel
consignment container waybill awb customer client contract booking reservation confirmation pnr flight isbn isbn10
isbn13 issn ean ean13 gtin upc barcode imei imsi iccid meid vin mac doi pmid arxiv cas rfc iso din ieee asin
timestamp timestamps epoch unix nanoseconds milliseconds microseconds hash commit checksum sha md5 sha1 sha256 crc
uuid guid sensor tag tags plc register offset port pid thread seed nonce latitude longitude lat lon lng coordinates
coordinate gps price amount total sum budget revenue population distance pressure temperature frequency voltage
counter count reading firmware device asset inventory catalogue catalog cat stock product productno po purchase
requisition quote quotation rma warranty transaction txn txid block receipt voucher coupon license licence patent
grant docket section paragraph page chapter table figure row line error errno code exit status job run trace span
session request correlation event message msg zip postcode hs tariff
bestellung bestellnummer bestellnr auftrag auftragsnummer auftragsnr rechnung rechnungsnummer rechnungsnr teil
teilenummer teilenr artikel artikelnummer artikelnr artnr seriennummer seriennr charge chargennummer chargennr
version vorgang vorgangsnummer aktenzeichen az ticketnummer sendung sendungsnummer sendungsverfolgung paket kunde
kundennummer kundennr kdnr vertrag vertragsnummer vertragsnr buchung buchungsnummer zaehler zahler zahlernummer
zahlerstand gerat geratenummer inventarnummer materialnummer betrag summe messwert bauteil lieferschein
lieferscheinnummer angebot angebotsnummer referenz referenznummer mitteilung zeitstempel prufsumme fehlercode
commande commandes facture factures piece pieces article articles serie lot dossier suivi colis livraison client
contrat reservation devis montant total horodatage capteur reference references modele
pedido pedidos factura facturas pieza articulo referencia referencias serie lote expediente envio paquete
seguimiento cliente contrato reserva presupuesto importe modelo albaran sensor
encomenda fatura peca artigo referencia lote processo rastreio cliente contrato reserva montante valor nota
ordine fattura pezzo articolo riferimento lotto pratica spedizione pacco cliente contratto prenotazione importo
bestelling bestelnummer ordernummer factuur factuurnummer onderdeel onderdeelnummer artikel artikelnummer
serienummer partij zaak zaaknummer zending pakket klant klantnummer contractnummer boeking bedrag kenmerk
zamowienie zamowienia faktura faktury czesc czesci artykul seria seryjny partia sprawa przesylka przesylki paczka
klient klienta umowa umowy rezerwacja kwota
bestallning ordernummer fakturanummer artikelnummer serienummer parti arende arendenummer paket kundnummer avtal
bokning belopp ordre varenummer sagsnummer kundenummer pakke
tilaus tilausnumero lasku laskunumero osanumero tuotenumero sarjanumero era asiakasnumero sopimus varaus viite
viitenumero lahetys seurantakoodi
objednavka objednavky faktura dil vyrobni zasilka zakaznik smlouva rendeles szamla cikkszam gyari szallitas
comanda factura piesa serie colet client contract siparis fatura parca seri urun kargo musteri sozlesme
""".split()
_OTHERS_FOREIGN: Final = """
заказ, заказа, накладная, счет-фактура, артикул, деталь, партия, серийный, отправление, трек, замовлення, рахунок, поръчка, фактура, παραγγελια, τιμολογιο,
订单, 订单号, 发票, 零件, 料号, 产品编号, 序列号, 批号, 版本, 快递, 单号, 物流, 时间戳, 編號, 注文, 請求書, 部品番号, 品番, 型番, 製造番号, シリアル, ロット, 追跡番号, 伝票, バージョン,
お問い合わせ番号, 주문, 송장, 부품, 품번, 일련번호, 운송장, 버전, 배송, ऑर्डर, चालान, आदेश, इनवॉइस, पार्ट, طلب, فاتورة, الطلب, شحنة, הזמנה, חשבונית, คำสั่งซื้อ, ใบแจ้งหนี้
"""
_FOREIGN: Final = words(_OTHERS_FOREIGN)
OTHERS: Final[Words] = Words(tuple(sorted({fold(w) for w in _OTHER_WORDS})) + _FOREIGN.exact, _FOREIGN.parts)


PHONE: Final[Words] = words(
    """
    phone, telephone, tel, =tels, telef, telefon, mobile, mobil, =mob, =mobiel, cell, cellphone, fax, =call, =calls, called,
    =calling, callback, =ring, =rang, =rings, =dial, dialing, text me, texted, =text, =sms, whatsapp, viber, hotline, helpline, reach,
    contact, kontakt, landline, voicemail, switchboard, extension, =ph, =phn, msisdn,
    anruf, =rufen, =ruf, =rufe, =ruft, zuruckrufen, ruckruf, handy, festnetz, durchwahl, erreichbar, erreichen, rufnummer, anzurufen,
    portable, appeler, appelez, appelle, rappeler, rappelez, joindre, joignable, joignez, numero de tel, composez,
    llamar, llame, llama, llamen, llamada, movil, celular, telefono, marque el, =fijo, telefone, ligar, =ligue, =liga, ligacao, telemovel,
    contacte, contato, chiamare, chiama, richiamare, richiami, chiamate, chiami, cellulare, recapito, contatt,
    =bel, bellen, gebeld, terugbellen, terugbel, telefoon, mobiel, bereikbaar, bereiken, 06 nummer,
    zadzwon, dzwonic, oddzwonic, oddzwon, telefonu, komork, dzwon, =kom, kontaktowy,
    ringa, =ringer, mobilnr, =mob, =tlf, =tfn, =nas, ring, mobilnummer, soita, soitta, puhelin, puhelimi, kannykka, tavoittaa, gsm,
    volat, zavolat, zavolejte, zavolajte, =volejte, telefonni, hivjon, hivja, hivhato, sunati, =suna, apelati, =ara, arayin, arayabilir,
    aramak, =cep, cep telefonu, helista, skambink, zvanit, nazovite, pokli, pozovite, zvonit, nazvat,
    καλεστε, τηλεφων, τηλ, κινητο, звон, телефон, тел, моб, перезвон, зателефон, телефонуй, дзвон, обад, номер для связи,
    电话, 手机, 致电, 拨打, 联系, 來電, 打给, 電話, 携帯, 連絡, でんわ, ファックス, おかけ, 전화, 연락, 휴대폰, 핸드폰, 휴대전화, 팩스,
    फोन, फ़ोन, कॉल, मोबाइल, संपर्क, दूरभाष, فون, هاتف, اتصل, الاتصال, جوال, موبايل, تلفن, تماس, موبایل, טלפון, נייד, התקשר, להתקשר,
    โทร, เบอร์, มือถือ, dien thoai, =goi, =sdt, hubungi, telepon, telpon, =hp, tawagan, phoned, ফোন, தொலைபேசி, ఫోన్, simu
    """
)
CARD: Final[Words] = words(
    """
    card, cards, visa, mastercard, amex, american express, diners, discover, maestro, debit, credit, =cc, =ccn, =pan,
    kreditkart, =karte, kartennummer, bankkarte, girokarte, carte, carte bancaire, carte bleue, =cb, tarjeta, cartao, carta di,
    carta, =kort, kortnummer, kreditkort, betalkort, betaalkaart, creditcard, =kaart, pinpas, kortti, kortin, kortil, luottokort, =karta,
    karty, karte, kartou, karta kredytowa, kartya, bankkartya, =card, cardul, =kart, kredi karti, kartim, kartes, карт, карта, καρτα, בכרטיס,
    כרטיס, بطاقة, کارت, カード, クレジット, 卡号, 信用卡, 银行卡, 卡, 카드, कार्ड, บัตร, =kartu
    """
)
IBAN: Final[Words] = words("iban, bank, konto, compte, cuenta, conto, rekening, account, überweis, virement, transfer")
