"""What `tunesmith doctor` finds of the database and the bucket that the settings name."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.cli.bucket import check_bucket
from tunesmith.cli.database import DATABASE
from tunesmith.cli.machine import Finding
from tunesmith.domain.errors import SettingsError, TunesmithError
from tunesmith.settings import Settings
from tunesmith.store.database import shown
from tunesmith.store.schema import HEAD, revision, schema_mend


def look_at_keeping(settings: Settings) -> Iterator[Finding]:
    """Yield what is found of the database, and of the bucket where there is to be one.

    Nothing is changed but for a probe in the bucket, which is removed.
    """
    yield _database(settings)
    if settings.artifacts_url is not None:
        yield _bucket(settings, settings.artifacts_url)


def _database(settings: Settings) -> Finding:
    file = settings.data / DATABASE
    # To look at a file that is absent would make it.
    if settings.database_url is None and not file.exists():
        return Finding(name="database", state="ok", told=f"none yet; the service makes {file}")
    url = settings.database_url or f"sqlite:///{file}"
    try:
        found = revision(url)
    except SettingsError as error:
        mend = (
            "Mend TUNESMITH_DATABASE_URL, or what it leads to." if settings.database_url else None
        )
        return Finding(name="database", state="fail", told=error.message, mend=mend)
    if found == HEAD:
        return Finding(name="database", state="ok", told=f"{shown(url)} has schema {HEAD}")
    return Finding(
        name="database",
        # A service brings an older one up, and refuses a newer one.
        state="fail" if found is not None and found > HEAD else "warn",
        told=f"{shown(url)} has {f'schema {found}' if found else 'no schema yet'}, not {HEAD}",
        mend=schema_mend(found),
    )


def _bucket(settings: Settings, url: str) -> Finding:
    try:
        check_bucket(settings)
    except TunesmithError as error:
        told, _, mend = error.message.partition(". ")
        return Finding(name="bucket", state="fail", told=told, mend=mend or None)
    told = f"{url} takes, lists, gives and deletes, and refuses to write over what is there"
    return Finding(name="bucket", state="ok", told=told)
