"""First names and family names in other scripts, and people everybody writes about: Allod's own lists."""

# ruff: noqa: E501, RUF001 (lists of names in many scripts)

from __future__ import annotations

from typing import Final

CYRILLIC: Final[frozenset[str]] = frozenset(
    """
    александр александра алексей алина алиса алла альберт анастасия анатолий андрей анжела анна антон антонина аркадий арсений артем артём артур богдан борис вадим валентин валентина
    валерий валерия варвара василий василиса вера вероника виктор виктория виталий владимир владислав всеволод вячеслав галина геннадий георгий герман глеб григорий данил данила даниил
    дарья денис диана дмитрий ева евгений евгения егор екатерина елена елизавета захар зинаида зоя иван игорь илья инна иосиф ирина кирилл клавдия константин кристина ксения лариса лев
    леонид лидия лилия любовь людмила майя макар максим маргарита марина мария марк матвей милана мирон михаил надежда наталия наталья никита николай нина оксана олег олеся ольга павел
    петр пётр полина раиса регина ринат роман ростислав руслан рустам савелий светлана семен семён сергей серафима снежана софия софья станислав степан таисия тамара татьяна тимофей тимур
    ульяна федор фёдор филипп эдуард эльвира эльдар эмилия эмма эрик юлия юрий яков яна ярослав ярослава саша маша даша катя лена оля таня наташа аня ваня миша коля петя сережа серёжа дима женя
    андрій анатолій артемій богдана валентина василь віктор вікторія віталій володимир галина ганна данило дарина денис дмитро євген євгенія іван ігор ірина катерина кирило
    леся любомир людмила марія марта микола михайло мирослав надія назар наталія оксана олександр олександра олексій олена ольга орест остап павло петро роксолана роман сергій соломія софія
    степан світлана тарас тетяна уляна федір христина юлія юрій ярина ярослав
    александър ангел асен атанас ана бисер благовест бойко божидар борислав бояна валери ваня васил велизар венцислав весела виолета владимира габриела ганка георги гергана даниела
    деница десислава димитър диян добромир донка драгомир евгени елица емил живко здравка златка ивайло ивелина иво йоана йордан йорданка камен калина кирил красимир красимира кремена лилия лъчезар любен
    мариана мариян мартин милен милена митко момчил невена неделина николина огнян пенка петър петя пламен радка радослав ралица росица румен румяна светла силвия симеон слави стефан стефка стоян стоянка
    тихомир тодор тодорка христо цветан цветанка цветелина юлиан явор ясен
    александра бојан бранислав бранко весна владан гордана горан дејан драган драгана душан жељко зоран зорица ивана јована јован јелена лазар љиљана марко милан милица милош мирјана миодраг
    наташа небојша невена немања никола новак петар предраг радован слободан снежана срђан стеван урош
    айгуль айжан алия асель азамат бауыржан бекзат гульнара данияр динара ерлан жанар жанна кайрат марат мадина нурлан нурсултан сауле тимур
    """.split()
)
GREEK: Final[frozenset[str]] = frozenset(
    """
    αγγελικη αθανασια αθανασιος αθηνα αικατερινη αλεξανδρα αλεξανδρος αλεξης αναστασια αναστασιος ανδρεας ανθη αννα αντωνης αντωνιος αντωνια αποστολος αργυρω αρης αριστειδης ασπασια βαγγελης
    βαρβαρα βασιλειος βασιλης βασιλικη γεωργια γεωργιος γιαννης γιωργος γρηγορης γρηγοριος δεσποινα δημητρα δημητρης δημητριος διονυσης διονυσια ειρηνη ελενη ελευθερια ελευθεριος ελισαβετ εμμανουηλ
    ευαγγελια ευαγγελος ευγενια ευστρατιος ζωη ηλιας θανασης θεοδωρα θεοδωρος θωμας ιωαννα ιωαννης καλλιοπη κατερινα κυριακος κυριακη κωνσταντινα κωνσταντινος κωστας λαμπρος λεωνιδας λευτερης μαγδαληνη μανωλης μαρια
    μαριος μαρινα μαργαριτα μιχαηλ μιχαλης μυρτω νεκταριος νικη νικολαος νικολεττα νικος ξενια οδυσσεας ολγα ολυμπια ορεστης παναγιωτα παναγιωτης παντελης παρασκευη παυλος πετρος πολυξενη σοφια σπυρος σπυριδων
    σταματης σταυρος σταυρουλα στελιος στεφανος σωτηρης σωτηρια τασος φανη φιλιππος φωτεινη φωτης χαραλαμπος χαρης χριστινα χριστος χρυσα
    """.split()
)
DEVANAGARI: Final[frozenset[str]] = frozenset(
    """
    अंकित अंकिता अंजलि अंजू अक्षय अजय अदिति अनिल अनिता अनीता अनुज अनुपम अनुराग अनुष्का अनूप अभय अभिजीत अभिषेक अमन अमर अमित अमिता अमृता अरविंद अरुण अरुणा अर्चना अर्जुन अर्पिता अलका अवनी अविनाश अशोक अश्विनी आकाश आदित्य आनंद आरती आराध्या
    आर्यन आशा आशीष इंदिरा इंदु इशा ईशान उदय उमा उमेश उर्मिला उषा ऋतिक ऋषि एकता ओम कंचन कपिल कमल कमला करण करिश्मा कविता कांता काजल कामिनी कार्तिक किरण किशोर कुणाल कुसुम कृष्ण कृष्णा केशव कैलाश कोमल खुशी गंगा गणेश गरिमा गायत्री गिरीश गीता गीतांजलि
    गोपाल गोविंद गौतम गौरव गौरी चंदन चंद्र चंद्रा चेतन चेतना छाया जगदीश जया जयेश जितेंद्र जीतेंद्र ज्योति तनु तनुजा तन्वी तरुण तारा तुषार दिनेश दिलीप दिव्या दीपक दीपा दीपाली दीपिका दीप्ति देव देवी देवेंद्र धर्मेंद्र धीरज ध्रुव नंदिनी नमिता नरेंद्र नरेश नवीन निकिता निखिल
    निधि निशा निशांत नितिन नितिका नीता नीतू नीरज नीलम नेहा पंकज पल्लवी पवन पायल पारुल पार्वती पीयूष पुष्पा पूजा पूनम प्रकाश प्रताप प्रदीप प्रभा प्रमोद प्रवीण प्रशांत प्राची प्रिया प्रियंका प्रीति प्रेम बबीता बलराम बाबू बीना बृजेश भरत भारती भावना भूपेंद्र मंजू मंजुला मधु
    मधुर मनीष मनीषा मनोज ममता मयंक महेंद्र महेश माधव माधुरी माया मालती मिताली मीना मीनाक्षी मीरा मुकेश मुस्कान मोहन मोहित मोहिनी मोनिका यश योगेश रंजना रंजीत रजत रजनी रमा रमेश रवि रवीना रश्मि राकेश राखी राघव राज राजकुमार राजीव राजू राजेंद्र राजेश राधा राधिका
    राम रामकुमार राहुल रितु रिया रीता रीना रुचि रूपा रेखा रेणु रेनू रोशन रोहन रोहित रोहिणी लक्ष्मण लक्ष्मी लता ललित ललिता लवली वंदना वर्षा वसंत विकास विक्रम विजय विजया विद्या विनय विनीत विनीता विनोद विपिन विभा विमल विमला विवेक विशाल विष्णु वीणा वीरेंद्र वैभव वैशाली शंकर
    शकुंतला शरद शर्मिला शशि शांति शालिनी शिखा शिल्पा शिव शिवम शिवानी शीतल शीला शुभम शेखर शैलेश शोभा श्याम श्रद्धा श्रुति श्रेया श्वेता संगीता संजना संजय संजीव संतोष संदीप संध्या सचिन सतीश सत्यम सपना समीर सरला सरस्वती सरिता सरोज सागर साक्षी सारिका सावित्री सीता सीमा सुजाता सुदेश सुधा
    सुधीर सुनंदा सुनील सुनीता सुमन सुमित सुमित्रा सुरेंद्र सुरेश सुशील सुशीला सुषमा सूरज सूर्या सोनम सोनाली सोनिया सोनू सौरभ स्नेहा स्वाति हरि हरीश हर्ष हर्षिता हिना हिमांशु हेमंत हेमा हेमलता मोहम्मद आयशा फातिमा इमरान सलमान शबाना रुखसाना नसरीन अब्दुल अहमद अली
    """.split()
)
ARABIC: Final[frozenset[str]] = frozenset(
    """
    محمد أحمد احمد محمود مصطفى علي عمر عثمان خالد يوسف إبراهيم ابراهيم حسن حسين عبدالله عبد سعيد سعد سامي سمير سلمان سليمان صالح طارق طلال عادل عماد فهد فيصل فارس كريم ماجد منصور ناصر نبيل هاني وائل وليد ياسر ياسين يحيى زياد
    رامي رائد بلال جمال جمعة حمزة حمد داود راشد رشيد سلطان شريف عبدالرحمن عبدالعزيز عصام غسان فؤاد قاسم مازن مروان معاذ موسى نواف هشام أنس أيمن أمير أمين باسم تامر حاتم حازم مهدي رضا
    فاطمة عائشة مريم خديجة زينب سارة نور نورة هدى هند ليلى لينا منى مها مروة نادية نجلاء سلمى سمية سعاد سناء شيماء ريم رنا رانيا دينا داليا حنان جميلة أسماء إيمان آمنة أمل أميرة بسمة خلود رحاب سحر عبير غادة لمياء ياسمين
    علی رضا زهرا فاطمه حسین مهدی امیر محمدرضا علیرضا سعید مجید حمید بهرام پرویز داریوش کوروش سیاوش آرش بابک شیرین نرگس نسرین پروین مینا سارا نازنین الهام مریم لیلا شهرام فرهاد کامران
    """.split()
)
HEBREW: Final[frozenset[str]] = frozenset(
    """
    אברהם אביגיל אבי אבנר אדם אהוד אורי אורית אורלי איילת איתי איתן אלון אלי אליהו אלעד אמיר אסף אסתר אפרת אריאל אריה בועז בנימין ברק גדי גיא גיל גלית גלעד דוד דן דנה דניאל דפנה דרור הדר הילה זאב חיים חנה טל טליה יאיר יגאל יהודה
    יהודית יובל יוסי יוסף יונתן יעל יעקב יצחק ירון כרמל לאה ליאור לימור מאיר מיכאל מיכל מירב מנחם מרדכי משה נועה נועם נורית ניצן ניר נתן סיגל ספיר עדי עומר עופר עידן ענת ערן פנחס צבי קרן ראובן רבקה רונית רון רות רחל רן רפאל שאול שי
    שירה שלום שלמה שמואל שמעון שרה שרון תומר תמר תמי
    """.split()
)
CJK_FAMILY: Final[tuple[str, ...]] = tuple(
    sorted(
        """
        佐藤 鈴木 高橋 田中 伊藤 渡辺 渡邊 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 木村 林 斎藤 齋藤 清水 山崎 森 池田 橋本 阿部 石川 山下 中島 石井 小川 前田 岡田 長谷川 藤田 後藤 近藤 村上 遠藤 青木 坂本 斉藤 福田 太田 西村 藤井 金子 岡本 藤原 三浦 中野 中川 原田
        松田 竹内 小野 田村 中山 和田 石田 森田 上田 原 内田 柴田 酒井 宮崎 横山 高木 安藤 宮本 大野 小島 谷口 今井 工藤 高田 増田 丸山 杉山 村田 大塚 新井 小山 平野 藤本 河野 上野 野口 武田 松井 千葉 菅原 岩崎 久保 木下 佐野 野村 松尾 市川 菊地 菊池 杉本 古川 大西 島田 水野
        桜井 渡部 高野 吉川 山内 西田 飯田 西川 小松 北村 安田 五十嵐 川口 平田 関 中田 久保田 東 服部 川崎 岩田 土屋 福島 本田 辻 樋口 秋山 田口 永井 山中 中西 吉村 川上 石原 大橋 松岡 馬場 浜田 森本 星野 矢野 浅野 大島 松下 大久保 吉岡 小池 野田 荒木 大谷 熊谷 松浦 黒田 尾崎 永田
        川村 望月 田辺 松村 荒井 堀 大川 早川 菅野 小沢 児玉 須藤 平井 岸本 内藤 西山 宮田 栗原 白石 石橋 根本 土井 堀内 成田 天野 北川 関口 片山 三宅 小西 渋谷 本間 河合 岩本 津田 南 牧野 榎本 稲垣 若林 飯島 沢田 篠原 大石 松永 神田 奥村 細川 小泉 梅田 浅井 柳田
        """.split(),
        key=len,
        reverse=True,
    )
)
CHINESE_FAMILY: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许邓韩冯曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严"
    "張劉陳楊黃趙吳孫馬羅鄭謝許鄧韓馮蕭葉蘇魏呂盧鍾譚陸範賈韋鄒閻龍賀顧龔萬錢嚴"
)
KOREAN_FAMILY: Final = "김이박최정강조윤장임한오서신권황안송전홍유고문양손배백허남심노하곽성차주우구민류나진지엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모"

FIGURES: Final[frozenset[str]] = frozenset(
    name.strip()
    for name in """
    angela merkel, olaf scholz, friedrich merz, gerhard schroder, helmut kohl, konrad adenauer, willy brandt, robert habeck, annalena baerbock, ursula von der leyen, frank walter steinmeier, christian lindner, markus soder,
    emmanuel macron, francois hollande, nicolas sarkozy, jacques chirac, francois mitterrand, charles de gaulle, marine le pen, simone veil, christine lagarde, michel barnier, georges pompidou,
    joe biden, donald trump, barack obama, michelle obama, george bush, george washington, bill clinton, hillary clinton, ronald reagan, jimmy carter, richard nixon, john kennedy, john f kennedy, abraham lincoln, thomas jefferson, kamala harris,
    bernie sanders, nancy pelosi, mitt romney, franklin roosevelt, theodore roosevelt, dwight eisenhower, harry truman, benjamin franklin, alexander hamilton, martin luther king, martin luther, rosa parks, malcolm x,
    boris johnson, theresa may, david cameron, tony blair, margaret thatcher, winston churchill, rishi sunak, keir starmer, liz truss, queen elizabeth, king charles, queen victoria, prince william, gordon brown,
    vladimir putin, boris yeltsin, mikhail gorbachev, josef stalin, joseph stalin, vladimir lenin, volodymyr zelenskyy, volodymyr zelensky, xi jinping, mao zedong, deng xiaoping, narendra modi, mahatma gandhi, indira gandhi, jawaharlal nehru,
    shinzo abe, fumio kishida, kim jong un, moon jae in, nelson mandela, jacinda ardern, justin trudeau, pierre trudeau, pedro sanchez, mariano rajoy, felipe gonzalez, giorgia meloni, silvio berlusconi, mario draghi, sergio mattarella,
    lula da silva, jair bolsonaro, dilma rousseff, javier milei, gabriel boric, claudia sheinbaum, mark rutte, geert wilders, donald tusk, andrzej duda, lech walesa, viktor orban, recep tayyip erdogan, mustafa kemal, ataturk,
    sanna marin, sauli niinisto, greta thunberg, olof palme, ulf kristersson, mette frederiksen, jens stoltenberg, dag hammarskjold, kofi annan, antonio guterres, ban ki moon, pope francis, pope benedict, john paul, dalai lama, mother teresa,
    albert einstein, isaac newton, charles darwin, marie curie, nikola tesla, galileo galilei, leonardo da vinci, stephen hawking, alan turing, ada lovelace, max planck, werner heisenberg, niels bohr, erwin schrodinger, richard feynman,
    enrico fermi, louis pasteur, alexander fleming, gregor mendel, carl linnaeus, johannes kepler, nicolaus copernicus, michael faraday, james clerk maxwell, james watt, thomas edison, alexander graham bell, alfred nobel, carl friedrich gauss, leonhard euler,
    william shakespeare, jane austen, charles dickens, mark twain, ernest hemingway, james joyce, virginia woolf, george orwell, oscar wilde, j k rowling, stephen king, agatha christie, johann wolfgang goethe, friedrich schiller, thomas mann,
    heinrich heine, franz kafka, bertolt brecht, victor hugo, marcel proust, albert camus, jean paul sartre, simone de beauvoir, voltaire, miguel de cervantes, gabriel garcia marquez, dante alighieri, umberto eco, leo tolstoy, fyodor dostoevsky, anton chekhov,
    ludwig van beethoven, wolfgang amadeus mozart, johann sebastian bach, richard wagner, antonio vivaldi, giuseppe verdi, frederic chopin, claude debussy, igor stravinsky, john lennon, paul mccartney, elvis presley, michael jackson, bob dylan, david bowie, taylor swift,
    vincent van gogh, pablo picasso, claude monet, michelangelo, salvador dali, frida kahlo, andy warhol, albrecht durer, johannes vermeer, gustav klimt,
    karl marx, friedrich engels, immanuel kant, friedrich nietzsche, martin heidegger, adam smith, john maynard keynes, milton friedman, max weber, john locke, thomas hobbes, david hume, jean jacques rousseau, sigmund freud, carl jung, hannah arendt, jurgen habermas,
    christopher columbus, marco polo, vasco da gama, neil armstrong, yuri gagarin, amelia earhart, julius caesar, napoleon bonaparte, alexander the great, otto von bismarck, genghis khan, catherine the great, ivan the terrible, adolf hitler, anne frank, oskar schindler, benito mussolini, francisco franco,
    steve jobs, bill gates, elon musk, jeff bezos, mark zuckerberg, tim cook, satya nadella, sundar pichai, larry page, sergey brin, warren buffett, sam altman, jensen huang, linus torvalds, tim berners lee, guido van rossum, dennis ritchie, grace hopper, donald knuth, edsger dijkstra,
    lionel messi, cristiano ronaldo, diego maradona, roger federer, rafael nadal, novak djokovic, serena williams, usain bolt, michael jordan, lebron james, muhammad ali, steffi graf, boris becker, michael schumacher, lewis hamilton, max verstappen, sebastian vettel, tom brady, zinedine zidane,
    tom hanks, brad pitt, leonardo dicaprio, meryl streep, marilyn monroe, charlie chaplin, alfred hitchcock, steven spielberg, quentin tarantino, christopher nolan, harry potter, sherlock holmes, romeo and juliet, james bond, jesus christ, virgin mary, saint peter, don quixote, santa claus
    """.replace("\n", " ").split(",")
)
"""People and characters that texts are written about; naming one alone raises nothing."""
