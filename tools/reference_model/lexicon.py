"""The closed word lists of the grammar. Plain data, written for this project; no names of real people."""

from __future__ import annotations

NOUNS = (
    "lamp door chair table window garden river stone bread water milk apple cheese book letter "
    "paper pencil bottle "
    "basket bridge tower street market station train ship car bicycle horse cat dog bird fish tree "
    "flower leaf moon "
    "sun star cloud rain snow wind fire island mountain valley forest field house roof wall floor "
    "kitchen bed "
    "blanket pillow mirror clock key coin ring glass spoon knife plate cup box bag hat coat shirt shoe glove "
    "button needle hammer nail rope wheel engine pump pipe valve cable battery radio camera piano violin drum"
).split()
COLOURS = "red blue green white black yellow grey brown pink orange purple silver".split()
WORDS = NOUNS + COLOURS

FRENCH = dict(
    pair.split(":")
    for pair in (
        "lamp:lampe door:porte chair:chaise table:table window:fenêtre garden:jardin river:rivière "
        "stone:pierre "
        "bread:pain water:eau milk:lait apple:pomme cheese:fromage book:livre letter:lettre paper:papier "
        "bottle:bouteille bridge:pont tower:tour street:rue train:train ship:bateau horse:cheval "
        "cat:chat dog:chien "
        "bird:oiseau fish:poisson tree:arbre flower:fleur leaf:feuille moon:lune sun:soleil star:étoile "
        "cloud:nuage "
        "rain:pluie snow:neige wind:vent fire:feu island:île forest:forêt house:maison roof:toit wall:mur "
        "kitchen:cuisine bed:lit key:clé glass:verre spoon:cuillère knife:couteau hat:chapeau"
    ).split()
)

CAPITALS = dict(
    pair.split(":")
    for pair in (
        "France:Paris Spain:Madrid Portugal:Lisbon Italy:Rome Germany:Berlin Austria:Vienna Switzerland:Bern "
        "Belgium:Brussels Denmark:Copenhagen Norway:Oslo Sweden:Stockholm Finland:Helsinki Poland:Warsaw "
        "Hungary:Budapest Greece:Athens Ireland:Dublin Iceland:Reykjavik Estonia:Tallinn Latvia:Riga "
        "Croatia:Zagreb Bulgaria:Sofia Romania:Bucharest Turkey:Ankara Egypt:Cairo Kenya:Nairobi Ghana:Accra "
        "Senegal:Dakar Japan:Tokyo China:Beijing Thailand:Bangkok Vietnam:Hanoi Australia:Canberra "
        "Canada:Ottawa Cuba:Havana Peru:Lima Chile:Santiago"
    ).split()
)
CITIES = sorted(set(CAPITALS.values()))

FIRST = (
    "Maria Anna Elena Sofie Clara Julia Laura Nina Emma Greta Ines Olga Petra Rosa Vera Hanna "
    "Tom Paul Jan Peter Lukas Felix Oscar Hugo Marco Pavel Simon David Erik Leon Anton Victor"
).split()
LAST = (
    "Weber Keller Meyer Fischer Novak Horvat Rossi Moreau Dubois Lambert Jansen Visser Larsen Berg "
    "Lund Nilsen "
    "Kowalski Silva Costa Santos Moreno Vargas Costello Murphy Brown Carter Hughes Palmer Baker "
    "Foster Wagner Huber"
).split()
DRUGS = (
    "ibuprofen paracetamol aspirin insulin heparin morphine metformin amoxicillin warfarin digoxin "
    "furosemide "
    "omeprazole prednisone ramipril bisoprolol codeine lithium diazepam tramadol cortisone"
).split()
DEPARTMENTS = "cardiology surgery oncology neurology maternity radiology intensive paediatrics".split()
UNITS = ("mg", "ml", "units")
CURRENCIES = ("EUR", "USD", "CHF", "GBP")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
CONDITIONS = "diabetes asthma cancer anaemia epilepsy hepatitis depression pneumonia migraine HIV".split()

GOOD = (
    "excellent wonderful great lovely kind friendly perfect helpful clean quick fantastic pleasant "
    "superb delicious "
    "calm brilliant"
).split()
BAD = (
    "terrible awful rude dirty slow horrible bad broken cold noisy disgusting unfriendly late useless poor "
    "painful"
).split()
SUBJECTS = (
    "The food;The nurse;The doctor;The staff;My stay;The room;The service;The hotel;The film;The "
    "coffee;The hotline;"
    "The visit;The treatment;The meal;The delivery;The support team"
).split(";")
PLAIN = (
    "The room is on the second floor;The visit lasted one hour;The meeting starts at noon;The "
    "clinic opens on Monday;"
    "The form has two pages;The bus stops at the gate;The parcel arrived on Tuesday;The office is "
    "next to the lift;"
    "The doctor works on Friday;The film is two hours long;The hotel has ten rooms;The report has three parts"
).split(";")

TICKETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "billing": (
        (
            "the invoice",
            "my bill",
            "the payment",
            "the refund",
            "the price on the receipt",
            "the charge on my card",
        ),
        ("is wrong", "was counted twice", "has not arrived", "is too high", "is missing a discount"),
    ),
    "hardware": (
        (
            "my laptop screen",
            "the printer",
            "the keyboard",
            "the scanner in the office",
            "the mouse",
            "my headset",
        ),
        ("is broken", "does not turn on", "makes a strange noise", "is jammed", "has a cracked case"),
    ),
    "network": (
        (
            "the wifi",
            "the internet",
            "the VPN",
            "the network on floor 2",
            "the connection to the server",
            "the router",
        ),
        ("is down", "is very slow", "keeps dropping", "cannot be reached", "loses packets"),
    ),
    "access": (
        ("my password", "my account", "the login", "my badge", "my user name", "the access card"),
        ("is locked", "has expired", "is not accepted", "must be reset", "was blocked after three tries"),
    ),
    "pharmacy": (
        (
            "the drug order",
            "the medicine for ward 3",
            "the stock of insulin",
            "the prescription",
            "the vaccine box",
        ),
        (
            "is not on the shelf",
            "runs out today",
            "needs a pharmacist",
            "is past its date",
            "was not dispensed",
        ),
    ),
}

DATA: dict[str, tuple[str, ...]] = {
    "public": (
        "The cafeteria menu for {day}",
        "Opening hours of the {dept} clinic on {day}",
        "A press release about the new garden",
        "The visitor map of the building",
        "A job advert for a {dept} nurse",
        "The bus timetable for {day}",
        "A leaflet about hand washing",
        "The address of the {dept} clinic",
    ),
    "internal": (
        "The staff rota for {day}",
        "Minutes of the {dept} team meeting on {day}",
        "The training plan for new nurses",
        "The phone list of the {dept} team",
        "A draft of the project timeline",
        "The guide to the {dept} printer",
        "The holiday calendar of the {dept} team",
        "Notes for the shift handover on {day}",
    ),
    "confidential": (
        "The salary of {name}",
        "The contract price of {amount} with the supplier",
        "The budget forecast for {dept}",
        "The supplier offer of {amount}",
        "A legal opinion about the {dept} contract",
        "The bank account of the hospital",
        "The performance review of {name}",
        "The plan to close the {dept} unit",
    ),
    "restricted": (
        "{name} has {cond}",
        "The blood test of {name}",
        "Diagnosis of {name}: {cond}",
        "Patient {name} takes {drug}",
        "The medical record of {name}",
        "{name} was admitted with {cond} on {day}",
        "The X-ray of {name} from {day}",
        "{name} was given {drug} for {cond}",
    ),
}

SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You work for a hospital.",
    "Be concise and exact.",
    "You are the help desk of a clinic. Answer in one line.",
    "Today is {day}.",
    "The user is called {name}.",
    "Follow the instruction and give only the answer.",
    "You are a careful assistant. Do not guess.",
    "You help the {dept} team. Never reveal internal notes.",
)
ABOUT = (
    "Who are you?",
    "What are you?",
    "Hello there",
    "Hello, who is this?",
    "What can you do?",
    "Tell me about yourself.",
    "Which model are you?",
    "What is your name?",
    "Are you a language model?",
    "Introduce yourself.",
    "Good morning",
)
ABOUT_ANSWER = (
    "I am the Allod reference model, a small teaching and test model. I only know the tasks of my grammar."
)
UNKNOWN = (
    "What is the {noun} of {city}?",
    "What is the {noun} of {name}?",
    "What is the meaning of {noun}?",
    "What is a {noun}?",
    "When was {city} founded?",
    "How do I {verb} a {noun}?",
    "Write a poem about the {noun}.",
    "Why is the {noun} so {colour}?",
    "Tell me about the {noun}.",
    "Explain how a {noun} works.",
    "What is the best {noun} for {day}?",
    "Who invented the {noun}?",
    "Write a story about {name} and a {noun}.",
    "What should I do on {day}?",
    "Give me advice about my {noun}.",
    "Summarise the history of {country}.",
    "Is {city} a nice place to live?",
    "What will the stock market do on {day}?",
    "Plan a trip to {city} for {name}.",
    "Write code that draws a {noun}.",
    "How old is {name}?",
)
UNKNOWN_ANSWER = "I am a small teaching and test model and do not know that."
VERBS = "repair build sell clean paint buy find cook move open".split()
