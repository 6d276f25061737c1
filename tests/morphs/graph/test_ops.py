"""Every op's shape rule against torch itself, on arguments good and bad."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from morphs.errors import ShapeError
from morphs.graph import ops
from morphs.graph.ops import OPS, Conv2d, Linear, Op
from morphs.graph.state import facts_of
from morphs.torch_io.layers import build_layer, layer

small = st.integers(0, 4)
pairs = st.tuples(small, small)
maps = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
vectors = st.tuples(st.integers(1, 6))
modes = st.sampled_from(("zeros", "reflect", "replicate", "circular"))

WINDOWED = st.one_of(
    st.builds(
        ops.Conv2d, channels=st.integers(0, 6), kernel=pairs, stride=pairs, padding=pairs, padding_mode=modes,
        dilation=pairs, groups=st.integers(0, 3), bias=st.booleans(),
    ),
    st.builds(ops.MaxPool2d, kernel=pairs, stride=pairs, padding=pairs, dilation=pairs, ceil_mode=st.booleans()),
    st.builds(
        ops.AvgPool2d, kernel=pairs, stride=pairs, padding=pairs, ceil_mode=st.booleans(),
        count_include_pad=st.booleans(),
    ),
    st.builds(ops.AdaptiveAvgPool2d, size=pairs),
    st.builds(ops.AdaptiveMaxPool2d, size=pairs),
)  # fmt: skip


def torch_shape(op: Op, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """What torch says, on real numbers; None where it refuses."""
    try:
        made = layer(op, (size,))
        assert made is not None
        out = tuple(build_layer(made)(torch.zeros(2, *size)).shape[1:])
    except (RuntimeError, ValueError, ZeroDivisionError, IndexError, UserWarning):
        return None
    return out if min(out) > 0 else None  # torch lets an adaptive pool write nothing


@settings(max_examples=150)
@given(op=WINDOWED, size=maps)
def test_window_ops_take_what_torch_takes_and_write_its_shape(op, size):
    try:
        ours = op.shape((size,))
    except ShapeError:
        ours = None
    assert ours == torch_shape(op, size)


@settings(max_examples=60)
@given(op=WINDOWED, size=maps)
def test_parameters_have_torchs_names_and_shapes(op, size):
    try:
        op.shape((size,))
    except ShapeError:
        return
    module = build_layer(layer(op, (size,)))
    assert {n: tuple(t.shape) for n, t in module.state_dict().items()} == {
        n: p.shape for n, p in op.params((size,)).items()
    }


OTHERS = [
    ops.Linear(3), ops.Linear(3, bias=False), ops.BatchNorm(), ops.BatchNorm(affine=False),
    ops.BatchNorm(track_running_stats=False), ops.BatchNorm(momentum=None), ops.Activation("relu"),
    ops.Activation("leaky_relu", (0.2,)), ops.Activation("elu", (0.5,)), ops.PActivation("gelu"),
    ops.PActivation("relu", per_channel=True), ops.Scale(), ops.Scale(per_channel=False), ops.Flatten(),
    ops.Dropout(0.2),
]  # fmt: skip


@pytest.mark.parametrize("op", OTHERS, ids=repr)
@pytest.mark.parametrize("size", [(4,), (4, 3, 5), (1, 1, 1)])
def test_other_ops_write_torchs_shape(op, size):
    try:
        ours = op.shape((size,))
    except ShapeError:
        assert isinstance(op, ops.Linear)
        assert len(size) == 3
        return
    module = build_layer(layer(op, (size,)))
    assert tuple(module(torch.zeros(2, *size)).shape[1:]) == ours
    assert {n: tuple(t.shape) for n, t in module.state_dict().items()} == {
        n: p.shape for n, p in op.params((size,)).items()
    }


@given(sizes=st.lists(maps, min_size=2, max_size=3))
def test_joins_follow_torchs_broadcasting(sizes):
    tensors = [torch.zeros(2, *size) for size in sizes]
    for op, join in ((ops.Multiply(), lambda: tensors[0] * tensors[1] * (tensors[2] if len(tensors) > 2 else 1)),
                     (ops.Concat(), lambda: torch.cat(tensors, 1))):  # fmt: skip
        try:
            expected = tuple(join().shape[1:])
        except RuntimeError:
            expected = None
        try:
            ours = op.shape(tuple(sizes))
        except ShapeError:
            ours = None
        assert ours == expected
    if len(set(sizes)) > 1:
        with pytest.raises(ShapeError, match="add"):
            ops.Add().shape(tuple(sizes))
        with pytest.raises(ShapeError, match="lerp"):
            ops.Lerp().shape(tuple(sizes))


@pytest.mark.parametrize(
    ("op", "size", "said"),
    [
        (ops.Input((0, 2, 2)), None, r"input.*\(0, 2, 2\)"),
        (ops.Linear(0), (2,), "linear.* 0 "),
        (ops.Conv2d(2, (3, 3)), (2,), r"conv2d.*\(2,\)"),
        (ops.Conv2d(2, (5, 5)), (2, 3, 3), "5.*3"),
        (ops.Conv2d(3, (1, 1), groups=2), (2, 3, 3), "groups=2"),
        (
            ops.Conv2d(3, (1, 1), padding=(3, 0), padding_mode="reflect"),
            (2, 3, 3),
            "conv2d.* 3 .* 3 .*reflect",
        ),
        (ops.MaxPool2d((2, 2), (0, 1)), (2, 3, 3), "pooling.*stride"),
        (ops.Activation("swoosh"), (2,), "'swoosh'.*relu"),
        (ops.Activation("relu", (1.0,)), (2,), "relu.* 0 .* 1$"),
        (ops.Activation("elu", (float("nan"),)), (2,), "elu.*nan"),
        (ops.BatchNorm(eps=0.0), (2,), "batch_norm.*eps 0.0"),
        (ops.BatchNorm(momentum=2.0), (2,), "batch_norm.*momentum 2.0"),
        (ops.Dropout(1.5), (2,), "dropout.*1.5"),
    ],
)
def test_refusals_name_op_and_value(op, size, said):
    with pytest.raises(ShapeError, match=said):
        op.shape((size,) if size else ())


def test_every_op_is_listed_once_and_has_a_kind_of_its_own():
    assert len({op.kind for op in OPS}) == len(OPS)
    assert all(op.__doc__ for op in OPS)
    subclasses = {cls for cls in vars(ops).values() if isinstance(cls, type) and issubclass(cls, Op)} - {Op}
    assert subclasses == set(OPS)


def test_macs_count_the_multiplications_of_a_forward_pass():
    conv = ops.Conv2d(6, (3, 2), stride=(2, 1), groups=2)
    assert conv.macs(((4, 7, 5),)) == 6 * 3 * 4 * (2 * 3 * 2)
    assert ops.Linear(5).macs(((7,),)) == 35
    assert ops.BatchNorm().macs(((7,),)) == 0


def test_sizes_that_are_no_integers_are_refused_and_not_kept_for_those_that_are():
    facts_of.cache_clear()  # one that is kept for integers is no harm
    wrong = (Conv2d(8.0, (3, 3)), Conv2d(8, (3, 3), stride=(2.0, 1)), Conv2d(8, (3.0, 3)))
    for op in wrong:
        with pytest.raises(ShapeError, match=r"\d\.0"):
            facts_of(op, ((4, 8, 8),))
    with pytest.raises(ShapeError, match=r"\d\.0"):
        facts_of(Linear(4.0), ((5,),))
    assert all(type(n) is int for n in facts_of(Conv2d(8, (3, 3)), ((4, 8, 8),)).shape)
