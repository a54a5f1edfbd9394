"""What training knows of each device. That they learn alike is for `integration/training`."""

from __future__ import annotations

import pytest
import torch

from tunesmith.domain.devices import Device
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.spec import Precision
from tunesmith.training.attention import Layout
from tunesmith.training.devices import PROCESSOR, RULES, Place, find
from tunesmith.training.failures import RunFailedError


def test_every_device_has_rules_and_a_way_to_connect_workers() -> None:
    assert set(RULES) == set(Device)
    assert {device: rules.backend for device, rules in RULES.items()} == {
        Device.CPU: "gloo",
        Device.CUDA: "cpu:gloo,cuda:nccl",
        Device.HPU: "cpu:gloo,hpu:hccl",
        Device.XPU: "cpu:gloo,xpu:xccl",
    }


def test_the_processor_is_there() -> None:
    assert find(Device.CPU) is PROCESSOR
    assert PROCESSOR.precision(Precision.FP32) is Precision.FP32
    assert PROCESSOR.precision(Precision.AUTO) in (Precision.FP32, Precision.BF16)
    assert PROCESSOR.peak_memory() is None


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (Device.CUDA, "torch sees none"),
        (Device.XPU, "torch sees none"),
        (Device.HPU, "No module named 'habana_frameworks'"),
    ],
)
def test_a_node_without_the_device_says_what_it_lacks(device: Device, words: str) -> None:
    with pytest.raises(RunFailedError, match=words) as failed:
        find(device)

    assert failed.value.error.code is FailureCode.RESOURCES_UNAVAILABLE
    assert (failed.value.error.param, failed.value.error.change) == ("device", {"device": "cpu"})


def test_where_shapes_are_compiled_there_are_few() -> None:
    fixed = Place(RULES[Device.HPU], torch.device("cpu"))
    free = Place(RULES[Device.CUDA], torch.device("cpu"))

    assert [fixed.packed_row(tokens) for tokens in (1, 256, 257, 1000, 4096)] == [
        *(256, 256, 512, 1024, 4096)
    ]
    assert [fixed.row(count) for count in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]
    assert [free.packed_row(tokens) for tokens in (1, 257)] == [1, 257]


@pytest.mark.parametrize(
    ("causal", "window", "seen"),
    [
        (True, None, ["1000", "1100", "0010", "0011"]),
        (False, None, ["1100", "1100", "0011", "0011"]),
        (True, 1, ["1000", "0100", "0010", "0001"]),
    ],
)
def test_a_mask_lets_tokens_see_those_of_their_own_text_alone(
    causal: bool, window: int | None, seen: list[str]
) -> None:
    positions, texts = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    layout = Layout((2, 2), positions, texts, torch.float32)

    mask = layout.mask(causal=causal, window=window)

    rows = ["".join(str(int(each == 0)) for each in row) for row in mask[0, 0]]
    assert rows == seen
