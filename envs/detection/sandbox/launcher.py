"""The new process: what runs as `python -c "...launcher.main()"` with the job as its one argument.

    host ----> launcher ----> keeper -----------> (first of its namespaces) warden --+--> the code
               tells the host  leaves the host's   builds the root, drops identity   +--> its tests
               what is active  namespaces          and rights, waits, tells how they ended

Only launcher, keeper and warden hold the channel to the host. The code and its tests have a filter of system calls,
limits, and no channel but the two pipes between them; the tests alone know the tests. The warden's end ends its
namespaces with all that is in them; the host's end ends the launcher.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from envs.detection.sandbox import exchange, kernel, landlock, root, seccomp

NAMESPACES = ("mount_namespace", "pid_namespace", "network_namespace", "ipc_namespace", "uts_namespace")
_NAMESPACE_FLAGS = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)
GUARDS = {
    "the network": ({"network_namespace"}, {"seccomp"}),
    "files": ({"mount_namespace"}, {"landlock", "seccomp"}),
    "other processes": ({"seccomp"}, {"pid_namespace", "unprivileged_uid"}),
}
"""What must be guarded, and sets of protections each of which is enough for it."""

_PRELOADED = ("ctypes", "hashlib", "zlib", "bz2", "lzma", "decimal", "random", "datetime", "typing", "collections")
"""Modules whose libraries lie outside the standard library's folder, and some that code often imports."""
_FIRST_UNUSED_ID = 1_879_050_000
"""Behind the ids that systemd gives to containers; the launcher's process id is added."""
_CODE, _TESTS = "<code>", "<tests>"
_NOT_STARTED = 120
"""Exit status of a process that could not be confined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the host asks for: descriptors, limits, and what may be missing."""

    code: int
    tests: int | None
    channel: int
    cpu_seconds: int
    memory_bytes: int
    scratch_bytes: int
    file_bytes: int
    max_threads: int
    max_files: int
    allow_unprotected: bool
    withhold: tuple[str, ...]
    """Protections to do without, so that what replaces them can be tested."""


def main() -> None:
    """Run the job that the command line names."""
    job = Job(**json.loads(sys.argv[1]))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.path[:] = root.library_folders()
    for name in _PRELOADED:
        try:
            __import__(name)
        except ImportError:  # An interpreter built without it.
            continue
    unused = _unused_id()
    for attempt in _attempts(job):
        if _launch(job, attempt, unused):
            return
    _tell(job, {"refused": "the process could not be set up"})


def _attempts(job: Job) -> list[str]:
    """Ways to leave the host's namespaces, best first."""
    if "namespaces" in job.withhold:
        return ["none"]
    return ["user", *["root"] * (os.geteuid() == 0), "none"]


def _launch(job: Job, attempt: str, unused: int) -> bool:
    """Start the keeper; whether it came as far as to decide about the code."""
    asks, answers = os.pipe(), os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(asks[0])
        os.close(answers[1])
        _guarded(lambda: _keep(job, attempt, unused, asks[1], answers[0]))
    os.close(asks[1])
    os.close(answers[0])
    said = os.read(asks[0], 1)
    if said == b"m":
        os.write(answers[1], b"y" if _map_ids(keeper) else b"n")
        said = os.read(asks[0], 1)
    os.close(asks[0])
    os.close(answers[1])
    os.waitpid(keeper, 0)
    return said == b"r"


def _map_ids(process: int) -> bool:
    """Give the user namespace of `process` the ids of this one; those of one user if there is no right to more."""
    try:
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/self/{kind}") as file:
                ranges = [line.split() for line in file]
            lines = "".join(f"{inside} {inside} {num}\n" for inside, _, num in ranges)
            _write(f"/proc/{process}/{kind}", lines)
    except OSError:
        pass
    else:
        return True
    try:
        _write(f"/proc/{process}/setgroups", "deny")
        _write(f"/proc/{process}/uid_map", f"{os.geteuid()} {os.geteuid()} 1\n")
        _write(f"/proc/{process}/gid_map", f"{os.getegid()} {os.getegid()} 1\n")
    except OSError:
        return False
    return True


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _guarded(work: Callable[[], None]) -> None:
    """What a forked process does, and then it ends, whatever happens: it must not run its parent's program."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


# The keeper: in the namespaces of the host but for what it has left.


def _keep(job: Job, attempt: str, unused: int, ask: int, answer: int) -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if attempt == "user":
            kernel.unshare(kernel.CLONE_NEWUSER | _NAMESPACE_FLAGS)
            os.write(ask, b"m")
            if os.read(answer, 1) != b"y":
                return
        elif attempt == "root":
            kernel.unshare(_NAMESPACE_FLAGS)
    except OSError:
        return
    os.close(answer)
    warden = os.fork()
    if warden == 0:
        _guarded(lambda: _guard(job, attempt, unused, ask))
    os.close(ask)
    os.waitpid(warden, 0)


# The warden.


def _guard(job: Job, attempt: str, unused: int, ready: int) -> None:
    active = ["rlimits", "no_new_privileges"]
    if attempt != "none":
        try:
            root.build(job.scratch_bytes)
        except OSError:
            return
        active += [*NAMESPACES, *["user_namespace"] * (attempt == "user")]
    if _become_nobody(attempt, unused):
        active.append("unprivileged_uid")
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    # Not for others of the same user to trace; the change of identity has also cleared the signal.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if "seccomp" not in job.withhold and seccomp.is_available():
        active.append("seccomp")
    if "landlock" not in job.withhold and landlock.version():
        active.append("landlock")
    os.write(ready, b"r")
    os.close(ready)
    lacking = [what for what, enough in GUARDS.items() if not any(guard <= set(active) for guard in enough)]
    _tell(job, {"protection": sorted(active), "lacking": lacking})
    if lacking and not job.allow_unprotected:
        _tell(job, {"refused": f"nothing guards {', '.join(lacking)}"})
        return
    _run(job, active)


def _become_nobody(attempt: str, unused: int) -> bool:
    """Take an id that nobody has, if there is a right to; whether the id is not root's now.

    Without a root of its own a process of another id might not be able to read its interpreter.
    """
    if attempt != "none" and os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(unused, unused, unused)
            os.setresuid(unused, unused, unused)
        except OSError:
            pass
    return os.geteuid() != 0


def _unused_id() -> int:
    """An id that nobody has: one for each launcher, so that no two share their limits, where there are enough ids."""
    with open("/proc/self/uid_map") as file:
        ranges = [(int(first), int(num)) for first, _, num in map(str.split, file)]
    own = _FIRST_UNUSED_ID + os.getpid()
    if any(first <= own < first + num for first, num in ranges):
        return own
    return max(first + num - 1 for first, num in ranges)


def _run(job: Job, active: list[str]) -> None:
    to_code, to_tests = os.pipe(), os.pipe()
    started_reader, started_writer = os.pipe()
    processes: dict[int, str] = {}

    def start(name: str, work: Callable[[], None]) -> None:
        process = os.fork()
        if process == 0:
            os.close(started_reader)
            _guarded(work)
        processes[process] = name

    start("code", lambda: _be_code(job, active, to_code[0], to_tests[1], started_writer))
    if job.tests is not None:
        start("tests", lambda: _be_tests(job, active, to_tests[0], to_code[1], started_writer))
    for descriptor in (*to_code, *to_tests, started_writer):
        os.close(descriptor)
    confined = 0
    while os.read(started_reader, 1):
        confined += 1
        if confined == len(processes):
            break
    if confined < len(processes):
        _tell(job, {"refused": "the code could not be confined"})
        return
    decisive = "code" if job.tests is None else "tests"
    while decisive in processes.values():
        process, status, usage = os.wait4(-1, 0)
        name = processes.pop(process, None)
        if name is not None:
            cpu_seconds = usage.ru_utime + usage.ru_stime
            _tell(job, {"ended": name, "code": os.waitstatus_to_exitcode(status), "cpu_seconds": cpu_seconds})


def _tell(job: Job, what: Mapping[str, Any]) -> None:
    os.write(job.channel, json.dumps(what).encode() + b"\n")


# The code and its tests.


def _be_code(job: Job, active: list[str], reader: int, writer: int, started: int) -> None:
    text = _read(job.code)
    pipes = () if job.tests is None else (reader, writer)
    _confine(job, active, keep=(*pipes, started), started=started)
    namespace = _module()
    status = _execute(text, _CODE, namespace)
    if job.tests is not None:
        if status == 0:
            with open(reader) as requests, open(writer, "w") as answers:
                exchange.serve(namespace, requests, answers)
        else:
            sys.stderr.write("the code ended before it could be tested\n")
    _end(status)


def _be_tests(job: Job, active: list[str], reader: int, writer: int, started: int) -> None:
    assert job.tests is not None, "started only where there are tests"
    text = _read(job.tests)
    _confine(job, active, keep=(reader, writer, started), started=started)
    namespace = _module()
    with open(reader) as answers, open(writer, "w") as requests:
        try:
            namespace.update(exchange.Candidate(requests, answers).names(text))
        except (exchange.CandidateGone, SyntaxError) as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            _end(1)
        _end(_execute(text, _TESTS, namespace))


def _read(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        return file.read().decode(errors="surrogatepass")


def _confine(job: Job, active: list[str], keep: tuple[int, ...], started: int) -> None:
    """Give up everything but the descriptors in `keep`, for good; `started` is told and closed."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    _close_others(keep)
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, job.cpu_seconds),
        (resource.RLIMIT_FSIZE, job.file_bytes),
        (resource.RLIMIT_NOFILE, job.max_files),
        (resource.RLIMIT_NPROC, job.max_threads),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_AS, job.memory_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    if "landlock" in active:
        if "mount_namespace" in active:
            landlock.restrict(["/"], root.devices(), [root.SCRATCH])
        else:
            landlock.restrict(root.library_folders(), root.devices(), [])
    if "seccomp" in active:
        seccomp.install(own_files="mount_namespace" in active)
    os.write(started, b"s")
    os.close(started)


def _close_others(keep: tuple[int, ...]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    previous = 2
    for descriptor in (*sorted(keep), resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        os.closerange(previous + 1, descriptor)
        previous = descriptor


def _module() -> dict[str, Any]:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv[:] = [_CODE]
    return vars(module)


def _execute(text: str, name: str, namespace: dict[str, Any]) -> int:
    """Run a program as the interpreter would; its exit status."""
    import linecache

    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    try:
        exec(compile(text, name, "exec", dont_inherit=True), namespace)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        kind, error, trace = sys.exc_info()
        # Without the frame of this function.
        traceback.print_exception(kind, error, trace.tb_next if trace else None)
        return 1
    return 0


def _end(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    os._exit(status)


def _flush(stream: IO[str]) -> None:
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        return
