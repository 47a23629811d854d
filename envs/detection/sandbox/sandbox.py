"""Runs untrusted Python, with or without tests of it, and says how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

_PROGRAM = "import sys; sys.path.append(sys.argv.pop()); from envs.detection.sandbox import launcher; launcher.main()"
_PACKAGES = Path(__file__).resolve().parents[3]
_CHUNK = 1 << 16
_START_SECONDS = 20.0
"""That the launcher may take before the code starts: a loaded machine is no fault of the code."""


class Verdict(StrEnum):
    """How a run ended. Only `passed` speaks for the code, and only `refused` says nothing about it."""

    PASSED = "passed"
    """Exit status 0, of the tests where there are tests."""
    FAILED = "failed"
    """Another exit status: an error, a failed assertion, an end before the tests."""
    KILLED = "killed"
    """By a signal, of its own or of the kernel."""
    TIMED_OUT = "timed_out"
    """Wall-clock or processor time was used up."""
    FLOODED = "flooded"
    """More output than is read."""
    REFUSED = "refused"
    """Not run, as nothing here would contain it."""


class SandboxUnavailable(RuntimeError):
    """This machine cannot contain untrusted code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one run. The code and its tests are a process each, with these limits each."""

    seconds: float = 10.0
    """Wall-clock time of the whole."""
    cpu_seconds: int = 5
    memory_mib: int = 512
    """Address space."""
    scratch_mib: int = 16
    """Of the temporary folder, which lies in memory."""
    file_mib: int = 16
    output_kib: int = 256
    """Of standard output and error together."""
    max_threads: int = 16
    """New processes are refused."""
    max_files: int = 64

    def __post_init__(self) -> None:
        for name in Limits.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"limit {name}: expected more than 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What came of one run."""

    verdict: Verdict
    status: int | None = None
    """Exit status, negative for a signal; None if it did not end by itself."""
    stdout: str = ""
    stderr: str = ""
    """Written by the code: evidence of what it says, not of what is true."""
    reason: str = ""
    """Of a verdict other than passed, in one line."""
    seconds: float = 0.0
    protection: tuple[str, ...] = ()
    """What was active, such as seccomp or network_namespace."""


@dataclass(slots=True)
class _Heard:
    """What came through the pipes so far."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    channel: bytearray = field(default_factory=bytearray)
    timed_out: bool = False
    flooded: bool = False

    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.channel.split(b"\n")[:-1]]


class Sandbox:
    """Runs programs in processes without rights, files, network or each other.

    On Linux: namespaces (user, mount, pid, network, ipc, uts), an id that nobody has where there is a right to take
    one, a filter of system calls, Landlock, and limits. Where namespaces are forbidden, the filter and Landlock stand
    in; there is no temporary folder then. If nothing guards the network, files or other processes, nothing is run.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        python: str = sys.executable,
        allow_unprotected: bool = False,
        withhold: Iterable[str] = (),
    ) -> None:
        """Run with these limits.

        Args:
            limits: of each run.
            python: the interpreter.
            allow_unprotected: run also where nothing guards the machine. Only for code that is trusted.
            withhold: of "namespaces", "seccomp", "landlock": do without, to try what stands in.
        """
        self.limits = limits or Limits()
        self._python = python
        self._allow_unprotected = allow_unprotected
        self._withhold = tuple(withhold)

    def protection(self) -> tuple[str, ...]:
        """What is active here.

        Raises:
            SandboxUnavailable: not enough.
        """
        execution = self.run("")
        if execution.verdict is Verdict.REFUSED:
            raise SandboxUnavailable(execution.reason)
        return execution.protection

    def run(self, code: str, tests: str | None = None) -> Execution:
        """Run a program; with tests, the program and then its tests.

        Tests call the functions of the code, and read its values, from another process: plain data passes and nothing
        else, so that the code can neither read nor change nor skip its tests. Without tests the code speaks for itself.

        Args:
            code: a Python program.
            tests: a Python program that uses names of the code and ends with exit status 0 if it is right.
        """
        if not sys.platform.startswith("linux"):
            # The launcher's guards are Linux's. There is no unprotected way on other systems.
            return Execution(verdict=Verdict.REFUSED, reason=f"nothing contains code on {sys.platform}")
        started = time.monotonic()
        heard = _Heard()
        with _file(code) as code_file, _file(tests or "") as tests_file:
            self._converse(code_file, tests_file if tests is not None else None, heard)
        return self._judged(heard, time.monotonic() - started, tests is not None)

    def _converse(self, code: IO[bytes], tests: IO[bytes] | None, heard: _Heard) -> None:
        reader, writer = os.pipe()
        job = self._job(code, tests, writer)
        try:
            process = subprocess.Popen(
                [self._python, "-P", "-S", "-s", "-B", "-c", _PROGRAM, json.dumps(job), str(_PACKAGES)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[file.fileno() for file in (code, tests) if file is not None] + [writer],
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            )
        except OSError as error:
            os.close(reader)
            raise SandboxUnavailable(f"{self._python}: cannot be started: {error.strerror}") from error
        finally:
            os.close(writer)
        try:
            self._listen(process, reader, heard)
        finally:
            os.close(reader)
            _end(process)

    def _job(self, code: IO[bytes], tests: IO[bytes] | None, channel: int) -> dict[str, Any]:
        return {
            "code": code.fileno(),
            "tests": None if tests is None else tests.fileno(),
            "channel": channel,
            "cpu_seconds": self.limits.cpu_seconds,
            "memory_bytes": self.limits.memory_mib << 20,
            "scratch_bytes": self.limits.scratch_mib << 20,
            "file_bytes": self.limits.file_mib << 20,
            "max_threads": self.limits.max_threads,
            "max_files": self.limits.max_files,
            "allow_unprotected": self._allow_unprotected,
            "withhold": self._withhold,
        }

    def _listen(self, process: subprocess.Popen[bytes], channel: int, heard: _Heard) -> None:
        """Read until the launcher is gone, or a limit is reached."""
        assert process.stdout is not None and process.stderr is not None, "both are pipes"
        deadline = time.monotonic() + _START_SECONDS
        has_started = False
        with selectors.DefaultSelector() as selector:
            for source, kept in (
                (process.stdout.fileno(), heard.stdout),
                (process.stderr.fileno(), heard.stderr),
                (channel, heard.channel),
            ):
                selector.register(source, selectors.EVENT_READ, kept)
            while selector.get_map():
                if not has_started and heard.channel:
                    has_started, deadline = True, time.monotonic() + self.limits.seconds
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    heard.timed_out = True
                    return
                for key, _ in selector.select(remaining):
                    data = os.read(key.fd, _CHUNK)
                    key.data.extend(data)
                    if not data:
                        selector.unregister(key.fd)
                if len(heard.stdout) + len(heard.stderr) > self.limits.output_kib << 10:
                    heard.flooded = True
                    return

    def _judged(self, heard: _Heard, seconds: float, has_tests: bool) -> Execution:
        reports = heard.reports()
        protection = next((report["protection"] for report in reports if "protection" in report), ())
        refused = next((report["refused"] for report in reports if "refused" in report), None)
        ended = {report["ended"]: report for report in reports if "ended" in report}
        decisive = ended.get("tests" if has_tests else "code")
        status = decisive["code"] if decisive else None
        stdout, stderr = (bytes(text).decode(errors="replace") for text in (heard.stdout, heard.stderr))
        used_up = [name for name, report in ended.items() if report["cpu_seconds"] >= self.limits.cpu_seconds - 0.25]
        if refused is None and not protection:
            refused = f"the launcher did not come up: {_last_line(stderr)}"
        if refused is not None:
            verdict, reason = Verdict.REFUSED, refused
        elif heard.flooded:
            verdict, reason = Verdict.FLOODED, f"more than {self.limits.output_kib} KiB of output"
        elif status == 0:
            verdict, reason = Verdict.PASSED, ""
        elif used_up:
            verdict, reason = Verdict.TIMED_OUT, f"more than {self.limits.cpu_seconds} s of processor time"
        elif status is None:
            verdict, reason = Verdict.TIMED_OUT, f"more than {self.limits.seconds:g} s"
        elif status < 0:
            verdict, reason = Verdict.KILLED, _signal_name(-status)
        else:
            verdict, reason = Verdict.FAILED, _last_line(stderr) or f"exit status {status}"
        return Execution(
            verdict=verdict,
            status=status,
            stdout=stdout,
            stderr=stderr,
            reason=reason,
            seconds=seconds,
            protection=tuple(protection),
        )


@contextlib.contextmanager
def _file(text: str) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(text.encode(errors="surrogatepass"))
        file.seek(0)
        yield file


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the run. The group has its number until the launcher is waited for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
