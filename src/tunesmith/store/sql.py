"""The store in an SQL database: SQLite in its write-ahead-log mode, other ones by their URL."""

from __future__ import annotations

from functools import partial

from tunesmith.domain.clock import Clock
from tunesmith.domain.liveness import Lease
from tunesmith.domain.projects import Limits
from tunesmith.store.database import guarded, open_database
from tunesmith.store.kept import KeptJobs
from tunesmith.store.schema import upgrade
from tunesmith.store.sql_estimates import SqlEstimates
from tunesmith.store.sql_exports import SqlExports
from tunesmith.store.sql_figures import SqlFigures
from tunesmith.store.sql_files import SqlFiles
from tunesmith.store.sql_jobs import SqlJobs
from tunesmith.store.sql_keys import SqlKeys
from tunesmith.store.sql_leases import SqlLeases, check_held
from tunesmith.store.sql_life import SqlLife
from tunesmith.store.sql_models import SqlModels
from tunesmith.store.sql_permissions import SqlPermissions
from tunesmith.store.sql_retention import SqlRetention
from tunesmith.store.sql_uploads import SqlUploads
from tunesmith.store.sql_waits import SqlWaits
from tunesmith.store.sql_webhooks import SqlWebhooks


class SqlStore(
    SqlFiles,
    SqlUploads,
    SqlJobs,
    SqlWaits,
    SqlEstimates,
    SqlExports,
    SqlModels,
    SqlPermissions,
    SqlKeys,
    SqlWebhooks,
    SqlLife,
    SqlLeases,
    SqlRetention,
    SqlFigures,
):
    """Keeps everything in one database, which several processes and threads may share.

    Each method does what `Store` says of it, in one transaction.
    """

    @classmethod
    def open(cls, url: str, clock: Clock) -> SqlStore:
        """Open the database at `url`, a URL of SQLAlchemy's, and bring its schema up to date.

        `clock` dates what the store adds of its own. Raises `SettingsError`
        where the database cannot be used.
        """
        upgrade(url)
        return cls(open_database(url), clock, project=None, limits=Limits(), kept=KeptJobs())

    def within(self, project: str, limits: Limits | None = None) -> SqlStore:
        """Return the store as `project` sees it; see `Store.within`."""
        limits = limits or Limits()
        if (project, limits) == (self._project, self._limits):
            return self
        return SqlStore(self._engine, self._clock, project=project, limits=limits, kept=self._kept)

    def fenced(self, lease: Lease) -> SqlStore:
        """Return the store of who holds `lease`; see `Store.fenced`."""
        return SqlStore(
            guarded(self._engine, partial(check_held, lease=lease)),
            self._clock,
            project=self._project,
            limits=self._limits,
            kept=self._kept,
        )

    @property
    def local(self) -> bool:
        """Whether the database is a file of this machine's; see `Store.local`."""
        return self._engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()
