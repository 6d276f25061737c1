"""The models: torchvision's, timm's of many families, Hugging Face's from their configuration, and written ones."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from _zoo.written import Written

FAMILIES = 60
SMALL = 64  # pixels, where the model takes them
CONFIGURED: dict[str, dict[str, Any]] = {  # small sizes of each Hugging Face family
    "bert": {}, "distilbert": {}, "roberta": {}, "electra": {}, "albert": {}, "gpt2": {}, "gpt_neox": {}, "opt": {},
    "llama": {}, "mistral": {}, "qwen2": {}, "vit": {}, "deit": {}, "resnet": {},
}  # fmt: skip
TEXT = frozenset(("bert", "distilbert", "roberta", "electra", "albert", "gpt2", "gpt_neox", "opt", "llama", "mistral",
                  "qwen2"))  # fmt: skip


def names(only: str | None, quick: bool) -> Iterator[str]:
    """set:model of each model that this machine has the packages for."""
    found: dict[str, list[str]] = {"written": [n for n in vars(Written) if not n.startswith("_")]}
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
            yield from (f"{group}:{model}" for model in (models[:1] if quick else models))


def build(name: str) -> tuple[nn.Module, Any]:
    """The model with fresh weights, and its example inputs."""
    group, _, model = name.partition(":")
    torch.manual_seed(0)
    if group == "written":
        return getattr(Written, model)()
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
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

    config = AutoConfig.for_model(model)
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
             "vocab_size": 100, "n_embd": 64, "n_layer": 2, "n_head": 4, "dim": 64, "hidden_dim": 128, "n_layers": 2,
             "n_heads": 4, "ffn_dim": 128, "num_key_value_heads": 2, "word_embed_proj_dim": 64, "embedding_size": 64,
             "use_cache": False, "image_size": 64, "pad_token_id": 0, "head_dim": 16}  # fmt: skip
    for key, value in small.items():
        if hasattr(config, key):
            setattr(config, key, value)
    kind = AutoModelForSequenceClassification if model in TEXT else AutoModelForImageClassification
    module = kind.from_config(config)
    if model in TEXT:
        return module, {"input_ids": torch.randint(1, 100, (2, 8))}
    return module, {"pixel_values": torch.randn(2, 3, 64, 64)}
