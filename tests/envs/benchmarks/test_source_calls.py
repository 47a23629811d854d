import pytest

from envs.benchmarks.source_calls import source_call


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("ls(a=True)", "ls", {"a": True}),
        ("cd('docs')", "cd", {"folder": "docs"}),
        ("mv('a', destination='b')", "mv", {"source": "a", "destination": "b"}),
        ("a.b(x=[-1.5, (2, 'c')], y={'k': None})", "a.b", {"x": [-1.5, [2, "c"]], "y": {"k": None}}),
        ("pay(amount=500*500)", "pay", {"amount": 250000}),
        ("stop()", "stop", {}),
    ],
)
def test_source_becomes_a_call(text, name, arguments):
    call = source_call(text, {"cd": ["folder"], "mv": ["source", "destination"]})
    assert (call.name, dict(call.arguments)) == (name, arguments)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cd(", "is not Python"),
        ("cd", "is no call"),
        ("cd('a', 'b')", "2 positional arguments, cd has 1 parameters"),
        ("cd('a', folder='b')", "argument folder is given twice"),
        ("cd(folder=name)", "'name' is no literal"),
        ("cd(folder='a'*3)", "'a'\" is no number"),
    ],
)
def test_what_is_no_call_is_refused(text, fault):
    with pytest.raises(ValueError, match=fault):
        source_call(text, {"cd": ["folder"]})
