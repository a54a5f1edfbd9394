"""Lets workers on different nodes reach each other by the addresses that Ray knows them by."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig

from tunesmith.domain.devices import Device
from tunesmith.training.devices import RULES

Addresses = Mapping[str, Sequence[Any]]
"""The addresses of each network interface, as `psutil.net_if_addrs` gives them."""


@dataclass
class NamedInterfaces(TorchConfig):  # type: ignore[misc]  # Ray has no types
    """Ray Train's process group, each of whose workers listens where Ray's own processes do."""

    device: Device = Device.CPU
    """What the workers train on, which says what connects them."""

    def __post_init__(self) -> None:
        """Choose what connects them."""
        self.backend = RULES[self.device].backend

    @property
    def backend_cls(self) -> type[Any]:
        """Return what sets the group up."""
        return _Backend


_LISTENERS = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")
"""The variables by which those that connect workers are told the interface."""


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray has no types
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(_name_interface)
        worker_group.execute(_prepare, backend_config.device)
        super().on_start(worker_group, backend_config)


def _name_interface() -> None:
    # By itself gloo asks for the address of the node's name, which many systems say is 127.0.1.1.
    found = interface_of(ray.util.get_node_ip_address(), psutil.net_if_addrs())
    if found is not None:
        for name in _LISTENERS:
            os.environ.setdefault(name, found)


def _prepare(device: Device) -> None:
    RULES[device].prepare(workers=2)


def interface_of(address: str, interfaces: Addresses) -> str | None:
    """Return the name of the interface that has `address`; `None` where none has."""
    for name, addresses in interfaces.items():
        if any(each.address == address for each in addresses):
            return name
    return None
