"""Which device a search computes on."""

from __future__ import annotations

import pytest
import torch

from nas.api import options

GIVEN = {"data": "digits", "generations": 1}


def test_a_gpu_is_used_where_there_is_one_and_nobody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(options, "check_device", lambda name: None)  # there is none to compute on
    chosen = {
        text: options.configuration("digits", {**GIVEN, "device": text})[0].device for text in ("auto", "cpu")
    }
    assert chosen == {"auto": "cuda", "cpu": "cpu"}
    unset, _ = options.configuration("digits", GIVEN)
    assert (unset.device, "device" in unset.fitted) == ("cuda", True)
    cluster = {**GIVEN, "executor": "ray", "address": "auto"}
    assert options.configuration("digits", cluster)[0].device == "cpu"


def test_without_a_gpu_it_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for given in (GIVEN, {**GIVEN, "device": "auto"}):
        assert options.configuration("digits", given)[0].device == "cpu"
