"""What is seen from outside, of real processes: log, summary, trace, metrics and the table, each file parsed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cgx

_STEPS = 12
_PROGRAM = f"""
import os, signal, sys
import numpy as np
import cgx

rank, directory, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
comm = cgx.Communicator(rank=rank, size=2, store=f"file:{{directory}}/store", job='a "job"', transport="shm", timeout_ms=60000)
for step in range({_STEPS}):
    if how == "killed" and rank == 1 and step == {_STEPS // 2}:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.allreduce((np.arange(50000) % 7).astype(np.float32), codec="maxmin:bits=4", tensor=1)
    comm.allreduce(np.ones(100, np.int32), tensor=2)
if how == "closed":
    comm.close()
if how == "left":
    sys.stdout.flush()
    cgx.Communicator.__del__ = lambda self: None  # never destroyed
"""


def _two_ranks(directory: Path, how: str, **environment: str) -> list[subprocess.CompletedProcess[str]]:
    directory.mkdir(exist_ok=True)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(rank), str(directory), how],
            env={**os.environ, "CGX_LIBRARY": str(cgx._library.path()), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = []
    for process in started:
        out, error = process.communicate(timeout=120)
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, error))
    return ended


def _spans(path: Path) -> list[dict]:
    events = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event["ph"] == "X"]


def _metrics(path: Path) -> dict[str, dict[str, float]]:
    """A parser of Prometheus' text format: family -> labels -> value. Checks that families are whole and declared."""
    families: dict[str, dict[str, float]] = {}
    types: dict[str, str] = {}
    current = None
    label = r'[a-z_]+="(?:[^"\\]|\\["\\n])*"'
    for line in path.read_text().splitlines():
        if line.startswith("# TYPE "):
            _, _, current, types[current] = line.split(" ")
            assert current not in families, "a family in two places"
            families[current] = {}
        elif not line.startswith("# HELP "):
            match = re.fullmatch(rf"([a-z_]+)\{{({label}(?:,{label})*)\}} (\S+)", line)
            assert match, line
            name, labels, value = match.groups()
            assert name in ([current] if types[current] != "histogram" else [f"{current}_{s}" for s in ("bucket", "sum", "count")])
            key = name[len(current) :] + "{" + labels + "}"
            assert key not in families[current], "a sample twice"
            families[current][key] = float(value)
    return families


def test_a_trace_shows_every_collective_and_its_steps(tmp_path):
    ended = _two_ranks(tmp_path, "closed", CGX_TRACE=str(tmp_path / "t.%r.json"))
    assert [process.returncode for process in ended] == [0, 0], ended
    for rank in range(2):
        spans = _spans(tmp_path / f"t.{rank}.json")
        collectives = [span for span in spans if span["cat"] == "collective"]
        assert [span["args"]["operation"] for span in collectives] == list(range(2 * _STEPS))
        assert all(span["pid"] == rank and span["args"]["rank"] == rank for span in spans)
        assert 'a "job"' in collectives[0]["args"]["what"]
        assert "maxmin" in collectives[0]["args"]["what"]
        steps = [span for span in spans if span["cat"] == "step"]
        assert {"encode", "send", "wait", "reduce", "decode", "flush"} <= {span["name"] for span in steps}
        for span in steps:  # inside their collective, on its thread
            whole = collectives[span["args"]["operation"]]
            assert whole["ts"] <= span["ts"]
            # Three decimals are written, and read as doubles: half a nanosecond each.
            assert span["ts"] + span["dur"] <= whole["ts"] + whole["dur"] + 0.01
            assert span["tid"] == whole["tid"]


def test_metrics_say_what_was_done(tmp_path):
    ended = _two_ranks(tmp_path, "closed", CGX_METRICS=str(tmp_path / "m.%r.prom"))
    assert [process.returncode for process in ended] == [0, 0], ended
    label = 'job="a \\"job\\"",rank="1"'
    metrics = _metrics(tmp_path / "m.1.prom")
    assert metrics["cgx_collectives_total"] == {f"{{{label}}}": 2 * _STEPS}
    assert metrics["cgx_failures_total"] == {f"{{{label}}}": 0}
    assert metrics["cgx_elements_total"][f'{{{label},state="compressed"}}'] == 50000 * _STEPS
    assert metrics["cgx_elements_total"][f'{{{label},state="not_float"}}'] == 100 * _STEPS
    raw = metrics["cgx_bytes_total"][f'{{{label},kind="raw",codec="maxmin"}}']
    wire = metrics["cgx_bytes_total"][f'{{{label},kind="wire",codec="maxmin"}}']
    assert 7 < raw / wire < 8  # 32 bits become 4 and 64 / 512 of metadata
    times = metrics["cgx_op_seconds"]
    buckets = [value for key, value in times.items() if key.startswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == times[f"_count{{{label}}}"] == 2 * _STEPS
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("how", ["closed", "left"])
def test_the_summary_comes_at_the_end_whether_or_not_anybody_closes(tmp_path, how):
    ended = _two_ranks(tmp_path, how, CGX_SUMMARY="1", CGX_TRACE=str(tmp_path / "t.%r.json"))
    for rank, process in enumerate(ended):
        lines = process.stderr.splitlines()
        assert re.fullmatch(
            rf'\S+:\d+:\d+ \[{rank}\] cgx INFO COLL summary of rank {rank} of 2, job "a "job"", over shm: '
            rf"{2 * _STEPS} collectives in .* s, 0 failed",
            lines[0],
        ), process.stderr
        assert "% of a type that is never compressed" in process.stderr
        assert len(_spans(tmp_path / f"t.{rank}.json")) > 2 * _STEPS


def test_a_failure_is_in_the_trace_the_metrics_and_the_summary(tmp_path):
    files = {"CGX_TRACE": str(tmp_path / "t.%r.json"), "CGX_METRICS": str(tmp_path / "m.%r.prom"), "CGX_SUMMARY": "1"}
    survivor, killed = _two_ranks(tmp_path, "killed", **files)
    assert killed.returncode == -signal.SIGKILL
    assert survivor.returncode == 1
    last = [span for span in _spans(tmp_path / "t.0.json") if span["cat"] == "collective"][-1]
    assert "rank 1" in last["args"]["error"]
    (failures,) = _metrics(tmp_path / "m.0.prom")["cgx_failures_total"].values()
    assert failures == 1
    assert re.search(r"failed with: .*rank 1", survivor.stderr)
    _metrics(tmp_path / "m.1.prom")  # whole, though its process was killed
    assert json.loads((tmp_path / "t.0.json").read_text())["otherData"]["dropped"] == 0


def test_debug_lines_go_to_the_file_and_are_chosen_by_subsystem(tmp_path):
    pattern = str(tmp_path / "log.%r")
    _two_ranks(tmp_path, "closed", CGX_DEBUG="trace", CGX_DEBUG_SUBSYS="^COLL", CGX_DEBUG_FILE=pattern)
    for rank in range(2):
        lines = (tmp_path / f"log.{rank}").read_text().splitlines()
        assert all(re.match(rf"\S+:\d+:\d+ \[{rank}\] cgx (INFO|TRACE) (INIT|NET|CODEC|TUNING|ENV) ", one) for one in lines)
        assert any(f"cgx {cgx.version()}" in one for one in lines)
        assert any(f"rank {rank} of 2 joined" in one for one in lines)
    loud = _two_ranks(tmp_path / "x", "closed", CGX_DEBUG="trace", CGX_DEBUG_SUBSYS="COLL")[0].stderr
    assert len(re.findall(r"TRACE COLL allreduce #\d+ .* ended well", loud)) == 2 * _STEPS


def test_by_default_nothing_is_said_and_an_unknown_variable_once(tmp_path):
    quiet = _two_ranks(tmp_path / "a", "closed", CGX_DEBUG="")
    assert [process.stderr for process in quiet] == ["", ""]
    for process in _two_ranks(tmp_path / "b", "closed", CGX_TIMEOUT="5", CGX_LOG="info"):
        assert process.stderr.count("did you mean CGX_TIMEOUT_MS?") == 1
        assert process.stderr.count("it is called CGX_DEBUG now") == 1
        assert len(process.stderr.splitlines()) == 2


def test_a_wrong_number_is_an_error_that_names_the_variable(tmp_path):
    for process in _two_ranks(tmp_path, "closed", CGX_TRACE_EVENTS="many", CGX_TRACE=str(tmp_path / "t")):
        assert process.returncode == 1
        assert 'CGX_TRACE_EVENTS="many": must be a number from 1024' in process.stderr


def test_a_table_prints_its_rows_aligned():
    with cgx.Communicator(rank=0, size=1) as comm:
        assert list(comm.table()) == []
        comm.allreduce(np.ones(2000, np.float32), codec="natural", tensor=3)
        table = comm.table()
    assert [row["tensor"] for row in table] == [3]
    head, row = str(table).splitlines()
    assert len(head.split()) == 18  # three columns have names of two words
    assert len(head) == len(row)


def test_the_dashboard_asks_for_metrics_that_there_are(tmp_path):
    _two_ranks(tmp_path, "closed", CGX_METRICS=str(tmp_path / "m.%r.prom"))
    families = set(_metrics(tmp_path / "m.0.prom"))
    board = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text())
    asked = {
        re.sub("_bucket$", "", name)
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bcgx_\w+", target["expr"])
    }
    assert asked <= families
    assert len(asked) > 6
