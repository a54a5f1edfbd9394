"""Projects: whose files, jobs and models they are. One project never sees another's."""

from __future__ import annotations

DEFAULT_PROJECT = "default"
"""The project of all that is made where no API key says otherwise."""
