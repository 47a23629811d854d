import pytest

from rl.data.requests import without_value

OTHERS = {"city": "Paris", "nights": 3, "days": 4, "height": 5, "case_id": "M0115", "express": True}


@pytest.mark.parametrize(
    ("request_text", "name", "value", "expected"),
    [
        ("Book a hotel in Paris for 3 nights", "city", "Paris", "Book a hotel for 3 nights"),
        ("Book a hotel in Paris for 3 nights", "nights", 3, "Book a hotel in Paris"),
        ("What's the weather like in Oslo tomorrow?", "city", "Oslo", "What's the weather like tomorrow?"),
        ("Convert 100 USD to EUR", "amount", 100, "Convert USD to EUR"),
        ("Find a recipe for gluten-free pizza", "diet", "gluten-free", "Find a recipe for pizza"),
        ("Get stats for player 'LeBron James'", "player", "LeBron James", "Get stats"),
        ("a triangle with a base of 10 and height of 5.", "base", 10, "a triangle with height of 5."),
        ("a triangle with a base of 10 and height of 5.", "height", 5, "a triangle with a base of 10."),
        ("book it with city Paris, nights 3 and days 4.", "city", "Paris", "book it with nights 3 and days 4."),
        ("book it with city Paris, nights 3 and days 4.", "nights", 3, "book it with city Paris, days 4."),
        ("book it with city Paris, nights 3 and days 4.", "days", 4, "book it with city Paris, nights 3."),
        ("book it with city Paris, thanks.", "city", "Paris", "book it, thanks."),
        ("Using Rome as city, I want to book it now.", "city", "Rome", "I want to book it now."),
        ("cancel the meeting (order_id = A0001)?", "order_id", "A0001", "cancel the meeting?"),
        ("list plants (language Latin and case id M0115).", "language", "Latin", "list plants (case id M0115)."),
        ('can you book it: city: "Rome"; days: 4?', "city", "Rome", "can you book it: days: 4?"),
        ("Translate hello there into French.", "language", "French", "Translate hello there."),
        ("Convert 50 dollars into euros, please.", "unit", "euros", "Convert 50 dollars, please."),
        ("Plan the trip until Friday.", "day", "Friday", "Plan the trip."),
        ("Show posts since Monday, newest first.", "day", "Monday", "Show posts, newest first."),
        ('send it where express yes; animal "turtle" now.', "animal", "turtle", "send it where express yes now."),
    ],
)
def test_a_value_goes_with_the_words_that_lead_to_it(request_text, name, value, expected):
    others = {other: given for other, given in OTHERS.items() if other != name}
    assert without_value(request_text, name, value, others) == expected


@pytest.mark.parametrize(
    ("request_text", "name", "value"),
    [
        ("From Paris to Paris", "city", "Paris"),
        ("To the French capital", "city", "Paris"),
        ("Parisian food", "city", "Paris"),
        ("version 3.5 of it", "num", 3),
        ("Paris", "city", "Paris"),
        ("What is the time between Rome and Oslo?", "place", "Oslo"),
        ('the book titled "Emma."', "title", 'Emma."'),
        ("Book a table at Maemo for three: me, Anna and Bob.", "people", "three"),
    ],
)
def test_what_cannot_be_cut_out_cleanly_is_left_alone(request_text, name, value):
    assert without_value(request_text, name, value, {}) is None
