"""The vocabulary of the procedural world. Small on purpose: every word is frequent in training.

Words are shared by the training and the held-out catalogue; their combinations into tools are not.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VERBS = _words(
    "book cancel find get set update delete create check list send open close start stop rent buy sell"
    " track plan print move count share"
)

NOUNS = _words(
    "hotel room flight ticket train bus car bike boat taxi meal menu table dinner recipe garden plant tree river lake"
    " park museum school class course exam library book film song music game team player match score gym health"
    " doctor clinic bank loan card order invoice package shop store market stock price office meeting project task"
    " report file photo video phone email news weather storm house rent energy water light sensor camera printer"
    " robot machine factory"
)

SUFFIXES = ("status", "list", "history", "summary", "limit", "info")

CITIES = _words(
    "Paris Rome Oslo Cairo Lima Delhi Tokyo Seoul Berlin Madrid Dublin Vienna Prague Athens Boston Denver Austin"
    " Sydney Quito Havana Lagos Geneva Munich Toronto"
)
COUNTRIES = _words("France Italy Norway Egypt Peru India Japan Spain Ireland Austria Greece Canada")
PEOPLE = _words(
    "Anna Ben Carla David Emma Felix Grace Hugo Irene Jack Karen Leo Maria Nina Oscar Paula Quinn Rosa Simon Tara"
    " Victor Wendy Yusuf Zoe"
)
COMPANIES = _words("Acme Globex Initech Umbra Vertex Nimbus Orbit Zenith Apex Delta")
COLORS = _words("red blue green yellow black white orange purple brown pink")
ANIMALS = _words("cat dog horse rabbit tiger eagle whale spider turtle goat")
FOODS = _words("pizza soup salad bread cheese rice pasta sushi apple honey coffee tea")
MATERIALS = _words("wood steel glass paper cotton silver gold stone")
SPORTS = _words("tennis soccer chess boxing rowing golf hockey yoga")
LANGUAGES = _words("English French German Spanish Arabic Hindi Korean Latin")
ADJECTIVES = _words("old new quiet happy cold bright small heavy secret famous early wild")
THINGS = _words("bridge island castle mountain summer winter dragon engine market planet forest journey")

WORD_POOLS: dict[str, tuple[str, ...]] = {
    "city": CITIES,
    "origin": CITIES,
    "destination": CITIES,
    "country": COUNTRIES,
    "owner": PEOPLE,
    "client": PEOPLE,
    "host": PEOPLE,
    "driver": PEOPLE,
    "author": PEOPLE,
    "company": COMPANIES,
    "color": COLORS,
    "animal": ANIMALS,
    "food": FOODS,
    "material": MATERIALS,
    "sport": SPORTS,
    "language": LANGUAGES,
    "place": CITIES,
    "person": PEOPLE,
}
"""Parameters whose value is one word."""

PHRASES = ("title", "topic", "message", "note")
"""Parameters whose value is an adjective and a thing."""

CODES = ("order_id", "ticket_id", "user_id", "item_id", "case_id")
"""Parameters whose value is a letter and four digits."""

INTEGERS: dict[str, tuple[int, int]] = {
    "days": (1, 30),
    "nights": (1, 20),
    "seats": (1, 60),
    "pages": (2, 400),
    "floor": (1, 40),
    "age": (3, 99),
    "amount": (5, 900),
    "limit": (1, 99),
    "distance": (2, 800),
    "rank": (1, 50),
    "hour": (1, 24),
}

NUMBERS: dict[str, tuple[int, int]] = {
    "price": (1, 99),
    "rate": (0, 20),
    "weight": (1, 99),
    "width": (1, 60),
    "height": (1, 60),
    "budget": (10, 999),
    "speed": (1, 99),
}

BOOLEANS = ("express", "insured", "private", "urgent", "organic", "notify", "repeat", "shared")

DATES = ("date", "start_date", "end_date", "due_date", "birthday")

ENUMS: dict[str, tuple[str, ...]] = {
    "size": ("small", "medium", "large", "huge"),
    "class": ("economy", "business", "first"),
    "mode": ("fast", "slow", "normal", "silent"),
    "level": ("low", "middle", "high"),
    "format": ("text", "table", "image", "audio"),
    "season": ("spring", "summer", "autumn", "winter"),
    "shape": ("round", "square", "oval", "flat"),
    "currency": ("euro", "dollar", "yen", "pound"),
    "method": ("cash", "card", "transfer", "check"),
    "day": ("monday", "tuesday", "friday", "sunday"),
}

TELLING_WORDS: dict[str, tuple[str, ...]] = {
    "code": _words("id ids code symbol symbols key serial identifier ticker isbn icao iata vin"),
    "date": _words("date dates since until from to day"),
    "year": _words("year years"),
    "digits": _words(
        "limit page count number num size offset age height weight price amount max min length minutes hours days"
        " latitude longitude lat lon lng quantity score rank level threshold"
    ),
    "country": _words("country region nation market"),
    "city": _words("city location place origin destination town address departure arrival area venue"),
    "owner": _words("user username person author artist owner player name patient actor director first last writer"),
    "company": _words("company brand team manufacturer organization publisher bank"),
    "color": _words("color colour"),
    "animal": _words("animal breed species"),
    "food": _words("food ingredient ingredients dish fruit cuisine"),
    "material": _words("material substance chemical"),
    "sport": _words("sport league activity"),
    "language": _words("language lang languages"),
}
"""Words in names of string parameters of real APIs that say what their values look like."""
