"""How the tests run cgx-bench, whose path is their first argument; then "gloo" and "mpi" if it has them."""

import json
import os
import subprocess
import sys
import tempfile

BENCH = sys.argv[1]
HAVE_GLOO = "gloo" in sys.argv[2:]
HAVE_MPI = "mpi" in sys.argv[2:]
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
QUICK = ["--rounds", "2", "-n", "2"]


def run(*words, status=0, json_rows=True, env=None):
    """The rows and the standard output of a run that must end with `status`."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "rows.json")
        more = ["--json", path] if json_rows else []
        done = subprocess.run([BENCH, *words, *more], capture_output=True, text=True, timeout=300, env=env)
        assert done.returncode == status, f"{words}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        if not json_rows:
            return done.stdout, done.stderr
        with open(path) as file:
            return json.load(file), done.stdout


def flags(specs):
    return [word for spec in specs for word in ("--codec", spec)]


def baselines(*names):
    return [word for name in names for word in ("--baseline", name)]


def python_with_torch():
    """A Python that has PyTorch: CGX_TEST_PYTHON, that of scripts/test, or this one; None if none has."""
    for python in (os.environ.get("CGX_TEST_PYTHON"), os.path.join(TOP, ".venv/bin/python"), sys.executable):
        if python and os.path.exists(python):
            if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
                return python
    return None
