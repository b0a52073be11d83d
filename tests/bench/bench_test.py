"""Runs cgx-bench on small sizes: every codec that the library lists, every transport and algorithm that takes it,
the fields of its JSON, its exit statuses, and that a rank's death is reported. argv: cgx-bench, "gloo" and "mpi" if it has them."""

import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from harness import BENCH, HAVE_GLOO, HAVE_MPI, QUICK, flags, run

# Beside every codec with its defaults.
MORE_SPECS = ["maxmin:bits=1", "maxmin:bits=8,bucket=0", "maxmin:bits=3,rounding=nearest", "cast:fp16",
              "dither:bits=8,norm=1,bucket=64", "natdither:bits=3,norm=2,bucket=0", "topk:ratio=0.05|natural",
              "topk:ratio=0.05,indices=packed",
              "maxmin:bits=4+ef", "topk:ratio=0.05+ef"]  # the last two: collectives only
GRADIENTS = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "data", "digits_gradients.npy")


class Codec(unittest.TestCase):
    def test_every_listed_codec_is_measured(self):
        document, _ = run("codec", "-b", "64K", *QUICK, *flags(["all", *MORE_SPECS[:-2]]))
        self.assertGreaterEqual(len(document["rows"]), 9 + len(MORE_SPECS) - 2)
        self.assertEqual(document["out_of_bounds"], 0)
        for row in document["rows"]:
            for field in ("encode_GBps", "decode_GBps", "decode_add_GBps", "memcpy_GBps", "encode_over_memcpy",
                          "decode_over_memcpy", "decode_add_over_memcpy"):
                self.assertGreater(row[field], 0, row["codec"])
            if row["feedback_cost"] is None:
                self.assertTrue(row["no_feedback"], row["codec"])
            else:
                self.assertGreater(row["move_for_feedback_us"], 0, row["codec"])
                self.assertGreater(row["feedback_least"], -1, row["codec"])
            self.assertEqual(row["wrong"], 0, row["codec"])
            self.assertAlmostEqual(row["ratio"], row["size_bytes"] / row["encoded_bytes"])
            self.assertLessEqual(row["encoded_bytes"], row["size_bytes"])

    def test_real_gradients_stay_within_every_codecs_bound(self):
        document, _ = run("codec", "-b", "256K", "--data", GRADIENTS, *QUICK, "--codec", "all")
        self.assertEqual(document["out_of_bounds"], 0)

    def test_unbiased_codecs_have_small_z_scores_and_biased_ones_large(self):
        # 2^20 elements. Unbiased: a standard normal number, beyond 6 once in 10^9. top-k drops: every error points
        # the same way, z = -sqrt(elements) but for the weights' spread.
        document, _ = run("codec", "-b", "4M", *QUICK, "--codec", "all")
        for row in document["rows"]:
            # randk's errors within a stratum are not independent: its z is not standard.
            if row["unbiased"] and not row["codec"].startswith("randk"):
                self.assertLess(abs(row["bias_z"]), 6, row["codec"])
            if row["codec"].startswith("topk"):
                self.assertLess(row["bias_z"], -100)

    def test_nmse_is_what_the_codec_promises(self):
        # natural rounds to powers of two: at most 1/8 of ||x||^2 for any x (arXiv 1905.10988, theorem 1); random
        # data of 2^18 elements stay within a few per cent of their mean, far below.
        document, _ = run("codec", "-b", "1M", *QUICK, "--codec", "natural", "--codec", "none")
        self.assertTrue(0.05 < document["rows"][0]["nmse"] < 0.125)
        self.assertEqual(document["rows"][1]["nmse"], 0)

    def test_sixteen_bit_tensors_and_cpu_paths_and_warm_caches(self):
        for dtype in ("half", "bfloat16"):
            document, _ = run("codec", "-b", "32K", "-d", dtype, *QUICK, *flags(["maxmin:bits=4", "natural8"]))
            self.assertEqual(document["out_of_bounds"], 0)
        document, _ = run("codec", "-b", "32K", "--cpu", "scalar", "--cache", "warm", *QUICK, "--codec", "natural")
        self.assertEqual(document["rows"][0]["cache"], "warm")

    def test_top_k_is_measured_beside_nth_element(self):
        document, _ = run("codec", "-b", "1M", *QUICK, "--codec", "topk:ratio=0.01", "--codec", "topk|natural")
        self.assertGreater(document["rows"][0]["encode_over_nth_element"], 0)
        self.assertIsNone(document["rows"][1]["encode_over_nth_element"])

    def test_the_table_of_floors_has_every_width_and_says_what_is_missed(self):
        document, text = run("codec", "--floors", "--rounds", "1", "-w", "0", "-c", "0", "--data", GRADIENTS)
        self.assertEqual(len({(r["name"], r["type"], r["cache"]) for r in document["rows"]}), len(document["rows"]))
        for bits in range(1, 9):
            self.assertIn(f"maxmin:bits={bits}", [row["name"] for row in document["rows"]])
        judged = sum(len(row["floors"]) for row in document["rows"])
        missed = sum(len(row["missed"]) for row in document["rows"])
        self.assertIn(f"# Floors : {judged - missed} of {judged} hold", text)

    def test_data_can_come_from_a_file(self):
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3000,), }"
            head += b" " * (64 - (10 + len(head) + 1) % 64) + b"\n"
            values = [math.sin(0.1 + i) for i in range(3000)]
            file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack("<3000f", *values))
            file.flush()
            document, _ = run("codec", "-b", "64K", "--data", file.name, *QUICK, "--codec", "maxmin:bits=8")
            self.assertEqual(document["out_of_bounds"], 0)
            self.assertLess(document["rows"][0]["nmse"], 1e-4)
        _, message = run("codec", "--data", BENCH, status=2, json_rows=False)
        self.assertIn("npy", message)


class Allreduce(unittest.TestCase):
    FIELDS = ("size_bytes", "count", "type", "redop", "root", "time_us", "time_p50_us", "time_p99_us", "algbw_GBps",
              "busbw_GBps", "wrong", "codec", "ratio", "wire_bytes", "nmse", "bias_z", "replicas_identical",
              "fingerprint", "time_p95_us", "time_min_us", "time_max_us", "calls", "speedup_over", "transport", "algorithm", "rounds_us")

    def good(self, document):
        self.assertEqual(document["out_of_bounds"], 0)
        self.assertEqual(document["rows_with_different_replicas"], 0)
        for row in document["rows"]:
            for field in self.FIELDS:
                self.assertIn(field, row)
            self.assertEqual(row["wrong"], 0, row["codec"])
            self.assertTrue(row["replicas_identical"], row["codec"])
            self.assertAlmostEqual(row["busbw_GBps"], row["algbw_GBps"] * 2 * (row["ranks"] - 1) / row["ranks"])

    def test_every_codec_over_two_ranks(self):
        document, text = run("allreduce", "-g", "2", "-b", "1K", "-e", "256K", "-f", "16", *QUICK,
                             *flags(["all", *MORE_SPECS]))
        self.good(document)
        self.assertGreaterEqual(len(document["rows"]), 3 * (9 + len(MORE_SPECS)))
        self.assertIn("# Out of bounds values : 0 OK", text)
        self.assertIn("# Avg bus bandwidth", text)

    def test_every_algorithm_and_an_odd_number_of_ranks(self):
        for algorithm in ("scatter_gather", "ring", "allgather", "tree", "hierarchical"):
            document, _ = run("allreduce", "-g", "3", "-b", "100003", "-o", "avg", "--algorithm", algorithm, *QUICK,
                              *flags(["none", "maxmin:bits=4", "natural", "topk:ratio=0.05"]))
            self.good(document)

    def test_other_types(self):
        for dtype in ("half", "bfloat16"):
            document, _ = run("allreduce", "-b", "64K", "-d", dtype, *QUICK, *flags(["none", "maxmin:bits=4"]))
            self.good(document)
        for dtype in ("double", "int32"):
            document, _ = run("allreduce", "-b", "64K", "-d", dtype, *QUICK, "--codec", "none")
            self.good(document)

    def test_minimum_maximum_and_product_of_floats_and_integers_in_every_algorithm(self):
        # Products of 16-bit floats are rounded on every hop, those of integers wrap.
        for op, dtypes in (("min", ("float", "half", "int8")), ("max", ("bfloat16", "double", "int64")),
                           ("prod", ("float", "half", "bfloat16", "double", "uint8", "int16", "int32", "int64"))):
            for dtype in dtypes:
                algorithm = ("scatter_gather", "ring", "tree")[len(op + dtype) % 3]
                document, _ = run("allreduce", "-g", "3", "-b", "12K", "--op", op, "--dtype", dtype, "--rounds", "1", "-n", "1",
                                  "--algorithm", algorithm)
                self.good(document)
                row = document["rows"][0]
                self.assertEqual((row["redop"], row["type"]), (op, dtype))
                if op != "prod" or "int" in dtype:
                    self.assertEqual(row["nmse"], 0, dtype)

    def test_doubles_are_summed_as_doubles(self):
        document, _ = run("allreduce", "-g", "3", "-b", "64K", "-o", "avg", "-d", "double", *QUICK)
        self.good(document)
        self.assertLess(document["rows"][0]["nmse"], 1e-31)  # of floats 1e-15

    def test_an_operation_that_is_no_sum_leaves_a_codec_out(self):
        document, _ = run("allreduce", "-b", "64K", "-o", "max", *QUICK, "--codec", "maxmin:bits=4")
        self.good(document)
        self.assertEqual((document["rows"][0]["ratio"], document["rows"][0]["nmse"]), (1, 0))

    def test_a_codec_can_be_the_baseline(self):
        document, _ = run("allreduce", "-b", "64K", *QUICK, "--baseline", "none", "--codec", "maxmin:bits=4")
        self.good(document)
        self.assertEqual([row["baseline"] for row in document["rows"]], [True, False])
        self.assertEqual(document["rows"][0]["speedup_over"]["none"], 1)
        self.assertGreater(document["rows"][1]["speedup_over"]["none"], 0)
        self.assertGreater(document["rows"][1]["ratio"], 7)

    def test_a_codec_can_come_with_a_way_of_its_own(self):
        ways = ["maxmin:bits=4", "maxmin:bits=4@algorithm=ring,threads=2", "none@transport=tcp"]
        document, _ = run("allreduce", "-g", "3", "-b", "64K", *QUICK, "--transport", "shm", *flags(ways))
        self.good(document)
        self.assertEqual([row["name"] for row in document["rows"]], ways)
        self.assertEqual([row["algorithm"] for row in document["rows"]], ["auto", "ring", "auto"])
        self.assertEqual([row["transport"] for row in document["rows"]], ["shm", "shm", "tcp"])

    @unittest.skipUnless(HAVE_GLOO, "built without Gloo")
    def test_gloo_is_a_baseline_in_the_same_rounds(self):
        for transport in ("shm", "gloo"):
            document, _ = run("allreduce", "-b", "256K", *QUICK, "--baseline", "gloo", "--baseline", "gloo",
                              "--transport", transport, "--codec", "maxmin:bits=4")
            self.good(document)
            names = [row["name"] for row in document["rows"]]
            self.assertEqual(names, ["gloo", "gloo (2)", "maxmin:bits=4"])
            self.assertGreater(document["rows"][2]["speedup_over"]["gloo"], 0)
            self.assertEqual(document["rows"][2]["transport"], transport)

    @unittest.skipUnless(HAVE_GLOO, "built without Gloo")
    def test_gloo_behind_a_16_bit_hook_is_a_baseline(self):
        document, _ = run("allreduce", "-g", "3", "-b", "100004", *QUICK, "-o", "avg", "--baseline", "gloo16")
        row = document["rows"][0]
        self.assertTrue(row["replicas_identical"])
        self.assertEqual((row["ratio"], row["wrong"]), (2, None))
        # Each rounding to fp16 errs by up to 2^-11 of the value, and by 2^-11/sqrt(3) in the mean of squares or less:
        # four of them in a ring of three give an NMSE below 4 * 2^-22 / 3 of the largest partial sum's square.
        self.assertTrue(0 < row["nmse"] < 2**-21)

    @unittest.skipUnless(HAVE_MPI, "built without Open MPI")
    def test_open_mpi_is_a_baseline_in_the_same_rounds(self):
        for ranks, transport in ((2, "shm"), (3, "auto"), (2, "gloo" if HAVE_GLOO else "shm")):
            document, _ = run("allreduce", "-g", str(ranks), "-b", "1000", "-e", "256K", "-f", "256", *QUICK, "-o", "avg",
                              "--transport", transport, "--baseline", "openmpi", "--codec", "natural")
            self.good(document)
            self.assertEqual(document["skipped"], {})
            kind = "shared memory" if transport != "gloo" else "tcp"
            self.assertEqual(document["rows"][0]["transport"], f"openmpi {kind}")
            self.assertGreater(document["rows"][1]["speedup_over"]["openmpi"], 0)

    def test_without_mpirun_that_baseline_is_skipped_with_the_reason(self):
        document, text = run("allreduce", "-b", "4K", *QUICK, "--baseline", "openmpi", "--baseline", "none",
                             env={"PATH": "/nosuchdirectory"})
        self.good(document)
        self.assertEqual([row["name"] for row in document["rows"]], ["none", "none (2)"])
        self.assertIn("openmpi-bin" if HAVE_MPI else "libopenmpi-dev", document["skipped"]["openmpi"])
        self.assertIn("skipped: openmpi", text)

    def test_a_copy_by_every_rank_is_a_baseline(self):
        document, _ = run("allreduce", "-b", "256K", *QUICK, "--baseline", "memcpy", "--codec", "none")
        self.assertIsNone(document["rows"][0]["wrong"])
        self.assertEqual(document["rows"][1]["wrong"], 0)
        self.assertGreater(document["rows"][1]["speedup_over"]["memcpy"], 0)

    def test_without_checks_the_columns_say_so(self):
        document, text = run("allreduce", "-b", "64K", "-c", "0", *QUICK, "--codec", "maxmin:bits=4")
        self.assertIsNone(document["rows"][0]["wrong"])
        self.assertIn("N/A", text)


class Layers(unittest.TestCase):
    def test_resnet50_in_ddps_buckets_and_a_call_a_layer(self):
        baseline = ["--baseline", "gloo"] if HAVE_GLOO else []
        document, text = run("layers", "--rounds", "1", "-n", "1", *baseline, *flags(["none", "maxmin:bits=4"]))
        self.assertIn("25557032 parameters in 161 tensors and 5 buckets", text)
        self.assertEqual((document["mode"], document["model"]), ("layers", "resnet50"))
        self.assertEqual(document["out_of_bounds"], 0)
        self.assertEqual(document["rows_with_different_replicas"], 0)
        rows = {row["name"]: row for row in document["rows"]}
        self.assertEqual(set(rows), {*baseline[1:], "none", "none, a call a layer", "maxmin:bits=4",
                                     "maxmin:bits=4, a call a layer"})
        self.assertGreater(rows["maxmin:bits=4"]["ratio"], 7)  # and not 7.76: norms and biases stay exact

    def test_a_file_lists_a_models_parameters(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            # 2.4 MB in reverse order: the first bucket closes with the tensor that takes it beyond 1 MiB.
            file.write("# a model\nlast 300x1000\nnorm 1000\nsmall 10x10\nfirst 1000x300\nbias 300\n")
            file.flush()
            document, text = run("layers", "--model", file.name, *QUICK, "-g", "3", *flags(["natural", "topk:ratio=0.01"]))
            self.assertIn("601400 parameters in 5 tensors and 2 buckets, 99.77 %", text)
            self.assertEqual(document["out_of_bounds"], 0)
            file.write("wrong 3x0\n")
            file.flush()
            _, message = run("layers", "--model", file.name, status=2, json_rows=False)
            self.assertIn("wrong 3x0", message)
        _, message = run("layers", "--model", "nosuchmodel", status=2, json_rows=False)
        self.assertIn("nosuchmodel", message)


class Failures(unittest.TestCase):
    def test_a_wrong_command_line_is_status_2_and_says_why(self):
        for words, said in ((["nosuchmode"], "nosuchmode"),
                            (["allreduce", "--nosuchflag"], "nosuchflag"),
                            (["allreduce", "stray"], "positional"),
                            (["allreduce", "-b", "12Q"], "12Q"),
                            (["allreduce", "-b", "2M", "-e", "1M"], "below"),
                            (["allreduce", "-g", "17"], "ngpus 17"),
                            (["allreduce", "-g", "0"], "ngpus 0"),
                            (["allreduce", "-d", "quad"], "quad"),
                            (["allreduce", "-o", "median"], "median"),
                            (["allreduce", "--format", "prose"], "prose"),
                            (["codec", "--format", "osu"], "osu"),
                            (["plans", "-g", "17"], "17"),
                            (["codec", "-n", "0"], "iters 0"),
                            (["codec", "--cpu", "abacus"], "abacus"),
                            (["codec", "--codec", "maxmin:bits=17"], "bits"),
                            (["allreduce", "--codec", "maxmin:bits=17"], "bits"),
                            (["allreduce", "--codec", "none@colour=red"], "colour=red"),
                            (["allreduce", "--codec", "none@threads=many"], "threads=many")):
            _, message = run(*words, status=2, json_rows=False)
            self.assertIn(said, message, words)

    def test_help_lists_every_mode_option_operation_transport_and_algorithm(self):
        text, _ = run("--help", json_rows=False)
        for mode in ("allreduce", "layers", "codec", "plans"):
            self.assertIn(f"  {mode} ", text)
            self.assertIn("--json", run(mode, "--help", json_rows=False)[0], mode)
        text = " ".join(run("allreduce", "--help", json_rows=False)[0].split())
        for words in ("sum, prod, min, max, avg", "float, half, bfloat16, double, int8, uint8, int16, int32, int64", "mixed",
                      "scatter_gather, ring, allgather, tree, hierarchical", "--meeting-directory", "openmpi-tcp",
                      "torch-powersgd", "gloo16", "memcpy"):
            self.assertIn(words, text)
        self.assertIn("--floors", run("codec", "--help", json_rows=False)[0])
        self.assertIn("resnet50", run("layers", "--help", json_rows=False)[0])

    def test_an_error_in_the_ranks_is_status_1_and_names_the_rank(self):
        _, message = run("allreduce", "-b", "4K", "--transport", "nosuchtransport", status=1, json_rows=False)
        self.assertIn("nosuchtransport", message)
        self.assertIn("rank ", message)

    def test_json_that_cannot_be_written_is_status_1(self):
        _, message = run("codec", "-b", "4K", *QUICK, "--json", "/nosuchdirectory/x.json", status=1, json_rows=False)
        self.assertIn("/nosuchdirectory/x.json", message)

    def children_of(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def ranks_of(self, process):
        return self.children_of(process.pid)

    def wait_for_the_end_of(self, pids):
        deadline = time.monotonic() + 30
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def start_endless(self, *words):
        process = subprocess.Popen([BENCH, "allreduce", "-g", "2", "-b", "1M", "-n", "100000", *words], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn("cgx-bench", process.stdout.readline())  # printed once every rank is up
        return process

    def test_a_rank_that_dies_is_reported_and_the_others_are_ended(self):
        process = self.start_endless()
        ranks = self.ranks_of(process)
        self.assertEqual(len(ranks), 2)
        os.kill(ranks[1], signal.SIGKILL)
        _, message = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertIn("rank ", message)
        self.assertFalse(any(os.path.exists(f"/proc/{rank}") for rank in ranks))

    @unittest.skipUnless(HAVE_MPI, "built without Open MPI")
    def test_ranks_of_mpirun_end_with_it_and_with_an_error_of_one(self):
        _, message = run("allreduce", "-b", "4K", "--transport", "nosuchtransport", "--baseline", "openmpi", status=1,
                         json_rows=False)
        self.assertIn("nosuchtransport", message)
        process = self.start_endless("--baseline", "openmpi")
        children = self.children_of(process.pid)  # two ranks, one mpirun
        self.assertEqual(len(children), 3)
        guests = self.children_of(children[2])
        self.assertEqual(len(guests), 2)
        process.kill()
        process.communicate()
        self.wait_for_the_end_of(children + guests)

    def test_an_interrupt_ends_the_ranks_and_leaves_nothing(self):
        process = self.start_endless()
        ranks = self.ranks_of(process)
        with open(f"/proc/{ranks[0]}/cmdline") as file:
            words = file.read().split("\0")
        directory = next(word for word in words if word.startswith("--ranks-directory=")).split("=")[1]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertFalse(any(os.path.exists(f"/proc/{rank}") for rank in ranks))
        self.assertFalse(os.path.exists(directory))

    def test_ranks_do_not_outlive_a_killed_parent(self):
        process = self.start_endless()
        ranks = self.ranks_of(process)
        process.kill()
        process.communicate()
        self.wait_for_the_end_of(ranks)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
