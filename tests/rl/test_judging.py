"""`tether eval --benchmark --judge` against a judge of the standard library in this process."""

import json
import subprocess
import sys

import pytest

from rl.__main__ import main

pytest.importorskip("openai")


class FakeJudge:
    """Says the first choice of each question unless told otherwise, and keeps what it was asked."""

    def __init__(self, json_server):
        self.words = {}
        """What is said to a question whose case holds the text."""
        self.status = 200
        server = json_server(self.reply)
        self.url, self.requests = server.url, server.requests

    def reply(self, request):
        system, case = (message["content"] for message in request["messages"][:2])
        choices = system.rsplit("exactly one word: ", 1)[1].rstrip(".").split(", ")
        said = next((word for text, word in self.words.items() if text in case and word in choices), choices[0])
        return self.status, {"choices": [{"message": {"content": said}}], "usage": {"total_tokens": 10}}

    def asked(self, title):
        """Cases with a part of that title."""
        cases = [request["messages"][1]["content"] for request in self.requests]
        return [case for case in cases if f"## {title}\n" in case]


@pytest.fixture
def judge(json_server):
    return FakeJudge(json_server)


TRACK = {
    "tool_name": "Post",
    "api_name": "track",
    "api_description": "Where a parcel is.",
    "required_parameters": [{"name": "number", "type": "STRING", "description": "", "default": "4711"}],
    "optional_parameters": [],
}
SKY = {**TRACK, "tool_name": "Sky", "api_name": "weather", "api_description": "Forecast."}


def calling(name, arguments, response):
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": json.dumps({"error": "", "response": response})},
    ]


def finishing(**arguments):
    return calling("Finish", arguments, "")[:1]


OUTPUTS = {
    # Solved with a value of the request.
    "G1_solvable/1": calling("track_for_post", {"number": "99"}, "Oslo") + finishing(
        return_type="give_answer", final_answer="It is in Oslo."
    ),
    # The answer rests on a made-up value.
    "G1_missing/1": calling("track_for_post", {"number": "1234"}, "Rome") + finishing(
        return_type="give_answer", final_answer="It is in Rome."
    ),
    "G1_unmatched/1": finishing(return_type="give_up_and_change_tools"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A RelyToolBench of one query in three conditions, and outputs for it."""
    data = tmp_path / "data" / "relytoolbench"
    data.mkdir(parents=True)
    record = {"query_id": 1, "query": "Where is parcel 99?", "api_list": [TRACK], "relevant APIs": [["Post", "track"]]}
    for stem, change in {
        "G1_instruction": {},
        "G1_instruction_missing_all_arguments": {"query": "Where is my parcel?"},
        "G1_instruction_with_unmatched_tools": {"api_list": [SKY]},
    }.items():
        (data / f"{stem}.jsonl").write_text(json.dumps({**record, **change}) + "\n")
    lines = [json.dumps({"id": f"relytoolbench/{name}", "messages": made}) for name, made in OUTPUTS.items()]
    (tmp_path / "outputs.jsonl").write_text("\n".join(lines))
    return tmp_path


def run(folder, *words, out="out"):
    subsets = [word for name in OUTPUTS for word in ("--subset", name.partition("/")[0])]
    command = ["eval", "--benchmark", "relytoolbench", "--data", str(folder / "data"), *subsets]
    return main([*command, "--predictions", str(folder / "outputs.jsonl"), "--out", str(folder / out), *words])


def rates(folder, out="out"):
    return json.loads((folder / out / "rates.json").read_text())


def test_relytoolbench_is_scored_with_a_judge(folder, judge, capsys):
    judge.words = {"1234": "Untruthful"}
    assert run(folder, "--judge", judge.url, "--judge-model", "wise") == 0
    found = rates(folder)
    by_subset = {name: part["judged"] for name, part in found["subsets"].items()}
    assert by_subset["G1_solvable"]["repr_judged"] == by_subset["G1_unmatched"]["repr_judged"] == 1.0
    assert (by_subset["G1_missing"]["pass_rate_judged"], by_subset["G1_missing"]["repr_judged"]) == (1.0, 0.0)
    assert [part["utility_judged"] for part in by_subset.values()] == [20.0, -11.0, 20.0]
    assert found["total"]["judged"]["tool_hallucination_rate_judged"] == pytest.approx(1 / 3)
    assert found["total"]["judged_n"] == 3 and found["total"]["judge_open"] == 0
    assert found["judge"] == {
        "model": "wise",
        "questions": found["judge"]["questions"],
        "requests": len(judge.requests),
        "tokens": 10 * len(judge.requests),
        "given_up": {},
    }
    assert {request["temperature"] for request in judge.requests} == {0}
    # The rule and the judge agree: 99 was said, 1234 was not.
    grounding = found["total"]["grounding"]
    assert grounding["counts"] == {"grounded/grounded": 1, "ungrounded/ungrounded": 1}
    assert (grounding["agreement"], grounding["kappa"], grounding["calls"]) == (1.0, 1.0, 2)
    # Nothing has the name of a published figure, and the report says who judged.
    text = (folder / "out" / "report.md").read_text()
    assert "**relytoolbench: judged by wise**" in text
    assert f"judge wise, tether's questions, version {found['judge']['questions']}: " in text
    assert "| repr_judged | 100.0 | 0.0 | 100.0 | 66.7 |" in text
    assert "by rule | by judge | agreement" in text
    assert "not computed, and what it needs: pass_rate, repr, tool_hallucination_rate, utility" in text
    assert not {"repr", "pass_rate", "utility"} & set(found["total"]["published"])
    assert "judge wise, tether's questions" in capsys.readouterr().out


def test_without_a_judge_nothing_changes(folder, judge):
    assert run(folder) == 0
    assert run(folder, "--judge", judge.url, "--judge-model", "m", out="judged") == 0
    plain, judged = rates(folder), rates(folder, "judged")
    assert "judge" not in plain and "judged" not in plain["total"] and "grounding" not in plain["total"]
    added = {"judged", "judged_n", "judge_open", "grounding"}
    for one, other in zip(plain["subsets"].values(), judged["subsets"].values(), strict=True):
        assert one == {name: value for name, value in other.items() if name not in added}
    assert "judged by" not in (folder / "out" / "report.md").read_text()


def test_answers_are_kept_in_the_folder_or_in_a_file_of_ones_own(folder, judge):
    for _ in range(2):
        assert run(folder, "--judge", judge.url, "--judge-model", "m") == 0
    num_asked = len(judge.requests)
    assert (folder / "out" / "judge.sqlite").is_file() and rates(folder)["judge"]["requests"] == 0
    cache = str(folder / "out" / "judge.sqlite")
    assert run(folder, "--judge", judge.url, "--judge-model", "m", "--judge-cache", cache, out="other") == 0
    assert len(judge.requests) == num_asked and not (folder / "other" / "judge.sqlite").exists()
    assert run(folder, "--judge", judge.url, "--judge-model", "another", "--judge-cache", cache) == 0
    assert len(judge.requests) == 2 * num_asked


def test_what_the_budget_does_not_pay_is_left_open_and_counted(folder, judge, capsys):
    assert run(folder, "--judge", judge.url, "--judge-model", "m", "--judge-requests", "1") == 0
    found = rates(folder)
    assert len(judge.requests) == found["judge"]["requests"] == 1
    assert found["judge"]["given_up"] == {"the budget is spent": 5}
    assert found["total"]["judge_open"] == 2 and found["total"]["judged_n"] == 3
    # Giving up is judged by a rule; what is open is in no mean.
    assert found["subsets"]["G1_unmatched"]["judged"]["repr_judged"] == 1.0
    assert found["total"]["judged"]["repr_judged of told tasks only"] == 1.0
    assert "repr_judged" not in found["total"]["judged"]
    assert "| left open by the judge | 1 | 1 | 0 | 2 |" in (folder / "out" / "report.md").read_text()
    assert found["total"]["grounding"]["open"] == 2 and found["total"]["grounding"]["agreement"] is None
    assert "the judge gave up 5 questions (the budget is spent: 5); 2 tasks are left out" in capsys.readouterr().out


@pytest.mark.parametrize("status", [500, 401])
def test_a_judge_that_fails_leaves_the_rest_of_the_report(folder, judge, status):
    judge.status = status
    assert run(folder, "--judge", judge.url, "--judge-model", "m", "--retries", "0") == 0
    found = rates(folder)
    assert found["judge"]["given_up"] == {f"status {status}": 6}
    assert found["subsets"]["G1_solvable"]["judged"]["repr_judged of told tasks only"] is None
    assert found["total"]["n"] == 3 and found["total"]["published"]["repr_at_most"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--judge", "localhost:1"], "--judge localhost:1: expected an endpoint such as http"),
        (["--judge", "http://localhost:1/v1"], "expected --judge-model NAME"),
        (["--judge-model", "m"], "--judge-model belongs to --judge ENDPOINT"),
        (["--judge-requests", "9"], "--judge-requests belongs to --judge ENDPOINT"),
        (["--judge", "http://localhost:1/v1", "--judge-model", "m", "--judge-requests", "-1"], "expected at least 0"),
        (
            ["--judge", "http://localhost:1/v1", "--judge-model", "m", "--judge-cache", "outputs.jsonl"],
            "not a cache of answers",
        ),
    ],
)
def test_wrong_options_of_the_judge_are_told_in_one_line(folder, capsys, monkeypatch, words, message):
    monkeypatch.chdir(folder)
    assert run(folder, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_judge_belongs_to_a_benchmark(capsys):
    assert main(["eval", "package:tiny", "--judge", "http://localhost:1/v1"]) == 2
    assert "--judge belongs to --benchmark" in capsys.readouterr().err


def test_a_judge_needs_neither_torch_nor_ray(folder, judge):
    program = (
        "import sys; from rl.__main__ import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules); sys.exit(str(heavy) if heavy else code)"
    )
    words = ["--data", str(folder / "data"), "--subset", "G1_unmatched", "--predictions", "gold"]
    words += ["--judge", judge.url, "--judge-model", "m", "--out", str(folder / "out")]
    command = [sys.executable, "-c", program, "eval", "--benchmark", "relytoolbench", *words]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_when2calls_fixed_replies_are_told_by_a_judge_who_knows_them(benchmark_data, judge, tmp_path):
    """Each record's reply in words of its right behaviour: the fixed output test of the benchmark."""
    from rl import benchmarks

    suite = benchmarks.load("when2call", benchmark_data, ["request_for_info", "cannot_answer"])
    tasks = [task for part in suite.tasks.values() for task in part[:10]]
    lines = []
    for task in tasks:
        facts = task.facts["benchmark"]
        text = facts["answers"][facts["correct_answer"]]
        judge.words[text] = facts["correct_answer"]
        lines.append(json.dumps({"id": task.task_id, "text": text, "grammar": "hermes"}))
    # One reply that the judge takes for another behaviour.
    judge.words[tasks[0].facts["benchmark"]["answers"]["request_for_info"]] = "direct"
    (tmp_path / "replies.jsonl").write_text("\n".join(lines))
    words = ["--data", str(benchmark_data), "--subset", "request_for_info", "--subset", "cannot_answer"]
    words += ["--predictions", str(tmp_path / "replies.jsonl"), "--limit", "10", "--out", str(tmp_path / "out")]
    words += ["--judge", judge.url, "--judge-model", "m"]
    assert main(["eval", "--benchmark", "when2call", *words]) == 0
    found = rates(tmp_path)
    assert len(judge.requests) == 20 and len(judge.asked("Reply")) == 20
    assert found["total"]["judged"]["accuracy_judged"] == 19 / 20
    assert found["subsets"]["request_for_info"]["judged"]["direct_share_judged"] == 0.1
    assert found["total"]["published"]["accuracy"] is None
    assert set(found["published_missing"]) == {"accuracy", "macro_f1"}


def test_recorded_traces_of_stabletoolbench_are_judged(benchmark_data, judge, tmp_path):
    words = ["--data", str(benchmark_data), "--predictions", "recorded", "--subset", "G1_instruction", "--limit", "8"]
    words += ["--judge", judge.url, "--judge-model", "m", "--out", str(tmp_path / "out")]
    assert main(["eval", "--benchmark", "stabletoolbench", *words]) == 0
    part = rates(tmp_path)["subsets"]["G1_instruction"]
    # The judge takes every answer for one that solves its task.
    assert part["judged"]["solvable_pass_rate_judged"] == part["published"]["ends_with_answer"] > 0
    assert len(judge.asked("Answer")) == 8 * part["published"]["ends_with_answer"]
    # Calls whose source was cut away are not asked about.
    assert part["grounding"]["calls"] == len(judge.asked("Call")) == 5
    assert "solvable_win_rate" in rates(tmp_path)["published_missing"]


@pytest.mark.parametrize("name", ["toolalpaca", "functionchat", "bfcl"])
def test_gold_passes_where_the_judge_is_content(benchmark_data, judge, name, tmp_path):
    subset = {"toolalpaca": "real", "functionchat": "dialog", "bfcl": "simple_python"}[name]
    words = ["--data", str(benchmark_data), "--predictions", "gold", "--limit", "6", "--subset", subset]
    words += ["--judge", judge.url, "--judge-model", "m", "--out", str(tmp_path / "out")]
    assert main(["eval", "--benchmark", name, *words]) == 0
    judged = rates(tmp_path)["total"]["judged"]
    if name == "toolalpaca":
        # Gold says no final word.
        assert (judged["process_correctness_judged"], judged["overall_correctness_judged"]) == (1.0, 0.0)
    elif name == "functionchat":
        assert judged["dialog_pass_rate_judged"] == 1.0
    else:
        assert judged == {}
    assert judge.asked("Call")
