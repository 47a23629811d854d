import gzip
import json

import pytest

from envs.benchmarks import relytoolbench, stabletoolbench
from envs.benchmarks.cut_json import complete_pairs
from envs.benchmarks.toolbench import from_actions, function_name, parameter_name, to_actions
from envs.types import Message, ToolCall


def lines(path):
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    ("tool", "api", "name"),
    [
        ("Pack & Send", "/api/Tracking/", "api_tracking_for_pack_send"),
        ("MP3 Tool", "3D search", "get_3d_search_for_mp3_tool"),
        ("suivi-colis", "id", "is_id_for_suivi_colis"),
        ("x" * 80, "get", "x" * 64),
    ],
)
def test_names_are_those_of_toolbench(tool, api, name):
    assert function_name(tool, api) == name


def test_a_reserved_word_is_no_parameter_name():
    assert [parameter_name(name) for name in ("From", "channel-Name", "2nd")] == ["is_from", "channel_name", "get_2nd"]


def test_the_names_of_a_query_are_those_that_its_recorded_trace_was_offered(benchmark_data):
    folder = benchmark_data / "stabletoolbench"
    num = 0
    for subset in stabletoolbench.SUBSETS:
        offered = {task.task_id: task.tools for task in stabletoolbench.read(folder, subset)}
        for record in lines(folder / stabletoolbench.TRACES / f"{subset}.jsonl.gz"):
            tools = offered.get(f"stabletoolbench/{subset}/{record['key']}")
            if tools is not None:
                num += 1
                assert [tool.name for tool in tools] == [tool["name"] for tool in record["available_tools"]]
                for mine, theirs in zip(tools[:-1], record["available_tools"], strict=False):
                    assert set(mine.properties) == set(theirs["parameters"]["properties"])
                    assert list(mine.required) == theirs["parameters"]["required"]
    assert num == 2


def finish(**arguments):
    return Message(role="assistant", calls=(ToolCall(name="Finish", arguments=arguments, call_id="a"),))


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ({"return_type": "give_answer", "final_answer": "42"}, "finish", {"answer": "42"}),
        ({"return_type": "give_up_and_restart"}, "finish", {"answer": ""}),
        ({"return_type": "give_up_and_change_tools"}, "change_tools", {"reason": ""}),
        (
            {"return_type": "give_up_and_talk_to_user", "final_answer": "Which?"},
            "talk_to_user",
            {"question": "Which?", "missing": []},
        ),
    ],
)
def test_finish_becomes_the_action_that_it_means(arguments, name, expected):
    (call,) = to_actions(finish(**arguments)).calls
    assert call == ToolCall(name=name, arguments=expected, call_id="a")


@pytest.mark.parametrize(
    "arguments",
    [
        {"return_type": "give_answer", "final_answer": "42"},
        {"return_type": "give_up_and_change_tools"},
        {"return_type": "give_up_and_talk_to_user"},
    ],
)
def test_an_action_becomes_the_finish_that_it_means(arguments):
    assert from_actions(to_actions(finish(**arguments))) == finish(**arguments)


@pytest.mark.parametrize("arguments", [{}, {"return_type": "stop"}, {"return_type": "give_answer"}])
def test_a_finish_that_toolbench_refuses_stays_a_call(arguments):
    message = finish(**arguments)
    assert to_actions(message) == message


@pytest.mark.parametrize(
    ("text", "pairs", "whole"),
    [
        ('{"a": 1, "b": "x"}', {"a": 1, "b": "x"}, True),
        ("{}", {}, True),
        ("{\n}", {}, True),
        ('{"a": 1, "b": "x', {"a": 1}, False),
        ('{"a": 12', {}, False),
        ('{"a": 12, ', {"a": 12}, False),
        ('{"a": {"b": [1, 2]}, "c', {"a": {"b": [1, 2]}}, False),
        ('{"a": "x" "b": 2}', {"a": "x"}, False),
        ("", {}, False),
        ("[1]", {}, False),
    ],
)
def test_what_stands_complete_before_a_cut_is_kept(text, pairs, whole):
    assert complete_pairs(text) == (pairs, whole)


def test_every_record_becomes_a_task(benchmark_data):
    folder = benchmark_data / "stabletoolbench"
    for subset in stabletoolbench.SUBSETS:
        records = lines(folder / f"{subset}.jsonl.gz")
        tasks = list(stabletoolbench.read(folder, subset))
        assert [task.prompt[-1].content for task in tasks] == [record["query"] for record in records]
        for task, record in zip(tasks, records, strict=True):
            names = {tool.name for tool in task.tools}
            assert set(task.facts["benchmark"]["relevant"]) <= names and "Finish" in names
            assert len(task.tools) <= len(record["api_list"]) + 1


def test_the_three_conditions_share_their_queries(benchmark_data):
    folder = benchmark_data / "relytoolbench"
    for family in relytoolbench.FAMILIES:
        tasks = {
            condition: list(relytoolbench.read(folder, f"{family}_{condition}"))
            for condition in relytoolbench.CONDITIONS
        }
        queries = {
            condition: {task.task_id.split("/")[2]: task.prompt[0].content for task in found}
            for condition, found in tasks.items()
        }
        assert queries["solvable"] == queries["unmatched"]
        assert queries["missing"].keys() <= queries["solvable"].keys()
        assert all(query != queries["solvable"][number] for number, query in queries["missing"].items())


def test_the_noise_of_unmatched_tools_is_that_of_the_published_check(benchmark_data):
    folder = benchmark_data / "relytoolbench"
    expected = {
        (record["subset"], str(record["query_id"])): record for record in lines(folder / "unmatched_check.jsonl.gz")
    }
    num = 0
    for family, name in relytoolbench.FAMILIES.items():
        for task in relytoolbench.read(folder, f"{family}_unmatched"):
            check = expected[name, task.task_id.split("/")[2]]
            num += 1
            if check["n_relevant_still_listed"] == 0:
                assert (task.kind, "gold_fault" in task.facts) == ("unmatched_tools", False)
                assert task.reference is not None and task.reference[0].name == "change_tools"
            elif check["n_relevant_still_listed"] == check["n_relevant"]:
                assert (task.kind, task.facts["gold_fault"]) == ("solvable", "unmatched_all_relevant_listed")
            else:
                assert (task.kind, task.facts["gold_fault"]) == ("partly_solvable", "unmatched_some_relevant_listed")
    assert num == len(expected) == 207


def test_a_question_is_due_where_every_needed_tool_requires_a_value(benchmark_data):
    for family in relytoolbench.FAMILIES:
        for task in relytoolbench.read(benchmark_data / "relytoolbench", f"{family}_missing"):
            tools = {tool.name: tool for tool in task.tools}
            blocked = [bool(tools[name].required) for name in task.facts["benchmark"]["relevant"]]
            assert (task.kind == "missing_argument") == all(blocked)
            assert set(relytoolbench.BENCHMARK.gold_faults) >= {task.facts.get("gold_fault")} - {None}


def test_the_solvable_queries_may_lie_in_the_folder_itself(tmp_path):
    record = {"query_id": 7, "query": "Track it.", "api_list": [], "relevant APIs": []}
    (tmp_path / "G1_instruction.json").write_text(json.dumps([record]))
    (task,) = relytoolbench.read(tmp_path, "G1_solvable")
    assert task.task_id == "relytoolbench/G1_solvable/7" and [tool.name for tool in task.tools] == ["Finish"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": None}, r"G1_instruction.jsonl:1: query is NoneType, expected str"),
        ({"api_list": {}}, r":1: api_list is dict, expected list"),
        ({"api_list": [3]}, r":1: api_list\[0\] is int, expected an object"),
        ({"relevant APIs": [["a"]]}, r":1: relevant APIs holds \['a'\], expected \[tool, API\]"),
    ],
)
def test_a_faulty_record_is_named_by_its_line(tmp_path, change, message):
    record = {"query_id": 7, "query": "Track it.", "api_list": [], "relevant APIs": [], **change}
    (tmp_path / "G1_instruction.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=message):
        list(relytoolbench.read(tmp_path, "G1_solvable"))


def test_a_type_of_rapidapi_becomes_json_schema(tmp_path):
    parameters = [
        {"name": kind, "type": kind, "description": "", "default": ""}
        for kind in ("STRING", "NUMBER", "BOOLEAN", "ENUM", "DATE (YYYY-MM-DD)", "string")
    ]
    api = {
        "tool_name": "t",
        "api_name": "a",
        "api_description": "d" * 300,
        "required_parameters": [{"name": "q", "type": "STRING", "description": "what", "default": "oslo"}],
        "optional_parameters": parameters,
    }
    record = {"query_id": 7, "query": "Track it.", "api_list": [api, api], "relevant APIs": [["t", "a"]]}
    (tmp_path / "G1_tool.jsonl").write_text(json.dumps(record) + "\n")
    (task,) = stabletoolbench.read(tmp_path, "G1_tool")
    tool, last = task.tools
    assert (tool.name, last.name, tool.required) == ("a_for_t", "Finish", ("q",))
    assert len(tool.description) == len("t: ") + 256
    assert tool.properties["q"] == {"type": "string", "description": "what", "examples": ["oslo"]}
    types = [tool.properties[parameter_name(parameter["name"])]["type"] for parameter in parameters]
    assert types == ["string", "number", "boolean", "string", "string", "string"]
