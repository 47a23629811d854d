"""The system calls that sandboxed code may make: a filter of the kernel (seccomp mode 2) on x86-64 and AArch64.

What computes is allowed. Refused with EPERM are new processes and programs, sockets, signals to others, tracing,
mounts, namespaces, keys, memory that no limit counts, and what has been a way out of sandboxes (io_uring, bpf,
userfaultfd). A call that is newer than this file does not exist for the code (ENOSYS). Numbers: the kernel's
syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from errno import ENOSYS, EPERM

from envs.detection.sandbox import kernel

_DENIED = {
    # name: (x86-64, AArch64); None: the architecture has no such call
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "syslog": (103, 116),
    "acct": (163, 89),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
_DENIED_OUTSIDE = {
    # What changes files by their name or through a descriptor that can only read, which Landlock does not see.
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
_CLONE, _CLONE3, _TGKILL, _SOCKETPAIR, _PRCTL = (56, 220), (435, 435), (234, 131), (53, 199), (157, 167)
_OF_A_PROCESS = {
    # Their first argument names a process: allowed for the caller itself (0) alone.
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
}
_OF_AN_OWNER = {
    # Their second argument is a command: these have the kernel send a signal to a process that the caller names.
    "fcntl": ((72, 25), (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX
    "ioctl": ((16, 29), (0x8901, 0x8902)),  # FIOSETOWN, SIOCSPGRP
}
_NEWEST = 450
"""set_mempolicy_home_node (5.17): the newest call whose number was looked at here."""

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
"""Set in the numbers of the x32 calls, which are others than those above."""
_CLONE_THREAD = 0x00010000
_AF_UNIX = 1

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_FILTER_MODE = 2
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_GET_ACTION_AVAIL = 2


def is_available() -> bool:
    """Whether this kernel and architecture have filters that answer with an error."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return False
    try:
        kernel.syscall(_SECCOMP[machine], _GET_ACTION_AVAIL, 0, struct.pack("=I", _ERRNO))
    except OSError:
        return False
    return True


def install(*, own_files: bool) -> None:
    """Filter the calls of this process from now on, and of nothing else; there is no way back.

    Args:
        own_files: whether the process has a file system of its own; else it may change no file's owner, mode or times.

    Raises:
        OSError: the kernel refused.
    """
    program = b"".join(_program(own_files))
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, padding, their address.
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(head))


def _program(own_files: bool) -> Iterator[bytes]:
    column, architecture = _ARCHITECTURES[os.uname().machine]
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_JUMP_EQUAL, architecture, 1, 0)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    if column == 0:
        yield _instruction(_JUMP_AT_LEAST, _X32, 0, 1)
        yield _instruction(_RETURN, _KILL)
    yield _instruction(_JUMP_AT_LEAST, _NEWEST + 1, 0, 1)
    yield _instruction(_RETURN, _ERRNO | ENOSYS)
    # The C library falls back on clone, whose flags can be seen here.
    yield from _when(_CLONE3[column], [_instruction(_RETURN, _ERRNO | ENOSYS)])
    for numbers in (_DENIED if own_files else _DENIED | _DENIED_OUTSIDE).values():
        number = numbers[column]
        if number is not None:
            yield from _when(number, [_instruction(_RETURN, _ERRNO | EPERM)])
    yield from _when(_CLONE[column], _if_first_argument(_JUMP_ANY_BIT, _CLONE_THREAD))
    yield from _when(_SOCKETPAIR[column], _if_first_argument(_JUMP_EQUAL, _AF_UNIX))
    yield from _when(_TGKILL[column], _if_first_argument(_JUMP_EQUAL, os.getpid()))
    for numbers in _OF_A_PROCESS.values():
        yield from _when(numbers[column], _if_first_argument(_JUMP_EQUAL, 0))
    for numbers, commands in _OF_AN_OWNER.values():
        yield from _when(numbers[column], _unless_argument(_SECOND_ARGUMENT, commands))
    # The code ends with its warden.
    yield from _when(_PRCTL[column], _unless_argument(_FIRST_ARGUMENT, (kernel.PR_SET_PDEATHSIG,)))
    yield _instruction(_RETURN, _ALLOW)


def _when(number: int, then: list[bytes]) -> list[bytes]:
    """`then`, which returns, if the loaded number is this one."""
    return [_instruction(_JUMP_EQUAL, number, 0, len(then)), *then]


def _if_first_argument(test: int, value: int) -> list[bytes]:
    """Allow if the lower half of the first argument, which is all of an int, passes the test; else refuse."""
    return [
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(test, value, 0, 1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _ERRNO | EPERM),
    ]


def _unless_argument(place: int, values: Sequence[int]) -> list[bytes]:
    """Refuse if the lower half of the argument at `place` is one of the values, else allow."""
    left = range(len(values), 0, -1)
    return [
        _instruction(_LOAD, place),
        *(_instruction(_JUMP_EQUAL, value, num, 0) for value, num in zip(values, left, strict=True)),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _ERRNO | EPERM),
    ]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
