"""Workers listen on the interface that has the node's address."""

from __future__ import annotations

from types import SimpleNamespace

from tunesmith.training.interfaces import interface_of


def test_the_interface_with_the_address_is_found_whatever_else_it_has() -> None:
    def addresses(*each: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(address=address) for address in each]

    interfaces = {
        "lo": addresses("127.0.0.1", "::1"),
        "eth0": addresses("00:00:5e:00:53:01", "192.0.2.7", "2001:db8::7"),
    }

    assert interface_of("192.0.2.7", interfaces) == "eth0"
    assert interface_of("2001:db8::7", interfaces) == "eth0"
    assert interface_of("198.51.100.1", interfaces) is None
