"""Runs untrusted Python in a process that can do nothing but compute. Standard library only; `sandbox` is its front.

sandbox    the host's side: limits, one run, its verdict
launcher   in the new process: namespaces, identity, limits; then the code, and beside it its tests
root       the file system that the code sees
kernel     the system calls that Python has no name for
seccomp    the system calls that the code may make
landlock   the files that the code may open, where there is no file system of its own
exchange   how tests call code that lives in another process
"""
