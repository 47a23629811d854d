"""Names that mean the same to everybody: states, countries, currencies, languages and their codes.

A short table, not a gazetteer: what is not in it is simply not common knowledge here.
"""

from __future__ import annotations

from collections.abc import Mapping

_STATES = """
alabama AL|alaska AK|arizona AZ|arkansas AR|california CA|colorado CO|connecticut CT|delaware DE|florida FL|georgia GA
hawaii HI|idaho ID|illinois IL|indiana IN|iowa IA|kansas KS|kentucky KY|louisiana LA|maine ME|maryland MD
massachusetts MA|michigan MI|minnesota MN|mississippi MS|missouri MO|montana MT|nebraska NE|nevada NV
new hampshire NH|new jersey NJ|new mexico NM|new york NY|north carolina NC|north dakota ND|ohio OH|oklahoma OK
oregon OR|pennsylvania PA|rhode island RI|south carolina SC|south dakota SD|tennessee TN|texas TX|utah UT|vermont VT
virginia VA|washington WA|west virginia WV|wisconsin WI|wyoming WY|district of columbia DC
british columbia BC|ontario ON|quebec QC|alberta AB|new south wales NSW
"""

_COUNTRIES = """
united states/america/american/united states of america US USA|united kingdom/great britain/britain/british GB UK GBR
england/english|scotland/scottish|wales/welsh|ireland/irish IE IRL|france/french FR FRA|germany/german DE DEU
italy/italian IT ITA|spain/spanish ES ESP|portugal/portuguese PT PRT|netherlands/holland/dutch NL NLD|belgium/belgian BE
switzerland/swiss CH CHE|austria/austrian AT AUT|denmark/danish DK DNK|norway/norwegian NO NOR|sweden/swedish SE SWE
finland/finnish FI FIN|iceland/icelandic IS|poland/polish PL POL|czech republic/czechia/czech CZ|hungary/hungarian HU
romania/romanian RO|bulgaria/bulgarian BG|greece/greek GR GRC|turkey/turkish TR TUR|russia/russian RU RUS
ukraine/ukrainian UA|canada/canadian CA CAN|mexico/mexican MX MEX|brazil/brazilian BR BRA|argentina/argentinian AR ARG
chile/chilean CL|colombia/colombian CO|peru/peruvian PE|australia/australian AU AUS|new zealand NZ NZL
china/chinese CN CHN|japan/japanese JP JPN|south korea/korea/korean KR KOR
taiwan/taiwanese TW|hong kong HK|india/indian IN IND|pakistan/pakistani PK|bangladesh BD|sri lanka LK|nepal NP
indonesia/indonesian ID IDN|malaysia/malaysian MY|singapore SG SGP
thailand/thai TH THA|vietnam/vietnamese VN VNM|philippines/philippine/filipino PH PHL|israel/israeli IL
saudi arabia SA|united arab emirates AE UAE|qatar QA|iran/iranian IR|iraq/iraqi IQ|egypt/egyptian EG EGY
south africa/south african ZA ZAF|nigeria/nigerian NG|kenya/kenyan KE|ethiopia ET|morocco/moroccan MA
"""

_CURRENCIES = """
us dollar/united states dollar/american dollar/dollar/$ USD|euro/\u20ac EUR
british pound/pound sterling/pound/sterling/\u00a3 GBP
japanese yen/yen/\u00a5 JPY|chinese yuan/yuan/renminbi/rmb CNY|canadian dollar CAD|australian dollar AUD|swiss franc CHF
new zealand dollar NZD|hong kong dollar HKD|singapore dollar SGD|indian rupee/rupee/\u20b9 INR|mexican peso MXN
brazilian real BRL|south korean won/won KRW|swedish krona SEK|norwegian krone NOK|danish krone DKK
russian ruble/ruble RUB|turkish lira TRY|south african rand/rand ZAR
polish zloty/zloty PLN|thai baht/baht THB|bitcoin BTC|ethereum ETH
"""

_LANGUAGES = """
english EN|french FR|german DE|italian IT|spanish ES|portuguese PT|dutch NL|danish DA|norwegian NO|swedish SV|finnish FI
polish PL|czech CS|hungarian HU|romanian RO|bulgarian BG|greek EL|turkish TR|russian RU|ukrainian UK|chinese/mandarin ZH
japanese JA|korean KO|hindi HI|indonesian ID|thai TH|vietnamese VI|arabic AR|hebrew HE|persian FA|bengali BN|latin LA
"""

_Group = tuple[frozenset[str], frozenset[str]]
"""Names in lower case, and codes in upper case."""


def _groups(table: str) -> list[_Group]:
    groups: list[_Group] = []
    for entry in table.strip().replace("\n", "|").split("|"):
        words = entry.split(" ")
        codes = [word for word in words if word.isascii() and word.isalpha() and word.isupper()]
        names = " ".join(word for word in words if word not in codes).split("/")
        groups.append((frozenset(names), frozenset(codes)))
    return groups


REGIONS: frozenset[str] = frozenset(
    name.lower() for names, codes in _groups(_STATES) + _groups(_COUNTRIES) for name in names | codes
)
"""States and countries, names and codes alike, in lower case: what may stand after a city."""


def _index() -> Mapping[str, tuple[_Group, ...]]:
    index: dict[str, tuple[_Group, ...]] = {}
    for table in (_STATES, _COUNTRIES, _CURRENCIES, _LANGUAGES):
        for group in _groups(table):
            for name in group[0] | {code.lower() for code in group[1]}:
                index[name] = (*index.get(name, ()), group)
    return index


SAME: Mapping[str, tuple[_Group, ...]] = _index()
"""For each name or code in lower case: the groups of names and codes that mean the same."""
