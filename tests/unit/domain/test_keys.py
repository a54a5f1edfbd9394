from __future__ import annotations

import hashlib

import pytest

from tunesmith.domain.keys import Scope, digest_of, new_key
from tunesmith.domain.projects import Limits, Project


def test_a_key_keeps_no_more_of_its_secret_than_the_beginning_and_the_digest() -> None:
    secret, key = new_key("blue", "ci", scope=Scope.READ, now=5, expires_at=None)
    assert secret.startswith("sk-ts-")
    assert key.prefix == secret[:12]
    assert key.digest == digest_of(secret) == hashlib.sha256(secret.encode()).hexdigest()
    assert secret[12:] not in key.model_dump_json()


def test_keys_have_256_random_bits_beyond_what_is_kept_of_them_and_differ() -> None:
    made = {new_key("a", "b", scope=Scope.READ, now=0, expires_at=None)[0][12:] for _ in range(100)}
    assert len(made) == 100
    # Each character of base64 carries 6 bits.
    assert all(len(secret) * 6 >= 256 for secret in made)


@pytest.mark.parametrize(
    ("scope", "covered"), [("read", "read"), ("write", "read write"), ("admin", "read write admin")]
)
def test_a_scope_includes_the_ones_before_it(scope: str, covered: str) -> None:
    assert [each for each in Scope if Scope(scope).covers(each)] == covered.split()


def test_a_key_is_usable_until_the_second_of_its_expiry_or_its_revocation() -> None:
    _, key = new_key("a", "b", scope=Scope.READ, now=0, expires_at=100)
    assert key.usable(now=99.9)
    assert not key.usable(now=100)
    assert not key.model_copy(update={"revoked_at": 10}).usable(now=20)


def test_a_projects_own_limits_go_before_the_services() -> None:
    project = Project(name="blue", created_at=0, max_jobs=0)
    defaults = Limits(max_jobs=5, max_bytes=7)
    assert project.limits(defaults) == Limits(max_jobs=0, max_bytes=7)
