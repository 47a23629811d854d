"""ACEBench, English and Chinese -> tasks; the subsets are called LANGUAGE_CATEGORY ("en_normal_atom_bool").

What the records say, and how it is told here:

- normal: the gold calls, each with one value for each argument, are the reference. A record of a conversation of
  several turns is one of its turns; what came before, gold calls among it, stands in the prompt as text.
- special_incomplete: the named parameters are missing (in part fields of nested objects): talk_to_user for them is due.
- special_error_param: the user gave a value that cannot be used: talk_to_user for its parameter is due.
- special_irrelevant: no function serves: change_tools is due.
- agent: the gold is an end state of API classes that are not in the folder, and calls to be made on the way. The
  reference is unknown. In agent_multi_turn the prompt is the script of the user, whom the benchmark plays by a model.

The system message gives the current time or the user's profile, where the record has one, and in special the sentences
in which the published check looks for an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.dialects import parameters
from envs.benchmarks.faults import DOCUMENT_REFUSES_GOLD, WHAT_IS_DONE, with_free_parameter
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

CATEGORIES = (
    "normal_atom_bool",
    "normal_atom_enum",
    "normal_atom_number",
    "normal_atom_list",
    "normal_atom_object_short",
    "normal_atom_object_deep",
    "normal_single_turn_single_function",
    "normal_single_turn_parallel_function",
    "normal_multi_turn_user_switch",
    "normal_multi_turn_user_adjust",
    "normal_similar_api",
    "normal_preference",
    "special_incomplete",
    "special_error_param",
    "special_irrelevant",
    "agent_multi_turn",
    "agent_multi_step",
)
LANGUAGES = ("en", "zh")

_SPECIAL_RULES = (
    "If a value that the user gave does not fit its parameter, reply: "
    '["There is incorrect value (VALUE) for the parameters (PARAMETER) in the conversation history."]. '
    "If required information is missing, reply: "
    '["Missing necessary parameters (PARAMETER, ...) for the api (FUNCTION)"]. '
    "If the functions cannot serve the request, reply: "
    '["Due to the limitations of the function, I cannot solve this problem."].'
)
_SPEAKER = re.compile(r"^\s*(user|system)\s*[:\uff1a] ?", re.MULTILINE)
_COUNTER = re.compile(r"_\d+$")

_REFUSED: Mapping[str, str] = {
    "en_normal_atom_object_deep/normal_atom_object_deep_25": "marketData",
    "en_normal_single_turn_single_function/normal_single_turn_single_function_50": "routineDetails",
    "en_normal_single_turn_single_function/normal_single_turn_single_function_85": "details",
    "en_normal_single_turn_parallel_function/normal_single_turn_parallel_function_68": "features",
    "en_normal_single_turn_parallel_function/normal_single_turn_parallel_function_84": "settings",
    "en_normal_preference/normal_preference_38": "UserDietaryPreference",
    "zh_normal_atom_bool/normal_atom_bool_11": "region",
    "zh_normal_atom_bool/normal_atom_bool_20": "battle_name",
    "zh_normal_atom_bool/normal_atom_bool_45": "occupation",
    "zh_normal_atom_object_short/normal_atom_object_short_1": "budget_constraints",
}
"""The parameter whose document refuses the gold, by record."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of one subset, from the folder that holds `data_en` and `data_zh`.

    Raises:
        ValueError: no such subset or file, or a record that is wrong: `FILE:LINE: what, expected`.
    """
    if subset not in BENCHMARK.subsets:
        raise ValueError(f"subset {subset!r}: expected one of {', '.join(BENCHMARK.subsets)}")
    language, category = subset.split("_", 1)
    home = folder / f"data_{language}"
    answers = read_records(find_file(home / "possible_answer", f"data_{category}"))
    gold = {field(where, answer, "id", str): answer for where, answer in answers}
    for where, record in read_records(find_file(home, f"data_{category}")):
        identifier = field(where, record, "id", str)
        if identifier not in gold:
            raise ValueError(f"{where}: no answer for {identifier}; expected one in possible_answer")
        yield _task(where, subset, category, record, gold[identifier])


def _task(where: str, subset: str, category: str, record: Mapping[str, Json], answer: Mapping[str, Json]) -> Task:
    documents = [_document(document) for document in field(where, record, "function", list)]
    tools = proved(where, map(_tool, documents))
    truth = answer["ground_truth"]
    kind, reference = _reference(where, category, truth, {tool.name for tool in tools})
    key = f"{subset}/{record['id']}"
    task = Task(
        task_id=f"acebench/{key}",
        prompt=(*_system(category, record), *_dialogue(category, field(where, record, "question", str))),
        tools=tools,
        reference=reference,
        kind=kind,
        facts={
            "benchmark": {
                "id": record["id"],
                "subset": subset,
                "category": category,
                "function": documents,
                "ground_truth": truth,
                **{key: record[key] for key in ("initial_config", "involved_classes") if key in record},
                **({"mile_stone": answer["mile_stone"]} if "mile_stone" in answer else {}),
            }
        },
    )
    return with_free_parameter(task, _REFUSED[key]) if key in _REFUSED else task


def _document(document: Mapping[str, Json]) -> dict[str, Json]:
    """A function document with its parameters under one key."""
    key = next((key for key in ("parameters", "arguments", "_arguments") if key in document), "parameters")
    return {
        "name": document["name"],
        "description": document.get("description") or "",
        "parameters": document.get(key) or {},
    }


def _tool(document: Mapping[str, Json]) -> ToolSpec:
    return ToolSpec(
        name=document["name"],
        description=document["description"],
        parameters=parameters(document["parameters"]),
    )


def _reference(where: str, category: str, truth: Json, names: set[str]) -> tuple[TaskKind, tuple[ToolCall, ...] | None]:
    if category.startswith("agent"):
        return TaskKind.CHAIN, None
    if category == "special_irrelevant":
        return TaskKind.UNMATCHED_TOOLS, (ToolCall(name=CHANGE_TOOLS, arguments={}),)
    if category.startswith("special"):
        if not isinstance(truth, dict):
            raise ValueError(f"{where}: gold is {type(truth).__name__}, expected an object")
        missing = list(truth)
        if category == "special_incomplete":
            missing = list(dict.fromkeys(name for parameters in truth.values() for name in parameters))
        return TaskKind.MISSING_ARGUMENT, (ToolCall(name=TALK_TO_USER, arguments={"missing": missing}),)
    calls = _calls(where, truth, names)
    return TaskKind.PARALLEL if calls is not None and len(calls) > 1 else TaskKind.SINGLE, calls


def _calls(where: str, truth: Json, names: set[str]) -> tuple[ToolCall, ...] | None:
    """The calls of one gold answer; of several that make the same calls, the accepted values of each argument."""
    answers = truth if isinstance(truth, list) else [truth]
    if not answers or not all(isinstance(answer, dict) for answer in answers):
        raise ValueError(f"{where}: gold {truth!r}, expected {{function: {{parameter: value}}}}")
    if any(list(answer) != list(answers[0]) for answer in answers):
        return None
    return tuple(
        ToolCall(name=key if key in names else _COUNTER.sub("", key), arguments=_merged([a[key] for a in answers]))
        for key in answers[0]
    )


def _merged(arguments: list[dict[str, Json]]) -> dict[str, Json]:
    if len(arguments) == 1:
        return arguments[0]
    names = dict.fromkeys(name for given in arguments for name in given)
    return {name: {"any_of": [given.get(name, "") for given in arguments]} for name in names}


def _system(category: str, record: Mapping[str, Json]) -> tuple[Message, ...]:
    texts = [str(record.get("time") or "").strip()]
    if record.get("profile"):
        texts.append(f"Profile of the user: {str(record['profile']).strip()}")
    if category.startswith("special"):
        texts.append(_SPECIAL_RULES)
    text = "\n".join(text for text in texts if text)
    return (Message(role="system", content=text),) if text else ()


def _dialogue(category: str, text: str) -> Iterator[Message]:
    """The lines of user and assistant, whom the benchmark calls "system"."""
    if category.startswith("agent"):
        yield Message(role="user", content=text.strip())
        return
    pieces = _SPEAKER.split(text)
    if pieces[0].strip():
        yield Message(role="user", content=pieces[0].strip())
    for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True):
        yield Message(role="user" if speaker == "user" else "assistant", content=content.strip())


BENCHMARK = Benchmark(
    name="acebench",
    subsets=tuple(f"{language}_{category}" for language in LANGUAGES for category in CATEGORIES),
    read=read,
    gold_faults={DOCUMENT_REFUSES_GOLD: WHAT_IS_DONE},
)
