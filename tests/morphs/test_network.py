"""Networks as values: checks, digests, fresh weights, and folders whole or damaged."""

import contextlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import graphs, lively, networks

import morphs
from morphs.errors import CodecError, MorphError, WeightsError

TEXT = "x = input(size=[3]); l = linear(x, features=2); n = batch_norm(l); out = output(n)"


def net() -> morphs.Network:
    return lively(morphs.parse_graph(TEXT))


@pytest.mark.parametrize(
    ("key", "tensor", "said"),
    [
        (("l", "weight"), None, '"l".*weight'),
        (("q", "weight"), torch.zeros(1), '"q".*weight'),
        (("l", "weight"), torch.zeros(3, 2), r'"l".*weight.*\(3, 2\).*\(2, 3\)'),
        (("l", "weight"), torch.zeros(2, 3, dtype=torch.int64), '"l".*weight.*int64'),
    ],
)
def test_weights_must_fit_the_graph(key, tensor, said):
    weights = {k: t for k, t in {**net().weights, key: tensor}.items() if t is not None}
    with pytest.raises(WeightsError, match=said):
        morphs.Network(net().graph, weights)


def test_weights_can_not_be_exchanged():
    with pytest.raises(TypeError):
        net().weights["l", "weight"] = torch.zeros(2, 3)  # pyright: ignore


def test_the_digest_sees_every_bit_the_type_and_the_graph():
    digests = {net().digest, net().to(torch.float32).digest}
    for key, tensor in net().weights.items():
        changed = tensor + 1 if key[1] == "num_batches_tracked" else torch.nextafter(tensor, tensor + 1)
        digests.add(morphs.Network(net().graph, {**net().weights, key: changed}).digest)
    renamed = morphs.parse_graph(TEXT.replace("x = input", "z = input").replace("(x,", "(z,"))
    digests.add(morphs.Network(renamed, net().weights).digest)
    assert len(digests) == 2 + len(net().weights) + 1
    assert net().digest == net().digest


@given(graph=graphs(most=2), seed=st.integers(0, 5))
def test_fresh_weights_depend_on_graph_and_seed_alone(graph, seed):
    torch.manual_seed(seed)
    assert morphs.init(graph, seed).digest == morphs.init(graph, seed).digest
    assert morphs.init(graph, seed).digest != morphs.init(graph, seed + 1).digest
    assert not morphs.init(graph, seed).nonfinite()
    assert morphs.init(graph, seed, torch.float64).dtype == torch.float64


def test_fresh_matrices_have_he_variance_and_norms_are_neutral():
    graph = morphs.parse_graph(
        """
            x = input(size=[8, 4, 4]); c = conv2d(x, channels=500, kernel=3, groups=2); n = batch_norm(c)
            p = p_activation(n, fn=relu); s = scale(p); out = output(s)
        """
    )
    weights = morphs.init(graph).weights
    assert float(weights["c", "weight"].var()) == pytest.approx(2 / (4 * 9), rel=0.05)
    assert bool(
        (weights["n", "weight"] == 1).all()
        & (weights["n", "running_var"] == 1).all()
        & (weights["s", "weight"] == 1).all()
    )
    assert not any(
        bool(weights[key].any()) for key in (("c", "bias"), ("n", "bias"), ("n", "running_mean"), ("p", "a"))
    )


@given(net=networks(most=2))
def test_networks_go_through_a_folder(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    morphs.save(net, folder)
    assert morphs.load(folder).digest == net.digest
    assert morphs.unpack(*morphs.pack(net)).digest == net.digest
    assert sorted(p.name for p in folder.iterdir()) == ["graph.json", "weights.safetensors"]


def test_saving_takes_views_and_tensors_that_share_memory(tmp_path):
    graph = morphs.parse_graph(
        "x = input(size=[2]); a = linear(x, features=2); b = linear(a, features=2); out = output(b)"
    )
    block = torch.arange(16.0).reshape(2, 2, 4)
    shared = morphs.Network(graph, {
        ("a", "weight"): block[:, :, 1], ("b", "weight"): block[:, :, 1].T,
        ("a", "bias"): block[0, 0, :2], ("b", "bias"): block[0, 0, :2],
    })  # fmt: skip
    morphs.save(shared, tmp_path / "new" / "folder")
    assert morphs.load(tmp_path / "new" / "folder").digest == shared.digest


@given(data=st.data())
def test_a_damaged_folder_is_one_error_or_loads(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    morphs.save(net(), folder)
    file = folder / data.draw(st.sampled_from(("graph.json", "weights.safetensors")))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with contextlib.suppress(MorphError):
        morphs.load(folder)


def test_what_is_missing_or_foreign_is_said(tmp_path):
    with pytest.raises(CodecError, match=r"load.*nowhere"):
        morphs.load(tmp_path / "nowhere")
    morphs.save(net(), tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(CodecError, match=r"load.*weights.safetensors"):
        morphs.load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(WeightsError, match=r"weights.safetensors"):
        morphs.load(tmp_path)
    other = json.loads(net().graph.to_json())
    morphs.save(net(), tmp_path)
    other["nodes"][1]["op"]["features"] = 7
    (tmp_path / "graph.json").write_text(json.dumps(other))
    with pytest.raises(WeightsError, match=r'"l".*\(7'):
        morphs.load(tmp_path)


def test_costs_by_hand():
    graph = morphs.parse_graph(
        """
            x = input(size=[3, 8, 8]); c = conv2d(x, channels=4, kernel=3, stride=2, padding=1)
            n = batch_norm(c); f = flatten(n); l = linear(f, features=5, bias=false); out = output(l)
        """
    )
    cost = morphs.cost(graph)
    assert cost.params == 4 * 3 * 9 + 4 + 8 + 64 * 5
    assert cost.macs == 4 * 16 * 27 + 64 * 5
    assert cost.depth == 2
    assert cost.activations == 3 * 64 + 64 * 3 + 5 + 5
