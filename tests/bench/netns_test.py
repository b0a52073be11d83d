"""scripts/netns: the rate holds in both directions, failures end everything, nothing is left. argv: the script.
Exits with 77 where this machine cannot make network namespaces."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

NETNS = sys.argv[1]

# Ranks 0 and 1 send each other 8 MiB at once; rank 0 prints the Gb/s of what it got. Its clock starts before rank 1 may
# send: a rank that is kept from its core meanwhile finds bytes waiting, but not within less time.
PUMP = r"""
import os, socket, threading, time
rank, size = int(os.environ["RANK"]), 8 << 20
address = (os.environ["MASTER_ADDR"], 5555)
if rank == 0:
    peer = socket.create_server(address).accept()[0]
else:
    for attempt in range(200):
        try:
            peer = socket.create_connection(address)
            break
        except OSError:
            time.sleep(0.05)
def receive():
    got = 0
    while got < size:
        got += len(peer.recv(min(1 << 20, size - got)))
start = time.monotonic()
if rank == 0:
    peer.sendall(b"!")
else:
    peer.recv(1)
thread = threading.Thread(target=receive)
thread.start()
peer.sendall(bytes(size))
thread.join()
if rank == 0:
    print(size * 8 / (time.monotonic() - start) / 1e9)
"""


def netns(*words, **options):
    return subprocess.run([sys.executable, NETNS, *words], capture_output=True, text=True, timeout=120, **options)


def leftovers(pid):
    names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    return [name for name in names if name.startswith(f"cgx-{pid}-")]


class Netns(unittest.TestCase):
    def test_the_rate_holds_in_both_directions_at_once(self):
        done = netns("train", "--ranks", "2", "--rate", "200mbit", "--", sys.executable, "-c", PUMP)
        self.assertEqual(done.returncode, 0, done.stderr)
        # Never faster than the bucket, whose burst of 128 KiB is 1.6 % of what is sent; a busy machine may be slower.
        self.assertLess(float(done.stdout), 0.2 * 1.04)
        self.assertGreater(float(done.stdout), 0.2 * 0.3)

    def test_a_connection_has_its_own_limit(self):
        done = netns("train", "--ranks", "2", "--rate", "1gbit", "--flow", "200mbit", "--", sys.executable, "-c", PUMP)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(float(done.stdout), 0.2 * 1.04)

    # A connection is made in a round trip, and rank 1 hears of it in half of one more.
    def test_packets_take_the_time_they_are_given(self):
        script = ("import os, socket, time; address = (os.environ['MASTER_ADDR'], 5555)\n"
                  "if os.environ['RANK'] == '0':\n"
                  "    peer = socket.create_server(address).accept()[0]; peer.sendall(b'!'); peer.recv(1)\n"
                  "    raise SystemExit\n"
                  "while True:\n"
                  "    start = time.monotonic()\n"
                  "    try:\n"
                  "        peer = socket.create_connection(address)\n"
                  "        break\n"
                  "    except OSError:\n"
                  "        pass\n"
                  "peer.recv(1); print(time.monotonic() - start, file=open(os.environ['OUT'], 'w'))")
        with tempfile.NamedTemporaryFile() as out:
            done = netns("train", "--ranks", "2", "--rate", "1gbit", "--delay", "30", "--", sys.executable, "-c", script,
                         env={**os.environ, "OUT": out.name})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(float(open(out.name).read()), 0.06)

    def test_a_command_finds_the_prefix_and_enters_a_namespace(self):
        script = 'eval "$(echo "$CGX_NETNS_PREFIX" | sed s/{rank}/1/)" ip -4 -o addr show $CGX_NETNS_INTERFACE'
        done = netns("run", "--ranks", "2", "--rate", "1gbit", "--", "sh", "-c", script)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("10.77.0.2/24", done.stdout)

    def test_the_exit_status_is_the_commands(self):
        self.assertEqual(netns("run", "--", "sh", "-c", "exit 5").returncode, 5)

    def test_a_failing_rank_ends_all_and_its_output_is_shown(self):
        start = time.monotonic()
        done = netns("train", "--ranks", "3", "--", "sh", "-c", '[ $RANK = 1 ] && { echo woe; exit 3; }; sleep 100')
        self.assertEqual(done.returncode, 3)
        self.assertIn("rank 1 failed", done.stderr)
        self.assertIn("woe", done.stderr)
        self.assertLess(time.monotonic() - start, 60)

    def test_nothing_is_left_after_a_termination(self):
        process = subprocess.Popen([sys.executable, NETNS, "run", "--", "sh", "-c", "echo up; exec sleep 100"],
                                   stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), "up\n")
        self.assertEqual(len(leftovers(process.pid)), 3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(leftovers(process.pid), [])

    def test_no_mount_is_left_where_there_was_none(self):
        # In a mount namespace of its own: others may have namespaces here.
        script = f"""mount --make-rprivate /; while umount /run/netns 2>/dev/null; do :; done
                     grep -q ' /run/netns ' /proc/self/mountinfo && exit 3
                     {sys.executable} {NETNS} probe && {sys.executable} {NETNS} loopback -- true || exit 4
                     ! grep ' /run/netns ' /proc/self/mountinfo"""
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60)
        if "unshare" in done.stderr or done.returncode == 3:
            self.skipTest(f"no such namespace here: {done.stderr.strip()}")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_what_a_killed_run_left_is_removed_by_the_next(self):
        process = subprocess.Popen([sys.executable, NETNS, "run", "--", "sh", "-c", "echo up; exec cat"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), "up\n")
        process.kill()
        process.communicate()
        self.assertEqual(len(leftovers(process.pid)), 3)
        self.assertEqual(netns("probe").returncode, 0)
        self.assertEqual(leftovers(process.pid), [])

    def test_ranks_do_not_outlive_a_killed_script(self):
        with tempfile.TemporaryDirectory() as directory:
            pid_file = os.path.join(directory, "pid")
            process = subprocess.Popen([sys.executable, NETNS, "train", "--ranks", "1", "--", "sh", "-c",
                                        f"echo $$ > {pid_file}; echo up; exec sleep 100"],
                                       stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), "up\n")
            with open(pid_file) as file:
                rank = int(file.read())
            process.kill()
            process.communicate()
            deadline = time.monotonic() + 30
            while os.path.exists(f"/proc/{rank}"):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
        self.assertEqual(netns("probe").returncode, 0)  # and removes the namespaces

    def test_on_loopback_it_needs_no_namespaces(self):
        done = netns("train", "--ranks", "2", "--loopback", "--", "sh", "-c", "echo $RANK/$WORLD_SIZE $MASTER_ADDR")
        self.assertEqual((done.returncode, done.stdout), (0, "0/2 127.0.0.1\n"))

    def test_loopback_is_a_namespace_with_cubic_and_nothing_else(self):
        script = ("import os, socket; server = socket.create_server(('127.0.0.1', 0)); "
                  "client = socket.create_connection(server.getsockname()); "
                  "print(client.getsockopt(6, socket.TCP_CONGESTION, 8).strip(b'\\0').decode(), os.listdir('/sys/class/net'))")
        done = netns("loopback", "--", sys.executable, "-c", script)
        self.assertEqual((done.returncode, done.stdout), (0, "cubic ['lo']\n"), done.stderr)
        self.assertEqual(netns("loopback", "--", "sh", "-c", "exit 5").returncode, 5)

    def test_wrong_words_are_status_2(self):
        self.assertEqual(netns("train", "--rate", "fast", "--", "true").returncode, 2)
        self.assertEqual(netns("run", "--ranks", "0", "--", "true").returncode, 2)
        self.assertEqual(netns("run", "--").returncode, 2)
        self.assertEqual(netns("run", "--", "nosuchcommand").returncode, 2)


if __name__ == "__main__":
    probe = netns("probe")
    if probe.returncode == 77:
        print(probe.stderr.strip())
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
