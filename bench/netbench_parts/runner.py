"""How a step is run, and what of the machine a reader needs to judge its figures."""

import datetime
import json
import math
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
NETNS = str(TOP / "scripts" / "netns")
SKIPPED = 77  # the exit status of scripts/netns where namespaces cannot be had
CONTROL = (0.9, 1.1)
LIMIT = 600  # seconds that a step may take


def short(value):
    """Five significant digits: more is noise."""
    if isinstance(value, float) and math.isfinite(value) and value != 0:
        return (
            round(value, max(0, 5 - math.ceil(math.log10(abs(value))))) if abs(value) >= 1e-3 else float(f"{value:.4g}")
        )
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    return [short(item) for item in value] if isinstance(value, list) else value


def first_line(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=TOP).stdout.splitlines()[0].strip()
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "not found"


def environment(bench, python):
    def text(path):
        try:
            return pathlib.Path(path).read_text().strip()
        except OSError:
            return ""

    cpu = next(
        (line.split(":", 1)[1].strip() for line in text("/proc/cpuinfo").splitlines() if line.startswith("model name")),
        "",
    )
    flags = next((line.split() for line in text("/proc/cpuinfo").splitlines() if line.startswith("flags")), [])
    caches = [
        line.split(":", 1)
        for line in subprocess.run(["lscpu"], capture_output=True, text=True).stdout.splitlines()
        if "cache:" in line
    ]
    packages = {
        name: first_line("dpkg-query", "-W", "-f=${Version}\n", name)
        for name in ("libgloo-dev", "openmpi-bin", "iproute2")
    }
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "instructions": [f for f in ("sse4_2", "avx2", "avx512f") if f in flags],
        "caches": {name.strip(): size.strip() for name, size in caches},
        "memory_GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "huge_pages": text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average_before": round(os.getloadavg()[0], 1),
        "congestion_control": "cubic between namespaces and on their loopback",
        "cgx": first_line(bench, "--version"),
        "commit": first_line("git", "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "torch": first_line(python, "-c", "import torch; print(torch.__version__)"),
        **packages,
    }


class Runner:
    def __init__(self, bench, python, realtime):
        self.bench, self.python = bench, python
        self.realtime = ["chrt", "-f", "1"] if realtime else []
        self.environment = {**os.environ, "PYTHONPATH": str(TOP / "bindings" / "python"), "OMP_NUM_THREADS": "1"}
        self.environment["CGX_BENCH_BINARY"] = str(bench)
        library = pathlib.Path(bench).resolve().parent.parent / "lib" / "libcgx.so"
        if library.exists():
            self.environment["CGX_LIBRARY"] = str(library)

        self.missing = self.python_lacks()

    def python_lacks(self):
        """Why scripts cannot run; "" if they can."""
        done = subprocess.run([self.python, "-c", "import numpy, sklearn, torch"], capture_output=True, text=True)
        return f"{self.python}: {done.stderr.strip().splitlines()[-1]}" if done.returncode else ""

    def takes(self, *words):
        """Whether cgx-bench knows these words, by a run of one small call."""
        command = [self.bench, "allreduce", "-g", "2", "-b", "4K", "-n", "1", "--rounds", "1", "-c", "0", *words]
        return subprocess.run(command, capture_output=True, timeout=120, cwd=TOP).returncode == 0

    def command(self, step, out):
        if step.script:
            words = [self.python, str(TOP / step.script), *step.words, "--json", out]
        else:
            words = [self.bench, *step.words, "--json", out]
        if step.link == "host":
            # Threads that the scheduler never takes a core from would also keep each other, where ranks are more
            # than cores, and the kernel's network threads from running.
            return [*(self.realtime if step.realtime and step.ranks <= (os.cpu_count() or 1) else []), *words]
        if step.link == "loopback":
            return [NETNS, "loopback", "--", *words]
        mode = "train" if step.script else "run"
        link = [word for name in ("queue", "delay", "flow") if getattr(step, name) for word in (f"--{name}", getattr(step, name))]
        streams = ["env", f"CGX_SOCKET_STREAMS={step.streams}"] if step.streams > 1 else []
        return [*streams, NETNS, mode, "--ranks", str(step.ranks), "--rate", step.link, *link, "--", *words]

    def run(self, step, waiting):
        """The step's record. `waiting(seconds)` is called now and then while it runs."""
        cores = os.cpu_count() or 1
        missing = self.missing if step.script else ""
        if step.cores > 1 and step.ranks * step.cores > cores:
            missing = f"{step.ranks} ranks of {step.cores} threads want {step.ranks * step.cores} cores, here are {cores}"
        if missing:
            command = step.script or " ".join(map(self.shown, [self.bench, *step.words]))
            record = {"label": step.label, "command": command, "ranks": step.ranks, "link": step.link}
            return {**record, "seconds": 0, "skipped": missing}
        with tempfile.TemporaryDirectory(prefix="netbench-") as directory:
            out = os.path.join(directory, "out.json")
            command = self.command(step, out)
            begin = time.monotonic()
            with (
                open(os.path.join(directory, "log"), "w+") as log,
                subprocess.Popen(command, stdout=log, stderr=log, cwd=TOP, env=self.environment) as process,
            ):
                try:
                    self.wait(process, begin, waiting)
                except BaseException:
                    process.send_signal(signal.SIGTERM)  # netns and cgx-bench then end what they started
                    process.wait()
                    raise
                log.seek(0)
                said = [line for line in log.read().splitlines() if line.strip()]
            shown = [self.shown(word) for word in command]
            record = {
                "label": step.label,
                "command": " ".join(shown[: shown.index("--json")]),
                "ranks": step.ranks,
                "link": step.link,
                "seconds": round(time.monotonic() - begin, 1),
            }
            if process.returncode == SKIPPED:
                record["skipped"] = next(
                    (line.split("skipped: ")[1] for line in said if "skipped: " in line), "no reason given"
                )
            elif process.returncode != 0:
                record["failed"] = " | ".join(said[-5:])
                record["output"] = said[-40:]
            if os.path.exists(out):
                with open(out) as file:
                    document = json.load(file)
                for key in ("environment", "command", "schema"):
                    document.pop(key, None)
                record["document"] = short(document)
            return record

    def shown(self, word):
        """As somebody at the repository's top would type it."""
        if word in (self.bench, self.python):
            return pathlib.Path(word).name
        return word.removeprefix(f"{TOP}/")

    @staticmethod
    def wait(process, begin, waiting):
        while True:
            try:
                return process.wait(10)
            except subprocess.TimeoutExpired:
                waiting(time.monotonic() - begin)
                if time.monotonic() - begin > LIMIT:
                    process.send_signal(signal.SIGTERM)


def write(path, section, title, records, env, quick):
    """One line a step's row, so that differences between two runs can be read."""
    head = {
        "section": section,
        "title": title,
        "quick": quick,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["bench/netbench", *(word.rpartition("/")[2] for word in sys.argv[1:])]),
        "environment": env,
    }
    steps = []
    for record in records:
        document = record.get("document", {})
        rows = document.pop("rows", None)
        text = json.dumps(record)
        if rows is not None:
            document["rows"] = rows
            lines = ",\n    ".join(json.dumps(row) for row in rows)
            text = text[:-2] if document.keys() == {"rows"} else text[:-2] + ", "
            text += f'"rows": [\n    {lines}]}}}}'
        steps.append(text)
    path.write_text(json.dumps(head, indent=1)[:-2] + ',\n "steps": [\n  ' + ",\n  ".join(steps) + "\n ]\n}\n")
    json.loads(path.read_text())
