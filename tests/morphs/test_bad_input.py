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
    "add_block(node=nowhere)", "insert_block(node=nowhere)",
)  # fmt: skip
SITES = {
    **dict.fromkeys(CALLS, ('"nowhere"', "b, c")),
    "widen(node=c, to=0)": ("0", '"c"', "4"),
    "widen(node=q, to=17)": ("17", '"q"', "12", "4"),
    "widen(node=l, to=9)": ('"l"', "5", "c, q, w"),
    "widen(node=e, to=9)": ('"e"', '"x"', "3", "c, q, w"),
    "narrow(node=q, to=6)": ("6", '"q"', "1", "11", "4"),
    "narrow(node=c, to=0)": ("0", '"c"', "1", "3"),
    "narrow(node=l, to=2)": ('"l"', "5"),
    "grow_kernel(node=c, to=[4, 4])": ("kernel", "(3, 3)", "(4, 4)"),
    "grow_kernel(node=c, to=[5, 4])": ("kernel", "(3, 3)", "(5, 4)"),
    "grow_kernel(node=c, to=[5])": ("kernel", "(3, 3)", "(5,)"),
    "grow_kernel(node=c, to=[5, 5, 5])": ("kernel", "(3, 3)", "(5, 5, 5)"),
    "deepen(node=r, kernel=[3])": ("kernel", "(3,)"),
    "deepen(node=r, kernel=[3, 3, 3])": ("kernel", "(3, 3, 3)"),
    "deepen(node=c, how=netmorph, channels=36, kernel=[3])": ("kernel", "(3,)"),
    "deepen(node=r, kernel=[2, 2])": ('"r"', "(4, 6, 6)", "kernel", "(2, 2)"),
    "deepen(node=r, kernel=[3, 3], groups=0)": ('"r"', "(4, 6, 6)", "0", "groups"),
    "deepen(node=u, how=netmorph, channels=9, kernel=[3, 3])": ('"u"',),
    "subnet(node=s)": ('"s"',),
    "compact(node=s, channels=4, keep=0.5)": ('"s"',),
    "add_skip(source=x, target=r, how=concat)": ('"s"', "how=add"),
    "remove_layer(node=s, instead=r)": ('"s"', '"u"'),
    "split_groups(node=s, groups=2)": ('"s"', "2", "groups", "0"),
    "merge_groups(node=w, groups=3)": ('"w"', "4", "groups", "3", "1, 2"),
    "squeeze_excite(node=r, channels=0)": ("0", "channels", '"r"', "1"),
    "insert_dropout(node=r, p=0)": ("0.0", '"r"', "0"),
    "widen_all(factor=1)": ("1.0", "above 1"),
}  # fmt: skip


def refused(
    error: type[MorphError], names: tuple[str, ...], network=NET, move="widen(node=c, to=6)", **how
) -> None:
    """`apply` must raise `error` that has `names`, in one line with a remedy, and leave `network` as it was."""
    before = {key: tensor.clone() for key, tensor in network.weights.items()}
    graph = network.graph.to_json()
    with pytest.raises(error) as caught:
        morphs.apply(network, move, **how)
    message = str(caught.value)
    assert all(name in message for name in names)
    assert "\n" not in message
    assert "; " in message
    assert network.graph.to_json() == graph
    assert all(torch.equal(network.weights[key].nan_to_num(), t.nan_to_num()) for key, t in before.items())


def test_there_is_a_case_for_every_move():
    on_whole_networks = {"widen_all"}
    assert {text.partition("(")[0] for text in CALLS} | on_whole_networks == {
        move.name for move in morphs.MOVES
    }


@pytest.mark.parametrize("move", SITES)
def test_a_site_that_is_none(move):
    refused(IllegalMove, SITES[move], move=move, batches=some_batches(NET))


def test_columns_that_come_several_for_each_channel():
    graph = morphs.parse_graph("""
        x = input(size=[3, 4, 4]); c = conv2d(x, channels=4, kernel=1); d = conv2d(c, channels=8, kernel=1, groups=4)
        f = conv2d(d, channels=2, kernel=1); out = output(f)
    """)
    refused(IllegalMove, ('"d"', "c"), lively(graph), "widen(node=d, to=12)")


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
    names = ("weight", '"q"', "NaN")
    for measure in (True, False):
        refused(WeightsError, names, broken, move, measure=measure)


PROBES = {
    "empty": (torch.zeros(0, 3, 6, 6), ('"x"', "(0, 3, 6, 6)", "3")),
    "misfit": (torch.zeros(2, 3, 5, 6), ('"x"', "(2, 3, 5, 6)", "3")),
    "a number": (torch.zeros(()), ('"x"', "(3, 6, 6)")),
    "none": ((), ("0", "1")),
    "two": ((torch.zeros(2, 3, 6, 6),) * 2, ("2", "1")),
    "NaN": (torch.full((2, 3, 6, 6), float("nan")), ('"x"', "NaN")),
    "complex": (torch.zeros(2, 3, 6, 6, dtype=torch.cfloat), ('"x"', "torch.complex64")),
    "lists": ([[1.0]], ('"x"', "list")),
    "text": ("probe", ("probe", "str")),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBES)
def test_a_probe_that_is_none(case):
    probe, names = PROBES[case]
    refused(WeightsError, names, probe=probe)


X, Y = torch.zeros(8, 3, 6, 6), torch.zeros(8, dtype=torch.int64)
BATCHES = {
    "no iterable": (3, ("batches", "int")),
    "bare tensors": ([X], ("batch 0", "Tensor")),
    "other maps": ([(X, Y), (X[..., 1:], Y)], ("batch 1", "(8, 3, 6, 5)", '"x"')),
    "other channels": ([(X[:, 1:], Y)], ("batch 0", "(8, 2, 6, 6)", '"x"')),
    "two inputs": ([((X, X), Y)], ("batch 0", "x")),
    "no tensor": ([(([1.0],), Y)], ("batch 0", "list", '"x"', "(N, 3, 6, 6)")),
    "NaN": ([(X + float("nan"), Y)], ("batch 0", "NaN", '"x"')),
    "few targets": ([(X, Y[:3])], ("batch 0", "8", "3")),
}  # fmt: skip


@pytest.mark.parametrize("move", ["insert_norm(node=c)", "compact(node=l, channels=4, keep=0.5)"])
@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_are_none(case, move):
    batches, names = BATCHES[case]
    refused(NeedsData, names, move=move, batches=batches)


def test_data_that_says_nothing():
    same = torch.ones(8, 3, 6, 6)
    refused(
        NeedsData, ("compact", '"l"', "7"),
        move="compact(node=l, channels=4, keep=0.5)", batches=[(same, Y)],
    )  # fmt: skip
    draws = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    refused(NeedsData, ("90", "5"), move="widen(node=c, to=6, how=gradient)", batches=[(draws, Y + 90)])


@pytest.mark.parametrize("seed", ["a", None, 1.0, -1, 2**64])
def test_a_seed_that_is_none(seed):
    refused(ParseError, ("apply", f"seed {seed!r}"), seed=seed)


def test_a_width_that_no_memory_holds():
    refused(LimitExceeded, ("widen", "GiB"), move="widen(node=c, to=10000000000)")


@pytest.mark.parametrize("error", [LimitsError, ValueError])
def test_a_limit_that_is_no_number(error):
    with pytest.raises(error, match="params='10'"):
        morphs.Limits(params="10")
    with pytest.raises(error, match="params=0"):
        morphs.Limits(params=0)


def test_limits_that_are_none():
    refused(LimitsError, ("apply", "dict", "morphs.Limits"), limits={"params": 9})


OTHERS = {
    "init, a text": (lambda: morphs.init(NET.graph, seed="a"), WeightsError, ("init", "'a'")),
    "init, below 0": (lambda: morphs.init(NET.graph, seed=-1), WeightsError, ("init", "-1")),
    "activation": (
        lambda: morphs.register_activation(5, torch.sin), ActivationError, ("register_activation", "5")
    ),
    "chain": (lambda: list(morphs.apply_chain(NET, None)), ParseError, ("apply_chain", "None")),
    "parse": (lambda: morphs.parse(5), ParseError, ("parse", "int")),
    "graph": (lambda: morphs.parse_graph(5), CodecError, ("graph", "int")),
    "json": (lambda: morphs.graph_from_json(None), CodecError, ("graph", "NoneType")),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_arguments_of_another_type(case):
    call, error, names = OTHERS[case]
    with pytest.raises(error) as caught:
        call()
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_network_is_not_saved_onto_a_file(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CodecError, match=r"save.*file"):
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
    with pytest.raises(NeedsData, match=r"step 2: insert_norm.*iterator"):
        list(morphs.apply_chain(NET, chain, batches=iter(batches)))
    with pytest.raises(NeedsData) as caught:  # nobody has read it before
        list(morphs.apply_chain(NET, "widen(node=c, to=6); insert_norm(node=b)", batches=iter(())))
    assert all(name in str(caught.value) for name in ("step 2", "insert_norm", '"b"', " 0 "))
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
    "a number for two": (morphs.GrowKernel("c", 5), "grow_kernel: to: 5 is not a list"),
    "three for two": (morphs.Deepen("r", then=(1, 1, 1)), "deepen: then: (1, 1, 1) has not 2 values"),
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
    with pytest.raises(UnsupportedModule, match=r"MorphedNetwork.*from_torch"):
        morphs.apply(NET.to_torch(), "widen(node=c, to=6)")


def test_a_drift_beyond_what_is_declared_is_an_error():
    class Liar(morphs.Narrow):
        """Says that it is exact."""

        name = "liar"
        preserves = morphs.Preserves.EXACT

    refused(DriftExceeded, ("liar", "exact"), move=Liar("c", 2))


def test_several_moves_in_one_text_are_for_another_function():
    refused(ParseError, ("apply_chain",), move="widen(node=c, to=6); widen(node=c, to=8)")
