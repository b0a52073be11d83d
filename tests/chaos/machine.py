"""Faults of the machine: links, packets, /dev/shm, descriptors, threads, memory. For scripts/chaos."""

import contextlib
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import time

from jobs import Job, Problem, check_ends, check_error, check_no_wrong, now_us
from scenarios import CODECS, SLACK_MS, START_S, Skip, scenario

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")


def load_netns():
    loader = importlib.machinery.SourceFileLoader("netns", os.path.join(SCRIPTS, "netns"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("netns", loader))
    loader.exec_module(module)
    return module


@contextlib.contextmanager
def network(ranks, rate=None, queue=None):
    netns = load_netns()
    try:
        with netns.Network(ranks, 1, rate, None, queue) as made:
            yield made
    except netns.Skip as reason:
        raise Skip(str(reason)) from None


def call(*words):
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode != 0:
        raise Skip(f"`{' '.join(words)}` failed: {result.stderr.strip()}")


def need(tool):
    if not shutil.which(tool):
        raise Skip(f"{tool} is missing (Debian: apt install {dict(nft='nftables').get(tool, tool)})")


def plug(net, rank, state):
    """Pulls rank's cable at the switch, or puts it back."""
    call("ip", "-n", f"{net.stem}-switch", "link", "set", f"port{rank}", state)


def drop(net, rank, rule):
    """All that rank sends and receives and that `rule` says ("" for everything); None: nothing any more."""
    prefix = ["ip", "netns", "exec", f"{net.stem}-{rank}", "nft"]
    subprocess.run([*prefix, "delete", "table", "inet", "chaos"], capture_output=True)
    if rule is None:
        return
    call(*prefix, "add", "table", "inet", "chaos")
    for hook in ("input", "output"):
        call(*prefix, "add", "chain", "inet", "chaos", hook, f"{{ type filter hook {hook} priority 0; }}")
        call(*prefix, "add", "rule", "inet", "chaos", hook, "oifname" if hook == "output" else "iifname", "eth0", *rule.split(), "drop")


def job_in(net, size, **options):
    """Rank r in namespace r; they meet in a file store, so that only their own connections cross the links."""
    return Job(size, prefix=lambda rank: net.prefix(rank).split(), transport="tcp", interface="eth0", **options)


def error_of_all(trials, job, fault_us, timeout_ms):
    job.wait_exit(job.processes, timeout_ms / 1000 + START_S)
    check_no_wrong(job.processes)
    check_ends(job.processes)
    for p in job.processes:
        trials.note("", check_error(p, fault_us, timeout_ms + SLACK_MS))


def no_error(job, seconds):
    """Nobody fails, and everybody goes on, until their steps are over."""
    job.wait_exit(job.processes, seconds)
    check_no_wrong(job.processes)
    for p in job.processes:
        if not p.first("end"):
            raise Problem(f"{p.name} failed: {p.words()}")


@scenario("R6", "the link of a rank goes down; timeout 1500 ms", 50, 3)
def link_down(trials):
    timeout_ms = 1500
    with network(3) as net:
        for trial in trials:
            def once():
                with job_in(net, 3, timeout=timeout_ms, codec=CODECS[trial % 4]) as job:
                    job.wait_for("stepping", job.processes, START_S)
                    time.sleep(trials.random.uniform(0, 0.05))
                    rank = trials.random.randrange(3)
                    fault_us = now_us()
                    plug(net, rank, "down")
                    try:
                        error_of_all(trials, job, fault_us, timeout_ms)
                    finally:
                        plug(net, rank, "up")

            trials.attempt(trial, once)


@scenario("R7", "a network is parted for longer (an error) or for less (none) than the timeout, and heals", 50, 2)
def parted(trials):
    need("nft")
    with network(3) as net:
        for trial in trials:
            def once():
                longer = trial % 2 == 0
                timeout_ms = 1500 if longer else 6000
                with job_in(net, 3, timeout=timeout_ms, codec=CODECS[trial // 2 % 4], steps=0 if longer else 300, pause_us=3000) as job:
                    job.wait_for("stepping", job.processes, START_S)
                    rank = trials.random.randrange(3)
                    fault_us = now_us()
                    drop(net, rank, "")
                    try:
                        if longer:
                            error_of_all(trials, job, fault_us, timeout_ms)
                        else:
                            time.sleep(0.5)
                    finally:
                        drop(net, rank, None)
                    if not longer:
                        no_error(job, START_S)

            trials.attempt(trial, once)


@scenario("R8", "a link that flaps five times", 100, 2)
def flap(trials):
    with network(3) as net:
        for trial in trials:
            def once():
                with job_in(net, 3, timeout=20000, codec=CODECS[trial % 4], steps=200, pause_us=5000) as job:
                    job.wait_for("stepping", job.processes, START_S)
                    rank = trials.random.randrange(3)
                    for _ in range(5):
                        plug(net, rank, "down")
                        time.sleep(trials.random.uniform(0.02, 0.15))
                        plug(net, rank, "up")
                        time.sleep(trials.random.uniform(0.02, 0.15))
                    no_error(job, START_S)

            trials.attempt(trial, once)


def bench_ratio(trials, net, words):
    """Times as fast as Gloo, from cgx-bench, or None without it."""
    bench = os.path.join(os.path.dirname(Job.worker), "cgx-bench")
    if not os.path.exists(bench):
        return None
    addresses = ",".join(net.address(rank) for rank in range(net.ranks))
    environment = {"CGX_NETNS_PREFIX": net.prefix(), "CGX_NETNS_ADDRESSES": addresses, "CGX_NETNS_INTERFACE": "eth0"}
    json_file = os.path.join(trials.context.directory, "bench.json")
    command = [bench, "allreduce", *words, "--transport", "tcp", "--baseline", "gloo", "--json", json_file]
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    if result.returncode != 0:
        raise Problem(f"`{' '.join(command)}` failed: {(result.stderr or result.stdout)[-300:]}")
    with open(json_file) as file:
        rows = json.load(file)["rows"]
    return round(next(row["speedup_over"]["gloo"] for row in rows if not row["baseline"]), 2)


@scenario("R9", "loss of 0.1, 1 and 5 % on all links, 3 ranks: the time of 30 steps of 2 MB", 9, 1)
def loss(trials):
    need("nft")
    with network(3) as net:
        for trial in trials:
            def once():
                share = (1, 10, 50)[trial % 3]
                for rank in range(3):
                    drop(net, rank, f"numgen random mod 1000 lt {share}")
                try:
                    began_us = now_us()
                    with job_in(net, 3, timeout=60000, count=500000, steps=30, codec=CODECS[1]) as job:
                        no_error(job, 180)
                    trials.note(f"{share / 10} %", (now_us() - began_us) / 1000)
                finally:
                    for rank in range(3):
                        drop(net, rank, None)

            trials.attempt(trial, once)


@scenario("R10", "incast: 8 ranks at 1 Gb/s, queues of 256 KiB, 4 MB in 4 bits and raw, beside Gloo", 2, 2)
def incast(trials):
    with network(8, 1e9, 256 << 10) as net:
        for trial in trials:
            def once():
                codec = ("maxmin:bits=4,bucket=512", "none")[trial % 2]
                ratio = bench_ratio(trials, net, ["-g", "8", "-b", "4M", "-e", "4M", "--codec", codec])
                if ratio is None:
                    raise Skip("cgx-bench was not built")
                trials.figures[f"times as fast as Gloo, {codec.split(':')[0]}"] = ratio
                if ratio < 0.5:  # all that is sent at once, lost and sent again, took 2.7 times as long as Gloo
                    raise Problem(f"{codec}: {ratio:.2f} times as fast as Gloo")

            trials.attempt(trial, once)


class SharedMemory:
    """A /dev/shm of its own for the ranks of a job, in a mount namespace that a sleeping process holds."""

    def __init__(self, options, missing=False):
        if os.geteuid() != 0 or not shutil.which("nsenter"):
            raise Skip("a /dev/shm of one's own needs root and util-linux")
        unshare = ["unshare", "-m", "--propagation", "private"]
        call(*unshare, "true")  # in a chroot it does not work
        self.holder = subprocess.Popen([*unshare, "sleep", "1000"])
        while os.readlink(f"/proc/{self.holder.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            time.sleep(0.02)
        self.words = ["nsenter", "-m", "-t", str(self.holder.pid)]
        call(*self.words, "mount", "-t", "tmpfs", "-o", options, "tmpfs", "/dev/shm")
        if missing:
            call(*self.words, "mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", "/dev")

    def run(self, text):
        return subprocess.run([*self.words, "sh", "-c", text], capture_output=True, text=True).stdout.strip()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.holder.kill()
        self.holder.wait()


STALE = (  # a file that looks like a segment and that nobody holds; one of another user; a directory in the way
    "head -c 8192 /dev/zero > /dev/shm/cgx-0123456789abcdef.0; mkdir /dev/shm/cgx-0123456789abcde0.0;"
    " head -c 100 /dev/urandom > /dev/shm/cgx-0123456789abcde1.1; chown 12345 /dev/shm/cgx-0123456789abcde1.1;"
    " ln -s /etc/passwd /dev/shm/cgx-0123456789abcde2.0"
)


@scenario("R21", "/dev/shm full, small, missing, with stale and squatted names; a killed job's leftovers", 6, 6)
def shared_memory(trials):
    for trial in trials:
        def refused(options, words, missing=False, fill=""):
            with SharedMemory(options, missing) as shm:
                shm.run(fill)
                with Job(2, prefix=lambda rank: shm.words, transport="shm", meet=8000) as job:
                    job.wait_exit(job.processes, START_S)
                    check_ends(job.processes)
                    lines = [p.first("refused") for p in job.processes]
                    if not all(lines) or not any(words in line["message"] for line in lines):
                        raise Problem(f"{options}: expected an error with \"{words}\": {lines}")
                if shm.run("ls /dev/shm/cgx-* 2>/dev/null"):
                    raise Problem(f"{options}: left in /dev/shm: {shm.run('ls -l /dev/shm')}")

        def works():
            with SharedMemory("size=256m") as shm:
                shm.run(STALE)
                with Job(2, prefix=lambda rank: shm.words, transport="shm", steps=20) as job:
                    no_error(job, START_S)
                if "passwd" not in shm.run("ls -l /dev/shm") or not os.path.getsize("/etc/passwd"):
                    raise Problem("it followed a link, or removed one that is not its own")

        def killed():
            with SharedMemory("size=256m") as shm:
                with Job(3, prefix=lambda rank: shm.words, transport="shm") as job:
                    time.sleep(trials.random.uniform(0, 0.3))
                    for p in job.processes:
                        p.kill()
                with Job(2, prefix=lambda rank: shm.words, transport="shm", steps=5) as job:
                    no_error(job, START_S)
                left = shm.run("ls /dev/shm/cgx-* 2>/dev/null")
                if left:
                    raise Problem(f"left in /dev/shm after a killed job and one that ended well: {left}")

        kinds = [
            lambda: refused("size=1m", "cannot hold"),
            lambda: refused("size=64m", "cannot hold", fill="head -c 60000000 /dev/zero > /dev/shm/full"),
            lambda: refused("size=1m", "shared memory", missing=True),
            lambda: refused("size=16k,nr_inodes=2", "shared memory"),
            works,
            killed,
        ]
        trials.attempt(trial, kinds[trial % 6])


def judge_point(p, line, allowed):
    if line["status"] not in allowed:
        raise Problem(f"{p.name}, point {line['k']}: {line['status']}: {line['message']}")


def fault_run(trials, fail, size, stride, transport, more, trial):
    """Every `stride`-th point until three in a row are beyond the last allocation (thread, descriptor)."""
    preload = os.path.join(os.path.dirname(Job.worker), "libcgx-chaos-fail.so")
    env = {**({"LD_PRELOAD": preload} if fail != "descriptor" else {}), **more.get("env", {})}
    options = {"codec": CODECS[1] + ("+ef" if trial % 2 else ""), **more.get("options", {})}
    counts = {"points": 0, "errors": 0}
    with Job(size, mode="faults", transport=transport, of_rank={0: {"fail": fail}}, env=env, timeout=1000, meet=1000, **options) as job:
        beyond, k = 0, trial % stride
        while beyond < 3:
            for p in job.processes:
                p.order(str(k))
            job.wait_until(lambda: all(p.all("fault") and p.all("fault")[-1]["k"] == k for p in job.processes), 20, f"{fail} {k}")
            lines = [p.all("fault")[-1] for p in job.processes]
            struck = lines[0]["status"] != "CGX_OK" if fail == "descriptor" else lines[0]["fired"]
            beyond = 0 if struck else beyond + 1
            counts["points"] += bool(struck)
            counts["errors"] += lines[0]["status"] != "CGX_OK"
            for p, line in zip(job.processes, lines):
                judge_point(p, line, ("CGX_OK", "CGX_RESOURCE") if p is job.ranks[0] else ("CGX_OK", "CGX_PEER_FAILED", "CGX_TIMEOUT"))
            k += stride
        for p in job.processes:
            p.popen.stdin.close()
        job.wait_exit(job.processes, 20)
        check_no_wrong(job.processes)
        check_ends(job.processes)
    for name, value in counts.items():
        key = f"{name}, {fail}"
        trials.figures[key] = trials.figures.get(key, 0) + value


@scenario("R22", "the k-th allocation, thread or descriptor of rank 0 fails, for every k", 10, 1)
def exhausted(trials):
    threads = {"env": {"CGX_THREADS": "2"}, "options": {"count": 100000}}  # a rank's half is work for both
    measuring = {"env": {"CGX_TUNE": "1"}}
    runs = [  # what fails, ranks, every which point, transport, and what else
        ("malloc", 1, 1, "shm", {}),
        ("descriptor", 2, 1, "shm", {}),
        ("descriptor", 2, 1, "tcp", {}),
        ("thread", 2, 1, "shm", {}),
        ("malloc", 2, 1, "shm", {}),
        ("malloc", 2, 1, "tcp", {}),
        ("malloc", 3, 1, "shm", {}),
        ("malloc", 3, 1, "tcp", {}),
        ("malloc", 2, 1, "shm", threads),
        ("malloc", 2, 11, "shm", measuring),
    ]
    for trial in trials:
        trials.attempt(trial, lambda: fault_run(trials, *runs[trial % len(runs)], trial))
