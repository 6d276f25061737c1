"""A small sample of runs/benchmarks/gpu_sharing.py, on the processor."""

import pytest
import torch
from benchmark_support import script
from engine_support import tiny

from nas.base.errors import UserError


def test_children_that_share_a_device_get_the_scores_that_they_get_alone() -> None:
    figures = script("gpu_sharing").share(tiny(generations=1), (1, 2))
    told = {entry["name"]: entry["value"] for entry in figures}
    assert [entry["name"] for entry in figures if entry["holds"] is False] == []
    assert told["different ledger digests"] == 1
    assert told["children that all of the searches have"] == 3
    assert told["children an hour, 2 at once"] > 0


def test_scores_are_compared_child_by_child() -> None:
    sharing = script("gpu_sharing")
    one, other, third = {"a": 0.5, "b": 0.75}, {"a": 0.5, "b": 0.5}, {"a": 0.5, "c": 0.0}
    assert sharing.spread([one, other, third]) == 0.25
    assert sharing.shared([one, other, third]) == {"a"}
    assert sharing.spread([other, third]) == sharing.spread([one]) == 0.0


def test_a_gpu_that_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = script("gpu_sharing")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_sharing.py", "--quick"])
    with pytest.raises(UserError, match="there is no CUDA here"):
        sharing.main()
    assert sharing.usable("cpu") == "cpu"
