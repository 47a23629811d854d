"""Real episodes of other models, judged: no false alarm, and every hallucinated name found."""

import ast
import gzip
import json
import re
from collections import Counter

import numpy as np
import pytest

from envs.benchmarks import stabletoolbench, tau_bench
from envs.types import ToolCall
from rewards.classify import classify
from rewards.types import ErrorKind
from rollout.demonstrations import from_messages
from rollout.dialogues import from_dialogue
from rollout.renderer import ChatTemplateRenderer
from rollout.trajectory import Ending

SCHEMA_ERRORS = {
    ErrorKind.MALFORMED,
    ErrorKind.UNKNOWN_TOOL,
    ErrorKind.MISSING_ARGUMENT,
    ErrorKind.UNKNOWN_ARGUMENT,
    ErrorKind.BAD_TYPE,
    ErrorKind.BAD_ENUM,
    ErrorKind.BAD_FORMAT,
}


@pytest.fixture(scope="module")
def renderer(tokenizer):
    return ChatTemplateRenderer(tokenizer, max_context=1_000_000)


def rendered(dialogue, renderer):
    task_id = dialogue.task.task_id
    return from_messages(
        dialogue.task, dialogue.messages, dialogue.tools, renderer, trajectory_id=task_id, group_id=task_id
    )


def test_no_call_of_tau_bench_has_a_schema_error(benchmark_data):
    num_calls = 0
    for dialogue in tau_bench.traces(benchmark_data / "tau_bench"):
        trajectory = from_dialogue(dialogue)
        num_calls += sum(len(turn.message.calls) for turn in trajectory.turns)
        assert [error for error in classify(trajectory) if error.kind in SCHEMA_ERRORS] == []
    assert num_calls == 707


def test_a_call_of_tau_bench_that_is_spoiled_is_found(benchmark_data):
    """The check above can fail: one argument of each call is renamed."""
    for dialogue in list(tau_bench.traces(benchmark_data / "tau_bench"))[:20]:
        messages = json.loads(json.dumps(dialogue.messages))
        spoiled = 0
        for message in messages:
            for call in message.get("tool_calls") or ():
                arguments = json.loads(call["function"]["arguments"])
                if arguments:
                    arguments["spoiled"] = arguments.pop(next(iter(arguments)))
                    call["function"]["arguments"] = json.dumps(arguments)
                    spoiled += 1
        trajectory = from_dialogue(type(dialogue)(task=dialogue.task, messages=tuple(messages), tools=dialogue.tools))
        assert Counter(error.kind for error in classify(trajectory))[ErrorKind.UNKNOWN_ARGUMENT] == spoiled


def test_every_unlisted_tool_name_of_stabletoolbench_is_found_and_no_other(benchmark_data):
    """Counted from the raw text, without the reader."""
    folder = benchmark_data / "stabletoolbench"
    expected: Counter[tuple[str, str]] = Counter()
    num_calls = 0
    for subset in stabletoolbench.SUBSETS:
        with gzip.open(folder / stabletoolbench.TRACES / f"{subset}.jsonl.gz", "rt") as file:
            for line in file:
                record = json.loads(line)
                listed = {tool["name"] for tool in record["available_tools"]}
                text = json.dumps(record["answer"]["answer_details"])
                for name in re.findall(r'"role": "tool", "message": "\{\'name\': \'([^\']*)\'', text):
                    num_calls += 1
                    if name not in listed:
                        expected[f"stabletoolbench/{subset}/{record['key']}", name] += 1
    found: Counter[tuple[str, str]] = Counter()
    for dialogue in stabletoolbench.traces(folder):
        trajectory = from_dialogue(dialogue)
        for error in classify(trajectory):
            if error.kind == ErrorKind.UNKNOWN_TOOL:
                call = trajectory.turns[error.turn].message.calls[error.call or 0]
                assert isinstance(call, ToolCall)
                found[dialogue.task.task_id, call.name] += 1
    assert (num_calls, expected.total()) == (1609, 46)
    assert found == expected


def test_arguments_of_stabletoolbench_that_stand_whole_are_those_of_the_raw_text(benchmark_data):
    folder = benchmark_data / "stabletoolbench"
    raw = []
    for subset in stabletoolbench.SUBSETS:
        with gzip.open(folder / stabletoolbench.TRACES / f"{subset}.jsonl.gz", "rt") as file:
            for line in file:
                step = json.loads(line)["answer"]["answer_details"]
                while step:
                    text = step[0]["message"]
                    if step[0]["role"] == "tool":
                        cut = re.match(r"(.*), 'response'", text, re.DOTALL)
                        raw.append(json.loads(ast.literal_eval(cut[1] + "}")["arguments"]) if cut else None)
                    step = step[0]["next"]
    made = [
        call.arguments
        for dialogue in stabletoolbench.traces(folder)
        for turn in from_dialogue(dialogue).turns
        for call in turn.message.calls
        if isinstance(call, ToolCall)
    ]
    assert len(made) == len(raw) and sum(arguments is not None for arguments in raw) == 678
    assert all(arguments is None or arguments == call for arguments, call in zip(raw, made, strict=True))


@pytest.mark.parametrize("reader", [tau_bench, stabletoolbench])
def test_traces_with_tokens_are_judged_as_those_without(benchmark_data, renderer, reader):
    for dialogue in list(reader.traces(benchmark_data / reader.NAME))[:12]:
        plain, tokens = from_dialogue(dialogue), rendered(dialogue, renderer)
        assert tokens.ending is Ending.COMPLETED and np.isnan(tokens.logprobs).all()
        assert len(tokens.turns) == len(plain.turns) and len(plain.token_ids) == 0
        assert all(turn.end > turn.start for turn in tokens.turns)
        found = [[(e.turn, e.call, e.kind, e.argument) for e in classify(trajectory)] for trajectory in (plain, tokens)]
        assert found[0] == found[1]
