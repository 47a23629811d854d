"""Detection as an episode: split the response, check its sentences with tools, reflect, answer (HaluAgent, 3.2).

    segmentation   split_text                                 -> sentences with numbers
    verification   calculator, code_interpreter, ... (n)      -> memory: (sentence, label, evidence, tool)
    reflection     review, set_label, link                    -> memory changed, errors passed on along links
    answer         get_answer                                 -> the verdict, and the end

Every tool that checks takes the number of the sentence it checks; what it judges goes into memory. Arguments that
repeat the sentence, its code or the passages found last may be left out, and those that say what of the sentence is
checked: then all is checked that the rules find there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from envs.actions import FINISH
from envs.component import Component
from envs.detection.claims import date_claims, sums
from envs.detection.demands import lengths
from envs.detection.memory import WHOLE, Entry, Memory, NoSuchSentence
from envs.detection.programs import program
from envs.detection.prompts import NO, YES, Language, instructions
from envs.detection.sandbox.sandbox import Sandbox
from envs.detection.search import CorpusSearch, EndpointSearch, Search, read_corpus
from envs.detection.toolbox import MAX_EVIDENCE, MAX_QUERY, Toolbox, judgement
from envs.env import ToolEnv, compact
from envs.toolkit import Toolkit
from envs.types import Json, Message, Outcome, Step, Task, ToolCall, ToolError, ToolResult, ToolSpec, ToolStatus

KIND = "detection"
MAX_RESULT = 6_000
"""Characters of one tool result."""
PATIENCE = 6
"""Calls that cannot be run, before the episode ends unfinished; as often as the release asks for a label (B3.4)."""
TOOL_TIMEOUT = 60.0
MAX_CLAIMS = 20
"""Of one sentence that are checked by one call."""

Label = Literal[0, 1]
Number = Annotated[int, Field(ge=0, le=100_000)]
Evidence = Annotated[str, Field(max_length=2_000)]

SENTENCE = {
    "type": "integer",
    "minimum": 0,
    "description": "number of the sentence that is checked; 0: the whole response",
}
LEFT_OUT = {
    "text": "left out: the sentence",
    "sentence_text": "left out: the sentence",
    "code": "left out: the code in the sentence, with its tests",
    "context": "left out: the passages found last, or else the question",
}
"""Arguments that the environment fills in."""
LEFT_OUT_OF = {
    "calculator": {"formula": "left out: the calculations in the sentence"},
    "date": {"date1": "left out: what the sentence says of dates"},
    "word_count": {"number": "left out: the length that the question demands"},
    "web_search": {"query": "left out: the sentence"},
}
"""Further ones of single tools."""
_NOT_FOUND = {
    "calculator": "no calculation",
    "date": "no statement about dates",
    "word_count": "the question demands no length",
}
"""Tools that check what is found in a sentence, or in the question, and what is said if nothing is."""
_STAGES = ("split_text", "set_label", "link", "review", "get_answer")
_MARKS = re.compile(r"<\|[^|<>\n]{0,40}\|>|</?(?:tool_call|tool_response|think)>|\[/?INST\]", re.IGNORECASE)
"""What a chat template might take for a role or a call."""


def make_toolbox(
    *,
    corpus: str | None = None,
    search_url: str | None = None,
    translate_url: str | None = None,
    matcher: Mapping[str, Json] | None = None,
    tools: Sequence[str] = (),
    allow_unprotected: bool = False,
) -> Toolbox:
    """The toolbox that these options name.

    Args:
        corpus: a JSONL file of passages to search in.
        search_url: an endpoint to search with instead.
        translate_url: an endpoint that translates.
        matcher: factory and options of a Matcher in the place of the rules.
        tools: further tools, each "package.module:function".
        allow_unprotected: run code also where nothing contains it.

    Raises:
        ValueError: one of them cannot be used.
    """
    if corpus is not None and search_url is not None:
        raise ValueError("corpus and search_url: expected one of them")
    search: Search | None = None if search_url is None else EndpointSearch(search_url)
    if corpus is not None:
        search = _corpus(corpus)
    return Toolbox(
        sandbox=Sandbox(allow_unprotected=allow_unprotected),
        search=search,
        matcher=None if matcher is None else Component.model_validate(dict(matcher)).build(),
        translate_url=translate_url,
        extra=tuple(Component(factory=path).load() for path in tools),
    )


@lru_cache(maxsize=8)
def _toolbox(options: str) -> Toolbox:
    """One toolbox for all episodes with the same options: its tools are read once."""
    return make_toolbox(**json.loads(options))


@lru_cache(maxsize=4)
def _corpus(path: str) -> CorpusSearch:
    return CorpusSearch(read_corpus(Path(path)))


def offered(toolbox: Toolbox) -> tuple[ToolSpec, ...]:
    """The tools of an episode: those of the stages, and those that check, with the number of a sentence."""
    return (*_stage_tools().specs, *(_with_sentence(spec) for spec in _check_tools(toolbox).specs))


@lru_cache(maxsize=1)
def _stage_tools() -> Toolkit:
    return Toolkit(*_Stages(Memory("")).functions())


@lru_cache(maxsize=8)
def _check_tools(toolbox: Toolbox) -> Toolkit:
    """The tools that check; reading their signatures is most of what a short episode would cost."""
    return Toolkit(*(tool for tool in toolbox.functions() if tool.__name__ not in _STAGES), timeout=TOOL_TIMEOUT)


def _with_sentence(spec: ToolSpec) -> ToolSpec:
    parameters = deepcopy(dict(spec.parameters))
    properties = parameters["properties"]
    filled = _filled_in(spec.name)
    for name in filled.keys() & properties.keys():
        described = properties[name].get("description", "")
        properties[name]["description"] = f"{described} ({filled[name]})".strip()
    parameters["properties"] = {"sentence": dict(SENTENCE), **properties}
    parameters["required"] = [name for name in parameters.get("required", []) if name not in filled]
    return replace(spec, parameters=parameters)


def _filled_in(tool: str) -> dict[str, str]:
    """The arguments of a tool that may be left out, and what they are then."""
    return LEFT_OUT | LEFT_OUT_OF.get(tool, {})


def short_tools(tools: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
    """The tools with nothing to choose but the tool and the sentence: what can be left out is.

    Args:
        tools: of `offered`.
    """
    names = {tool.name for tool in tools}
    # Without a search there is nothing that a sentence could be compared with.
    kept = [tool for tool in tools if tool.name != "match" or "web_search" in names]
    return tuple(tool if tool.name in _STAGES else _short(tool) for tool in kept)


def _short(tool: ToolSpec) -> ToolSpec:
    needed = ("sentence", *tool.required)
    parameters = {**tool.parameters, "properties": {name: tool.properties[name] for name in dict.fromkeys(needed)}}
    return replace(tool, parameters=parameters)


def make_task(
    task_id: str,
    question: str,
    response: str,
    *,
    tools: tuple[ToolSpec, ...],
    language: Language = "en",
    hallucinated: bool | None = None,
    kind: str = KIND,
    short: bool = False,
) -> Task:
    """The task of checking one response.

    Args:
        task_id: its name.
        question: what was asked; may be empty.
        response: what is checked.
        tools: of `offered`.
        language: of the instructions.
        hallucinated: the truth, if it is known.
        kind: what it is counted under.
        short: short instructions and `short_tools`, and `finish` as the only action, for a model with little room.
    """
    prompt = Message(role="user", content=instructions(language, question, response, short=short))
    actions = {"actions": [FINISH]} if short else {}
    return Task(
        task_id=task_id,
        prompt=(prompt,),
        tools=short_tools(tools) if short else tools,
        answer=None if hallucinated is None else YES if hallucinated else NO,
        kind=kind,
        facts={"question": question, "response": response, "language": language, **actions},
    )


class DetectionEnv:
    """One response, checked. `finish` also ends the episode, with a verdict of the policy's own."""

    def __init__(
        self,
        task: Task,
        toolbox: Toolbox | None = None,
        *,
        patience: int = PATIENCE,
        max_failures: int | None = None,
        **options: Any,
    ) -> None:
        """Open the response of `task.facts`.

        Args:
            task: of `make_task`.
            toolbox: the tools; None: those of `options`.
            patience: calls that cannot be run, before the episode ends unfinished.
            max_failures: calls that a tool refuses, before the same; None: however many. Training wastes no turns on
                a policy that repeats what fails.
            options: of `make_toolbox`.
        """
        self.task = task
        self.memory = Memory(str(task.facts["response"]))
        toolbox = toolbox or _toolbox(json.dumps(options, sort_keys=True))
        self._runner = _Runner(self.memory, str(task.facts.get("question", "")), toolbox)
        self._env = ToolEnv(task, self._runner, patience=patience)
        self._failures_left = max_failures
        self._is_over = False

    async def open(self) -> tuple[Message, ...]:
        """The instructions with question and response."""
        return await self._env.open()

    async def step(self, message: Message) -> Step:
        """Run the calls of one assistant message; get_answer ends the episode."""
        if self._is_over:
            raise RuntimeError(f"task {self.task.task_id}: step after the end of the episode")
        step = await self._env.step(message)
        self._is_over = step.done or self._runner.is_answered or self._gives_up(step)
        return Step(messages=(), results=step.results, done=True) if self._is_over else step

    def _gives_up(self, step: Step) -> bool:
        if self._failures_left is None:
            return False
        self._failures_left -= sum(result.status is ToolStatus.FAILED for result in step.results)
        return self._failures_left <= 0

    async def close(self) -> Outcome:
        """The verdict, and in `facts` every sentence with what was found: {"hallucinated", "sentences", "stages"}.

        Where the truth is known, {"success"} says whether the episode ended with the right verdict.
        """
        outcome = await self._env.close()
        hallucinated = self.memory.hallucinated
        if self._runner.is_answered:
            outcome = Outcome(finished=True, answer=YES if hallucinated else NO)
        elif outcome.finished:
            # The policy's own word counts, whatever memory says.
            hallucinated = {YES: True, NO: False}.get((outcome.answer or "").strip().lower().rstrip("."))
        facts = {
            "hallucinated": hallucinated if outcome.finished else None,
            "sentences": self.memory.rows(),
            "stages": list(self._runner.stages),
        }
        if self.task.answer is not None:
            said = {True: YES, False: NO}.get(facts["hallucinated"])
            facts["success"] = said == self.task.answer
        return replace(outcome, facts=facts)


class _Stages:
    """The tools that work on memory. They are async as they take no time: a thread of their own would take more."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.is_answered = False

    def functions(self) -> list[Callable[..., Any]]:
        """The tools."""
        return [self.split_text, self.set_label, self.link, self.review, self.get_answer]

    async def split_text(self, whole: bool = False) -> Json:
        """Split the response into numbered sentences, to be checked one by one.

        Args:
            whole: take it as one sentence, such as a program that makes sense only as a whole.
        """
        try:
            sentences = self._memory.segment(whole=whole)
        except ValueError as error:
            raise ToolError(str(error)) from error
        return {"sentences": {str(number): one.text for number, one in enumerate(sentences, start=1)}}

    async def set_label(self, sentence: Number, label: Label, evidence: Evidence) -> Json:
        """State a label, or change an earlier one.

        Args:
            sentence: its number; 0 is the whole response.
            label: 1 for a hallucination, 0 for none.
            evidence: why.
        """
        entry = Entry(sentence=sentence, label=label, evidence=evidence[:MAX_EVIDENCE], tool="set_label")
        with _numbers_checked():
            self._memory.change(entry)
        return entry.to_json()

    async def link(self, sentence: Number, depends_on: list[Number]) -> Json:
        """Say which earlier sentences a sentence rests on: an error in one of them is an error in it.

        Args:
            sentence: number of the sentence.
            depends_on: numbers of earlier sentences.
        """
        with _numbers_checked():
            self._memory.link(sentence, depends_on)
        return {"sentence": sentence, "depends_on": depends_on}

    async def review(self) -> Json:
        """Read the memory: what was found of each sentence. Compare each with its evidence, then with the others."""
        return {"memory": [entry.to_json() for entry in self._memory.entries()]}

    async def get_answer(self) -> Json:
        """End with the verdict: whether any sentence is a hallucination, and which ones with what evidence."""
        entries = self._memory.entries()
        if not entries:
            raise ToolError("no sentence has a label yet: check one, or state a label with set_label")
        self.is_answered = True
        wrong = [entry.to_json() for entry in entries if entry.label == 1]
        return {"hallucinated": YES if wrong else NO, "evidence": wrong}


class _numbers_checked:
    """A number that no sentence has is the policy's mistake."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NoSuchSentence):
            raise ToolError(str(error)) from error


class _Runner:
    """Runs one call: fills in what was left out, and puts what a tool judges into memory."""

    def __init__(self, memory: Memory, question: str, toolbox: Toolbox) -> None:
        self._memory = memory
        self._question = question
        self._stages = _Stages(memory)
        self._of_stages = _stage_tools().of(*self._stages.functions())
        self._checks = _check_tools(toolbox)
        self._specs = {spec.name: spec for spec in self._checks.specs}
        self._passages = ""
        self.stages: list[str] = []
        """Those that were reached, in the order of their first call."""

    @property
    def is_answered(self) -> bool:
        """Whether get_answer gave the verdict."""
        return self._stages.is_answered

    async def run(self, call: ToolCall) -> ToolResult:
        """The result, with status ok, failed or timed_out."""
        self._reach(call.name)
        if call.name in _STAGES:
            return _cut(await self._of_stages.run(call))
        arguments = dict(call.arguments)
        number = arguments.pop("sentence", WHOLE)
        try:
            text = self._memory.text(number)
        except NoSuchSentence as error:
            return _failed(call, str(error))
        try:
            filled = self._filled(call.name, arguments, text)
        except ToolError as error:
            return _failed(call, str(error))
        results = [await self._checks.run(replace(call, arguments=one)) for one in filled]
        result = _together(results)
        if result.status is ToolStatus.OK:
            self._learn(call.name, number, result.content)
        return _cut(result)

    def _reach(self, name: str) -> None:
        stage = {
            "split_text": "segmentation",
            "review": "reflection",
            "link": "reflection",
            "get_answer": "answer",
        }.get(name, "verification")
        if name == "set_label" and "reflection" in self.stages:
            stage = "reflection"
        if stage not in self.stages:
            self.stages.append(stage)

    def _filled(self, name: str, arguments: dict[str, Json], text: str) -> list[dict[str, Json]]:
        """The arguments with what was left out; of several claims in a sentence, those of each.

        Raises:
            ToolError: what was left out is not there.
        """
        properties = self._specs[name].properties
        values: dict[str, Json] = {"text": text, "sentence_text": text, "context": self._passages or self._question}
        if name == "web_search":
            values["query"] = text[:MAX_QUERY]
        if name == "code_interpreter" and "code" not in arguments:
            found = program(self._question, text)
            if found is None:
                raise ToolError("no program")
            values |= {"code": found.code, "tests": found.tests or ""}
        missing = {key: value for key, value in values.items() if key in properties and key not in arguments}
        return [claim | arguments | missing for claim in self._claims(name, arguments, text)]

    def _claims(self, name: str, arguments: Mapping[str, Json], text: str) -> list[dict[str, Json]]:
        if name not in _NOT_FOUND or LEFT_OUT_OF[name].keys() & arguments.keys():
            return [{}]
        if name == "calculator":
            found = [{"formula": formula} for formula in sums(text)]
        elif name == "date":
            found = [claim.to_json() for claim in date_claims(text)]
        else:
            found = [demand.to_json() for demand in lengths(self._question)]
        if not found:
            raise ToolError(_NOT_FOUND[name])
        return found[:MAX_CLAIMS]

    def _learn(self, name: str, number: int, content: str) -> None:
        value = _object(content)
        passages = value.get("passages")
        if isinstance(passages, list):
            self._passages = "\n".join(str(one.get("text", "")) for one in passages if isinstance(one, Mapping))
        label = value.get("label")
        if label in (0, 1) and not isinstance(label, bool):
            evidence = str(value.get("evidence", ""))[:MAX_EVIDENCE]
            self._memory.record(Entry(sentence=number, label=label, evidence=evidence, tool=name))


def _failed(call: ToolCall, error: str) -> ToolResult:
    return ToolResult(call_id=call.call_id, status=ToolStatus.FAILED, content=compact({"error": error}))


def _together(results: Sequence[ToolResult]) -> ToolResult:
    """The results of one call that checked several claims, as one: an error in one of them is an error."""
    bad = next((result for result in results if result.status is not ToolStatus.OK), None)
    if bad is not None or len(results) == 1:
        return bad or results[0]
    found = [_object(result.content) for result in results]
    labels = [value.get("label") for value in found]
    label = 1 if 1 in labels else 0 if 0 in labels else None
    evidence = "; ".join(str(value.get("evidence", "")) for value in found)
    return replace(results[0], content=compact(judgement(label, evidence)))


def _object(content: str) -> Mapping[str, Json]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}


def _cut(result: ToolResult) -> ToolResult:
    """A result of bounded length without marks of roles and calls: what a tool found is data."""
    content = _MARKS.sub(" ", result.content)
    if len(content) > MAX_RESULT:
        content = f"{content[:MAX_RESULT]} ... ({len(content) - MAX_RESULT} more characters)"
    return replace(result, content=content)
