"""PyTorch's own suite for backends: every test ends as pytorch_suite_expected.txt says, no better and no worse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import pytorch_suite

# All reduces that stay with Gloo when cgx takes every one that it can: what it has no arithmetic for.
_NOT_OURS = {"other_reduction", "not_float", "sparse"}


@pytest.mark.skipif(not torch.__version__.startswith("2.15"), reason="the list is of PyTorch 2.15's tests")
@pytest.mark.parametrize("mode", ["delegated", "own"])
def test_pytorchs_own_tests_end_as_listed(mode, tmp_path):
    log = os.environ.get("PYTORCH_SUITE_LOG", str(tmp_path / "log"))
    outcomes, did = pytorch_suite.run(mode, log=log)
    surprises = pytorch_suite.surprises(mode, outcomes)
    assert not surprises, "\n".join([*surprises, f"(the ranks' own output: {log}.*)"])
    assert sum(outcome.status == "pass" for outcome in outcomes.values()) >= 90
    if mode == "own":
        assert did["own"] > 200
        assert set(did) - {"own"} <= _NOT_OURS
    else:
        assert did["own"] == 0
        assert set(did) - {"own"} == {"not_asked"}


def test_cgx_passes_what_gloo_passes_but_for_the_listed():
    listed = pytorch_suite.expected()
    for mode in ("delegated", "own"):
        worse = set(listed[mode]) - set(listed["gloo"])
        assert worse == {"test_ddp_logging_data_cpu"}, "say so in docs/GOTCHAS.md, and change this line"


def test_the_list_refuses_what_it_does_not_understand(monkeypatch, tmp_path):
    broken = tmp_path / "expected.txt"
    monkeypatch.setattr(pytorch_suite, "_EXPECTED", broken)
    texts = {"sometimes own: moods\n": "not '<skip", "skip own: a\n    test_x\n    test_x\n": "twice"}
    for text, complaint in texts.items():
        broken.write_text(text)
        with pytest.raises(ValueError, match=complaint):
            pytorch_suite.expected()


def test_an_unexpected_pass_is_a_surprise_as_an_unexpected_failure_is(monkeypatch, tmp_path: Path):
    listed = tmp_path / "expected.txt"
    listed.write_text("# a comment\nfail own: for a reason\n    test_a\nskip all: no GPU\n    test_gone\n")
    monkeypatch.setattr(pytorch_suite, "_EXPECTED", listed)
    outcomes = {"test_a": pytorch_suite.Outcome("pass"), "test_b": pytorch_suite.Outcome("fail", "boom")}
    found = pytorch_suite.surprises("own", outcomes)
    assert len(found) == 3
    assert any("test_gone is listed and does not exist" in line for line in found)
    assert any("test_a: pass instead of fail" in line for line in found)
    assert any("test_b: fail instead of pass: boom" in line for line in found)
