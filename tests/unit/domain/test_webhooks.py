from __future__ import annotations

import base64

import pytest

from tunesmith.domain.webhooks import (
    MOST_ATTEMPTS,
    SECRET_PREFIX,
    address_forbidden,
    new_secret,
    retry_delay,
)


def test_a_secret_is_32_random_bytes() -> None:
    assert len(base64.b64decode(new_secret().removeprefix(SECRET_PREFIX), validate=True)) == 32
    assert new_secret() != new_secret()


def test_delays_grow_from_5_seconds_to_8_hours_and_last_about_a_day() -> None:
    delays = [retry_delay(n, chance=0.5) for n in range(1, MOST_ATTEMPTS)]
    assert delays[0] == 5
    assert delays == sorted(delays)
    assert max(delays) == 8 * 3600
    assert 23 < sum(delays) / 3600 < 25
    assert retry_delay(1, chance=0) == 4.5
    assert retry_delay(1, chance=1) == pytest.approx(5.5)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_credentials_and_shared_addresses_are_forbidden(address: str) -> None:
    assert address_forbidden(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.2", "fd12::1", "93.184.216.34"]
)
def test_loopback_private_and_public_addresses_are_allowed(address: str) -> None:
    assert not address_forbidden(address)
