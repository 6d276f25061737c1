import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas.data import Augment, SearchData, Split
from nas.train import TrainConfig, train


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("default")  # of the compiler, which is none of ours
def test_a_compiled_run_comes_close_to_a_plain_one():
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 1, 4, 4), generator=source, dtype=torch.uint8)
    split = Split(images, torch.arange(32) % 2)
    data = SearchData("toy", split, split, ("a", "b"), (0.5,), (0.3,), Augment(flip=False, crop=0), "0" * 64)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    compiled = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    compiled.load_state_dict(plain.state_dict())
    config = TrainConfig(batch_size=8)
    train(plain, data, steps=3, config=config, seed=0)
    train(compiled, data, steps=3, config=replace(config, compile=True), seed=0)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5)
