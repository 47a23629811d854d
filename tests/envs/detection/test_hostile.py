"""Hostile programs in the sandbox: contained in every way that this machine has, and the machine is as before."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import pytest
from hostile import ATTACKS, MEMORY, OUTPUT, TAMPERING, TESTS, TIME

from envs.detection.sandbox.sandbox import Execution, Limits, Sandbox, SandboxUnavailable, Verdict

LIMITS = Limits(seconds=1, cpu_seconds=1, memory_mib=256, scratch_mib=8, file_mib=4, output_kib=64, max_threads=8)
NOBODY = 64_123
"""An id without rights, for the runs as a plain user."""
WAYS = {"namespaces": (), "stand-ins": ("namespaces",)}
REPOSITORY = Path(__file__).resolve().parents[3]
LEFT_BEHIND = ("x", "link", "root", "hard", "huge", "disk", "program", "0")
"""Names that the programs use in their temporary folder, which is not the machine's."""


@dataclass(frozen=True)
class Host:
    """What hostile programs aim at."""

    secret: Path
    pid: int
    port: int
    abstract: str

    def fill(self, code: str) -> str:
        names = {"home": str(Path.home()), "repository": str(REPOSITORY), "secret": str(self.secret)}
        return Template(code).substitute(names, pid=self.pid, port=self.port, abstract=self.abstract)

    def state(self) -> dict[str, object]:
        """What must be the same afterwards."""
        library, secret = os.stat(os.__file__), self.secret.stat()
        return {
            "secret": (self.secret.read_text(), secret.st_mode, secret.st_mtime, secret.st_nlink),
            "library": (library.st_mode, library.st_mtime, library.st_size),
            "planted": (Path(os.__file__).parent / "planted.py").exists(),
            "left behind": [name for name in LEFT_BEHIND if Path("/tmp", name).exists()],
            "victim": (
                Path(f"/proc/{self.pid}/stat").read_text().split()[2] in "RS",
                os.getpriority(os.PRIO_PROCESS, self.pid),
            ),
            "children": _children(),
            "host name": socket.gethostname(),
        }


def _children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[Host]:
    secret = tmp_path_factory.mktemp("host") / "secret"
    secret.write_text("hunter2")
    abstract = f"tether-hostile-{os.getpid()}"
    victim = subprocess.Popen(["sleep", "600"])
    os.environ["TETHER_TEST_KEY"] = "hunter2"
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
            local.bind(f"\0{abstract}")
            local.listen()
            yield Host(secret=secret, pid=victim.pid, port=server.getsockname()[1], abstract=abstract)
    finally:
        del os.environ["TETHER_TEST_KEY"]
        victim.kill()
        victim.wait()


@cache
def _sandbox(way: str) -> Sandbox:
    return Sandbox(LIMITS, withhold=WAYS[way])


@cache
def _why_not(way: str) -> str:
    """Why this way of containing code cannot be tried here; empty if it can."""
    try:
        protection = _sandbox(way).protection()
    except SandboxUnavailable as error:
        return f"{way}: {error}"
    return "the kernel forbids namespaces" if way == "namespaces" and "mount_namespace" not in protection else ""


@pytest.fixture(params=WAYS)
def way(request) -> str:
    if _why_not(request.param):
        pytest.skip(_why_not(request.param))
    return request.param


@pytest.fixture
def sandbox(way) -> Sandbox:
    return _sandbox(way)


def _cases() -> Iterator[object]:
    """Each program in each way. What waits for a limit that is kept in both ways alike is slow in the second."""
    for way in WAYS:
        for name in ATTACKS:
            is_slow = way != "namespaces" and name in MEMORY | TIME | OUTPUT
            yield pytest.param(way, name, marks=[pytest.mark.slow] * is_slow, id=f"{way}-{name}")


@pytest.mark.parametrize(("way", "name"), _cases())
def test_hostile_program_is_contained(host, way, name):
    if _why_not(way):
        pytest.skip(_why_not(way))
    before = host.state()
    execution = _sandbox(way).run(host.fill(ATTACKS[name]))
    assert execution.verdict not in (Verdict.PASSED, Verdict.REFUSED), execution
    assert "hunter2" not in execution.stdout and "root:" not in execution.stdout
    assert host.state() == before
    if name in TIME:
        assert execution.verdict in (Verdict.TIMED_OUT, Verdict.FAILED, Verdict.KILLED)
    if name in OUTPUT:
        assert execution.verdict is Verdict.FLOODED


@pytest.mark.parametrize("name", TAMPERING)
def test_tests_are_out_of_reach_of_what_they_test(sandbox, name):
    execution = sandbox.run(TAMPERING[name], TESTS)
    assert execution.verdict not in (Verdict.PASSED, Verdict.REFUSED), execution


def test_right_code_passes_the_same_tests(way):
    assert Sandbox(withhold=WAYS[way]).run("def square(x): return x * x", TESTS).verdict is Verdict.PASSED


def test_attacks_work_outside_of_the_sandbox(host):
    """What the suite looks for is there to be found: a few attacks that do no harm succeed without a sandbox."""
    for name in ("read the secret", "connect to the host", "list the repository", "one fork", "read the password file"):
        code = host.fill(ATTACKS[name])
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        assert run.returncode == 0, name


PLAIN = """
import json, sys
from envs.detection.sandbox.sandbox import Limits, Sandbox
limits, attacks, tampering, tests, python = json.load(sys.stdin)
sandbox = Sandbox(Limits(**limits), python=python)
runs = {name: sandbox.run(code) for name, code in attacks.items()}
right = Sandbox(python=python).run("def square(x): return x * x", tests)
runs |= {name: sandbox.run(code, tests) for name, code in tampering.items()}
found = {name: [run.verdict, run.reason, run.stdout] for name, run in runs.items()}
json.dump([right.protection, right.verdict, found], sys.stdout)
"""


@pytest.mark.slow
def test_hostile_programs_are_contained_where_the_sandbox_runs_as_a_plain_user(host):
    if os.geteuid() != 0:
        pytest.skip("not root: the other tests run as a plain user already")
    python = _python_of_everybody()
    fast = {name: host.fill(code) for name, code in ATTACKS.items() if name not in TIME | OUTPUT}
    limits = {name: getattr(LIMITS, name) for name in Limits.__slots__}
    before = host.state()
    run = subprocess.run(
        [python, "-c", PLAIN],
        input=json.dumps([limits, fast, TAMPERING, TESTS, python]),
        capture_output=True,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    protection, right, runs = json.loads(run.stdout)
    if right == Verdict.REFUSED:
        pytest.skip("nothing contains code of a plain user here")
    assert right == Verdict.PASSED and "unprivileged_uid" in protection
    escaped = {name: found for name, found in runs.items() if found[0] in (Verdict.PASSED, Verdict.REFUSED)}
    assert not escaped
    assert not any("hunter2" in found[2] or "root:" in found[2] for found in runs.values())
    assert host.state() == before


def _python_of_everybody() -> str:
    """An interpreter that every user may start: one's own may lie in a closed home."""
    probe = "import sys, json; assert sys.version_info >= (3, 11)"
    readable = os.access(REPOSITORY, os.R_OK)
    for candidate in (sys.executable, *filter(None, map(shutil.which, ("python3", "/usr/bin/python3")))):
        try:
            found = subprocess.run(
                [candidate, "-c", probe],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                env={},
                capture_output=True,
            )
        except OSError:
            continue
        if found.returncode == 0 and readable:
            return candidate
    pytest.skip("no Python 3.11 that a plain user may start")


def test_suite_has_at_least_sixty_programs():
    assert len(ATTACKS) + len(TAMPERING) >= 60


def _refused(execution: Execution) -> bool:
    return execution.verdict is Verdict.REFUSED


def test_without_any_guard_nothing_is_run_unless_told_otherwise():
    withhold = ("namespaces", "seccomp", "landlock")
    execution = Sandbox(LIMITS, withhold=withhold).run("print('ran')")
    assert _refused(execution) and execution.stdout == ""
    assert execution.reason == "nothing guards the network, files, other processes"
    with pytest.raises(SandboxUnavailable, match="nothing guards"):
        Sandbox(LIMITS, withhold=withhold).protection()
    trusted = Sandbox(LIMITS, withhold=withhold, allow_unprotected=True).run("print('ran')")
    assert trusted.verdict is Verdict.PASSED and trusted.stdout == "ran\n"
