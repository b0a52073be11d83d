"""bench/netbench --quick, for real, into a directory of its own: what this machine can do has figures, the page is made
from them, and what cannot be done is said. argv: netbench, cgx-bench."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

NETBENCH, BENCH = sys.argv[1:3]
sys.path.insert(0, str(pathlib.Path(NETBENCH).parent))
sys.dont_write_bytecode = True

from netbench_parts.claims import second_steps  # noqa: E402
from netbench_parts.figures import Figures, break_even, control_outside, summary, worst  # noqa: E402
from netbench_parts.page import Page  # noqa: E402
from netbench_parts.plan import Plan  # noqa: E402
from netbench_parts.runner import short  # noqa: E402
from netbench_parts.table import Line, table  # noqa: E402
from netbench_parts.words import rate_mbps  # noqa: E402


def netbench(*words, status=0):
    done = subprocess.run(
        [sys.executable, NETBENCH, "--bench", BENCH, *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Quick(unittest.TestCase):
    def test_it_measures_and_writes_the_page(self):
        with tempfile.TemporaryDirectory() as directory:
            out = pathlib.Path(directory)
            only = "shm,latency,loopback,1g,far,sweep,codec"
            said = netbench("--quick", "--only", only, "--out", directory)
            self.assertIn("Page: ", said)
            page = (out / "BENCHMARKS.md").read_text()
            self.assertIn("A quick run", page)
            self.assertIn("PASS", page + said)
            for name in only.split(","):
                section = json.loads((out / f"{name}.json").read_text())
                self.assertTrue(section["environment"]["cpu"])
                for step in section["steps"]:
                    self.assertNotIn("failed", step, step)
                    if "skipped" in step:
                        self.assertIn(step["skipped"], page)
                    elif "torch" not in step["label"]:
                        self.assertTrue(step["document"]["rows"], step["label"])
            # Measuring one section again keeps the others.
            before = (out / "codec.json").read_text()
            netbench("--quick", "--only", "latency", "--out", directory)
            self.assertEqual((out / "codec.json").read_text(), before)
            self.assertIn("encode in L2", (out / "BENCHMARKS.md").read_text())
            self.assertIn("Page: ", netbench("--quick", "--page-only", "--out", directory))

    def test_wrong_words_are_status_2(self):
        self.assertIn("nosuchsection", netbench("--only", "nosuchsection", status=2))
        done = subprocess.run([sys.executable, NETBENCH, "--bench", "/nosuchbench"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("/nosuchbench", done.stderr)


def row(name, rounds, size=1 << 20):
    return {
        "name": name,
        "size_bytes": size,
        "rounds_us": rounds,
        "time_us": sorted(rounds)[len(rounds) // 2],
        "nmse": 0,
        "wrong": 0,
        "wire_bytes": 1,
        "algbw_GBps": 1,
    }


def step(label, rows, link="1gbit"):
    return {"label": label, "link": link, "ranks": 2, "command": "true", "document": {"rows": rows}}


class Judging(unittest.TestCase):
    def figures(self, **sections):
        with tempfile.TemporaryDirectory() as directory:
            for name, steps in sections.items():
                content = {
                    "section": name,
                    "quick": False,
                    "date": "2026-01-01",
                    "environment": {"cores": 2, "cpu": "a"},
                    "steps": steps,
                }
                (pathlib.Path(directory) / f"{name}.json").write_text(json.dumps(content))
            return Figures(pathlib.Path(directory), sections)

    def test_a_ratio_is_the_median_of_the_rounds_ratios(self):
        figures = self.figures(shm=[step("large", [row("gloo", [10, 40, 10]), row("none", [5, 10, 10])])])
        ratio = figures.ratio(figures.step("shm", "large"), "none", "gloo")
        self.assertEqual((ratio.median, ratio.low, ratio.high), (2, 1.5, 3))
        self.assertIsNone(figures.ratio(figures.step("shm", "large"), "none", "openmpi"))
        self.assertEqual(str(summary([2.0])), "2.00x (2.00-2.00)")

    def test_a_control_that_is_off_is_found_and_shouted(self):
        bad = step("large", [row("gloo", [10, 10]), row("gloo (2)", [8, 8])])
        figures = self.figures(shm=[bad])
        self.assertEqual(len(control_outside(figures, bad)), 1)
        self.assertIn("CONTROL OUTSIDE", Page(figures, set()).text(""))
        self.assertEqual(control_outside(figures, step("large", [row("gloo", [10]), row("gloo (2)", [9.5])])), [])

    def test_the_table_says_pass_below_and_not_measured(self):
        slow, fast = row("maxmin:bits=4", [2, 2]), row("maxmin:bits=2", [0.5, 0.5])
        lines = {
            line.metric: line
            for line in table(self.figures(**{"1g": [step("n=2", [row("gloo", [10, 10]), slow, fast])]}))
        }
        self.assertEqual(lines["64 MiB at 1 Gb/s, n=2, 4 bits, against Gloo"].verdict(), "BELOW")
        self.assertEqual(lines["64 MiB at 1 Gb/s, n=2, 2 bits, against Gloo"].verdict(), "PASS")
        self.assertEqual(lines["64 MiB at 1 Gb/s, n=4, 2 bits, against Gloo"].verdict(), "not measured")
        self.assertEqual(Line("at most 35% more time", 1 / 1.35, None, summary([1 / 1.3427])).verdict(), "PASS")
        self.assertEqual(Line("at most 35% more time", 1 / 1.35, None, summary([1 / 1.3527])).verdict(), "BELOW")

    def test_the_policy_is_judged_by_its_worst_place(self):
        places = [
            row("none", [4, 4], 1024),
            row("maxmin:bits=4", [8, 8], 1024),
            row("auto", [5, 5], 1024),
            row("none", [9, 9]),
            row("maxmin:bits=4", [3, 3]),
            row("auto", [3, 3]),
        ]
        figures = self.figures(sweep=[step("1gbit", places)])
        self.assertAlmostEqual(worst(figures.auto_against_best()).median, 0.8)
        self.assertAlmostEqual(worst(figures.everywhere("auto", "none")).median, 0.8)

    def test_what_breaks_a_claim_is_measured_again_and_that_counts(self):
        fixed = [row("gloo", [9, 9]), row("none", [4, 4]), row("maxmin:bits=4", [8, 8]), row("cast:bf16", [9, 9])]
        good = [row(name, [1, 1], 4096) for name in ("gloo", "none", "maxmin:bits=4", "auto")]
        first = step("small", [*fixed, row("auto", [5, 5]), *good])
        figures = self.figures()
        planned = next(s for s in Plan(False, "tcp", True).sections()["shm"].steps if s.label == "small")
        (second,) = second_steps(figures, planned, first)
        said = " ".join(second.words)
        self.assertIn(f"-b {1 << 20} -e {1 << 20} ", said)
        self.assertIn("--codec none --codec auto", said)
        self.assertNotIn("gloo", said)
        self.assertNotIn("maxmin", said)
        self.assertIn(f"--rounds {9 * Plan(False, 'tcp', True).rounds} --transport shm", said)
        slower = step("small", [row("gloo", [3, 3]), *(row(name, [4, 4]) for name in ("none", "maxmin:bits=4", "auto"))])
        (second,) = second_steps(figures, planned, slower)
        said = " ".join(second.words)
        self.assertIn("--baseline gloo --baseline gloo --codec none --codec auto", said)
        self.assertIn(f"--rounds {3 * Plan(False, 'tcp', True).rounds} --transport shm", said)
        again = step("small, again", [row("gloo", [9, 9]), row("none", [4, 4]), row("auto", [4, 4])])
        figures = self.figures(shm=[{**first, "again": [again]}])
        self.assertAlmostEqual(worst(figures.auto_against_best()).median, 1)
        self.assertAlmostEqual(worst(figures.everywhere("auto", "none")).median, 1)
        self.assertIn("against uncompressed: 0.80x (0.80-0.80), then 1.00x (1.00-1.00)", Page(figures, set()).text(""))

    def test_break_even_lies_between_the_rates_where_the_ratio_crosses_one(self):
        def at(rate, ratio):
            return step(rate, [row("none", [10 * ratio]), row("maxmin:bits=4", [10])], rate)

        self.assertAlmostEqual(break_even(self.figures(sweep=[at("100mbit", 4), at("10gbit", 0.25)])), 1000)
        self.assertIsNone(break_even(self.figures(sweep=[at("100mbit", 4), at("10gbit", 2)])))
        self.assertEqual([rate_mbps(rate) for rate in ("100mbit", "2.5gbit", "loopback")], [100, 2500, None])

    def test_what_failed_or_was_skipped_is_on_the_page(self):
        figures = self.figures(
            **{"1g": [{"label": "n=2", "link": "1gbit", "ranks": 2, "command": "true", "skipped": "no root here"}]}
        )
        self.assertIn("no root here", Page(figures, set()).text(""))

    def test_figures_keep_five_digits(self):
        self.assertEqual(
            short({"a": [123456.789, 0.000123456, 3, None, "x"]}), {"a": [123457.0, 0.0001235, 3, None, "x"]}
        )


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
