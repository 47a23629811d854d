import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.schema import check, check_schema
from envs.toolworld import words
from envs.toolworld.catalogue import ProceduralCatalogue, plausible_value, split_of, spoken
from envs.toolworld.real import RealCatalogue

SPLITS = ("train", "heldout")


def sampled(split, count=3000):
    rng, catalogue = random.Random(0), ProceduralCatalogue(split)
    tools = [catalogue.sample(rng) for _ in range(count)]
    tools += [catalogue.neighbour(rng, tool, same_start=rng.random() < 0.5) for tool in tools]
    return {tool.name: tool for tool in tools}


def compounds(tools):
    return {tuple(name.split("_")[1:3]) for name in tools}


def test_splits_share_no_name_and_no_compound_noun_but_their_words():
    train, heldout = sampled("train"), sampled("heldout")
    assert train.keys().isdisjoint(heldout)
    assert compounds(train).isdisjoint(compounds(heldout))
    assert all(split_of(*pair) == "train" for pair in compounds(train))
    assert all(split_of(*pair) == "heldout" for pair in compounds(heldout))
    words_of = [{word for name in tools for word in name.split("_")} for tools in (train, heldout)]
    assert words_of[1] <= words_of[0]


def test_every_noun_has_compounds_on_both_sides():
    for split in SPLITS:
        pairs = [(a, b) for a in words.NOUNS for b in words.NOUNS if a != b and split_of(a, b) == split]
        assert {a for a, _ in pairs} == {b for _, b in pairs} == set(words.NOUNS)


def test_a_tool_follows_from_its_name():
    assert sampled("train") == sampled("train")


def test_tools_are_valid_and_varied():
    tools = sampled("train", 200).values()
    for tool in tools:
        check_schema(tool.spec.parameters)
        assert 1 <= len(tool.spec.properties) <= 4
        assert tool.spec.required and set(tool.spec.required) <= set(tool.spec.properties)
        assert tool.phrase == tool.name.replace("_", " ")
    schemas = [schema for tool in tools for schema in tool.spec.properties.values()]
    assert {schema["type"] for schema in schemas} == {"string", "integer", "number", "boolean"}
    assert any("enum" in schema for schema in schemas) and any("format" in schema for schema in schemas)
    assert any(len(tool.spec.required) < len(tool.spec.properties) for tool in tools)
    assert {len(tool.spec.properties) for tool in tools} == {1, 2, 3, 4}


def test_neighbours_with_the_same_start_share_the_verb():
    rng, catalogue = random.Random(0), ProceduralCatalogue("heldout")
    for _ in range(500):
        tool = catalogue.sample(rng)
        near = catalogue.neighbour(rng, tool, same_start=True)
        assert near.name.split("_")[0] == tool.name.split("_")[0]


def test_the_vocabulary_is_small():
    vocabulary = set(words.VERBS) | set(words.NOUNS) | set(words.SUFFIXES)
    vocabulary |= {part for pool in words.WORD_POOLS.values() for word in pool for part in word.split()}
    vocabulary |= set(words.ADJECTIVES) | set(words.THINGS) | {v for pool in words.ENUMS.values() for v in pool}
    for names in (words.WORD_POOLS, words.PHRASES, words.CODES, words.INTEGERS, words.NUMBERS, words.BOOLEANS):
        vocabulary |= {part for name in names for part in name.split("_")}
    assert 300 <= len(vocabulary) <= 500


@pytest.mark.parametrize("split", SPLITS)
def test_plausible_values_fit_the_schemas_of_every_real_tool(split):
    rng = random.Random(0)
    for tool in RealCatalogue(split).tools:
        check_schema(tool.spec.parameters)
        arguments = {name: plausible_value(name, schema, rng) for name, schema in tool.spec.properties.items()}
        assert check(arguments, tool.spec.parameters) == []


@given(st.integers(0, 10_000))
def test_plausible_values_fit_the_schemas_of_procedural_tools(seed):
    rng = random.Random(seed)
    tool = ProceduralCatalogue("train").sample(rng)
    arguments = {name: plausible_value(name, schema, rng) for name, schema in tool.spec.properties.items()}
    assert check(arguments, tool.spec.parameters) == []


def test_real_documents_are_disjoint_between_splits_and_many():
    train, heldout = (RealCatalogue(split).tools for split in SPLITS)
    assert len(train) > 350 and len(heldout) > 400
    assert {tool.name for tool in train}.isdisjoint(tool.name for tool in heldout)
    assert len({tool.name for tool in train}) == len(train)
    assert len({tool.name for tool in heldout}) == len(heldout)
    assert all(len(tool.spec.properties) <= 5 for tool in (*train, *heldout))
    assert {"ask_to_user", "finish"}.isdisjoint(tool.name for tool in heldout)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("getFreightCost", "get freight cost"),
        ("get_topics", "get topics"),
        ("search_grocery_products_by_UPC", "search grocery products by UPC"),
        ("getBDaaSData", "get b daa s data"),
        ("runABTest", "run AB test"),
        ("start-date", "start date"),
        ("from_", "from"),
    ],
)
def test_identifiers_are_spoken_as_words(name, expected):
    assert spoken(name) == expected
