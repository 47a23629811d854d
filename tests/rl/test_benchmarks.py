import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from envs.actions import ACTIONS
from envs.benchmarks import BENCHMARKS
from envs.benchmarks.alternatives import ALTERNATIVES
from envs.types import Message, Task, ToolCall, ToolSpec
from rl import benchmarks
from rl.__main__ import main
from rl.report.benchmark import as_markdown, notes_of
from rollout.store import read_trajectories
from rollout.unrendered import unrendered

API = {
    "tool_name": "Post",
    "api_name": "track",
    "api_description": "Where a parcel is.",
    "required_parameters": [{"name": "number", "type": "STRING", "description": "", "default": "4711"}],
    "optional_parameters": [],
}
OTHER = {**API, "tool_name": "Sky", "api_name": "weather", "api_description": "Forecast."}


@pytest.fixture
def folder(tmp_path):
    """A RelyToolBench of one query in three conditions."""
    data = tmp_path / "data" / "relytoolbench"
    data.mkdir(parents=True)
    record = {"query_id": 1, "query": "Where is parcel 99?", "api_list": [API], "relevant APIs": [["Post", "track"]]}
    for stem, change in {
        "G1_instruction": {},
        "G1_instruction_missing_all_arguments": {"query": "Where is my parcel?"},
        "G1_instruction_with_unmatched_tools": {"api_list": [OTHER]},
    }.items():
        (data / f"{stem}.jsonl").write_text(json.dumps({**record, **change}) + "\n")
    return tmp_path


def run(folder, *words, subsets=("G1_solvable", "G1_missing", "G1_unmatched"), out="out"):
    options = [word for subset in subsets for word in ("--subset", subset)]
    command = ["eval", *words, "--benchmark", "relytoolbench", "--data", str(folder / "data"), *options]
    return main([*command, "--out", str(folder / out)])


def rates(folder, out="out"):
    return json.loads((folder / out / "rates.json").read_text())


def finish(return_type, **more):
    return {"name": "Finish", "arguments": {"return_type": return_type, **more}}


OUTPUTS = {
    "relytoolbench/G1_solvable/1": [{"name": "track_for_post", "arguments": {"number": "99"}}],
    "relytoolbench/G1_missing/1": [{"name": "track_for_post", "arguments": {"number": "4711"}}],
    "relytoolbench/G1_unmatched/1": [finish("give_up_and_change_tools")],
}


def write(folder, outputs=None):
    lines = [json.dumps({"id": name, "calls": calls}) + "\n" for name, calls in (outputs or OUTPUTS).items()]
    (folder / "outputs.jsonl").write_text("".join(lines))
    return str(folder / "outputs.jsonl")


def test_recorded_outputs_are_scored_in_both_ways(folder, capsys):
    assert run(folder, "--predictions", write(folder)) == 0
    found = rates(folder)
    missing, unmatched = found["subsets"]["G1_missing"], found["subsets"]["G1_unmatched"]
    # The example of a schema grounds nothing where the value was taken out of the request.
    assert missing["errors"]["missed_deferral"] == missing["errors"]["ungrounded_value"] == 1.0
    assert missing["hallucination_by_class"] == {"type": 0, "timing": 0, "format": 0, "content": 1.0}
    assert unmatched["success"] == 1.0 and unmatched["deferral_recall"] == 1.0
    assert unmatched["published"]["pass_rate_at_least"] == 1.0 and missing["published"]["pass_rate_at_most"] == 0.0
    assert found["total"]["n"] == 3 and found["total"]["hallucination_rate"] == pytest.approx(1 / 3)
    low, high = found["total"]["intervals"]["hallucination_by_class.content"]
    assert 0.0 < low < 1 / 3 < high < 1.0
    assert missing["guards"] == {"call_avoidance": None, "call_spam": 1.0, "malformed_only": 0.0}
    assert found["policy"] == "outputs.jsonl" and found["actions"] is False
    text = capsys.readouterr().out
    assert "not computed, and what it needs: pass_rate (a judge" in text


def test_faults_of_the_gold_are_counted_by_task_or_not_at_all(folder):
    run(folder, "--predictions", write(folder))
    found = rates(folder)["gold_faults"]
    assert {name: fault["num"] for name, fault in found.items()} == {
        "unmatched_all_relevant_listed": 0,
        "unmatched_some_relevant_listed": 0,
        "missing_but_some_relevant_needs_nothing": 0,
        "missing_value_left": None,
        "missing_value_in_schema": None,
        "number_as_integer": None,
        "one_name_twice": None,
    }
    assert not any("missing_value_left" in note for note in notes_of(rates(folder)))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_task_names_a_fault_that_is_not_counted(benchmark_data, name):
    suite = benchmarks.load(name, benchmark_data)
    uncounted = suite.benchmark.uncounted_faults
    assert uncounted <= suite.benchmark.gold_faults.keys()
    assert not uncounted & {task.facts.get("gold_fault") for task in suite.all_tasks}


def test_the_report_is_a_markdown_table(folder):
    run(folder, "--predictions", write(folder))
    text = (folder / "out" / "report.md").read_text()
    assert text.startswith("# relytoolbench: outputs.jsonl\n")
    assert "| pass_rate_at_least | 0.0 | 0.0 | 100.0 | 33.3 |" in text
    assert "**relytoolbench: tether's rates**" in text and "| missed_deferral |" in text


def test_gold_is_a_self_test(folder, capsys):
    assert run(folder, "--predictions", "gold") == 0
    found = rates(folder)
    assert set(found["subsets"]) == {"G1_missing", "G1_unmatched"} and found["unscored"] == 1
    assert found["total"]["success"] == 1.0 and found["total"]["hallucination_rate"] == 0.0
    assert found["total"]["published"]["pass_rate_at_least"] == 1.0
    assert "reference is unknown: 1 tasks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a MODEL or --predictions FILE"),
        (["package:tiny", "--predictions", "gold"], "and not both"),
        (["http://localhost:1/v1"], "--model NAME belongs to an endpoint"),
        (["package:tiny", "--model", "m"], "--model NAME belongs to an endpoint"),
        (["--predictions", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--predictions", "recorded"], "no recorded episodes come with this benchmark"),
        (["--predictions", "gold", "--tasks", "heldout"], "--tasks and --benchmark both name tasks"),
        (["--predictions", "gold", "--subset", "G9"], "has no subset 'G9': expected some of G1_solvable"),
        (["--predictions", "gold", "--limit", "0"], "--limit 0: expected at least 1"),
        (["http://localhost:1/v1", "--model", "m", "--retries", "-1"], "--retries -1: expected at least 0"),
        (["http://localhost:1/v1", "--model", "m", "--timeout", "0"], "--timeout 0: expected more than 0"),
    ],
)
def test_bad_arguments_are_told_in_one_line(folder, capsys, words, message):
    assert run(folder, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmark", "nothing", "--data", "."], "benchmark 'nothing': expected one of bfcl"),
        (["--benchmark", "bfcl"], "expected --data DIR"),
        (["--benchmark", "bfcl", "--data", "no_folder"], "no_folder: no such folder"),
    ],
)
def test_a_benchmark_that_cannot_be_had_is_bad_input(capsys, words, message):
    assert main(["eval", "--predictions", "gold", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval"], "expected a MODEL"),
        (["eval", "http://localhost:1/v1"], "expected --benchmark NAME"),
        (["eval", "package:tiny", "--subset", "a"], "--subset belongs to --benchmark"),
        (["eval", "package:tiny", "--model", "a"], "--model belongs to --benchmark"),
    ],
)
def test_options_of_benchmarks_belong_to_benchmarks(capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_id_is_named_with_its_line(folder, capsys):
    assert run(folder, "--predictions", write(folder, {"relytoolbench/G1_solvable/2": []})) == 2
    assert "outputs.jsonl:1: id" in capsys.readouterr().err


@pytest.fixture
def endpoint(json_server):
    """An endpoint that calls the first offered tool, and what it was asked; the model `broken` fails."""

    def reply(request):
        function = {"name": request["tools"][0]["function"]["name"], "arguments": '{"number": "99"}'}
        call = {"id": "a", "type": "function", "function": function}
        status = 500 if request["model"] == "broken" else 200
        return status, server.completion({"role": "assistant", "tool_calls": [call]})

    server = json_server(reply)
    return server.url, server.requests


def test_an_endpoint_answers_every_task_once(folder, endpoint):
    url, requests = endpoint
    assert run(folder, url, "--model", "m", "--concurrency", "2") == 0
    found = rates(folder)
    assert len(requests) == 3 and {request["temperature"] for request in requests} == {0.0}
    assert found["policy"] == "m" and found["total"]["failed"] == 0
    assert found["subsets"]["G1_unmatched"]["errors"]["irrelevant_tool"] == 1.0
    offered = {tool["function"]["name"] for request in requests for tool in request["tools"]}
    assert offered == {"track_for_post", "weather_for_sky", "Finish"}


def test_the_episodes_of_an_endpoint_can_be_shown(folder, endpoint, capsys):
    url, _ = endpoint
    run(folder, url, "--model", "m", subsets=["G1_unmatched"])
    capsys.readouterr()
    assert main(["show", str(folder / "out" / "episodes")]) == 0
    text = capsys.readouterr().out
    assert "weather_for_sky" in text and "irrelevant_tool" in text


def test_the_replies_of_an_endpoint_are_kept_should_judging_them_fail(folder, endpoint, monkeypatch):
    def fails(suite, trajectories):
        raise ZeroDivisionError

    monkeypatch.setattr(benchmarks, "report", fails)
    with pytest.raises(ZeroDivisionError):
        run(folder, endpoint[0], "--model", "m", subsets=["G1_unmatched"])
    assert not (folder / "out" / "rates.json").exists()
    (kept,) = read_trajectories(folder / "out" / "episodes")
    (call,) = kept.turns[0].message.calls
    assert isinstance(call, ToolCall) and call.name == "weather_for_sky"


def test_the_switch_offers_tethers_actions(folder, endpoint):
    url, requests = endpoint
    assert run(folder, url, "--model", "m", "--actions", "--limit", "1", subsets=["G1_solvable"]) == 0
    names = [tool["function"]["name"] for tool in requests[0]["tools"]]
    assert names[-3:] == [action.name for action in ACTIONS]
    assert rates(folder)["actions"] is True


def test_an_endpoint_that_fails_throughout_fails_the_command(folder, endpoint, capsys):
    url, _ = endpoint
    assert run(folder, url, "--model", "broken", "--retries", "0") == 1
    assert "no episode got a reply" in capsys.readouterr().err
    assert not (folder / "out" / "rates.json").exists()


def test_an_endpoint_is_not_asked_again_for_what_it_has_answered(folder, endpoint, capsys):
    url, requests = endpoint
    assert run(folder, url, "--model", "m") == run(folder, url, "--model", "m") == 0
    assert len(requests) == 3
    assert run(folder, url, "--model", "m", "--temperature", "1") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(folder, url, "--model", "m", "--temperature", "1", "--overwrite") == 0
    assert len(requests) == 6


def test_neither_predictions_nor_endpoints_import_torch_or_ray(folder, endpoint):
    url, _ = endpoint
    program = (
        "import sys; from rl.__main__ import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules); sys.exit(str(heavy) if heavy else code)"
    )
    shared = ["--benchmark", "relytoolbench", "--data", str(folder / "data"), "--subset", "G1_solvable"]
    predictions = write(folder, {"relytoolbench/G1_solvable/1": []})
    for number, words in enumerate((["--predictions", predictions], [url, "--model", "m"])):
        command = [sys.executable, "-c", program, "eval", *words, *shared, "--out", str(folder / str(number))]
        found = subprocess.run(command, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr


class Pool:
    """Its policy makes one call of a tool that nobody offers."""

    def __init__(self):
        self.settings = []

    async def run(self, task, *, group_id, settings):
        self.settings.append(settings)
        call = ToolCall(name="made_up", arguments={})
        tools = (*task.tools, *ACTIONS) if settings.offer_actions else task.tools
        made = unrendered(task, [(Message(role="assistant", calls=(call,)), ())], tools=tools)
        return (replace(made, trajectory_id=group_id),)


def test_a_model_folder_is_sampled_by_our_own_engine(folder, monkeypatch):
    pool = Pool()
    monkeypatch.setattr("rl.serving.with_pool", lambda config, out, work: asyncio.run(work(pool)))
    assert run(folder, "package:tiny", "--max-tokens", "9") == 0
    assert rates(folder)["total"]["errors"]["unknown_tool"] == 1.0
    (settings,) = {(one.env.factory, one.max_turns, one.offer_actions) for one in pool.settings}
    assert settings == ("envs.benchmarks.episode:SingleTurnEnv", 1, False)
    assert {(one.sampling.temperature, one.sampling.max_tokens) for one in pool.settings} == {(0.0, 9)}
    assert (folder / "out" / "G1_missing-greedy" / "results.jsonl").is_file()


def test_tethers_actions_count_as_finish_for_the_published_metric(folder):
    outputs = {**OUTPUTS, "relytoolbench/G1_unmatched/1": [{"name": "change_tools", "arguments": {"reason": "none"}}]}
    assert run(folder, "--actions", "--predictions", write(folder, outputs)) == 0
    found = rates(folder)["subsets"]["G1_unmatched"]
    assert found["published"]["ends_with_finish"] == 1.0 and found["success"] == 1.0


WEATHER = ToolSpec(name="w", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


def weather(city, **facts):
    task = Task(
        task_id="b/s/1",
        prompt=(Message(role="user", content="Oslo"),),
        tools=(WEATHER,),
        reference=(ToolCall(name="w", arguments={"city": "Oslo"}),),
        facts=facts,
    )
    call = ToolCall(name="w", arguments={"city": city})
    return unrendered(task, [(Message(role="assistant", calls=(call,)), ())])


def test_the_accepted_reference_that_fits_best_counts():
    made = weather("Bergen", **{ALTERNATIVES: [[{"name": "w", "arguments": {"city": "Bergen"}}]]})
    episode, verdict = benchmarks.best_verdict(made)
    assert verdict.success is True and verdict.errors == ()
    assert episode.task.reference == (ToolCall(name="w", arguments={"city": "Bergen"}),)
    assert benchmarks.best_verdict(weather("Bergen"))[1].success is False


def test_what_a_record_cannot_tell_is_left_out_and_nothing_else():
    place = {"turn": 0, "call": 0, "kinds": ["wrong_value"]}
    made = weather("Bergen", unjudged=[place])
    assert benchmarks.without_unjudged(benchmarks.best_verdict(made)[1], made.task).errors == ()
    made = weather("Bergen", unjudged=[{**place, "call": 1}])
    assert len(benchmarks.without_unjudged(benchmarks.best_verdict(made)[1], made.task).errors) == 1


def test_the_folder_above_holds_benchmarks_under_their_own_names(tmp_path):
    for name in ("apibank", "functionchat_bench", "tau_bench", "tau2_bench"):
        (tmp_path / name).mkdir()
    found = {name: benchmarks.folder_of(name, tmp_path).name for name in ("api_bank", "functionchat", "tau_bench")}
    assert found == {"api_bank": "apibank", "functionchat": "functionchat_bench", "tau_bench": "tau_bench"}
    assert benchmarks.folder_of("bfcl", tmp_path) == tmp_path


@pytest.mark.parametrize("name", BENCHMARKS)
def test_gold_of_every_benchmark_meets_tethers_judge(benchmark_data, name, tmp_path):
    words = ["eval", "--benchmark", name, "--data", str(benchmark_data), "--predictions", "gold"]
    code = main([*words, "--limit", "40", "--out", str(tmp_path)])
    if name in ("stabletoolbench", "tau_bench"):
        assert code == 2
        return
    assert code == 0
    found = json.loads((tmp_path / "rates.json").read_text())
    assert found["total"]["success"] >= 0.97
    assert as_markdown(found).count("\n|") > 5


@pytest.mark.parametrize("name", ["tau_bench", "stabletoolbench", "api_bank", "tooltalk"])
def test_recorded_episodes_are_scored(benchmark_data, name, tmp_path):
    words = ["eval", "--benchmark", name, "--data", str(benchmark_data), "--predictions", "recorded"]
    assert main([*words, "--limit", "20", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "rates.json").read_text())
    assert found["total"]["n"] > 0
    if name == "stabletoolbench":
        assert found["total"]["errors"]["unknown_tool"] > 0 and found["total"]["unjudged"] > 0
        assert any(note.startswith("not judged") for note in notes_of(found))
    if name == "tau_bench":
        assert 0.0 < found["total"]["published"]["reward"] < 1.0
        assert found["total"]["errors"]["unknown_tool"] == found["total"]["errors"]["bad_type"] == 0.0
