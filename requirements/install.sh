#!/usr/bin/env bash
# Installs the locked CPU environment and tether itself into the virtual
# environment given as the only argument. Idempotent.
set -euo pipefail
venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)
pip="$venv/bin/python -m pip --disable-pip-version-check --no-input"

[ -x "$venv/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$venv"
$pip install --quiet --no-deps pip==25.3 setuptools==78.1.1 wheel==0.48.0 ninja packaging py-cpuinfo

# The CPU build of torch is on PyTorch's own index, not on PyPI. That index is
# asked only for this one package: pip would look up every other name there too.
if ! "$venv/bin/python" -c 'import importlib.metadata as m; raise SystemExit(m.version("torch") != "2.13.0+cpu")' 2>/dev/null; then
    echo "installing torch (CPU build)"
    $pip install --quiet --no-deps torch==2.13.0+cpu 2>/dev/null ||
        $pip install --quiet --no-deps --index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu
fi
echo "installing the locked packages (about 4 GB, 2 to 5 minutes the first time)"
DS_ACCELERATOR=cpu DS_BUILD_OPS=0 $pip install --quiet --no-deps --no-build-isolation -r "$here/requirements/cpu.lock"
$pip install --quiet --no-deps --no-build-isolation --editable "$here"
