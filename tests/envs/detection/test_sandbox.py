import os
import signal
import subprocess
import sys
import time

import pytest

from envs.detection.sandbox.exchange import NotPlain, decode, encode, wanted
from envs.detection.sandbox.sandbox import Limits, Sandbox, SandboxUnavailable, Verdict


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    sandbox = Sandbox()
    try:
        sandbox.protection()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    return sandbox


def test_a_program_that_ends_normally_passes_with_its_output(sandbox):
    execution = sandbox.run("import hashlib, math\nprint(math.sqrt(49))\nprint(hashlib.md5(b'').hexdigest())")
    assert execution.verdict is Verdict.PASSED and execution.status == 0 and execution.reason == ""
    assert execution.stdout == "7.0\nd41d8cd98f00b204e9800998ecf8427e\n"


@pytest.mark.parametrize(
    ("code", "verdict", "reason"),
    [
        ("1 / 0", Verdict.FAILED, "ZeroDivisionError: division by zero"),
        ("def f(:", Verdict.FAILED, "SyntaxError: invalid syntax"),
        ("import no_such_module", Verdict.FAILED, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", Verdict.FAILED, "exit status 3"),
        ("raise SystemExit('no')", Verdict.FAILED, "no"),
        ("raise SystemExit", Verdict.PASSED, ""),
        ("import os\nos.abort()", Verdict.KILLED, "SIGABRT"),
        ("# a comment \N{SNOWMAN}", Verdict.PASSED, ""),
        ("x = '\0'", Verdict.FAILED, "SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_a_program_is_judged_by_how_it_ends(sandbox, code, verdict, reason):
    execution = sandbox.run(code)
    assert (execution.verdict, execution.reason) == (verdict, reason)


def test_functions_see_each_other_and_themselves(sandbox):
    """In one namespace, as a module: a function body that is executed as a whole would not find its helpers."""
    code = (
        "def double(x): return 2 * x\ndef power(n): return 1 if n == 0 else double(power(n - 1))\nassert power(5) == 32"
    )
    assert sandbox.run(code).verdict is Verdict.PASSED


def test_the_temporary_folder_is_writable_and_forgotten(sandbox):
    if "mount_namespace" not in sandbox.protection():
        pytest.skip("without a mount namespace there is none")
    code = "import os, tempfile\nassert os.listdir('/tmp') == []\nopen('/tmp/mine', 'w').write('x')\ntempfile.mkdtemp()"
    assert [sandbox.run(code).verdict for _ in range(2)] == [Verdict.PASSED] * 2


def test_threads_are_allowed_up_to_their_number(sandbox):
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool: assert sum(pool.map(abs, range(10))) == 45"""
    assert sandbox.run(code).verdict is Verdict.PASSED


def test_processor_time_is_limited_apart_from_wall_clock_time():
    execution = Sandbox(Limits(seconds=60, cpu_seconds=1)).run("while True: pass")
    if execution.verdict is Verdict.REFUSED:
        pytest.skip(execution.reason)
    assert execution.verdict is Verdict.TIMED_OUT and execution.reason == "more than 1 s of processor time"


def test_hashes_are_the_same_in_every_run(sandbox):
    runs = {sandbox.run("print(hash('a'), list({'a', 'b', 'c', 'd'}))").stdout for _ in range(3)}
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("code", "tests", "verdict"),
    [
        ("def f(x): return [x, (x,), {x: {x}}]", "assert f(1.5) == [1.5, (1.5,), {1.5: {1.5}}]", Verdict.PASSED),
        ("def f(x): return x", "assert f(1) is not True and f(float('inf')) == float('inf')", Verdict.PASSED),
        ("def f(x): return (y for y in x)", "assert list(f([1, 2])) == [1, 2]", Verdict.PASSED),
        ("LIMIT = 3", "assert LIMIT == 3", Verdict.PASSED),
        ("def f(): raise ValueError('no')", "try: f()\nexcept ValueError as e: assert str(e) == 'no'", Verdict.PASSED),
        ("def f(a, *, b): return a - b", "assert f(3, b=1) == 2", Verdict.PASSED),
        ("def f(): return object()", "f()", Verdict.FAILED),
        ("def f(): pass", "assert g() is None", Verdict.FAILED),
        ("all = lambda x: True", "assert not all([False])", Verdict.PASSED),
        ("def f(): pass", "assert f(", Verdict.FAILED),
    ],
)
def test_tests_judge_the_code_from_another_process(sandbox, code, tests, verdict):
    assert sandbox.run(code, tests).verdict is verdict


def test_failed_assertion_is_shown_as_evidence(sandbox):
    execution = sandbox.run("def f(x): return x", "assert f(1) == 2, 'one is not two'")
    assert execution.reason == "AssertionError: one is not two" and "assert f(1) == 2" in execution.stderr


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(10**30),
        1.5,
        float("inf"),
        2j,
        "x\ud800",
        b"\0",
        [],
        (1, [2]),
        {3},
        frozenset({4}),
        {(1,): None},
    ],
)
def test_plain_data_survives_the_exchange(value):
    again = decode(encode(value))
    assert again == value and type(again) is type(value)


def test_what_is_not_plain_does_not_pass():
    with pytest.raises(NotPlain, match="type object"):
        encode([object()])
    for forged in ([1], {"eval": "1"}, {"int": "0x1", "str": ""}, 7):
        with pytest.raises((ValueError, KeyError, TypeError)):
            decode(forged)


def test_tests_take_from_the_code_only_names_they_do_not_have():
    tests = (
        "import math\nfrom a import b as c\ndef check(f):\n  for x in f(): print(x, all([c, math, y]))\ncheck(solve)"
    )
    assert wanted(tests) == ["solve", "y"]


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="limit cpu_seconds: expected more than 0, got 0"):
        Limits(cpu_seconds=0)


def test_missing_interpreter_is_told():
    with pytest.raises(SandboxUnavailable, match="/no/python: cannot be started"):
        Sandbox(python="/no/python").run("")


def test_nothing_outlives_the_end_of_the_host(sandbox, tmp_path):
    """The host is killed as hard as can be in the middle of a run; the run ends with it."""
    program = (
        "from envs.detection.sandbox.sandbox import *; Sandbox(Limits(seconds=600)).run('import time; time.sleep(599)')"
    )
    host = subprocess.Popen([sys.executable, "-c", program], env={"PYTHONPATH": os.getcwd()})
    try:
        launcher = _wait_for(lambda: _descendants(host.pid) if len(_descendants(host.pid)) >= 3 else None)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
    assert _wait_for(lambda: not any(map(_is_running, launcher)) or None)


def _descendants(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return children + [process for child in children for process in _descendants(child)]


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _wait_for(find, patience: float = 60.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = find()
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen")
