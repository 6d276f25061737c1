"""What a move is made of: index maps from a parent's tensor to its child's."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from morphs.move import Origin

INDICES = st.one_of(
    st.lists(st.integers(-1, 3), min_size=1, max_size=9),  # scattered
    st.tuples(st.integers(0, 3), st.integers(0, 5)).map(
        lambda n: [*range(n[0], 4), *[-1] * n[1], *range(n[0])]
    ),
)


@given(maps=st.lists(st.none() | INDICES, min_size=1, max_size=3), fill=st.sampled_from((0.0, 2.5)))
def test_gathering_is_indexing_with_fill_where_an_entry_is_new(maps, fill):
    parent = torch.arange(1.0, 65.0, dtype=torch.float64).reshape(4, 4, 4)
    before = parent.clone()
    axes = tuple(None if index is None else np.array(index, dtype=np.int64) for index in maps)
    expected = parent.numpy()
    for axis, index in enumerate(axes):
        if index is not None:
            new = (index < 0).reshape(-1, *[1] * (2 - axis))
            expected = np.where(new, fill, expected.take(index.clip(0), axis))
    assert np.array_equal(Origin(("c", "weight"), axes).gather(parent, fill).numpy(), expected)
    assert torch.equal(parent, before)
