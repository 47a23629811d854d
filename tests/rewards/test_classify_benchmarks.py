"""What recorded outputs and references of public benchmarks ask of the judge."""

from envs.types import Message, TaskKind
from rewards.classify import classify, judge
from rewards.types import ErrorKind
from rollout.unrendered import unrendered


def kinds(trajectory) -> list[ErrorKind]:
    return [error.kind for error in classify(trajectory)]


def test_saying_that_no_tool_serves_is_right_where_no_call_is(build):
    task = build.task(kind=TaskKind.UNMATCHED_TOOLS)
    verdict = judge(build.play(task, build.other_tools(), build.finish()))
    assert verdict.errors == () and verdict.success
    assert not verdict.deferral_due
    assert judge(build.play(task, build.finish())).success
    assert kinds(build.play(task, build.call("pay_bill", bill_id="7"))) == [ErrorKind.IRRELEVANT_TOOL]
    assert kinds(build.play(task, build.ask("city"))) == [ErrorKind.NEEDLESS_DEFERRAL]
    assert kinds(build.play(build.task(), build.other_tools())) == [ErrorKind.NEEDLESS_DEFERRAL]


def test_a_call_in_place_of_a_question_is_judged_by_its_values_where_nothing_follows(build):
    task = build.task(build.ask("city"), kind=TaskKind.MISSING_ARGUMENT, request="Find a hotel")
    errors = classify(build.play(task, build.call("find_hotel", city="Oslo")))
    assert [(error.kind, error.argument) for error in errors] == [
        (ErrorKind.MISSED_DEFERRAL, None),
        (ErrorKind.UNGROUNDED_VALUE, "/city"),
    ]


def test_a_deferral_whose_action_is_not_offered_is_not_missing(build):
    task = build.task(build.ask("city"), kind=TaskKind.MISSING_ARGUMENT)
    said = judge(unrendered(task, [(Message(role="assistant", content="Which city?"), ())]))
    assert said.errors == () and said.success is None
    call = Message(role="assistant", calls=(build.call("find_hotel", city="Oslo"),))
    assert judge(unrendered(task, [(call, ())])).success is False
    offered = judge(build.play(task, "Which city?"))
    assert [error.kind for error in offered.errors] == [ErrorKind.MISSING_CALL]
    assert offered.success is False


def test_a_call_that_is_left_open_is_missing_beside_a_deferral_in_words(build):
    task = build.task(build.ask("city"), build.call("find_hotel", city="Oslo"), kind=TaskKind.MISSING_ARGUMENT)
    verdict = judge(unrendered(task, [(Message(role="assistant", content="Which city?"), ())]))
    assert [(error.kind, error.call) for error in verdict.errors] == [(ErrorKind.MISSING_CALL, None)]
    assert verdict.success is False
