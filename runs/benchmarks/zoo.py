"""Which models come in, and what of them can be morphed: torchvision, timm, transformers, and modules as users write.

Each model runs in a process of its own; its record is kept in out/zoo.jsonl, so that the script goes on where it
stopped. timm and transformers are optional. Weights are random: nothing is downloaded.

    python runs/benchmarks/zoo.py --quick            a few models of each set
    python runs/benchmarks/zoo.py --set torchvision  one set
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _common import OUT, figure, finish, guarded
from torch import nn

import morphs
from morphs.errors import MorphError

RECORDS = OUT / "zoo.jsonl"
FAMILIES = 60
MOVES = 20
STEPS = 5
SMALL = 64  # pixels, where the model takes them
CONFIGURED: dict[str, dict[str, Any]] = {  # small sizes of each Hugging Face family
    "bert": {}, "distilbert": {}, "roberta": {}, "electra": {}, "albert": {}, "gpt2": {}, "gpt_neox": {}, "opt": {},
    "llama": {}, "mistral": {}, "qwen2": {}, "vit": {}, "deit": {}, "resnet": {},
}  # fmt: skip
TEXT = frozenset(("bert", "distilbert", "roberta", "electra", "albert", "gpt2", "gpt_neox", "opt", "llama", "mistral",
                  "qwen2"))  # fmt: skip


# -- the models ----------------------------------------------------------------------------------------


class _Written:
    """Plain modules as users write them, with their example inputs."""

    @staticmethod
    def mlp() -> Any:
        return nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Linear(32, 4)), torch.randn(
            4, 16
        )

    @staticmethod
    def signal() -> Any:
        net = nn.Sequential(
            nn.Conv1d(2, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 16, 3),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip
        return net, torch.randn(4, 2, 32)

    @staticmethod
    def volume() -> Any:
        net = nn.Sequential(
            nn.Conv3d(1, 4, 3),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        )
        return net, torch.randn(2, 1, 8, 8, 8)

    @staticmethod
    def group_norm() -> Any:
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1), nn.Flatten(),
            nn.LazyLinear(3),
        )  # fmt: skip
        net(torch.zeros(1, 3, 8, 8))
        return net, torch.randn(2, 3, 8, 8)

    @staticmethod
    def weight_norm() -> Any:
        norm = nn.utils.parametrizations.weight_norm
        return nn.Sequential(norm(nn.Linear(8, 16)), nn.Tanh(), norm(nn.Linear(16, 2))), torch.randn(4, 8)

    @staticmethod
    def spectral_like() -> Any:
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 3)
        )
        return net, torch.randn(2, 3, 12, 12)

    @staticmethod
    def recurrent() -> Any:
        return _Recurrent(), torch.randn(3, 7, 5)

    @staticmethod
    def encoder() -> Any:
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(2, 6, 16)

    @staticmethod
    def attention() -> Any:
        return _Attention(), torch.randn(2, 6, 16)

    @staticmethod
    def unet() -> Any:
        return _UNet(), torch.randn(2, 3, 16, 16)

    @staticmethod
    def autoencoder() -> Any:
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.Sigmoid(),
        )  # fmt: skip
        return net, torch.randn(2, 1, 16, 16)

    @staticmethod
    def two_inputs() -> Any:
        return _TwoInputs(), (torch.randn(2, 3, 8, 8), torch.randn(2, 5))

    @staticmethod
    def two_heads() -> Any:
        return _Heads("tuple"), torch.randn(2, 8)

    @staticmethod
    def dictionary() -> Any:
        return _Heads("dict"), torch.randn(2, 8)

    @staticmethod
    def tied() -> Any:
        return _Tied(), torch.randint(0, 11, (2, 6))

    @staticmethod
    def words() -> Any:
        net = nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(48, 3))
        return net, torch.randint(0, 11, (2, 6))

    @staticmethod
    def squeeze_excite() -> Any:
        return _Gated(), torch.randn(2, 8, 6, 6)

    @staticmethod
    def mixer() -> Any:
        return _Mixer(), torch.randn(2, 6, 8)

    @staticmethod
    def prelu() -> Any:
        return nn.Sequential(nn.Linear(4, 8), nn.PReLU(8, init=-0.2), nn.Linear(8, 2)), torch.randn(3, 4)

    @staticmethod
    def pixel_shuffle() -> Any:
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(3, 1, 1)
        ), torch.randn(2, 3, 8, 8)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cells(x)[0][:, -1])


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.mix(y, y, y, need_weights=False)[0]


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = self.down(x).relu()
        low = self.deep(nn.functional.max_pool2d(high, 2)).relu()
        return self.last(torch.cat([high, self.up(low)], 1))


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.facts, self.out = nn.Conv2d(3, 6, 3), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, pixels: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        return self.out(self.map(pixels).mean((2, 3)) + self.facts(facts))


class _Heads(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.trunk, self.a, self.b = form, nn.Linear(8, 16), nn.Linear(16, 2), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.trunk(x).relu()
        return {"a": self.a(y), "b": self.b(y)} if self.form == "dict" else (self.a(y), self.b(y))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mid, self.out = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.mid(self.embed(ids)).relu())


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.less, self.more = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 2), nn.Linear(2, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        gate = self.more(self.less(y.mean((2, 3))).relu()).sigmoid()
        return (y * gate.view(gate.size(0), -1, 1, 1)).mean((2, 3))


class _Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.channels, self.norm = nn.Linear(6, 6), nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm(x)).relu()


def names(only: str | None, quick: bool) -> Iterator[str]:
    """set:model of each model that this machine has the packages for."""
    found: dict[str, list[str]] = {"written": [n for n in vars(_Written) if not n.startswith("_")]}
    if only in (None, "torchvision", "segmentation") and importlib.util.find_spec("torchvision"):
        import torchvision

        found["torchvision"] = torchvision.models.list_models(module=torchvision.models)
        found["segmentation"] = torchvision.models.list_models(module=torchvision.models.segmentation)
    if only in (None, "timm") and importlib.util.find_spec("timm"):
        import timm

        families: dict[str, str] = {}
        for model in timm.list_models():
            families.setdefault(timm.models._registry._model_to_module[model], model)  # pyright: ignore
        found["timm"] = [families[name] for name in sorted(families)][:FAMILIES]
    if importlib.util.find_spec("transformers"):
        found["transformers"] = [*CONFIGURED]
    for group, models in found.items():
        if only in (None, group):
            yield from (f"{group}:{model}" for model in (models[:2] if quick else models))


def build(name: str) -> tuple[nn.Module, Any]:
    """The model with fresh weights, and its example inputs."""
    group, _, model = name.partition(":")
    torch.manual_seed(0)
    if group == "written":
        return getattr(_Written, model)()
    if group == "transformers":
        return _configured(model)
    if group == "timm":
        import timm

        module = timm.create_model(model, pretrained=False)
        size = module.default_cfg["input_size"][-1]
    else:
        import torchvision

        extra = {"weights_backbone": None} if group == "segmentation" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torchvision.models.get_model(model, weights=None, **extra)
        fixed = model.startswith(("vit", "swin", "maxvit"))
        size = 224 if fixed else 128 if model.startswith("inception") else SMALL
    return module, torch.randn(2, 3, size, size)


def _configured(model: str) -> tuple[nn.Module, Any]:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(model)
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
             "vocab_size": 100, "n_embd": 64, "n_layer": 2, "n_head": 4, "dim": 64, "hidden_dim": 128, "n_layers": 2,
             "n_heads": 4, "ffn_dim": 128, "num_key_value_heads": 2, "word_embed_proj_dim": 64, "embedding_size": 64,
             "use_cache": False, "image_size": 64, "pad_token_id": 0, "head_dim": 16}  # fmt: skip
    for key, value in small.items():
        if hasattr(config, key):
            setattr(config, key, value)
    module = AutoModel.from_config(config)
    if model in TEXT:
        return module, {"input_ids": torch.randint(1, 100, (2, 8))}
    return module, {"pixel_values": torch.randn(2, 3, 64, 64)}


# -- what is measured ----------------------------------------------------------------------------------


def measure(name: str) -> dict[str, Any]:
    """The record of one model."""
    module, given = build(name)
    module = module.double()
    given = given.double() if isinstance(given, torch.Tensor) and given.is_floating_point() else given
    record: dict[str, Any] = {"model": name, "exports": False, "imports": False}
    args, kwargs = (
        ((), dict(given))
        if isinstance(given, dict)
        else (given if isinstance(given, tuple) else (given,), {})
    )
    floats = [x.double() if x.is_floating_point() else x for x in args]
    kwargs = {key: x.double() if x.is_floating_point() else x for key, x in kwargs.items()}
    start = time.perf_counter()
    try:
        torch.export.export(module.eval(), tuple(floats), kwargs, strict=False)
        record["exports"] = True
    except Exception as error:
        record["export_error"] = " ".join(str(error).split())[:200]
    record["export_s"] = time.perf_counter() - start
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            net = morphs.from_torch(module, kwargs or floats)
    except MorphError as error:
        return {**record, "error": str(error)[:300]}
    record |= {"imports": True, "import_s": time.perf_counter() - start, "told": [str(w.message)[:80] for w in told
               if w.category.__module__.startswith("morphs")], **_shares(net)}  # fmt: skip
    inputs = [*floats, *kwargs.values()]
    record |= {f"difference_{mode}": _difference(module, net.to_torch(), floats, kwargs, inputs, mode == "train")
               for mode in ("eval", "train")}  # fmt: skip
    if all(x.is_floating_point() for x in inputs) and net.graph.output.op.kind == "output":
        record |= _grown(net, tuple(inputs))
    with tempfile.TemporaryDirectory() as folder:
        try:
            morphs.export(net, Path(folder) / "out", inputs)
            record["round_trip"] = True
        except MorphError as error:
            record |= {"round_trip": False, "round_trip_error": str(error)[:200]}
    return record


def _shares(net: morphs.Network) -> dict[str, Any]:
    """The share of nodes, and of parameters, that belong to an op that isn't opaque and has a free width or may be
    replaced by a move."""
    sites: set[str] = set()
    for move in morphs.MOVES:
        for number, site in enumerate(move.sites(net)):
            sites.update(
                str(getattr(site, key)) for key in ("node", "source", "target") if hasattr(site, key)
            )
            if number >= 2000:
                break
    params = {key: param.shape for key, param in net.graph.params.items() if param.trainable}
    whole = sum(net.weights[key].numel() for key in params) or 1
    some = sum(net.weights[key].numel() for key in params if key[0] in sites)
    inner = [node for node in net.graph if not node.op.is_end]
    return {"nodes": len(inner), "aten": sum(node.op.kind == "aten" for node in inner), "parameters": whole,
            "nodes_share": sum(node.name in sites for node in inner) / max(len(inner), 1),
            "parameters_share": some / whole}  # fmt: skip


def _difference(
    module: nn.Module, copy: nn.Module, args: Any, kwargs: Any, inputs: Any, train: bool
) -> float:
    outputs = []
    for each, given, named in ((module, args, kwargs), (copy, inputs, {})):
        each.train(train)
        torch.manual_seed(1)
        with torch.no_grad():
            returned = each(*given, **named)
        leaves = torch.utils._pytree.tree_leaves(dict(returned) if hasattr(returned, "keys") else returned)
        outputs.append([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])
    return max(
        float((one - other).abs().max() / one.abs().max().clamp(min=1e-300))
        for one, other in zip(*outputs, strict=False)
    )


def _grown(net: morphs.Network, probe: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """Drift after a chain of random exact moves; five training steps of what it made."""
    draw = torch.Generator().manual_seed(0)
    first, made, moves = net, net, 0
    exact = [
        move
        for move in morphs.MOVES
        if move.name in ("widen", "deepen", "grow_kernel", "add_skip", "insert_activation")
    ]
    for _ in range(3 * MOVES):
        move = exact[int(torch.randint(len(exact), (), generator=draw))]
        sites = [site for _, site in zip(range(200), move.sites(made), strict=False)]
        if not sites or moves == MOVES:
            continue
        made = morphs.apply(
            made, sites[int(torch.randint(len(sites), (), generator=draw))], measure=False
        ).network
        moves += 1
    drift = morphs.drift(first, made, probe if len(probe) > 1 else probe[0])
    module = made.to_torch().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6)
    for _ in range(STEPS):
        optimizer.zero_grad()
        module(*probe).square().mean().backward()
        optimizer.step()
    dead = [name for name, p in module.named_parameters() if p.grad is None]
    return {"moves": moves, "drift": max(drift.eval, drift.train), "without_gradient": len(dead)}


def main() -> None:
    """Run what has no record yet, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--set", dest="only")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one model")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    done = (
        {r["model"]: r for r in map(json.loads, RECORDS.read_text().splitlines())} if RECORDS.exists() else {}
    )
    wanted = [*names(given.only, given.quick)]
    for name in wanted:
        if name not in done:
            done[name] = _apart(name, given.timeout)
            with RECORDS.open("a") as file:
                file.write(json.dumps(done[name]) + "\n")
            print(_line(done[name]), flush=True)
    _sum_up([done[name] for name in wanted])


def _apart(name: str, timeout: float) -> dict[str, Any]:
    try:
        ran = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True, timeout=timeout,
                             check=False)  # fmt: skip
        return json.loads(ran.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"model": name, "exports": None, "imports": False, "error": f"took more than {timeout:g} s"}
    except (IndexError, ValueError):
        return {"model": name, "exports": None, "imports": False, "error": ran.stderr.strip()[-300:]}


def _line(r: dict[str, Any]) -> str:
    if not r["imports"]:
        return f"{r['model']}: not imported: {r.get('error', r.get('export_error'))}"
    return (f"{r['model']}: {r['nodes']} nodes ({r['aten']} aten), {r['parameters_share']:.0%} of the parameters, "
            f"differs {r['difference_eval']:.1g} / {r['difference_train']:.1g}, "
            f"drift {r.get('drift', float('nan')):.1g}")  # fmt: skip


def _sum_up(records: list[dict[str, Any]]) -> None:
    exported = [r for r in records if r["exports"]]
    came = [r for r in records if r["imports"]]
    trips = 100 * sum(r.get("round_trip", False) for r in came) / max(len(came), 1)
    drifts = [r["drift"] for r in came if r.get("moves")]
    finish(__file__, [
        figure("models", len(records), "", None),
        figure("models that torch exports", len(exported), "", None),
        figure("imported, of those", 100 * sum(r["imports"] for r in exported) / max(len(exported), 1), "%", ">= 100"),
        figure("largest difference, eval", max((r["difference_eval"] for r in came), default=0.0), "", "<= 1e-12"),
        figure("largest drift after the moves", max(drifts, default=0.0), "", "<= 1e-9"),
        figure("export round trips", trips, "%", ">= 100"),
    ])  # fmt: skip


if __name__ == "__main__":
    guarded(main)
