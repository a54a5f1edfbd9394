"""What OPEA's users have in their environment works here, too."""

from __future__ import annotations

import os

import pytest

from tunesmith.domain.devices import Device
from tunesmith.domain.errors import SettingsError
from tunesmith.settings import load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("TUNESMITH_", "RAY_")) or name == "DEVICE":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("word", "device"),
    [
        ("cpu", Device.CPU),
        ("hpu", Device.HPU),
        ("HPU", Device.HPU),
        ("cuda", Device.CUDA),
        ("gpu", Device.CUDA),
        ("xpu", Device.XPU),
        ("", Device.CPU),
    ],
)
def test_device_says_what_jobs_are_trained_on_that_do_not_say_it(
    monkeypatch: pytest.MonkeyPatch, word: str, device: Device
) -> None:
    monkeypatch.setenv("DEVICE", word)

    assert load_settings({}).device is device


def test_our_own_name_of_the_device_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "something of another program")
    monkeypatch.setenv("TUNESMITH_DEVICE", "hpu")

    assert load_settings({}).device is Device.HPU


def test_a_device_that_nothing_trains_on_is_refused_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEVICE", "/dev/sda")

    with pytest.raises(SettingsError, match=r"DEVICE says '/dev/sda'.*TUNESMITH_DEVICE"):
        load_settings({})
