"""What single records say, in files written as the sources have them (`.json` with one object a line)."""

import json
from pathlib import Path

import pytest

from envs.actions import ACTION_NAMES
from envs.benchmarks import acebench, bfcl, functionchat, when2call
from envs.types import TaskKind

WEATHER = {
    "name": "weather.get",
    "description": "d",
    "parameters": {
        "type": "dict",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "place": {"type": "dict"}},
        "required": ["city"],
    },
}


def write(path: Path, *records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(record) for record in records))


def write_bfcl(folder: Path, subset: str, question: dict, truth: list | None) -> None:
    write(folder / f"BFCL_v4_{subset}.json", {"id": "r_0", **question})
    if truth is not None:
        write(folder / "possible_answer" / f"BFCL_v4_{subset}.json", {"id": "r_0", "ground_truth": truth})


def test_accepted_values_become_alternatives_inside_objects_too(tmp_path):
    question = {"question": [[{"role": "user", "content": "q"}]], "function": [WEATHER]}
    truth = [{"weather.get": {"city": ["Rome"], "days": ["", 3], "place": [{"land": ["IT", "Italy"]}]}}]
    write_bfcl(tmp_path, "simple_python", question, truth)
    (task,) = bfcl.read(tmp_path, "simple_python")
    assert task.task_id == "bfcl/simple_python/r_0"
    assert task.kind == TaskKind.SINGLE and not task.ordered
    assert task.reference is not None
    assert dict(task.reference[0].arguments) == {
        "city": {"any_of": ["Rome"]},
        "days": {"any_of": ["", 3]},
        "place": {"any_of": [{"land": {"any_of": ["IT", "Italy"]}}]},
    }
    assert task.facts["benchmark"]["ground_truth"] == truth


def test_java_values_may_be_source(tmp_path):
    document = {
        "name": "f",
        "parameters": {
            "type": "dict",
            "properties": {"on": {"type": "boolean"}, "after": {"type": "long"}, "names": {"type": "ArrayList"}},
            "required": ["on"],
        },
    }
    question = {"question": [[{"role": "user", "content": "q"}]], "function": [document]}
    write_bfcl(tmp_path, "simple_java", question, [{"f": {"on": [True], "after": [5], "names": [["a"]]}}])
    (task,) = bfcl.read(tmp_path, "simple_java")
    assert {name: schema["type"] for name, schema in task.tools[0].properties.items()} == {
        "on": ["boolean", "string"],
        "after": ["integer", "string"],
        "names": ["array", "string"],
    }
    assert task.reference is not None
    assert dict(task.reference[0].arguments) == {
        "on": {"any_of": [True, "true"]},
        "after": {"any_of": [5, "5L"]},
        "names": {"any_of": [["a"]]},
    }


def test_irrelevant_functions_leave_no_call_and_relevant_ones_an_unknown_call(tmp_path):
    question = {"question": [[{"role": "user", "content": "q"}]], "function": [WEATHER]}
    write_bfcl(tmp_path, "irrelevance", question, None)
    write_bfcl(tmp_path, "live_relevance", question, None)
    (irrelevant,), (relevant,) = bfcl.read(tmp_path, "irrelevance"), bfcl.read(tmp_path, "live_relevance")
    assert (irrelevant.reference, irrelevant.kind) == ((), TaskKind.UNMATCHED_TOOLS)
    assert (relevant.reference, relevant.kind) == (None, TaskKind.SINGLE)


def test_a_turn_sees_the_turns_before_it_and_functions_held_back_come_later(tmp_path):
    functions = [
        {"name": name, "parameters": {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]}}
        for name in ("add", "root", "log")
    ]
    write(tmp_path / "multi_turn_func_doc" / "math_api.json", *functions)
    question = {
        "question": [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two"}], []],
        "involved_classes": ["MathAPI"],
        "missed_function": {"2": ["root"]},
        "excluded_function": ["log"],
    }
    write_bfcl(tmp_path, "multi_turn_miss_func", question, [["add(1)", "add(x=2)"], [], ["root(x=4.0)"]])
    first, second, third = bfcl.read(tmp_path, "multi_turn_miss_func")
    assert [tool.name for tool in first.tools] == [tool.name for tool in second.tools] == ["add"]
    assert [tool.name for tool in third.tools] == ["add", "root"]
    assert (first.kind, first.ordered, second.kind, third.kind) == ("chain", True, "unmatched_tools", "single")
    assert [call.name for call in second.reference or ()] == ["change_tools"]
    assert [message.role for message in third.prompt] == ["user", "assistant", "user", "user"]
    assert [dict(call.arguments) for call in first.reference or ()] == [{"x": 1}, {"x": 2}]
    assert third.prompt[1].calls == first.reference


def test_only_the_turn_whose_value_is_held_back_waits_for_the_user(tmp_path):
    function = {"name": "add", "parameters": {"type": "dict", "properties": {"x": {"type": "float"}}, "required": []}}
    write(tmp_path / "multi_turn_func_doc" / "math_api.json", function)
    question = {
        "question": [[{"role": "user", "content": text}] for text in ("one", "two", "three", "thanks", "four")],
        "involved_classes": ["MathAPI"],
    }
    write_bfcl(tmp_path, "multi_turn_miss_param", question, [["add(1)"], [], ["add(2)"], [], ["add(3)"]])
    tasks = list(bfcl.read(tmp_path, "multi_turn_miss_param"))
    assert [task.kind for task in tasks] == ["single", "missing_argument", "single", "single", "single"]
    assert [call.name for call in tasks[1].reference or ()] == ["talk_to_user"]
    assert tasks[3].reference == ()


@pytest.mark.parametrize(("subset", "due"), [("base", []), ("miss_func", [0]), ("miss_param", [1])])
def test_the_invoice_of_a_cancelled_booking_needs_no_call_and_no_question(benchmark_data, subset, due):
    subset = f"multi_turn_{subset}"
    tasks = [task for task in bfcl.read(benchmark_data / "bfcl", subset) if f"/{subset}_167-" in task.task_id]
    waits = [task for task in tasks if any(call.name in ACTION_NAMES for call in task.reference or ())]
    assert [task.facts["benchmark"]["turn"] for task in waits] == due
    assert tasks[-1].reference == () and tasks[-1].kind == TaskKind.SINGLE
    assert "invoice" in tasks[-1].prompt[-1].content


def test_a_record_without_its_answer_is_refused(tmp_path):
    question = {"question": [[{"role": "user", "content": "q"}]], "function": [WEATHER]}
    write_bfcl(tmp_path, "simple_python", question, [{"weather.get": {"city": ["Rome"]}}])
    write(tmp_path / "possible_answer" / "BFCL_v4_simple_python.json", {"id": "other", "ground_truth": []})
    with pytest.raises(ValueError, match=r"BFCL_v4_simple_python\.json:1: no answer for r_0"):
        list(bfcl.read(tmp_path, "simple_python"))


@pytest.mark.parametrize(
    ("behaviour", "kind", "reference"),
    [
        ("tool_call", "single", [("weather.get", {"city": "Rome"})]),
        ("request_for_info", "missing_argument", [("talk_to_user", {"missing": ["city"]})]),
        ("cannot_answer", "unmatched_tools", [("change_tools", {})]),
    ],
)
def test_behaviours_of_when2call_become_references(tmp_path, behaviour, kind, reference):
    record = {
        "uuid": "u",
        "question": "q",
        "correct_answer": behaviour,
        "answers": {"tool_call": json.dumps({"name": "weather.get", "arguments": {"city": "Rome"}})},
        "tools": [json.dumps(WEATHER)],
        "held_out_param": "city",
    }
    write(tmp_path / "when2call_test_llm_judge.jsonl", record)
    (task,) = when2call.read(tmp_path, behaviour)
    assert task.kind == kind
    assert [(call.name, dict(call.arguments)) for call in task.reference or ()] == reference


def test_a_question_that_still_says_the_removed_value_has_no_known_reference(benchmark_data):
    tasks = {task.task_id: task for task in when2call.read(benchmark_data / "when2call", "request_for_info")}
    left = {name: task for name, task in tasks.items() if task.facts.get("gold_fault") == "value_left"}
    added = left["when2call/request_for_info/024a4c20-fd3b-4f09-9f72-5e2c937e2037"]
    traded = left["when2call/request_for_info/f2cefc0f-6e37-4cee-b54b-2236ace24beb"]
    assert added.prompt[-1].content == "I need to add 'Hi charlie' to my list of tasks."
    assert "related to trading" in traded.prompt[-1].content
    assert len(left) == 2 and {(task.reference, task.kind) for task in left.values()} == {(None, TaskKind.SINGLE)}
    assert {task.facts["benchmark"]["correct_answer"] for task in left.values()} == {"request_for_info"}
    assert all(task.reference for name, task in tasks.items() if name not in left)


def ace_task(folder: Path, category: str, truth, question="user: q", **fields):
    record = {"id": "x_0", "question": question, "function": [WEATHER], **fields}
    write(folder / "data_en" / f"data_{category}.json", record)
    write(folder / "data_en" / "possible_answer" / f"data_{category}.json", {"id": "x_0", "ground_truth": truth})
    (task,) = acebench.read(folder, f"en_{category}")
    return task


def test_dialogues_of_acebench_become_messages(tmp_path):
    text = "user: one\nsystem: [f(a=1)]\nsystem: done\nuser: two\n- more: yes\n"
    task = ace_task(tmp_path, "normal_atom_bool", {"weather.get": {"city": "Rome"}}, question=text, time="It is May.")
    assert [(message.role, message.content) for message in task.prompt] == [
        ("system", "It is May."),
        ("user", "one"),
        ("assistant", "[f(a=1)]"),
        ("assistant", "done"),
        ("user", "two\n- more: yes"),
    ]


def test_repeated_calls_and_further_answers_of_acebench(tmp_path):
    twice = {"weather.get_1": {"city": "Rome"}, "weather.get_2": {"city": "Oslo"}}
    task = ace_task(tmp_path, "normal_single_turn_parallel_function", twice)
    assert [call.name for call in task.reference or ()] == ["weather.get", "weather.get"]
    further = [{"weather.get": {"city": "Rome", "days": 2}}, {"weather.get": {"city": "Rome"}}]
    task = ace_task(tmp_path, "normal_atom_bool", further)
    assert [dict(call.arguments) for call in task.reference or ()] == [
        {"city": {"any_of": ["Rome", "Rome"]}, "days": {"any_of": [2, ""]}}
    ]


def test_special_records_of_acebench_are_due_deferrals(tmp_path):
    for category, truth, name, arguments in (
        ("special_incomplete", {"weather.get": ["city", "days"]}, "talk_to_user", {"missing": ["city", "days"]}),
        ("special_error_param", {"city": ["R0me"]}, "talk_to_user", {"missing": ["city"]}),
        ("special_irrelevant", "Due to the limitations of the function", "change_tools", {}),
    ):
        reference = ace_task(tmp_path, category, truth).reference or ()
        assert [(call.name, dict(call.arguments)) for call in reference] == [(name, arguments)]


def test_parameters_of_acebench_stand_under_several_keys(tmp_path):
    document = {"name": "f", "arguments": WEATHER["parameters"]}
    task = ace_task(tmp_path, "normal_atom_bool", {"f": {"city": "Rome"}}, function=[document])
    assert task.tools[0].required == ("city",)


def chat_task(folder: Path, acceptable, gold: str):
    record = {
        "function_num": 1,
        "function_name": "weather.get",
        "query": [{"serial_num": 4, "content": "q"}],
        "ground_truth": [{"serial_num": 4, "content": gold}],
        "acceptable_arguments": [{"serial_num": 4, "content": acceptable}],
        "tools": [{"type": "exact", "content": [{"type": "function", "function": WEATHER}]}],
    }
    write(folder / "FunctionChat-Singlecall.jsonl", record)
    (task,) = functionchat.read(folder, "singlecall")
    return task


def test_further_values_are_accepted_and_rules_in_words_are_not(tmp_path):
    gold = json.dumps({"name": "weather.get", "arguments": json.dumps({"city": "Rome"})})
    task = chat_task(tmp_path, '{"city": ["Roma"]}', gold)
    assert [dict(call.arguments) for call in task.reference or ()] == [{"city": {"any_of": ["Rome", "Roma"]}}]
    task = chat_task(tmp_path, '{"city": "Only the name of a city is allowed."}', gold)
    assert task.facts["gold_fault"] == "rule_in_words"
    assert [dict(call.arguments) for call in task.reference or ()] == [{"city": "Rome"}]
    task = chat_task(tmp_path, "Only ground truth is allowed.", gold)
    assert "gold_fault" not in task.facts


def test_gold_arguments_that_are_not_escaped_are_read_as_meant(tmp_path):
    task = chat_task(tmp_path, None, '{"name":"weather.get","arguments":"{"city":"Rome","days":3}"}')
    assert task.facts["gold_fault"] == "unescaped_arguments"
    assert [dict(call.arguments) for call in task.reference or ()] == [{"city": "Rome", "days": 3}]
