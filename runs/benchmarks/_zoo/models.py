"""The models: torchvision's, timm's of many families, Hugging Face's from their configuration, and written ones."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from _zoo.written import Written

SMALL, MEDIUM = 64, 128  # pixels, where the model takes them
TIMM = (  # small ones of many families
    "test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "test_mambaout", "test_nfnet",
    "test_coatnet", "test_maxvit", "test_efficientnet_ln", "test_vit_relpos", "deit_tiny_patch16_224",
    "mobilenetv3_small_050", "ghostnet_050", "lcnet_035", "regnetx_002", "resnet18", "resnetv2_18", "repvgg_a0",
    "efficientvit_m0", "efficientvit_b0", "levit_128", "mobilevit_xxs", "mobilevitv2_050", "pit_ti_224",
    "starnet_s050", "fasternet_t0", "convnext_atto", "inception_next_atto", "edgenext_xx_small", "repvit_m0_9",
    "repghostnet_050", "swiftformer_xs", "shvit_s1", "efficientformer_l1", "efficientformerv2_s0", "fastvit_t8",
    "pvt_v2_b0", "xcit_nano_12_p8_224", "cait_xxs24_224", "coat_tiny", "convit_tiny", "tiny_vit_5m_224",
    "poolformer_s12", "gmlp_ti16_224", "gmixer_12_224", "mixer_s32_224", "resmlp_12_224",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "crossvit_tiny_240", "visformer_tiny", "tnt_s_patch16_224", "eva02_tiny_patch14_224",
    "rexnet_100", "dla34", "dpn48b", "hgnetv2_b0", "hrnet_w18_small", "res2net50_14w_8s", "resnest14d", "selecsls42",
    "skresnet18", "vovnet39a", "xception41", "densenet121", "mvitv2_tiny", "hardcorenas_a", "mixnet_s", "tinynet_e",
    "cs3darknet_focus_s", "legacy_seresnet18", "convmixer_768_32", "focalnet_tiny_srf", "davit_tiny", "gcvit_xxtiny",
)  # fmt: skip
CONFIGURED: dict[str, dict[str, Any]] = {  # small sizes of each Hugging Face family
    "bert": {}, "distilbert": {}, "roberta": {}, "electra": {}, "albert": {}, "gpt2": {}, "gpt_neox": {}, "opt": {},
    "llama": {}, "mistral": {}, "qwen2": {}, "vit": {}, "deit": {}, "resnet": {},
}  # fmt: skip
PYRAMIDS = ("resnet18", "resnet50", "mobilenet_v3_large")  # what torchvision's detectors look through
TEXT = frozenset(("bert", "distilbert", "roberta", "electra", "albert", "gpt2", "gpt_neox", "opt", "llama", "mistral",
                  "qwen2"))  # fmt: skip


def names(only: str | None, quick: bool) -> Iterator[str]:
    """set:model of each model that this machine has the packages for."""
    found: dict[str, list[str]] = {"written": [n for n in vars(Written) if not n.startswith("_")]}
    if only in (None, "torchvision", "segmentation", "detection") and importlib.util.find_spec("torchvision"):
        import torchvision

        found["torchvision"] = torchvision.models.list_models(module=torchvision.models)
        found["segmentation"] = torchvision.models.list_models(module=torchvision.models.segmentation)
        found["detection"] = [*PYRAMIDS]
    if only in (None, "timm") and importlib.util.find_spec("timm"):
        import timm

        known = frozenset(timm.list_models())
        found["timm"] = [model for model in TIMM if model in known]
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
    if group == "detection":
        return _pyramid(model), torch.randn(2, 3, SMALL, SMALL)
    if group == "timm":
        import timm

        module: Any = timm.create_model(model, pretrained=False)
        if not module.num_classes:  # a backbone, whose outputs all its widths are tied to
            module.reset_classifier(1000)
        size = _pixels(module)
    else:
        import torchvision

        size = _side(model)
        extra: dict[str, Any] = {"weights_backbone": None} if group == "segmentation" else {}
        if model.startswith("vit"):
            extra["image_size"] = size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torchvision.models.get_model(model, weights=None, **extra)
    return module, torch.randn(2, 3, size, size)


def _pyramid(model: str) -> nn.Module:
    from torchvision.models.detection import backbone_utils as utils

    make = utils.mobilenet_backbone if model.startswith("mobilenet") else utils.resnet_fpn_backbone
    extra = {"fpn": True} if model.startswith("mobilenet") else {}
    return make(backbone_name=model, weights=None, trainable_layers=5, **extra)


def _side(model: str) -> int:
    """The size of images for a model of torchvision: a small one where it takes any."""
    family = model.partition("_")[0]
    if family == "vit":
        return 4 * int(model.rpartition("_")[2])  # patches
    return {"swin": 224, "maxvit": 224, "inception": 299}.get(family, SMALL)


def _pixels(module: Any) -> int:
    """The size of images for a model of timm: a small one where it takes any."""
    own = module.default_cfg["input_size"][-1]
    if own <= 160 or module.default_cfg.get("fixed_input_size"):
        return own
    try:
        with torch.no_grad():
            copy.deepcopy(module).to("meta").eval()(torch.empty(2, 3, MEDIUM, MEDIUM, device="meta"))
    except Exception:  # whatever a forward raises
        return own
    return MEDIUM


def _configured(model: str) -> tuple[nn.Module, Any]:
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

    config = AutoConfig.for_model(model)
    config.architectures = config.architectures or []  # which a few lack
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
        seen = torch.ones(2, 8, dtype=torch.int64)
        seen[1, 5:] = 0
        return module, {"input_ids": torch.randint(1, 100, (2, 8)), "attention_mask": seen}
    return module, {"pixel_values": torch.randn(2, 3, 64, 64)}
