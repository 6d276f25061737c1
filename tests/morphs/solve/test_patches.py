"""The matrix form of a convolution is the convolution."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from morphs.graph.ops import Conv2d
from morphs.solve.patches import draw_positions, patches, pick


@given(
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 3)]),
    stride=st.sampled_from([(1, 1), (2, 1)]),
    padding=st.sampled_from([(0, 0), (1, 2)]),
    dilation=st.sampled_from([(1, 1), (2, 1)]),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    most=st.sampled_from([3, 1000]),
)
def test_rows_times_filters_are_the_convolution(kernel, stride, padding, dilation, mode, most):
    op = Conv2d(4, kernel, stride, padding, mode, dilation, bias=False)
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 7, 6, generator=g, dtype=torch.float64)
    layer = torch.nn.Conv2d(3, 4, kernel, stride, padding, dilation, bias=False, padding_mode=mode).double()
    out = layer(maps).detach()
    at = draw_positions(2, out[0, 0].numel(), most, g)
    rows = patches(maps, op, at, out.shape[3]) @ layer.weight.detach().flatten(1).T
    assert torch.allclose(rows, pick(out, at))
    assert all(len(set(one.tolist())) == min(most, out[0, 0].numel()) for one in at)
