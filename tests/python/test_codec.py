"""Codecs from Python without PyTorch. Every codec that is listed is tested; bounds are derived, not tuned."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import cgx

_LISTED = cgx.codecs()


def _spec(row: dict) -> str:
    """The codec with its defaults; a parameter without one takes the first value of its range."""
    required = [p["range"].replace("..", "|").split("|")[0] for p in row["params"] if p["default"] in (None, "")]
    return row["name"] + (f":{','.join(required)}" if required else "")


SPECS = [_spec(row) for row in _LISTED] + [
    "maxmin:bits=1",
    "maxmin:bits=3,bucket=64,rounding=nearest",
    "dither:bits=8,norm=1,bucket=0",
    "natdither:bits=4,norm=inf",
    "topk:ratio=0.01|natural",
    "topk:ratio=0.01,indices=packed|natural",
]
COUNTS = [0, 1, 2, 3, 7, 8, 17, 255, 256, 257, 1000, 5000]


def _normal(count: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(count).standard_normal(count).astype(dtype)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("spec", SPECS)
def test_a_round_trip_keeps_the_size_promised_and_stays_finite(spec, count):
    codec = cgx.Codec(spec)
    data = codec.encode(_normal(count), seed=1)
    assert len(data) == codec.encoded_bytes(count) <= 4 * count
    decoded = codec.decode(data, count)
    assert decoded.dtype == np.float32
    assert decoded.shape == (count,)
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_printed_back_and_means_the_same(spec):
    codec = cgx.Codec(spec)
    assert cgx.Codec(codec.spec).spec == codec.spec
    assert pickle.loads(pickle.dumps(codec)) == codec
    x = _normal(1000)
    assert cgx.Codec(codec.spec).encode(x, seed=5) == codec.encode(x, seed=5)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if cgx.Codec(spec).unbiased])
def test_what_is_called_unbiased_is_right_on_average(spec):
    codec = cgx.Codec(spec)
    count, trials = 2048, 300
    x = _normal(count)
    errors = np.stack([codec.decode(codec.encode(x, seed=seed), count) - x for seed in range(trials)]).astype(
        np.float64
    )
    # The mean of `trials` errors of mean 0 has 1/trials of their variance. Summed over the elements, it exceeds
    # twice its expectation with a negligible chance: there are 2048 of them (a few hundred in a sparse codec).
    assert (errors.mean(0) ** 2).sum() <= 2 * errors.var(0).sum() / trials + 1e-12 * (x**2).sum()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("spec", SPECS)
def test_the_keys_decide_the_bytes(spec, dtype):
    codec = cgx.Codec(spec)
    x = _normal(4096, dtype)
    key = {"seed": 3, "op": 4, "tensor": 5, "rank": 6}
    data = codec.encode(x, **key)
    assert codec.encode(x, **key) == data
    assert len(data) == codec.encoded_bytes(x.size, dtype)
    values = codec.decode(data, x.size, dtype)
    others = [codec.decode(codec.encode(x, **{**key, name: 9}), x.size, dtype) for name in key]
    changed = {not np.array_equal(values, other, equal_nan=True) for other in others}
    assert len(changed) == 1  # all four keys matter, or the codec draws nothing


def test_max_min_stays_within_a_step():
    x = _normal(512)
    decoded = cgx.Codec("maxmin:bits=4,bucket=512").decode(cgx.Codec("maxmin:bits=4,bucket=512").encode(x), 512)
    step = (x.max() - x.min()) / 15
    assert np.abs(decoded - x).max() <= step * (1 + 1e-6)


def test_none_is_exact():
    for dtype in ("float32", "float16"):
        x = _normal(100, dtype)
        assert np.array_equal(cgx.Codec("none").decode(cgx.Codec("none").encode(x), 100, dtype), x.astype(np.float32))


def test_arrays_of_any_shape_are_taken():
    x = _normal(600)
    codec = cgx.Codec("natural8")
    assert codec.encode(x.reshape(2, 3, 100)) == codec.encode(x)


def test_the_lists_describe_what_there_is():
    names = [row["name"] for row in _LISTED]
    assert len(set(names)) == len(names)
    assert {"none", "maxmin", "topk"} <= set(names)
    for row in _LISTED:
        assert row["summary"]
        assert isinstance(row["unbiased"], bool)
        for parameter in row["params"]:
            assert parameter["name"]
            assert parameter["range"]
            assert "default" in parameter
    assert "scatter_gather" in [row["name"] for row in cgx.algorithms()]
    assert cgx.version() == cgx.__version__


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nonsense", ["nonsense"]),
        ("maxmin:bits=17", ["bits", "17", "8"]),
        ("maxmin:colour=red", ["colour"]),
        ("", []),
        ("topk:ratio=2", ["ratio", "2"]),
    ],
)
def test_a_wrong_spec_is_an_error_that_says_what(spec, words):
    with pytest.raises(cgx.Error) as caught:
        cgx.Codec(spec)
    assert caught.value.status == cgx.Status.INVALID_ARGUMENT
    assert all(word in str(caught.value) for word in words)


def test_wrong_arrays_are_refused():
    codec = cgx.Codec("maxmin:bits=4")
    with pytest.raises(TypeError, match="float64"):
        codec.encode(np.zeros(10))
    with pytest.raises(TypeError, match="int32"):
        codec.encode(np.zeros(10, dtype=np.int32))
    with pytest.raises(TypeError, match="list"):
        codec.encode([1.0, 2.0])
    with pytest.raises(ValueError, match="C-contiguous"):
        codec.encode(np.zeros((10, 10), dtype=np.float32)[:, ::2])
    with pytest.raises(ValueError, match="rank 65536"):
        codec.encode(np.zeros(10, dtype=np.float32), rank=65536)
    with pytest.raises(ValueError, match="seed -1"):
        codec.encode(np.zeros(10, dtype=np.float32), seed=-1)
    with pytest.raises(TypeError, match="string"):
        cgx.Codec(4)


def test_wrong_bytes_are_refused():
    codec = cgx.Codec("maxmin:bits=4")
    data = codec.encode(_normal(1000))
    with pytest.raises(cgx.Error):
        codec.decode(data[:-1], 1000)
    with pytest.raises(cgx.Error):
        codec.decode(data, 900)
    with pytest.raises(ValueError, match="count -1"):
        codec.decode(data, -1)
    with pytest.raises(TypeError, match="count"):
        codec.decode(data, 10.0)
    with pytest.raises(cgx.Error, match="indices|index|corrupt|CORRUPT"):
        cgx.Codec("topk:ratio=0.1").decode(b"\xff" * cgx.Codec("topk:ratio=0.1").encoded_bytes(100), 100)


def test_error_feedback_needs_a_residual():
    with pytest.raises(cgx.Error) as caught:
        cgx.Codec("topk:ratio=0.1+ef").encode(_normal(100))
    assert caught.value.status == cgx.Status.INVALID_ARGUMENT
    with pytest.raises(cgx.Error, match="none"):
        cgx.Codec("none").encode(_normal(100), residual=np.zeros(100, dtype=np.float32))
    with pytest.raises(ValueError, match="shape"):
        cgx.Codec("natural").encode(_normal(100), residual=np.zeros(99, dtype=np.float32))
    with pytest.raises(TypeError, match="float32"):
        cgx.Codec("natural").encode(_normal(100), residual=np.zeros(100))


@pytest.mark.parametrize("spec", ["topk:ratio=0.1", "topk:ratio=0.1|maxmin:bits=4", "maxmin:bits=4", "natural"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_a_block_loses_is_fed_back(spec, dtype):
    codec, x = cgx.Codec(spec), _normal(3000).astype(dtype)
    residual = np.zeros(x.size, dtype=np.float32)
    for step in range(3):
        exact = x.astype(np.float32) + residual
        block = codec.encode(x, op=step, residual=residual)
        assert np.array_equal(residual, exact - codec.decode(block, x.size, dtype))


@pytest.mark.parametrize("spec", ["topk:ratio=0.1", "randk", "maxmin:bits=4", "natural", "none"])
def test_decode_adds_to_what_is_there(spec):
    codec, x, out = cgx.Codec(spec), _normal(3000), _normal(3000) * 3
    block, before = codec.encode(x), out.copy()
    codec.decode_add(block, out)
    assert np.array_equal(out, before + codec.decode(block, x.size))
    with pytest.raises(cgx.Error):
        codec.decode_add(block, out[:2000].copy())
    with pytest.raises(TypeError, match="float32"):
        codec.decode_add(block, np.zeros(3000))
    with pytest.raises(ValueError, match="contiguous"):
        codec.decode_add(block, np.zeros(6000, dtype=np.float32)[::2])


def test_one_codec_serves_many_threads():
    codec, x = cgx.Codec("dither:bits=4"), _normal(100000)
    results = [None] * 4

    def work(i):
        results[i] = codec.encode(x, seed=1)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1


def test_the_package_needs_no_pytorch():
    code = "import sys; sys.modules['torch'] = None; import cgx; print(cgx.Codec('natural').encoded_bytes(256))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(256 + 32)


def test_a_missing_library_is_named():
    code = "import os; os.environ['CGX_LIBRARY'] = '/nowhere/libcgx.so'; import cgx; cgx.version()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "CGX_LIBRARY=/nowhere/libcgx.so: no such file" in done.stderr


def _numpy_ranks(directory: str, code: str, size: int = 2) -> list[subprocess.Popen]:
    head = "import sys, numpy as np, cgx; rank = int(sys.argv[1]); "
    head += f"comm = cgx.Communicator(rank, {size}, store='file:{directory}', "
    head += f"job='numpy-{os.getpid()}-{directory[-3:]}', timeout_ms=20000); "
    return [
        subprocess.Popen(
            [sys.executable, "-c", head + code, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(size)
    ]


def test_a_communicator_sums_numpy_arrays(tmp_path):
    code = (
        "x = np.full(5000, rank + 1.0, np.float32); comm.allreduce(x, codec='maxmin:bits=4'); "
        "i = comm.allreduce(np.array([rank, 5], np.int64)); "
        "a = comm.allreduce(np.ones(4, np.float32) * rank, op='avg'); "
        "print(set(x.tolist()), i.tolist(), a[0], comm.size, comm.stats()['collectives']); comm.close(); comm.close()"
    )
    for process in _numpy_ranks(str(tmp_path / "store-one"), code):
        out, error = process.communicate(timeout=60)
        assert out.strip() == "{3.0} [1, 10] 0.5 2 3", error


def test_minima_maxima_products_and_doubles_are_never_refused(tmp_path):
    code = (
        "f = lambda t: np.array([rank + 1, 3 - rank, -1], t); "
        "print(*[comm.allreduce(f(t), op=o, codec='maxmin:bits=2').tolist() for o in ('min', 'max', 'prod') "
        "for t in (np.float32, np.int32)]); "
        "d = comm.allreduce(np.full(300, 1 + 2.0**-40), op='sum', codec='natural'); "
        "s = comm.stats(); print(set(d.tolist()) == {2 + 2.0**-39}, s['elements_not_sum'], s['elements_not_float'])"
    )
    three = "[1.0, 2.0, -1.0] [1, 2, -1] [2.0, 3.0, -1.0] [2, 3, -1] [2.0, 6.0, 1.0] [2, 6, 1]"
    for process in _numpy_ranks(str(tmp_path / "store-ops"), code):
        out, error = process.communicate(timeout=60)
        assert out.split("\n")[:2] == [three, "True 9 309"], error


def test_a_measured_policy_is_a_file_for_the_next_run(tmp_path):
    code = (
        "import json; x = np.ones(5000, np.float32); before = comm.policy(); comm.allreduce(x, codec='auto'); "
        "comm.tune(); policy = comm.policy(); comm.close(); "
        f"path = '{tmp_path}/policy-' + str(rank); json.dump(policy, open(path, 'w')); "
        f"again = cgx.Communicator(rank, 2, store='file:{tmp_path}/again', policy_file=path, threads=2); "
        "print(set(x.tolist()), before, again.policy() == policy, policy['ranks'], len(policy['codecs']) > 3)"
    )
    for process in _numpy_ranks(str(tmp_path / "store-three"), code):
        out, error = process.communicate(timeout=60)
        assert out.strip() == "{2.0} None True 2 True", error


def test_auto_has_no_bytes_of_its_own():
    codec = cgx.Codec("auto:error=0.1")
    assert codec.spec == "auto:error=0.1"
    with pytest.raises(cgx.Error, match="name a codec"):
        codec.encode(np.zeros(4, np.float32))


def test_a_communicator_refuses_what_it_cannot_sum(tmp_path):
    code = (
        "exec('''\\nfor bad in (np.zeros(3, np.complex64), np.zeros((4, 4), np.float32)[:, ::2], [1.0]):\\n"
        "  try: comm.allreduce(bad)\\n  except (TypeError, ValueError) as e: print(type(e).__name__)\\n''')"
    )
    for process in _numpy_ranks(str(tmp_path / "store-two"), code):
        out, error = process.communicate(timeout=60)
        assert out.split() == ["TypeError", "ValueError", "TypeError"], error
