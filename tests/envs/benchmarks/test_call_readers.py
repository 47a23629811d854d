"""Readers on folders of one or two records, written here in the form of the source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.benchmarks import api_bank, metatool, nestful, rotbench, seal_tools, toolalpaca, tooltalk
from envs.benchmarks.alternatives import accepted_references
from envs.schema import check
from envs.types import Json, Task, TaskKind, ToolCall


def write(path: Path, *records: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def call(name: str, /, **arguments: Json) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def document(name: str, *required: str, **properties: Json) -> dict[str, Json]:
    return {
        "name": name,
        "description": name,
        "parameters": {"type": "object", "properties": properties, "required": list(required)},
    }


def rotbench_record(answers: list[str], *history: tuple[str, str]) -> dict[str, Json]:
    text = {"type": "string"}
    tools = [
        document("nslate", "t", "m", t=text, m=text, k=text),
        document("drivers", k=text),
        document("aks", "question", question=text),
        document("enish", "answer", answer=text),
    ]
    system = f"You use tools.\n...\nyou have access of the following tools:\n{json.dumps(tools)}\n\nLet's Begin!"
    turns = [("system", system), ("user", "translate hi\nBegin!\n"), *history]
    return {
        "id": "Turn 1: translate hi",
        "scenario": "TG",
        "conversations": [
            *({"from": role, "value": value} for role, value in turns),
            {"from": "assistant", "value": answers},
        ],
    }


def action(name: str, **arguments: Json) -> str:
    return f"Thought: so\nAction: {name}\nAction Input: {json.dumps(arguments)}"


def rotbench_task(tmp_path: Path, *args, subset: str = "clean") -> Task:
    turn = "Third_Turn" if subset.endswith("_third") else "First_Turn"
    write(tmp_path / turn / f"{subset.removesuffix('_third')}.jsonl", rotbench_record(*args))
    return next(rotbench.read(tmp_path, subset))


def test_rotbench_leaves_open_what_its_evaluator_does_not_compare(tmp_path):
    task = rotbench_task(tmp_path, [action("nslate", t="hi", m="None", k="None"), action("aks", question="which?")])
    # m is required and may have any value; k may be "None" or left out.
    first, second = accepted_references(task)
    assert first == (call("nslate", t="hi", k={"any_of": ["None", ""]}),)
    assert second == (call("aks"),)
    assert [tool.name for tool in task.tools] == ["nslate", "drivers", "aks", "enish"]
    assert [message.content for message in task.prompt] == ["You use tools.", "translate hi"]
    assert task.task_id == "rotbench/clean/0" and "gold_fault" not in task.facts


def test_rotbench_names_gold_that_contradicts_its_document(tmp_path):
    task = rotbench_task(tmp_path, [action("nslate", t="hi")])
    assert task.facts["gold_fault"] == "missing_argument"
    # A second answer that fits is the reference, and the record is sound.
    task = rotbench_task(tmp_path, [action("nslate", t="hi"), action("drivers")])
    assert task.reference == (call("drivers"),) and "gold_fault" not in task.facts


def test_rotbench_history_has_the_results_of_its_calls(tmp_path):
    history = [
        ("assistant", action("aks", question="to?")),
        ("user", "Danish\nBegin!\n"),
        ("assistant", action("drivers")),
        ("function", "no"),
    ]
    task = rotbench_task(tmp_path, [action("enish", answer="bye")], *history, subset="clean_third")
    assert [message.role for message in task.prompt] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert task.prompt[3].content == "Danish" and task.prompt[3].call_id == task.prompt[2].calls[0].call_id
    assert task.prompt[2].content == "so"


def test_rotbench_says_where_an_answer_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"clean\.jsonl:1: 'hello': expected Thought, Action and Action Input"):
        rotbench_task(tmp_path, ["hello"])


def test_seal_tools_keeps_labels_and_reads_numbers_that_are_written_as_texts(tmp_path):
    tool = {"api_description": "d", "field": "f"}
    write(
        tmp_path / "tool.jsonl",
        {"api_name": "getId", "parameters": {}, "required": [], "responses": {"id": {}}, **tool},
        {
            "api_name": "getAge",
            "parameters": {"id": {"type": "int", "examples": "1, 2"}, "year": {"type": "int"}},
            "required": ["id"],
            "responses": {},
            **tool,
        },
    )
    calling = [
        {"api": "getId", "parameters": {}, "responses": ["API_call_0"]},
        {"api": "getAge", "parameters": {"id": "API_call_0", "year": "1999"}, "responses": []},
    ]
    write(tmp_path / "dev.jsonl", {"id": "dev-difficult-1", "query": "q", "calling": calling})
    write(tmp_path / "candidates_dev.jsonl", {"id": "dev-difficult-1", "candidates": ["getAge", "getId"]})
    (task,) = seal_tools.read(tmp_path, "dev")
    assert task.reference == (call("getId"), call("getAge", id="API_call_0", year=1999))
    assert (task.kind, task.ordered, task.facts["gold_fault"]) == (TaskKind.CHAIN, True, "number_as_text")
    assert [tool.name for tool in task.tools] == ["getAge", "getId"]
    assert task.tools[1].description == "d Results: id."
    problems = [str(found.kind) for found in check({"id": "API_call_x"}, task.tools[0].parameters)]
    assert problems == ["bad_type"] and not check({"id": "API_call_0"}, task.tools[0].parameters)

    write(tmp_path / "candidates_dev.jsonl", {"id": "dev-difficult-1", "candidates": ["getAge"]})
    (task,) = seal_tools.read(tmp_path, "dev")
    assert task.reference is None and task.facts["gold_fault"] == "unlisted_tool"
    write(tmp_path / "candidates_dev.jsonl")
    with pytest.raises(ValueError, match=r"dev\.jsonl:1: dev-difficult-1 has no candidates"):
        list(seal_tools.read(tmp_path, "dev"))


def test_nestful_has_no_pseudo_call_and_knows_the_words_of_each_group(tmp_path):
    write(
        tmp_path / "non-executable-sgd-spec.jsonl",
        {
            "name": "Find",
            "description": "d",
            "arguments": {
                "city": {"description": "c", "required": True, "allowed_values": []},
                "stars": {"description": "s", "required": False, "allowed_values": ["1", "2"], "default_value": "1"},
            },
            "output_parameters": {"hotel": {}},
        },
    )
    output = [
        {"name": "Find", "arguments": {"city": "Oslo"}, "label": "var1"},
        {"name": "Find", "arguments": {"city": "$var1.hotel$", "stars": "$var1.hotel$"}, "label": "var2"},
        {"name": "var_result", "arguments": {"a": "$var1$"}},
    ]
    write(tmp_path / "non-executable-sgd-data.jsonl", {"input": "q", "output": output})
    (task,) = nestful.read(tmp_path, "sgd")
    assert task.reference == (call("Find", city="Oslo"), call("Find", city="$var1.hotel$", stars="$var1.hotel$"))
    assert task.ordered and task.kind == TaskKind.CHAIN and "gold_fault" not in task.facts
    (tool,) = task.tools
    assert tool.required == ("city",) and tool.description == "d Result: hotel."
    assert [str(found.kind) for found in check({"city": "a", "stars": "3"}, tool.parameters)] == ["bad_enum"]


OPENAPI = {
    "openapi": "3.0.0",
    "paths": {
        "/a/{id}": {
            "parameters": [
                {"$ref": "#/components/parameters/Id"},
                {"name": "key", "in": "query", "required": True, "schema": {"type": "string"}},
            ],
            "put": {
                "summary": "change a",
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}},
            },
        }
    },
    "components": {
        "parameters": {"Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}},
        "schemas": {
            "Body": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "inner": {"$ref": "#/components/schemas/Body"}},
                "required": ["text"],
            }
        },
    },
}


def alpaca_tasks(tmp_path: Path, *answers: list[tuple[str, str]]) -> list[Task]:
    write(
        tmp_path / "eval_real.jsonl",
        {
            "Name": "A",
            "Documentation": json.dumps(OPENAPI),
            "Function_Projection": {"changeA": ["/a/{id}", "put"]},
            "Authentication": {"key": "***"},
            "Instructions": ["do"] * len(answers),
            "Golden_Answers": [[{"Action": name, "Action_Input": text} for name, text in gold] for gold in answers],
        },
    )
    return list(toolalpaca.read(tmp_path, "real"))


def test_toolalpaca_flattens_path_and_body_and_follows_references(tmp_path):
    (task,) = alpaca_tasks(tmp_path, [("changeA", '{"id": 1, "text": "t"}')])
    (tool,) = task.tools
    assert tool.required == ("id", "text") and tool.description == "change a"
    assert tool.properties["id"] == {"type": "integer"}
    assert task.reference == (call("changeA", id=1, text="t"),) and "gold_fault" not in task.facts
    assert task.task_id == "toolalpaca/real/A:0"


@pytest.mark.parametrize(
    ("gold", "fault", "known"),
    [
        ([("getDetails", '{"Question": "?"}'), ("changeA", '{"id": ${id}, "text": "t"}')], "asks_user", False),
        ([("changeA", '{"id": ${id from a}, "text": "t"}')], "placeholder", False),
        ([("changeA", '{"id": 1, "text": "{some text}"}')], "placeholder", False),
        ([("changeA", '{"id": 1, "text": "text": "t"}')], "unreadable_gold", False),
        ([("changeB", '{"id": 1, "text": "t"}')], "unlisted_tool", False),
        ([("changeA", '{"id": 1}')], "missing_argument", True),
        ([("changeA", '{"id": "1", "text": "t"}')], "bad_type", True),
    ],
)
def test_toolalpaca_names_each_fault_of_gold(tmp_path, gold, fault, known):
    (task,) = alpaca_tasks(tmp_path, gold)
    assert task.facts["gold_fault"] == fault and (task.reference is not None) == known
    assert fault in toolalpaca.BENCHMARK.gold_faults
    assert (task.kind == TaskKind.MISSING_ARGUMENT) == (fault == "asks_user")


def test_toolalpaca_neither_offers_nor_compares_a_key_to_the_api(tmp_path):
    whole = ("changeA", '{"key": "k1", "id": 1, "text": "t"}')
    broken = ("changeA", '{"id": 2, "text": "text": "t", "key": "k1"}')
    sound, unreadable = alpaca_tasks(tmp_path, [whole], [broken])
    (tool,) = sound.tools
    assert set(tool.properties) == {"id", "text", "inner"} and tool.required == ("id", "text")
    assert sound.reference == (call("changeA", id=1, text="t"),) and sound.facts["gold_fault"] == "secret_key"
    assert sound.facts["benchmark"] == {
        "gold": [{"name": "changeA", "arguments": {"id": 1, "text": "t"}}],
        "standard": [{"name": "changeA", "arguments": '{"id": 1, "text": "t"}'}],
    }
    assert unreadable.facts["benchmark"] == {
        "gold": [None],
        "standard": [{"name": "changeA", "arguments": '{"id": 2, "text": "text": "t"}'}],
    }


@pytest.mark.parametrize(
    ("gold", "compared"),
    [
        ([("getDetails", '{"Question": "?"}'), ("changeA", '{"id": 1, "text": "t"}')], [False, False]),
        ([("changeA", '{"id": 1, "text": "t"}'), ("changeA", '{"id": 1, "text": "${text of a}"}')], [True, False]),
        ([("changeA", '{"id": 1, "text": "{some text}"}')], [False]),
        ([("changeA", '{"id": 1, "text": "t"}'), ("[Optional]changeA", '{"id": 2, "text": "t"}')], [True, True]),
    ],
)
def test_toolalpaca_compares_no_call_with_a_placeholder_and_none_after_a_question(tmp_path, gold, compared):
    (task,) = alpaca_tasks(tmp_path, gold)
    found = task.facts["benchmark"]["gold"]
    assert [one is not None for one in found] == compared
    assert [one["name"] for one in found if one] == ["changeA"] * sum(compared)
    assert [number for number, one in enumerate(found) if one and one.get("optional")] == [
        number for number, (name, _) in enumerate(gold) if name.startswith("[Optional]")
    ]


def test_toolalpaca_takes_an_optional_call_for_optional(tmp_path):
    first, second = ("changeA", '{"id": 1, "text": "t"}'), ("[Optional]changeA", '{"id": 2, "text": "t"}')
    (task,) = alpaca_tasks(tmp_path, [first, second])
    without = (call("changeA", id=1, text="t"),)
    assert accepted_references(task) == (without, (*without, call("changeA", id=2, text="t")))


def test_metatool_offers_the_listed_tools_and_accepts_none_where_the_right_one_is_missing(tmp_path):
    prompt = (
        "Choose.\n[List of Tools with Names and Descriptions Start]\n1. tool name: A, tool description: ['does a']\n"
        "2. tool name: B, tool description: does b, c\n[List of Tools with Names and Descriptions End]"
    )
    write(tmp_path / "Task2-Subtask3.jsonl", {"action_prompt": prompt, "tool": "C", "query": "q"})
    write(tmp_path / "Task2-Subtask4.jsonl", {"action_prompt": prompt, "tool": ["B", "A"], "query": "q"})
    write(tmp_path / "Task1.jsonl", {"thought_prompt": "yes or no?", "label": "negative", "query": "q"})
    (reliability,) = metatool.read(tmp_path, "reliability")
    assert reliability.reference == () and reliability.kind == TaskKind.UNMATCHED_TOOLS
    assert [(tool.name, tool.description) for tool in reliability.tools] == [("A", "does a"), ("B", "does b, c")]
    (two,) = metatool.read(tmp_path, "multi_tool")
    assert two.reference == (call("B"), call("A"))
    (awareness,) = metatool.read(tmp_path, "awareness")
    assert awareness.reference is None and awareness.facts["benchmark"]["needs_tool"] is False
    write(tmp_path / "Task2-Subtask4.jsonl", {"action_prompt": prompt, "tool": ["B", "D"], "query": "q"})
    with pytest.raises(ValueError, match=r"Subtask4\.jsonl:1: \['B', 'D'\] are not all listed"):
        list(metatool.read(tmp_path, "multi_tool"))


def api_bank_folder(tmp_path: Path, name: str, *turns: tuple) -> None:
    schemas = {
        "ToolSearcher": {"keywords": "str"},
        "GetUserToken": {"username": "str"},
        "AddMeeting": {"token": "str", "attendees": "list(str)", "rooms": "int"},
        "Translate": {"src": "str", "tgt_lang": "str"},
    }
    write(
        tmp_path / "api_schemas.jsonl",
        *(
            {
                "name": api,
                "description": api,
                "input_parameters": {
                    key: {"type": kind, "description": "[Optional] The language." if key == "tgt_lang" else key}
                    for key, kind in parameters.items()
                },
            }
            for api, parameters in schemas.items()
        ),
    )
    dialogue = [
        {"role": turn[0], "text": turn[1]}
        if turn[0] != "API"
        else {
            "role": "API",
            "api_name": turn[1],
            "param_dict": turn[2],
            "result": {"api_name": turn[1], "input": turn[2], "output": turn[3], "exception": None},
        }
        for turn in turns
    ]
    write(tmp_path / f"{name}.jsonl", {"file": "F", "dialogue": dialogue})


def test_api_bank_has_a_task_for_each_call_and_each_reply_after_one(tmp_path):
    api_bank_folder(
        tmp_path,
        "level-1-given-desc",
        ("User", "meet"),
        ("AI", "Let me see."),
        ("API", "GetUserToken", {"username": "u"}, {"token": "T"}),
        ("API", "AddMeeting", {"token": "T", "attendees": "['A', 'B']", "rooms": "2"}, "success"),
        ("AI", "Done."),
        ("User", "translate"),
        ("API", "Translate", {"src": "s"}, "t"),
        ("AI", "It is t."),
    )
    calls = list(api_bank.read(tmp_path, "level_1"))
    assert [task.task_id for task in calls] == [f"api_bank/level_1/F:{number}" for number in (2, 3, 6)]
    assert calls[1].reference == (call("AddMeeting", token="T", attendees=["A", "B"], rooms=2),)
    assert [task.facts["benchmark"]["weight"] for task in calls] == [1, 2, 1]
    assert [tool.name for tool in calls[0].tools] == ["GetUserToken", "AddMeeting", "Translate"]
    assert [message.role for message in calls[0].prompt] == ["system", "user"]
    assert [message.role for message in calls[1].prompt] == ["system", "user", "assistant", "tool"]
    assert all("gold_fault" not in task.facts for task in calls)
    replies = list(api_bank.read(tmp_path, "level_1_replies"))
    assert [task.facts["benchmark"]["reply"] for task in replies] == ["Done.", "It is t."]
    assert replies[0].reference == ()


def test_a_recorded_reply_that_goes_on_to_call_has_that_call_as_its_reference(tmp_path):
    turns = [
        ("User", "meet"),
        ("API", "ToolSearcher", {"keywords": "token"}, {"name": "GetUserToken"}),
        ("AI", "I have found the tool."),
        ("API", "GetUserToken", {"username": "u"}, {"token": "T"}),
        ("AI", "Now I translate."),
        ("API", "Translate", {"src": "s"}, "t"),
        ("AI", "It is t."),
    ]
    api_bank_folder(tmp_path, "level-2-toolsearcher", *turns)
    first, second, last = api_bank.read(tmp_path, "level_2_replies")
    assert (first.reference, first.kind) == ((call("GetUserToken", username="u"),), TaskKind.SINGLE)
    assert first.facts == {"benchmark": {"reply": "I have found the tool."}}
    assert second.reference == (call("Translate", src="s"),)
    assert second.facts == {"benchmark": {"reply": "Now I translate."}, "gold_fault": "unfound_tool"}
    assert [tool.name for tool in second.tools] == ["ToolSearcher", "GetUserToken", "Translate"]
    assert (last.reference, last.kind) == ((), "reply")


def test_the_recorded_call_after_a_reply_of_api_bank_is_right(benchmark_data):
    tasks = {task.task_id: task for task in api_bank.read(benchmark_data / "apibank", "level_1_replies")}
    assert sum(task.reference != () for task in tasks.values()) == 18
    task = tasks["api_bank/level_1_replies/DeleteAccount-level-1-2:6"]
    reply = "Your identity has been authenticated. Now I'll proceed to delete your account."
    assert task.facts["benchmark"]["reply"] == reply
    assert task.reference == (call("DeleteAccount", token="p9o8i7u6y5t4r3e2w1q"),)


def test_api_bank_level_2_offers_what_was_found(tmp_path):
    api_bank_folder(
        tmp_path,
        "level-2-toolsearcher",
        ("User", "meet"),
        ("API", "ToolSearcher", {"keywords": "token"}, {"name": "GetUserToken"}),
        ("API", "GetUserToken", {"username": "u"}, {"token": "T"}),
        ("AI", "And now?"),
        ("User", "translate"),
        ("API", "Translate", {"src": "s"}, "t"),
    )
    tasks = list(api_bank.read(tmp_path, "level_2"))
    assert [[tool.name for tool in task.tools] for task in tasks] == [
        ["ToolSearcher"],
        ["ToolSearcher", "GetUserToken"],
        ["ToolSearcher", "GetUserToken", "Translate"],
    ]
    assert [task.facts.get("gold_fault") for task in tasks] == [None, None, "unfound_tool"]


def tooltalk_folder(tmp_path: Path) -> None:
    text = {"type": "string", "description": "d"}
    write(
        tmp_path / "api_schemas.jsonl",
        {
            "name": "CreateEvent",
            "description": "d",
            "is_action": True,
            "parameters": {
                "name": {**text, "enum": ["meeting", "event"], "required": True},
                "event_type": {**text, "required": True},
            },
        },
        {"name": "GetReminders", "description": "d", "is_action": False, "parameters": {}},
    )
    request = {"api_name": "CreateEvent", "parameters": {"session_token": "s", "name": "sync", "event_type": "meeting"}}
    write(
        tmp_path / "easy.jsonl",
        {
            "name": "E",
            "metadata": {"location": "Oslo", "timestamp": "2023-09-11 09:00:00", "username": "u"},
            "conversation": [
                {"index": 0, "role": "user", "text": "make it"},
                {
                    "index": 1,
                    "role": "assistant",
                    "text": "Made.",
                    "apis": [{"request": request, "response": None, "exception": "no"}],
                },
                {"index": 2, "role": "user", "text": "thanks"},
                {"index": 3, "role": "assistant", "text": "Welcome."},
            ],
        },
    )
    write(tmp_path / "tooltalk.jsonl")


def test_tooltalk_has_a_task_for_each_turn_of_the_assistant(tmp_path):
    tooltalk_folder(tmp_path)
    first, second = tooltalk.read(tmp_path, "easy")
    assert first.reference == (call("CreateEvent", name="sync", event_type="meeting"),)
    assert "gold_fault" not in first.facts
    assert first.tools[0].properties["event_type"]["enum"] == ["meeting", "event"]
    assert "Oslo" in first.prompt[0].content and "2023-09-11 09:00:00" in first.prompt[0].content
    assert second.reference == () and second.kind == "reply"
    assert [message.role for message in second.prompt] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert first.facts["benchmark"]["gold"] == second.facts["benchmark"]["gold"]
    assert first.facts["benchmark"]["actions"] == ["CreateEvent"]


def test_tooltalk_dialogues_say_which_calls_failed(tmp_path):
    tooltalk_folder(tmp_path)
    (dialogue,) = tooltalk.dialogues(tmp_path)
    assert [message.get("status") for message in dialogue.messages if message["role"] == "tool"] == ["failed"]
    assert dialogue.task.reference == (call("CreateEvent", name="sync", event_type="meeting"),)
