"""Children that diverge, throw, hang or are killed: one of each by default, eight of each when asked."""

import sys

import pytest
import torch
from faults.child_faults import inject, kinds
from faults.figures import Report, missed
from faults.processes import in_new_process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it forks workers")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def test_faulty_children_fail_alone_each_with_its_reason() -> None:
    # A process of its own: workers can't be forked from one whose gradients have used several threads.
    assert missed(in_new_process(inject, 1, 5, 12.0)) == []


@needs_gpu
def test_a_child_that_breaks_the_gpu_or_fills_it_fails_alone() -> None:
    assert missed(in_new_process(inject, 2, 6, 20.0, "cuda")) == []


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_whole(device: str, size: float, report: Report) -> None:
    of_each = 8 * size
    generations = max(1, round(of_each / 2))
    children = len(kinds(device)) * (2 if of_each >= 2 else 1)
    report(in_new_process(inject, generations, children, 20.0, device))
