"""Bad input: each a named error that states fact, place and remedy, and the network is untouched."""

import pytest
import torch
from strategies import lively, some_batches

import morphs
from morphs.errors import (
    ActivationError,
    CodecError,
    DriftExceeded,
    IllegalMove,
    LimitExceeded,
    LimitsError,
    MorphError,
    NeedsData,
    ParseError,
    UnsupportedModule,
    WeightsError,
)

NET = lively(
    morphs.parse_graph("""
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
    s = conv2d(r, channels=4, kernel=3, padding=1); t = relu(s); u = conv2d(t, channels=4, kernel=3, padding=1, owner=s)
    a = add(u, r); b = conv2d(x, channels=3, kernel=3, padding=1); e = add(b, x); q = conv2d(a, channels=12, kernel=1)
    w = conv2d(q, channels=8, kernel=1, groups=4); k = concat(w, e); g = adaptive_avg_pool2d(k); f = flatten(g)
    l = linear(f, features=5); out = output(l)
    """)
)
CALLS = (  # every move, on a node that is not there
    "deepen(node=nowhere)", "widen(node=nowhere, to=6)", "grow_kernel(node=nowhere, to=[5, 5])",
    "add_skip(source=nowhere, target=r)", "add_skip(source=r, target=nowhere)", "insert_norm(node=nowhere)",
    "insert_activation(node=nowhere)", "insert_dropout(node=nowhere)", "merge_groups(node=nowhere)",
    "split_groups(node=nowhere, groups=2)", "retire(node=nowhere)", "narrow(node=nowhere, to=2)",
    "remove_layer(node=nowhere, instead=r)", "subnet(node=nowhere)", "squeeze_excite(node=nowhere, channels=2)",
    "reparameterise(node=nowhere, how=norm)", "compact(node=nowhere, channels=4, keep=0.5)",
)  # fmt: skip
SITES = {
    **dict.fromkeys(CALLS, 'there is no node "nowhere"; choose one of b, c'),
    "widen(node=c, to=0)": '0 is not a wider width for node "c"; give a number above 4',
    "widen(node=q, to=17)": '17 is not a wider width for node "q"; give a number above 12 and divisible by 4',
    "widen(node=l, to=9)": 'node "l" feeds the output, whose width is fixed at 5; choose one of c, q, w',
    "widen(node=e, to=9)": 'node "e" has the width of the input "x", which is fixed at 3; choose one of c, q, w',
    "narrow(node=q, to=6)": '6 is not a narrower width for node "q"; give a number from 1 to 11 that 4 divides',
    "narrow(node=c, to=0)": '0 is not a narrower width for node "c"; give a number from 1 to 3',
    "narrow(node=l, to=2)": 'node "l" feeds the output, whose width is fixed at 5; choose one of',
    "grow_kernel(node=c, to=[4, 4])": "has kernel (3, 3), which can't grow to (4, 4) evenly on both sides; choose a",
    "grow_kernel(node=c, to=[5, 4])": "has kernel (3, 3), which can't grow to (5, 4) evenly on both sides; choose a",
    "deepen(node=r, kernel=[2, 2])": 'node "r" writes (4, 6, 6), of which no identity has kernel (2, 2); use odd',
    "deepen(node=r, kernel=[3, 3], groups=0)": 'node "r" writes (4, 6, 6), which has no 0 groups; choose a divisor',
    "deepen(node=u, how=netmorph, channels=9, kernel=[3, 3])": 'node "u" shares its parameters; choose a layer that',
    "subnet(node=s)": 'node "s" shares its parameters; choose a layer that is used once',
    "compact(node=s, channels=4, keep=0.5)": 'node "s" shares its parameters; choose a layer that is used once',
    "add_skip(source=x, target=r, how=concat)": 'node "s", which reads it, shares its parameters; use how=add or',
    "remove_layer(node=s, instead=r)": '"s" would be removed and shares its parameters with "u", which stays',
    "split_groups(node=s, groups=2)": 'node "s" has weights between the 2 groups that are not 0; choose fewer',
    "merge_groups(node=w, groups=3)": "node \"w\" has 4 groups, which don't merge to 3; choose one of 1, 2",
    "squeeze_excite(node=r, channels=0)": 'a gate of 0 channels after "r" is too narrow; set channels to 1 or more',
    "insert_dropout(node=r, p=0)": 'dropout of probability 0.0 after "r" drops nothing or everything; choose 0 < p',
}  # fmt: skip


def refused(error: type[MorphError], text: str, network=NET, move="widen(node=c, to=6)", **how) -> None:
    """`apply` must raise `error` with `text`, in one line with a remedy, and leave `network` as it was."""
    before = {key: tensor.clone() for key, tensor in network.weights.items()}
    graph = network.graph.to_json()
    with pytest.raises(error) as caught:
        morphs.apply(network, move, **how)
    message = str(caught.value)
    assert text in message
    assert "\n" not in message
    assert "; " in message
    assert network.graph.to_json() == graph
    assert all(torch.equal(network.weights[key].nan_to_num(), t.nan_to_num()) for key, t in before.items())


def test_there_is_a_case_for_every_move():
    assert {text.partition("(")[0] for text in CALLS} == {move.name for move in morphs.MOVES}


@pytest.mark.parametrize("move", SITES)
def test_a_site_that_is_none(move):
    refused(IllegalMove, SITES[move], move=move, batches=some_batches(NET))


@pytest.mark.parametrize(
    ("move", "text"),
    {
        "widen(node=d, to=12)": 'node "d" writes several columns for each channel of its group; choose one of c, f',
        "widen(node=h, to=6)": 'node "h" is tied to flattened columns at node "a"; choose one of c, f',
    }.items(),
)
def test_columns_that_come_several_for_each_channel(move, text):
    graph = morphs.parse_graph("""
        x = input(size=[3, 4, 4]); c = conv2d(x, channels=4, kernel=1); d = conv2d(c, channels=8, kernel=1, groups=4)
        f = conv2d(d, channels=2, kernel=1); h = conv2d(f, channels=2, kernel=1)
        e = conv2d(h, channels=4, kernel=1, groups=2); g = conv2d(x, channels=4, kernel=1); a = add(e, g)
        y = conv2d(a, channels=2, kernel=1); out = output(y)
    """)
    refused(IllegalMove, text, lively(graph), move)


def test_two_uses_of_a_module_change_together():
    child = morphs.apply(NET, "grow_kernel(node=u, to=[5, 5])")
    assert child.network.graph["s"].op == child.network.graph["u"].op
    assert child.drift.eval < 1e-12


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("move", ["widen(node=c, to=6)", "deepen(node=r)", "split_groups(node=q, groups=2)"])
def test_weights_that_are_not_finite(move, value):
    weights = {**NET.weights, ("q", "weight"): NET.weights["q", "weight"].clone()}
    weights["q", "weight"][0, 0] = value
    broken = morphs.Network(NET.graph, weights)
    text = 'tensor weight of node "q" holds NaN or infinity; fix the parent first'
    for measure in (True, False):
        refused(WeightsError, text, broken, move, measure=measure)


PROBES = {
    "empty": (torch.zeros(0, 3, 6, 6), 'for input "x" has shape (0, 3, 6, 6); give at least one example of shape (3,'),
    "misfit": (torch.zeros(2, 3, 5, 6), 'for input "x" has shape (2, 3, 5, 6); give at least one example of shape (3,'),
    "a number": (torch.zeros(()), 'for input "x" has shape (); give at least one example of shape (3, 6, 6)'),
    "none": ((), "0 probes for 1 inputs; give one for each"),
    "two": ((torch.zeros(2, 3, 6, 6),) * 2, "2 probes for 1 inputs; give one for each"),
    "NaN": (torch.full((2, 3, 6, 6), float("nan")), 'for input "x" holds NaN or infinity; give at least one example'),
    "complex": (torch.zeros(2, 3, 6, 6, dtype=torch.cfloat), 'for input "x" is of type torch.complex64; give at'),
    "lists": ([[1.0]], 'for input "x" is of type list; give at least one example'),
    "text": ("probe", "the probe is of type str; give a tensor, or one for each input"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBES)
def test_a_probe_that_is_none(case):
    probe, text = PROBES[case]
    refused(WeightsError, text, probe=probe)


X, Y = torch.zeros(8, 3, 6, 6), torch.zeros(8, dtype=torch.int64)
BATCHES = {
    "no iterable": (3, "batches is of type int; give an iterable of (inputs, targets)"),
    "bare tensors": ([X], "batch 0 is of type Tensor; give pairs (inputs, targets)"),
    "other maps": ([(X, Y), (X[..., 1:], Y)], 'batch 1 has (8, 3, 6, 5) for the input "x"; give a tensor of shape (N,'),
    "other channels": ([(X[:, 1:], Y)], 'batch 0 has (8, 2, 6, 6) for the input "x"; give a tensor of shape (N, 3, 6,'),
    "two inputs": ([((X, X), Y)], "batch 0 has no tensor for each of the inputs x; give one for each"),
    "no tensor": ([(([1.0],), Y)], 'batch 0 has list for the input "x"; give a tensor of shape (N, 3, 6, 6)'),
    "NaN": ([(X + float("nan"), Y)], 'batch 0 holds NaN or infinity for the input "x"; give finite numbers'),
    "few targets": ([(X, Y[:3])], "batch 0 holds 8 inputs and 3 targets; give as many of both"),
}  # fmt: skip


@pytest.mark.parametrize("move", ["insert_norm(node=c)", "compact(node=l, channels=4, keep=0.5)"])
@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_are_none(case, move):
    batches, text = BATCHES[case]
    refused(NeedsData, text, move=move, batches=batches)


def test_data_that_says_nothing():
    same = torch.ones(8, 3, 6, 6)
    refused(
        NeedsData, "all 7 examples are the same, which any layer fits; give examples that differ",
        move="compact(node=l, channels=4, keep=0.5)", batches=[(same, Y)],
    )  # fmt: skip
    draws = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    fact = "targets reach from 90 to 90, and the network has 5 classes"
    refused(NeedsData, fact, move="widen(node=c, to=6, how=gradient)", batches=[(draws, Y + 90)])


@pytest.mark.parametrize("seed", ["a", None, 1.0, -1, 2**64])
def test_a_seed_that_is_none(seed):
    refused(
        ParseError, f"apply: seed {seed!r} is not a seed; give a whole number from 0 to 2**63 - 1", seed=seed
    )


def test_a_width_that_no_memory_holds():
    refused(LimitExceeded, "GiB and this machine has", move="widen(node=c, to=10000000000)")


@pytest.mark.parametrize("error", [LimitsError, ValueError])
def test_a_limit_that_is_no_number(error):
    with pytest.raises(error, match="limit params='10' is not a number; give a positive number"):
        morphs.Limits(params="10")
    with pytest.raises(error, match="limit params=0 is below 1, so no network fits; give a positive number"):
        morphs.Limits(params=0)


def test_limits_that_are_none():
    refused(
        LimitsError, "apply: limits is of type dict; give morphs.Limits(params=2e6)", limits={"params": 9}
    )


OTHERS = {
    "init, a text": (lambda: morphs.init(NET.graph, seed="a"), WeightsError, "init: seed 'a' is not a seed"),
    "init, below 0": (lambda: morphs.init(NET.graph, seed=-1), WeightsError, "init: seed -1 is not a seed"),
    "activation": (
        lambda: morphs.register_activation(5, torch.sin), ActivationError, "register_activation: 5: "
    ),
    "chain": (lambda: list(morphs.apply_chain(NET, None)), ParseError, "apply_chain: None is not a chain"),
    "parse": (lambda: morphs.parse(5), ParseError, "parse: a int is not text; give one such as widen(node=c3, to=96)"),
    "graph": (lambda: morphs.parse_graph(5), CodecError, "graph: a int is not text; give a string"),
    "json": (lambda: morphs.graph_from_json(None), CodecError, "graph: a NoneType is not text; give a string"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_arguments_of_another_type(case):
    call, error, text = OTHERS[case]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_network_is_not_saved_onto_a_file(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CodecError, match=r"save: .* is, or lies below, a file; name a folder"):
        morphs.save(NET, tmp_path / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_chain_says_which_of_its_steps_failed():
    for moves, place in (
        ("widen(node=c, to=6); widen(node=c, to=5)", "step 2: widen: "),
        ("widen(node=c, to=1)", "wid"),
    ):
        with pytest.raises(IllegalMove) as caught:
            list(morphs.apply_chain(NET, moves))
        assert str(caught.value).startswith(place)


def test_an_iterator_that_an_earlier_step_has_read():
    chain, batches = "insert_norm(node=c); insert_norm(node=b)", some_batches(NET)
    assert len(list(morphs.apply_chain(NET, chain, batches=batches))) == 2
    remedy = "step 2: insert_norm: .*; batches is an iterator, which an earlier step has read to its end: give a list"
    with pytest.raises(NeedsData, match=remedy):
        list(morphs.apply_chain(NET, chain, batches=iter(batches)))
    with pytest.raises(NeedsData) as caught:  # nobody has read it before
        list(morphs.apply_chain(NET, "widen(node=c, to=6); insert_norm(node=b)", batches=iter(())))
    assert str(caught.value).startswith(
        'step 2: insert_norm: the norm at node "b": the batches hold 0 values'
    )
    assert "iterator" not in str(caught.value)


@pytest.mark.parametrize(
    "move",
    ["deepen(node=r, norm=true)", "deepen(node=c, how=netmorph, channels=36, kernel=[3, 3], norm=true)"],
)
def test_too_little_data_for_an_inserted_norm_is_told_at_a_node_of_the_parent(move):
    text = (
        f'deepen: the norm at node "{move[12]}": the batches hold 0 values for each channel; give at least 2'
    )
    refused(NeedsData, text, move=move, batches=[])


VALUES = {  # moves made in Python, where nothing else checks a field's type
    "a misspelt choice": (morphs.Widen("c", 6, "zeros"), "widen: how: 'zeros'"),
    "a float width": (morphs.Widen("c", 6.0), "widen: to: 6.0 is not a whole number"),
    "a text": (morphs.Narrow("c", "2"), "narrow: to: '2' is not a whole number"),
    "a number for two": (morphs.GrowKernel("c", 5), "grow_kernel: to: 5 is not a list of 2, such as [3, 3]"),
    "three for two": (morphs.GrowKernel("c", (5, 5, 5)), "grow_kernel: to: (5, 5, 5) has not 2 values"),
    "a class": (
        morphs.Widen,
        "apply: <class 'morphs.moves.widen.Widen'> is not a move; give a value such as",
    ),
    "none": (None, "apply: None is not a move; give a value such as morphs.Widen(node, to), or its text"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_are_no_moves(case):
    move, text = VALUES[case]
    refused(ParseError, text, move=move)


def test_lists_serve_as_pairs():
    child = morphs.apply(NET, morphs.GrowKernel("c", [5, 5]))
    assert child.move == morphs.GrowKernel("c", (5, 5))
    assert hash(child.move) == hash(morphs.parse(str(child.move)))


def test_a_torch_module_is_no_network():
    with pytest.raises(
        UnsupportedModule, match=r"is not a Network; make one with morphs\.from_torch\(module, exam"
    ):
        morphs.apply(NET.to_torch(), "widen(node=c, to=6)")


def test_a_drift_beyond_what_is_declared_is_an_error():
    class Liar(morphs.Narrow):
        """Says that it is exact."""

        name = "liar"
        preserves = morphs.Preserves.EXACT

    refused(DriftExceeded, "though it declares exact; report this", move=Liar("c", 2))
