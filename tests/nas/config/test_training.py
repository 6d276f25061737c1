import math

import pytest

from nas.base.errors import UserError
from nas.train import TrainConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0}, {"lr": -1.0}, {"lr": math.nan}, {"lr": math.inf}, {"lr": "fast"}, {"lr": True},
        {"lr_min": -0.1}, {"lr_min": 0.2, "lr": 0.1}, {"lr_min": math.nan},
        {"warmup_steps": -1}, {"warmup_steps": 1.5},
        {"momentum": 1.0}, {"momentum": -0.1}, {"momentum": math.nan},
        {"weight_decay": -1e-4}, {"weight_decay": math.inf},
        {"label_smoothing": 1.0}, {"label_smoothing": -0.1},
        {"clip_norm": 0.0}, {"clip_norm": math.nan},
        {"batch_size": 1}, {"batch_size": 0}, {"batch_size": 32.0}, {"batch_size": True},
        {"precision": "fp16"}, {"compile": "no"},
    ],
)  # fmt: skip
def test_a_senseless_value_is_refused_by_name(wrong):
    with pytest.raises(UserError) as caught:
        TrainConfig(**wrong)
    text = str(caught.value)
    assert next(iter(wrong)) in text
    assert "; use " in text
    assert "\n" not in text


def test_the_borders_are_allowed():
    TrainConfig(lr=0.1, lr_min=0.1, momentum=0, weight_decay=0, label_smoothing=0, clip_norm=1, batch_size=2)
