"""What `tunesmith serve` does with a bucket before it uses it."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.artifacts.opening import answers_token, open_bucket
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.errors import ArtifactsUnavailableError, DiskFullError, SettingsError
from tunesmith.settings import Settings


def check_bucket(settings: Settings) -> None:
    """Raise `SettingsError` where artifacts are to be in a bucket that cannot be used."""
    if settings.artifacts_url is None:
        return
    try:
        open_bucket(settings.artifacts_url).check()
    except (ArtifactsUnavailableError, DiskFullError) as error:
        raise SettingsError(error.message) from None


def sharing_tokens(settings: Settings, artifacts: Artifacts) -> Callable[[str, str], object] | None:
    """Return what lets nodes read an application's secret in the bucket; of a folder they can."""
    if settings.artifacts_url is None:
        return None
    return lambda application, secret: artifacts.put(
        answers_token(settings.location, application), secret.encode()
    )
