"""Runs the suite that PyTorch ships for its backends (distributed_test.py, in its wheel) on one backend.

The suite skips by literal names; its source is read with "gloo" in those places standing for cgx, so that what Gloo is
tested for cgx is tested for too. Ranks are forked, not spawned: 0.3 s a test instead of 17. Modes:
  gloo       PyTorch's own Gloo, the measure
  delegated  cgx as it comes: everything uncompressed goes to an inner Gloo group
  own        cgx with every all_reduce of floats through its own collectives, codec "none"
What does not pass, and why, stands in pytorch_suite_expected.txt; test_pytorch_suite.py compares.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import importlib.util
import json
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

MODES = ("gloo", "delegated", "own")
_OWN = {"CGX_CODEC": "none", "CGX_MIN_ELEMENTS": "0", "CGX_COMPRESS_1D": "1"}
_SUITE = "torch.testing._internal.distributed.distributed_test"
_EXPECTED = Path(__file__).with_name("pytorch_suite_expected.txt")
_ATTEMPTS = 2  # some of its tests have deadlines of a second, which a busy machine misses


@dataclasses.dataclass
class Outcome:
    """What became of one test: "pass", "skip" or "fail", with PyTorch's reason or the error."""

    status: str
    detail: str = ""
    seconds: float = 0.0


class _OpenAllowLists(ast.NodeTransformer):
    """``BACKEND == "gloo"``, ``BACKEND in {...}``, ``require_backend_is_available({...})`` and the like."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:  # noqa: N802 (ast's name)
        named = isinstance(node.left, ast.Name) and node.left.id == "BACKEND"
        return _RenameGloo().visit(node) if named else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:  # noqa: N802
        if isinstance(node.func, ast.Name) and node.func.id == "require_backend_is_available":
            node.args = [_RenameGloo().visit(argument) for argument in node.args]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:  # noqa: N802
        listed = any(isinstance(t, ast.Name) and t.id.endswith("_SUPPORTED_BACKENDS") for t in node.targets)
        if listed and isinstance(node.value, ast.List):
            node.value.elts.append(ast.Constant("cgx"))
        return self.generic_visit(node)


class _RenameGloo(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:  # noqa: N802
        return ast.copy_location(ast.Constant("cgx"), node) if node.value == "gloo" else node


def _load_suite(opened: bool) -> ModuleType:
    spec = importlib.util.find_spec(_SUITE)
    source = Path(spec.origin).read_text()
    tree = ast.parse(source, spec.origin)
    if opened:
        tree = ast.fix_missing_locations(_OpenAllowLists().visit(tree))
    module = importlib.util.module_from_spec(spec)
    sys.modules[_SUITE] = module  # what it pickles is looked up here
    exec(compile(tree, spec.origin, "exec", dont_inherit=True), module.__dict__)
    module.Barrier.sync.__func__.__defaults__ = (None, 60)  # of the harness, not of what is tested: 10 s is short here
    return module


def _write_statistics(directory: str, rank: int) -> None:
    """Adds what cgx did in this rank to a file: the mode "own" must not turn out to have tested Gloo."""
    import torch.distributed as dist

    import cgx.torch

    if not dist.is_initialized():
        return
    for group in list(dist.distributed_c10d._world.pg_map):
        with contextlib.suppress(ValueError, RuntimeError):
            stats = cgx.torch.stats(group)
            compressed = stats["compressed"] or {"collectives": 0}
            calls = {reason: row["calls"] for reason, row in stats["delegated"].items()}
            row = {"own": compressed["collectives"], "delegated": calls}
            with open(f"{directory}/{os.getpid()}-{rank}.jsonl", "a") as out:
                out.write(json.dumps(row) + "\n")


def _test_class(suite: ModuleType, statistics: str | None) -> type[unittest.TestCase]:
    import torch

    class TestBackend(suite.TestDistBackend, suite.DistributedTest._DistTestBase):
        def setUp(self) -> None:  # noqa: N802 (unittest's name)
            super().setUp()
            suite.INIT_METHOD = os.environ["INIT_METHOD"]  # a file of this test
            self._start_processes(torch.multiprocessing.get_context("fork").Process)

        def run_test(self, test_name: str, parent_pipe: Any) -> None:
            super().run_test(test_name, parent_pipe)
            if statistics:
                _write_statistics(statistics, self.rank)

    TestBackend.__module__ = __name__
    globals()["TestBackend"] = TestBackend
    return TestBackend


def _skipped_at_once(case: type[unittest.TestCase], name: str) -> str | None:
    """PyTorch's reason, where a decorator skips the test: one process finds that out, without a process group.

    Where there is none a test that is not skipped fails at its first call, which says nothing: then it runs in full.
    """
    from torch.testing._internal.common_distributed import TEST_SKIPS

    if getattr(getattr(case, name), "__unittest_skip__", False):
        return getattr(case, name).__unittest_skip_why__
    child = os.fork()
    if child == 0:
        code = 0
        try:
            signal.alarm(10)
            test = case(name)
            test.rank = 0
            getattr(test, name)()
        except unittest.SkipTest:
            code = TEST_SKIPS["generic"].exit_code
        except SystemExit as ended:
            code = ended.code
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return next((skip.message for skip in TEST_SKIPS.values() if skip.exit_code == ended), None)


def _outcome(case: type[unittest.TestCase], name: str) -> Outcome:
    begin = time.monotonic()
    reason = _skipped_at_once(case, name)
    if reason is not None:
        return Outcome("skip", reason, time.monotonic() - begin)
    result = unittest.TestResult()
    case(name).run(result)
    seconds = time.monotonic() - begin
    if result.failures or result.errors:
        return Outcome("fail", (result.failures + result.errors)[0][1], seconds)
    if result.skipped:
        return Outcome("skip", result.skipped[0][1], seconds)
    return Outcome("pass", "", seconds)


def _work(case: type[unittest.TestCase], names: Any, results: Any, log: str) -> None:
    """One worker: its own log, and a test at a time, each in processes of its own."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    while (name := names.get()) is not None:
        print(f"=== {name}", flush=True)
        outcome = _outcome(case, name)
        for _ in range(_ATTEMPTS - 1):
            if outcome.status == "fail":
                print(f"=== {name} again, after {outcome.detail}", flush=True)
                outcome = _outcome(case, name)
        results.put((name, dataclasses.asdict(outcome)))


def _run_here(mode: str, jobs: int, only: str, statistics: str | None, log: str) -> dict[str, Outcome]:
    """Imports everything once, then lets forked workers take tests from a queue."""
    import torch
    import torch._dynamo  # DistributedDataParallel imports it, for seconds: here once, not in every rank
    from torch.testing._internal import common_distributed

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if mode != "gloo":
        import cgx.torch  # noqa: F401 (registers the backend)

        for feature in ("gpu", "cuda", "ddp", "subgroup", "plugin"):
            common_distributed.DistTestCases.backend_feature[feature].add("cgx")
    # It asks for eight ranks where a group of ranks 1 and 2 is made: four have them too.
    common_distributed.skip_if_small_worldsize = lambda test: test
    suite = _load_suite(opened=mode != "gloo")
    case = _test_class(suite, statistics if mode != "gloo" else None)
    case.setUpClass()
    context = multiprocessing.get_context("fork")
    names, results = context.Queue(), context.Queue()
    wanted = [name for name in unittest.TestLoader().getTestCaseNames(case) if re.search(only, name)]
    workers = [context.Process(target=_work, args=(case, names, results, f"{log}.{i}")) for i in range(jobs)]
    for worker in workers:
        worker.start()
    for name in [*wanted, *[None] * jobs]:
        names.put(name)
    outcomes = dict(results.get(timeout=600) for _ in wanted)
    for worker in workers:
        worker.join()
    return {name: Outcome(**outcomes[name]) for name in wanted}


def run(mode: str, jobs: int = 3, only: str = "", log: str = "") -> tuple[dict[str, Outcome], dict[str, Any]]:
    """Runs the suite in a fresh interpreter: the outcome of each test, and what cgx did in all of them together."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "WORLD_SIZE": "4", "OMP_NUM_THREADS": "1"}
        environment |= {"BACKEND": "gloo" if mode == "gloo" else "cgx", "TEMP_DIR": directory}
        environment |= {"INIT_METHOD": f"file://{directory}/init"}
        environment |= {"GLOO_SOCKET_IFNAME": "lo", "CGX_SOCKET_IFNAME": "lo"}
        environment |= _OWN if mode == "own" else {}
        (Path(directory) / "statistics").mkdir()
        out = Path(directory) / "outcomes.json"
        command = [sys.executable, __file__, mode, "--here", str(out), "--jobs", str(jobs), "--only", only]
        command += ["--statistics", f"{directory}/statistics", "--log", log or f"{directory}/log"]
        subprocess.run(command, env=environment, check=True)
        outcomes = {name: Outcome(**row) for name, row in json.loads(out.read_text()).items()}
        did: Counter[str] = Counter()
        for path in (Path(directory) / "statistics").iterdir():
            for row in map(json.loads, path.read_text().splitlines()):
                did.update({"own": row["own"], **row["delegated"]})
        return outcomes, dict(did)


def expected() -> dict[str, dict[str, tuple[str, str]]]:
    """For each mode: the tests that are not to pass, each with "skip" or "fail" and the reason."""
    listed: dict[str, dict[str, tuple[str, str]]] = {mode: {} for mode in MODES}
    modes: tuple[str, ...] = ()
    status = reason = ""
    for line in _EXPECTED.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith((" ", "\t")):
            for mode in modes:
                if line.strip() in listed[mode]:
                    raise ValueError(f"{_EXPECTED.name} lists {line.strip()} twice for {mode}")
                listed[mode][line.strip()] = (status, reason)
            continue
        found = re.fullmatch(r"(skip|fail) ([a-z,]+): (.+)", line)
        if not found:
            raise ValueError(f"{_EXPECTED.name}: {line!r} is not '<skip|fail> <modes>: <reason>'")
        status, reason = found[1], found[3]
        modes = MODES if found[2] == "all" else tuple(found[2].split(","))
    return listed


def surprises(mode: str, outcomes: dict[str, Outcome]) -> list[str]:
    """A sentence for each test that did not end as listed."""
    listed = expected()[mode]
    out = [f"{name} is listed and does not exist" for name in listed if name not in outcomes]
    for name, outcome in outcomes.items():
        wanted = listed.get(name, ("pass", ""))[0]
        if outcome.status != wanted:
            out.append(f"{name}: {outcome.status} instead of {wanted}: {outcome.detail[-1500:]}")
    return out


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--jobs", type=int, default=3, help="tests at a time, of four ranks each")
    parser.add_argument("--only", default="", help="a regular expression of test names")
    parser.add_argument("--json", type=Path, help="write the outcomes here")
    parser.add_argument("--log", default="", help="write the ranks' output to files of this prefix")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--statistics", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        outcomes = _run_here(arguments.mode, arguments.jobs, arguments.only, arguments.statistics, arguments.log)
        arguments.here.write_text(json.dumps({name: dataclasses.asdict(one) for name, one in outcomes.items()}))
        return 0
    begin = time.monotonic()
    outcomes, did = run(arguments.mode, arguments.jobs, arguments.only, arguments.log)
    if arguments.json:
        rows = {name: dataclasses.asdict(one) for name, one in outcomes.items()}
        arguments.json.write_text(json.dumps(rows, indent=1))
    counts = Counter(outcome.status for outcome in outcomes.values())
    wrong = surprises(arguments.mode, outcomes)
    if arguments.only:
        wrong = [line for line in wrong if "does not exist" not in line]
    print("\n".join(wrong))
    print(f"{arguments.mode}: {counts['pass']} pass, {counts['skip']} skip, {counts['fail']} fail of {len(outcomes)}")
    print(f"in {time.monotonic() - begin:.0f} s; {len(wrong)} not as listed; all_reduces of cgx: {did}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(_main())
