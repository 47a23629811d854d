"""The files that sandboxed code may open (Landlock, Linux 5.13): the only guard of them without a mount namespace.

Landlock does not hide names: the code can still ask whether a file exists and how large it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from envs.detection.sandbox import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Of every architecture."""
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Rights to files that each version of the interface knows (linux/landlock.h); from 5 on there are 16."""
_NETWORK = 0b11
_SCOPES = 0b11
"""Abstract sockets and signals."""


def version() -> int:
    """Version of the kernel's interface; 0 without Landlock."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(readable: Sequence[str], devices: Sequence[str], writable: Sequence[str]) -> None:
    """Let this process open nothing but these files and what lies beneath these folders; there is no way back.

    Args:
        readable: folders.
        devices: files to read and write.
        writable: folders to do anything in but to run programs.

    Raises:
        OSError: the kernel refused.
    """
    known = version()
    rights = (1 << _NUM_RIGHTS.get(known, 16)) - 1
    attributes = struct.pack("=QQQ", rights, _NETWORK if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    attributes = attributes[: 24 if known >= 6 else 16 if known >= 4 else 8]
    rules = kernel.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    try:
        for places, allowed in (
            (readable, _READ_FILE | _READ_DIR),
            (devices, _READ_FILE | _WRITE_FILE),
            (writable, rights & ~_EXECUTE),
        ):
            for place in places:
                _allow(rules, place, allowed)
        kernel.syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, place: str, allowed: int) -> None:
    opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        kernel.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, opened), 0)
    finally:
        os.close(opened)
