"""Several hosts as network namespaces with limited links: allreduce over each layout, transport and address family,
with bits compared between ranks and with those over sockets alone. argv: scripts/netns, host_rank, "gloo" if built.
Exits with 77 where this machine cannot make network namespaces."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

NETNS, HOST_RANK = sys.argv[1:3]
HAVE_GLOO = "gloo" in sys.argv[3:]


def run(layout, transport, *options, algorithm="scatter_gather", environment=None):
    """What rank 0 says (with its log, where the environment asks for one), and each rank's bits."""
    hosts, ranks_each = map(int, layout.split("x"))
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run([sys.executable, NETNS, "train", "--hosts", layout, "--rate", "200mbit", *options, "--",
                               HOST_RANK, directory, transport, algorithm],
                              capture_output=True, text=True, timeout=200, env={**os.environ, **(environment or {})})
        if done.returncode != 0:
            raise AssertionError(f"{layout} {transport} {options}: {done.stderr}")
        bits = []
        for rank in range(hosts * ranks_each):
            with open(os.path.join(directory, str(rank)), "rb") as file:
                bits.append(file.read())
    return (done.stderr if environment else "") + done.stdout.strip(), bits


class Hosts(unittest.TestCase):
    def assert_same_bits(self, *results):
        for said, bits in results:
            for rank, own in enumerate(bits):
                self.assertEqual(own, results[0][1][0], f"rank {rank}: {said}")

    def test_two_hosts_of_two_ranks_choose_a_transport_for_each_pair(self):
        auto = run("2x2", "auto", "--interface", "eth")
        ipv6 = run("2x2", "auto", "--ipv6", "--interface", "=eth0")
        self.assertEqual((auto[0], ipv6[0]), ("4 ranks over mixed", "4 ranks over mixed"))
        self.assert_same_bits(auto, ipv6, run("2x2", "tcp", "--queue", "32K"))

    def test_three_hosts_of_one_rank_take_sockets(self):
        auto = run("3x1", "auto", "--interface", "^lo,docker")
        self.assertEqual(auto[0], "3 ranks over tcp")
        self.assert_same_bits(auto, run("3x1", "mixed", "--ipv6"))

    def test_far_hosts_have_more_under_way_and_the_same_bits(self):
        logs = {"CGX_DEBUG": "INFO", "CGX_DEBUG_SUBSYS": "TUNING"}
        for layout, algorithm in (("2x1", "scatter_gather"), ("3x1", "allgather"), ("3x1", "ring"), ("2x2", "hierarchical")):
            for delay in ([], ["--delay", "4"]):
                said, bits = run(layout, "auto", *delay, algorithm=algorithm, environment=logs)
                self.assert_same_bits((algorithm, bits), *([] if not delay else [near]))
                near = (algorithm, bits)
            # As many as the largest tensor has slices, of 1.2 MB: two to five a chunk.
            self.assertGreater(max(map(int, re.findall(r"bytes, (\d+) under way", said))), 1, algorithm)

    def test_addresses_of_the_link_alone_do_as_well(self):
        self.assertEqual(run("2x1", "auto", "--ipv6=link")[0], "2 ranks over tcp")

    @unittest.skipUnless(HAVE_GLOO, "built without Gloo")
    def test_gloo_does_so_too(self):
        gloo = run("2x2", "gloo", "--ipv6=link", algorithm="hierarchical")
        self.assertEqual(gloo[0], "4 ranks over gloo")
        self.assert_same_bits(gloo, run("2x2", "auto", algorithm="hierarchical"))

    def test_an_interface_that_is_not_there_is_an_error_that_lists_them(self):
        with self.assertRaisesRegex(AssertionError, r'no network interface "ib" that is up: .* eth0 \(10\.77\.0\.1'):
            run("2x1", "auto", "--interface", "ib")


if __name__ == "__main__":
    probe = subprocess.run([sys.executable, NETNS, "probe"], capture_output=True, text=True)
    if probe.returncode == 77:
        print(probe.stderr.strip())
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
