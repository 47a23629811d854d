"""Programs that try to get out of the sandbox, or to take the machine with them.

Each ends normally if and only if it got what it wanted, so a run that is `passed` is an escape. $NAMES are filled in by
the test: a secret file, a process and servers of the host. Every program is harmless by itself under the limits of the
test; none may be run outside of it.
"""

from __future__ import annotations

FORK = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "one fork": "import os\npid = os.fork()",
    "vfork through the C library": """
import ctypes, os
if ctypes.CDLL(None).fork() < 0: raise OSError("refused")""",
    "raw fork system call": """
import ctypes
if ctypes.CDLL(None).syscall(57) < 0: raise OSError("refused")""",
    "raw clone system call": """
import ctypes
if ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) < 0: raise OSError("refused")""",
    "clone3": """
import ctypes
args = (ctypes.c_ulong * 11)(0, 0, 0, 0, 17)
if ctypes.CDLL(None).syscall(435, args, 88) < 0: raise OSError("refused")""",
    "x32 fork": """
import ctypes
if ctypes.CDLL(None).syscall(0x40000000 + 57) < 0: raise OSError("refused")""",
    "subprocess": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "os.system": "import os\nassert os.system('true') == 0",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "multiprocessing": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=print)
process.start(); process.join()
assert process.exitcode == 0""",
    "daemon that outlives the run": """
import os
os.setsid()
if os.fork(): os._exit(0)""",
    "thread bomb": """
import threading, time
threading.stack_size(32768)
for number in range(5000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()""",
}

MEMORY = {
    "memory bomb": "data = []\nwhile True: data.append(bytearray(1 << 24))",
    "one huge allocation": "data = bytearray(1 << 36)\ndata[::4096] = bytes(len(data[::4096]))",
    "huge power": "x = 10 ** 10 ** 9",
    "huge string": "x = 'a' * (1 << 40)",
    "deep recursion in C": """
import sys
sys.setrecursionlimit(10 ** 9)
def f(): f()
f()""",
    "nested lists": """
x = []
while True: x = [x, [x] * 100000]""",
    "endless arguments": "print(*iter(int, 1))",
    "anonymous shared memory": """
import mmap
maps = []
while True:
    maps.append(mmap.mmap(-1, 1 << 24))
    maps[-1].write(bytes(1 << 24))""",
    "memfd": """
import os
fds = [os.memfd_create(str(n)) for n in range(16)]
for fd in fds: os.write(fd, bytes(1 << 20))""",
    "system V shared memory": """
import ctypes
if ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600) < 0: raise OSError("refused")""",
    "raise the limits": """
import resource
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))""",
    "raise the limits of the parent": """
import os, resource
resource.prlimit(os.getppid() or 1, resource.RLIMIT_CPU, (1, 1))""",
    "lock memory": """
import ctypes
if ctypes.CDLL(None).mlockall(3) < 0: raise OSError("refused")""",
}

TIME = {
    "endless loop": "while True: pass",
    "endless loop in C": "sum(iter(int, 1))",
    "endless regular expression": "import re\nre.match('(a*)*b', 'a' * 60)",
    "endless integer power in C": "pow(3, 1 << 22) ** 50",
    "sleep": "import time\ntime.sleep(3600)",
    "wait for a signal that never comes": "import signal\nsignal.pause()",
    "ignore the end of processor time": """
import signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True: pass""",
    "catch everything and go on": """
while True:
    try:
        while True: pass
    except BaseException: pass""",
    "deadlock": "import threading\nlock = threading.Lock()\nlock.acquire(); lock.acquire()",
    "read standard input": "input()",
    "stop oneself": """
import os, signal
signal.raise_signal(signal.SIGSTOP)
raise SystemExit(1)""",
}

OUTPUT = {
    "output flood": "while True: print('x' * 10000)",
    "error flood": "import sys\nwhile True: sys.stderr.write('x' * 10000)",
    "raw flood": "import os\nwhile True: os.write(1, b'x' * 65536)",
}

FILES = {
    "read the secret": "print(open('$secret').read())",
    "read the password file": "print(open('/etc/passwd').read())",
    "read shadow": "print(open('/etc/shadow').read())",
    "list home": """
import os
assert set(os.listdir('$home')) - {'.pyenv', '.local'}, "no more than the way to the interpreter"
""",
    "list the repository": "import os\nprint(os.listdir('$repository'))",
    "read a key of the environment": "import os\nassert 'hunter2' in str(os.environ)",
    "read the environment of the parent": "print(open('/proc/1/environ').read(), open('/proc/self/environ').read())",
    "read the memory of the parent": "open('/proc/1/mem', 'rb').seek(4096)",
    "read one's own maps": "print(open('/proc/self/maps').read())",
    "mount proc": """
import ctypes
if ctypes.CDLL(None).mount(b"proc", b"/tmp", b"proc", 0, None) < 0: raise OSError("refused")""",
    "chroot out": """
import os
os.mkdir('/tmp/x'); os.chroot('/tmp/x')""",
    "open by handle": """
import ctypes
handle = ctypes.create_string_buffer(b'\\x08\\0\\0\\0\\1\\0\\0\\0\\2\\0\\0\\0\\0\\0\\0\\0', 64)
if ctypes.CDLL(None).open_by_handle_at(3, handle, 0) < 0: raise OSError("refused")""",
    "symlink to the secret": """
import os
os.symlink('$secret', '/tmp/link')
print(open('/tmp/link').read())""",
    "symlink out of the folder": """
import os
os.symlink('/', '/tmp/root')
print(open('/tmp/root$secret').read())""",
    "hard link to the secret": "import os\nos.link('$secret', '/tmp/hard')\nprint(open('/tmp/hard').read())",
    "climb by dots": "print(open('/tmp/../../../../../..$secret').read())",
    "descriptors left open": """
import os
found = []
for fd in range(3, 1024):
    try: os.fstat(fd)
    except OSError: continue
    found.append(fd)
assert found, "none"
print(found)""",
    "write over the secret": "open('$secret', 'w').write('gone')",
    "remove the secret": "import os\nos.unlink('$secret')",
    "truncate the secret": "import os\nos.truncate('$secret', 0)",
    "open the secret to all": "import os\nos.chmod('$secret', 0o777)",
    "age the secret": "import os\nos.utime('$secret', (0, 0))",
    "change the standard library": "import os\nopen(os.__file__, 'a').write('')",
    "change the mode of the standard library": """
import os
fd = os.open(os.__file__, os.O_RDONLY)
os.fchmod(fd, 0o600)""",
    "plant a module": "import os\nopen(os.path.dirname(os.__file__) + '/planted.py', 'w')",
    "fill the disk": """
import itertools
for number in itertools.count():
    with open(f'/tmp/{number}', 'wb') as file: file.write(bytes(1 << 20))""",
    "one huge file": "open('/tmp/huge', 'wb').write(bytes(1 << 28))",
    "use up the inodes": """
import itertools
for number in itertools.count(): open(f'/tmp/{number}', 'w').close()""",
    "device node": """
import os, stat
os.mknod('/tmp/disk', stat.S_IFBLK | 0o600, os.makedev(254, 0))
open('/tmp/disk')""",
    "program of its own": """
import os
open('/tmp/program', 'wb').write(b'#!/bin/sh\\n')
os.chmod('/tmp/program', 0o755)
os.execv('/tmp/program', ['program'])""",
}

NETWORK = {
    "connect to the host": "import socket\nsocket.create_connection(('127.0.0.1', $port), timeout=1)",
    "connect through the C library": """
import ctypes
if ctypes.CDLL(None).socket(2, 1, 0) < 0: raise OSError("refused")""",
    "listen": "import socket\nsocket.create_server(('0.0.0.0', 0))",
    "send a datagram": """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', $port))""",
    "abstract socket of the host": """
import socket
socket.socket(socket.AF_UNIX).connect('\\0$abstract')""",
    "resolve a name": "import socket\nprint(socket.getaddrinfo('localhost', 80)); socket.socket()",
    "fetch a page": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:$port/', timeout=1)",
    "netlink": "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "io_uring": """
import ctypes
if ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)) < 0: raise OSError("refused")""",
}

PROCESSES = {
    "kill a process of the host": "import os\nos.kill($pid, 9)",
    "kill the parent": "import os\nos.kill(os.getppid() or 1, 9)",
    "kill everybody": "import os\nos.kill(-1, 9)",
    "kill the process group": "import os\nos.killpg(0, 9)",
    "stop the parent": "import os, signal\nos.kill(os.getppid() or 1, signal.SIGSTOP)",
    "signal by a descriptor": """
import fcntl, os, signal
reader, writer = os.pipe()
fcntl.fcntl(reader, fcntl.F_SETOWN, $pid)""",
    "trace the parent": """
import ctypes, os
if ctypes.CDLL(None).ptrace(16, os.getppid() or 1, 0, 0) < 0: raise OSError("refused")""",
    "read memory of another process": """
import ctypes
if ctypes.CDLL(None).syscall(310, $pid, 0, 0, 0, 0, 0) < 0: raise OSError("refused")""",
    "take a descriptor of another process": """
import ctypes
if ctypes.CDLL(None).syscall(434, $pid, 0) < 0: raise OSError("refused")""",
    "slow the host down": "import os\nos.setpriority(os.PRIO_PROCESS, $pid, 19)",
    "become root": "import os\nos.setuid(0)\nopen('/proc/sys/kernel/hostname')",
    "new user namespace": """
import ctypes
if ctypes.CDLL(None).unshare(0x10000000) < 0: raise OSError("refused")""",
    "load a module into the kernel": """
import ctypes
if ctypes.CDLL(None).syscall(175, 0, 0, 0) < 0: raise OSError("refused")""",
    "bpf": """
import ctypes
if ctypes.CDLL(None).syscall(321, 0, 0, 0) < 0: raise OSError("refused")""",
    "keys of the kernel": """
import ctypes
if ctypes.CDLL(None).syscall(250, 0, -3, 1) < 0: raise OSError("refused")""",
    "set the clock": "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)",
    "host name": "import socket\nsocket.sethostname('owned')",
    "outlive the host": """
import ctypes
if ctypes.CDLL(None).prctl(1, 0) < 0: raise OSError("refused")""",
    "undo the filter": """
import ctypes
libc = ctypes.CDLL(None)
if libc.prctl(22, 0) < 0: raise OSError("refused")""",
    "crash the interpreter": "import ctypes\nctypes.string_at(0)",
    "write into the interpreter": "import ctypes\nctypes.memset(id(None), 0, 4096)",
}

ATTACKS = FORK | MEMORY | TIME | OUTPUT | FILES | NETWORK | PROCESSES

TESTS = """
def check(candidate):
    assert candidate(2) == 4
    assert candidate(3) == 9
check(square)
"""

TAMPERING = {
    "wrong answer": "def square(x): return 5",
    "exit before the tests": "import os\nos._exit(0)",
    "exit in the call": "import os\ndef square(x): os._exit(0)",
    "sys.exit in the call": "import sys\ndef square(x): sys.exit(0)",
    "equals everything": """
class Always:
    def __eq__(self, other): return True
def square(x): return Always()""",
    "an int that equals everything": """
class Always(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def square(x): return Always(5)""",
    "patch the builtins": """
import builtins
builtins.AssertionError = type('Quiet', (Exception,), {})
builtins.__build_class__ = None
def square(x): return 5""",
    "a check of its own": """
def check(candidate): pass
def square(x): return 5""",
    "patch the assert of callers": """
import sys
def square(x):
    frame = sys._getframe()
    while frame:
        frame.f_globals['check'] = lambda candidate: None
        frame = frame.f_back
    return 5""",
    "end when the process is left": "import atexit, os\natexit.register(os._exit, 0)\ndef square(x): return 5",
    "write success on every descriptor": """
import os
for fd in range(3, 64):
    try: os.write(fd, b'{"ended": "tests", "code": 0, "cpu_seconds": 0}\\n' * 4)
    except OSError: pass
def square(x): return 5""",
    "forge answers": """
import os
for fd in range(3, 64):
    try: os.write(fd, b'{"callable": true}\\n{"value": null}\\n{"value": null}\\n')
    except OSError: pass
import time
time.sleep(60)""",
    "kill the tests": """
import os, signal
for pid in range(2, 10):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
def square(x): return 5""",
    "never answer": "def square(x):\n    while True: pass",
    "answer with rubbish": """
import sys, threading
def square(x):
    return {'__class__': 'int', 'value': 4}""",
    "raise what the tests do not catch": "def square(x): raise KeyboardInterrupt",
    "pickle bomb": """
class Bomb:
    def __reduce__(self): return (print, ('boom',))
def square(x): return Bomb()""",
    "deeply nested answer": """
def square(x):
    value = []
    for _ in range(100000): value = [value]
    return value""",
    "endless answer": "import itertools\ndef square(x): return itertools.count()",
    "does not compile": "def square(x) return x * x",
    "name missing": "def cube(x): return x ** 3",
    "memorise the tests": """
import gc
def square(x):
    for thing in gc.get_objects():
        if isinstance(thing, str) and 'candidate(2) == 4' in thing: return 4 if x == 2 else 9
    return 5""",
}
