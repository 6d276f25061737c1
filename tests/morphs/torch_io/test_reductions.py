"""What takes numbers together along some axes leaves the width of the others free."""

import pytest
import torch
from copied_modules import Calls, copied, normal
from torch import nn

import morphs

functional = nn.functional
SIGNALS = {
    "max, its numbers": lambda h: h.max(-1).values,
    "max, the axis kept": lambda h: h.max(2, keepdim=True)[0].squeeze(2),
    "min": lambda h: h.min(-1)[0],
    "amax": lambda h: h.amax(-1),
    "sum": lambda h: h.sum(-1),
    "logsumexp": lambda h: h.logsumexp(-1),
    "adaptive maximum": lambda h: functional.adaptive_max_pool1d(h, 1).squeeze(-1),
    "over all of it": lambda h: functional.max_pool1d(h, h.shape[-1]).flatten(1),
}
MAPS = {
    "amax": lambda h: h.amax((2, 3)),
    "adaptive maximum": lambda h: functional.adaptive_max_pool2d(h, 1).flatten(1),
    "sum": lambda h: h.sum((-2, -1)),
}
TOKENS = {
    "max": lambda h, x: h.max(1)[0],
    "sum": lambda h, x: h.sum(1),
    "mean of some": lambda h, x: (h * (x[..., :1] > 0)).sum(1) / (x[..., :1] > 0).sum(1).clamp(min=1),
}
CASES = [
    *(
        (nn.Conv1d(4, 6, 3), lambda h, x, reduce=reduce: reduce(h), (3, 4, 9), name)
        for name, reduce in SIGNALS.items()
    ),
    *(
        (nn.Conv2d(4, 6, 3), lambda h, x, reduce=reduce: reduce(h), (3, 4, 7, 7), name)
        for name, reduce in MAPS.items()
    ),
    *((nn.Linear(4, 6), reduce, (3, 9, 4), name) for name, reduce in TOKENS.items()),
]


@pytest.mark.parametrize(
    ("layer", "reduce", "shape", "name"), CASES, ids=[f"{len(c[2]) - 2}d {c[3]}" for c in CASES]
)
def test_the_width_of_what_is_reduced_is_free(layer: nn.Module, reduce, shape, name: str) -> None:
    def forward(self, x):
        return self.last(reduce(torch.tanh(self.layer(x)), x))

    net = copied(Calls(forward, layer=layer, last=nn.Linear(6, 3)), normal(*shape))
    for how in ("replicate", "zero"):
        wider = morphs.apply(net, morphs.Widen("layer", 9, how))
        assert wider.drift is not None
        assert wider.drift.eval < 1e-10


def test_places_that_are_read_keep_what_finds_them() -> None:
    def forward(self, x):
        values, places = self.layer(x).max(-1)
        return values * places

    copied(Calls(forward, layer=nn.Conv1d(4, 6, 3)), normal(3, 4, 9))


def test_a_sum_over_channels_fixes_their_number() -> None:
    def forward(self, x):
        return self.last(self.layer(x).sum(1))

    net = copied(Calls(forward, layer=nn.Conv1d(4, 6, 3), last=nn.Linear(7, 3)), normal(3, 4, 9))
    assert "layer" not in {site.node for site in morphs.Widen.sites(net)}
