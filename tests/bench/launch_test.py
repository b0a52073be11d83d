"""cgx-bench with ranks that others start, baselines in processes of their own, every format, the comparison of two runs,
and that equal runs give equal results. argv: cgx-bench, "gloo" and "mpi" if it has them."""

import contextlib
import copy
import csv
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

from harness import BENCH, HAVE_GLOO, HAVE_MPI, QUICK, TOP, baselines, flags, python_with_torch, run

COMPARE = os.path.join(TOP, "bench", "compare")
SMALL = ["-b", "64K", *QUICK, "--codec", "maxmin:bits=4"]


def free_port():
    """Below those that the kernel gives to clients: one of them could take it before the rank that serves does."""
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(10000, 30000)))
            return probe.getsockname()[1]
    raise OSError("no port of 127.0.0.1 can be bound")


def launched(ranks, variables, *words):
    """Each rank's exit status and output, all started with their variables, of which {rank} is the number."""
    processes = []
    for rank in range(ranks):
        own = {name: value.format(rank=rank) for name, value in variables.items()}
        processes.append(subprocess.Popen([BENCH, *words], env={**os.environ, **own}, text=True, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE))
    ended = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *said) for process, said in zip(processes, ended)]


class Launch(unittest.TestCase):
    def good(self, document, ranks, launcher):
        self.assertEqual(document["launcher"], launcher)
        self.assertEqual(document["out_of_bounds"], 0)
        self.assertEqual(document["rows_with_different_replicas"], 0)
        for row in document["rows"]:
            self.assertEqual(row["ranks"], ranks)
            self.assertIn(row["wrong"], (0, None))

    def test_ranks_of_torchruns_environment(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "rows.json")
            variables = {"RANK": "{rank}", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "CGX_PORT": str(free_port())}
            gloo = baselines("gloo") if HAVE_GLOO else []
            ended = launched(3, variables, "allreduce", *SMALL, *gloo, "--json", path)
            self.assertEqual([status for status, _, _ in ended], [0, 0, 0], ended)
            self.assertIn("3 ranks of torchrun", ended[0][1])
            self.assertEqual(ended[1][1] + ended[2][1], "")  # rank 0 speaks for all
            with open(path) as file:
                self.good(json.load(file), 3, "torchrun")

    def test_torchrun_itself(self):
        python = python_with_torch()
        torchrun = python and os.path.join(os.path.dirname(python), "torchrun")
        if not torchrun or not os.path.exists(torchrun):
            self.skipTest("no torchrun: no Python with PyTorch (CGX_TEST_PYTHON names one)")
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "rows.json")
            command = [torchrun, "--no-python", "--nproc-per-node=2", "--master-addr=127.0.0.1",
                       f"--master-port={free_port()}", BENCH, "allreduce", *SMALL, "--json", path]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path) as file:
                self.good(json.load(file), 2, "torchrun")

    @unittest.skipUnless(HAVE_MPI, "built without Open MPI")
    def test_mpirun_with_its_own_mpi_as_the_baseline(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "rows.json")
            command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2", BENCH, "allreduce",
                       *SMALL, *baselines("openmpi", "openmpi-tcp"), "--json", path]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(path) as file:
                document = json.load(file)
            self.good(document, 2, "mpirun")
            self.assertEqual([row["name"] for row in document["rows"]], ["openmpi", "maxmin:bits=4"])
            self.assertIn("openmpi-tcp", document["skipped"])
            self.assertIn("Open MPI", document["environment"]["versions"]["openmpi"])

    def test_variables_of_a_launcher_can_be_ignored(self):
        env = {**os.environ, "RANK": "0", "WORLD_SIZE": "3"}
        document, _ = run("allreduce", *SMALL, "--launch", "self", "-g", "2", env=env)
        self.good(document, 2, "cgx-bench")
        _, message = run("allreduce", *SMALL, "-g", "2", status=2, json_rows=False, env=env)
        self.assertIn("torchrun has started 3 ranks", message)

    def test_ranks_on_two_hosts_with_gloo_beside(self):
        netns = [sys.executable, os.path.join(TOP, "scripts", "netns")]
        probe = subprocess.run([*netns, "probe"], capture_output=True, text=True)
        if probe.returncode == 77:
            self.skipTest(probe.stderr.strip())
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "rows.json")
            command = [*netns, "train", "--hosts", "2x2", "--rate", "200mbit", "--", BENCH, "allreduce", *SMALL, "--json", path,
                       *(baselines("gloo") if HAVE_GLOO else [])]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path) as file:
                document = json.load(file)
            self.good(document, 4, "torchrun")
            self.assertEqual(document["rows"][-1]["transport"], "mixed")

    def test_ranks_that_do_not_know_where_to_meet_are_told(self):
        env = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}
        _, message = run("allreduce", *SMALL, status=2, json_rows=False, env=env)
        self.assertIn("CGX_STORE", message)

    def test_a_rank_that_never_comes_is_named(self):
        variables = {"CGX_RANK": "0", "CGX_SIZE": "2", "CGX_STORE": f"tcp:127.0.0.1:{free_port()}", "CGX_TIMEOUT_MS": "1000"}
        ((status, _, message),) = launched(1, variables, "allreduce", *SMALL, "--timeout", "1000")
        self.assertEqual(status, 1)
        self.assertIn("rank 1", message)


class Guests(unittest.TestCase):
    @unittest.skipUnless(HAVE_MPI, "built without Open MPI")
    def test_both_transports_of_open_mpi_take_turns_in_one_run(self):
        document, _ = run("allreduce", "-g", "3", "-b", "1000", "-e", "256K", "-f", "256", "-o", "avg", *QUICK,
                          *baselines("openmpi-shm", "openmpi-tcp", "none"), "--codec", "natural")
        self.assertEqual(document["skipped"], {})
        self.assertEqual(document["out_of_bounds"], 0)
        self.assertEqual([row["transport"] for row in document["rows"][:2]], ["openmpi shared memory", "openmpi tcp"])
        for row in document["rows"]:
            self.assertTrue(row["replicas_identical"], row["name"])
            self.assertGreater(row["speedup_over"]["openmpi-tcp"], 0)
        # The same sums, whoever adds: three floats in some order.
        self.assertLess(document["rows"][0]["nmse"], 1e-12)

    def test_baselines_do_the_same_operation_on_the_same_type(self):
        python = python_with_torch()
        here = [*(["gloo", "gloo16"] if HAVE_GLOO else []), *(["openmpi-shm"] if HAVE_MPI else [])]
        for op, dtype, lacking in (("prod", "double", []), ("max", "int64", []), ("min", "half", ["openmpi-shm"]),
                                   ("sum", "uint8", []), ("prod", "int16", ["torch"])):
            # PyTorch takes seconds to start.
            names = here + (["torch", "torch-fp16"] if python and dtype in ("int64", "int16") else [])
            document, text = run("allreduce", "-g", "3", "-b", "12K", "-o", op, "-d", dtype, "--rounds", "1", "-n", "1",
                                 *(["--python", python] if python else []), *baselines(*names))
            self.assertEqual((document["out_of_bounds"], document["rows_with_different_replicas"]), (0, 0), text)
            hooks = ["gloo16", "torch-fp16"]
            self.assertEqual(sorted(document["skipped"]), sorted(name for name in names if name in lacking + hooks))
            rows = document["rows"]
            self.assertEqual([row["name"] for row in rows], [*(n for n in names if n not in lacking + hooks), "none"])
            self.assertTrue(all((row["redop"], row["type"], row["wrong"]) == (op, dtype, 0) for row in rows))
            if "int" in dtype or op in ("min", "max"):
                self.assertEqual(len({row["fingerprint"] for row in rows}), 1, text)

    def test_pytorch_and_its_hooks_take_turns_in_one_run(self):
        python = python_with_torch()
        if python is None:
            self.skipTest("no Python with PyTorch (CGX_TEST_PYTHON names one)")
        names = ["torch", "torch-fp16", "torch-bf16", "torch-powersgd"]
        for op in ("sum", "avg"):
            document, text = run("allreduce", "-b", "64K", "-o", op, *QUICK, "--python", python, *baselines(*names),
                                 "--codec", "none")
            self.assertEqual(document["skipped"], {}, text)
            rows = {row["name"]: row for row in document["rows"]}
            self.assertEqual(list(rows), [*names, "none"])
            for row in rows.values():
                self.assertTrue(row["replicas_identical"], row["name"])
            self.assertEqual(rows["torch"]["wrong"], 0)
            self.assertEqual((rows["torch-fp16"]["ratio"], rows["torch-bf16"]["ratio"]), (2, 2))
            # 16 Ki elements as 128 x 128: two factors of rank 2.
            self.assertEqual(rows["torch-powersgd"]["ratio"], 128 * 128 / (2 * 2 * 128))
            # Two roundings to 11 or 8 bits: each errs by up to 2^-11 or 2^-8 of a value or the sum.
            self.assertTrue(0 < rows["torch-fp16"]["nmse"] < 2 * 2**-21)
            self.assertTrue(0 < rows["torch-bf16"]["nmse"] < 2 * 2**-15)
            # Of random numbers a low rank keeps little, and never adds.
            self.assertTrue(0.5 < rows["torch-powersgd"]["nmse"] < 1.01)
            self.assertIn("PyTorch", document["environment"]["versions"]["torch"])

    def test_a_python_without_pytorch_is_a_reason(self):
        document, text = run("allreduce", *SMALL, "--python", "/nosuchdirectory/python", *baselines("torch-fp16"))
        self.assertIn("--python", document["skipped"]["torch-fp16"])
        self.assertIn("skipped: torch-fp16", text)


class Formats(unittest.TestCase):
    def lines(self, *words):
        text, notes = run("allreduce", "-b", "4K", "-e", "16K", "-f", "2", *QUICK, *flags(["none", "natural"]), *words,
                          json_rows=False)
        return text, notes

    def test_osu_has_a_table_for_each_contender_as_its_parsers_read_it(self):
        text, _ = self.lines("--format", "osu")
        for name in ("none", "natural"):
            part = text.split(f"# Allreduce latency: {name}\n")[1].split("\n\n")[0]
            self.assertTrue(re.match(r"# Size +Avg Latency\(us\)", part))
            # What ReFrame's osu_latency takes: a size and a latency at the beginning of a line.
            found = re.findall(r"^(\d+)\s+(\d+\.\d+)", part, flags=re.M)
            self.assertEqual([size for size, _ in found], ["4096", "8192", "16384"])

    def test_csv_and_json_are_clean(self):
        text, notes = self.lines("--format", "csv", "--baseline", "none")
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual(len(rows), 9)
        self.assertEqual({row["size_bytes"] for row in rows}, {"4096", "8192", "16384"})
        self.assertGreater(float(rows[2]["speedup_over.none"]), 0)
        self.assertIn("# Out of bounds values : 0 OK", notes)
        text, _ = self.lines("--format", "json")
        self.assertEqual(json.loads(text)["schema"], 2)
        text, _ = run("codec", "-b", "4K", *QUICK, "--codec", "natural", "--format", "csv", json_rows=False)
        self.assertEqual(next(csv.DictReader(io.StringIO(text)))["name"], "natural")

    def test_nccl_tests_parsers_find_their_columns(self):
        text, _ = self.lines()
        rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
        self.assertEqual([row[:5] for row in rows][0], ["4096", "1024", "float", "sum", "-1"])
        self.assertTrue(all(float(row[5]) > 0 and row[8] == "0" for row in rows))

    def test_sizes_may_go_up_by_steps(self):
        document, _ = run("allreduce", "-b", "4K", "-e", "12K", "-i", "4K", *QUICK, "--dtype", "half")
        self.assertEqual([row["size_bytes"] for row in document["rows"]], [4096, 8192, 12288])
        self.assertEqual(document["rows"][0]["type"], "half")

    def test_every_integer_type_is_summed_exactly(self):
        for dtype in ("int8", "uint8", "int16", "int32", "int64"):
            document, _ = run("allreduce", "-b", "4K", "-g", "3", *QUICK, "-d", dtype)
            self.assertEqual((document["out_of_bounds"], document["rows"][0]["nmse"]), (0, 0), dtype)

    def test_the_environment_says_what_a_reader_needs(self):
        document, _ = run("allreduce", *SMALL, env={**os.environ, "CGX_THREADS": "1", "CGX_SECRET": "hush, hush, hush"})
        environment = document["environment"]
        for field in ("cpu", "kernel", "commit", "cgx_version", "tcp_congestion_control", "load_average", "build",
                      "instructions", "library", "host", "memory_bytes"):
            self.assertTrue(environment[field], field)
        self.assertEqual(environment["variables"]["CGX_THREADS"], "1")
        self.assertNotIn("hush", json.dumps(document))

    def test_percentiles_are_in_order(self):
        document, _ = run("allreduce", "-b", "4K", "-n", "20", "--rounds", "3")
        row = document["rows"][0]
        times = [row[f"time_{name}_us"] for name in ("min", "p50", "p95", "p99", "max")]
        self.assertEqual(times, sorted(times))
        self.assertEqual(row["calls"], 60)


class Plans(unittest.TestCase):
    def test_every_algorithm_is_proved_right_for_1_to_16_ranks(self):
        document, text = run("--check")
        self.assertEqual(document["wrong"], 0, text)
        algorithms = {row["algorithm"] for row in document["rows"]}
        self.assertLessEqual({"scatter_gather", "ring", "allgather"}, algorithms)
        self.assertEqual(len(document["rows"]), 16 * len(algorithms))
        shares = {(row["algorithm"], row["ranks"]): row["share"] for row in document["rows"]}
        # Scatter and gather: 2 (n-1)/n of the tensor leave each rank; allgather sends all of it to everybody.
        self.assertAlmostEqual(shares["scatter_gather", 16], 2 * 15 / 16, delta=0.01)
        self.assertAlmostEqual(shares["allgather", 4], 3, delta=0.01)
        self.assertIn("OK", text.splitlines()[-1])

    def test_an_unknown_algorithm_is_no_success(self):
        document, text = run("plans", "--algorithm", "nosuch", "-g", "1", status=1)
        self.assertIn("nosuch", document["rows"][0]["wrong"])


class Repeat(unittest.TestCase):
    def test_equal_runs_give_equal_errors_bytes_and_results(self):
        specs = ["all", "maxmin:bits=4+ef", "topk:ratio=0.05+ef"]
        rows = []
        for _ in range(2):
            document, _ = run("allreduce", "-g", "3", "-b", "100003", "-c", "2", *QUICK, *flags(specs))
            rows.append([{name: row[name] for name in ("name", "nmse", "bias_z", "wire_bytes", "fingerprint", "wrong")}
                         for row in document["rows"] if not row["name"].startswith("auto")])
        self.assertEqual(rows[0], rows[1])
        self.assertGreater(len({row["fingerprint"] for row in rows[0]}), 6)
        document, _ = run("allreduce", "-g", "3", "-b", "100003", "--seed", "2", *QUICK)
        none = next(row for row in rows[0] if row["name"] == "none")
        self.assertNotEqual(document["rows"][0]["fingerprint"], none["fingerprint"])


class Compare(unittest.TestCase):
    def setUp(self):
        row = {"name": "none", "size_bytes": 4096, "type": "float", "redop": "sum", "ranks": 2, "transport": "shm",
               "algorithm": "auto", "rounds_us": [10.0, 10.5, 9.5, 10.2, 9.9, 10.1, 10.0], "wire_bytes": 4096, "nmse": 0.0,
               "wrong": 0, "replicas_identical": True, "fingerprint": "a"}
        gloo = {**row, "name": "gloo", "rounds_us": [20.0, 21.0, 19.0, 20.4, 19.8, 20.2, 20.0]}
        self.document = {"mode": "allreduce", "rows": [gloo, row]}

    def compare(self, change, *words):
        """Exit status and output after `change` of the second row."""
        new = copy.deepcopy(self.document)
        change(new)
        with tempfile.TemporaryDirectory() as directory:
            paths = [os.path.join(directory, name) for name in ("old.json", "new.json")]
            for path, document in zip(paths, (self.document, new)):
                with open(path, "w") as file:
                    json.dump(document, file)
            done = subprocess.run([sys.executable, COMPARE, *paths, *words], capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr

    @staticmethod
    def slower(factor, rows=(1,)):
        def change(document):
            for row in rows:
                document["rows"][row]["rounds_us"] = [t * factor for t in document["rows"][row]["rounds_us"]]
        return change

    def test_nothing_moved(self):
        self.assertEqual(self.compare(lambda document: None)[0], 0)
        status, text = self.compare(self.slower(1.05))
        self.assertEqual((status, text.splitlines()[0]), (0, "nothing moved"))

    def test_a_slower_row_is_worse_and_a_faster_one_moved(self):
        status, text = self.compare(self.slower(1.5))
        self.assertEqual(status, 1)
        self.assertIn("WORSE  none, 4096", text)
        status, text = self.compare(self.slower(0.5))
        self.assertEqual(status, 0)
        self.assertIn("2.00 times as fast", text)
        self.assertEqual(self.compare(self.slower(1.5), "--threshold", "0.6")[0], 0)

    def test_what_the_spread_covers_is_noise(self):
        def noisy(document):
            document["rows"][1]["rounds_us"] = [5.0, 30.0, 12.0, 13.0, 8.0, 40.0, 12.5]
        self.assertEqual(self.compare(noisy)[0], 0)

    def test_a_slower_machine_is_no_regression_relative_to_a_baseline(self):
        both = self.slower(1.5, rows=(0, 1))
        self.assertEqual(self.compare(both)[0], 1)
        self.assertEqual(self.compare(both, "--relative", "gloo")[0], 0)
        self.assertEqual(self.compare(self.slower(1.5), "--relative", "gloo")[0], 1)

    def test_more_bytes_or_error_is_worse_at_any_speed(self):
        for field, value in (("wire_bytes", 5000), ("nmse", 0.1), ("wrong", 3), ("replicas_identical", False)):
            status, text = self.compare(lambda document: document["rows"][1].update({field: value}))
            self.assertEqual(status, 1, text)
        status, text = self.compare(lambda document: document["rows"][1].update(fingerprint="b"))
        self.assertEqual(status, 0)
        self.assertIn("other results", text)

    def test_files_without_a_common_row_are_status_2(self):
        self.assertEqual(self.compare(lambda document: document.update(rows=[]))[0], 2)

    def test_two_runs_of_cgx_bench_are_compared(self):
        with tempfile.TemporaryDirectory() as directory:
            paths = [os.path.join(directory, name) for name in ("old.json", "new.json")]
            for path in paths:
                document, _ = run("allreduce", "-b", "64K", "-n", "5", "--rounds", "5")
                with open(path, "w") as file:
                    json.dump(document, file)
            # Their bytes and errors: a busy machine may be slower by any factor for a while.
            done = subprocess.run([sys.executable, COMPARE, *paths, "--threshold", "inf"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn("1 rows compared, 0 worse", done.stdout)


if __name__ == "__main__":
    if shutil.which("mpirun") is None and HAVE_MPI:
        print("skipped: mpirun: it is not in the PATH")
    unittest.main(argv=sys.argv[:1], verbosity=2)
