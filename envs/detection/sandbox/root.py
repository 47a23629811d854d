"""The file system that sandboxed code sees: the standard library, three devices, and a folder of its own in memory."""

from __future__ import annotations

import os

from envs.detection.sandbox import kernel
from envs.detection.sandbox.kernel import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC

SCRATCH = "/tmp"
"""The one folder that the code can write to."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_NUM_FILES = 1024


def library_folders() -> list[str]:
    """Where the running interpreter finds its standard library."""
    library = os.path.dirname(os.__file__)
    native = os.path.join(library, "lib-dynload")
    return [folder for folder in (library, native) if os.path.isdir(folder)]


def devices() -> list[str]:
    """What the code sees of /dev."""
    return [path for path in _DEVICES if os.path.exists(path)]


def build(scratch_bytes: int) -> None:
    """Make it the root of this process, which must be in a mount namespace of its own.

    Raises:
        OSError: the kernel refused.
    """
    # Sources are opened before anything is mounted over them.
    library, *others = library_folders()
    inside = os.path.realpath(library)
    outside = [path for path in others if not os.path.realpath(path).startswith(inside)]
    sources = {path: os.open(path, os.O_PATH) for path in (library, *outside)}
    nodes = {path: os.open(path, os.O_PATH) for path in devices()}
    kernel.mount("none", "/", None, MS_REC | MS_PRIVATE)
    base = SCRATCH
    kernel.mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path, source in sources.items():
        os.makedirs(base + path, exist_ok=True)
        _bind(source, base + path)
        _hide(os.path.join(base + path, "site-packages"))
    os.makedirs(f"{base}/dev")
    for path, source in nodes.items():
        os.close(os.open(base + path, os.O_CREAT | os.O_WRONLY))
        kernel.mount(f"/proc/self/fd/{source}", base + path, None, MS_BIND)
    scratch = base + SCRATCH
    os.makedirs(scratch, exist_ok=True)
    kernel.mount(
        "tmpfs",
        scratch,
        "tmpfs",
        MS_NOSUID | MS_NODEV | MS_NOEXEC,
        f"size={scratch_bytes},nr_inodes={_NUM_FILES},mode=1777",
    )
    for opened in (*sources.values(), *nodes.values()):
        os.close(opened)
    kernel.leave_old_root(base)
    kernel.mount("none", "/", None, kernel.MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir(SCRATCH)


def _bind(source: int, target: str) -> None:
    kernel.mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV
    # What the source's mount forbids may not be allowed again in a user namespace.
    if os.statvfs(target).f_flag & os.ST_NOEXEC:
        flags |= MS_NOEXEC
    kernel.mount("none", target, None, kernel.MS_REMOUNT | MS_BIND | flags)


def _hide(folder: str) -> None:
    if os.path.isdir(folder):
        kernel.mount("tmpfs", folder, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,nr_inodes=2,mode=555")
