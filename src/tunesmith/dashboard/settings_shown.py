"""A job's settings as one flat list of names."""

from __future__ import annotations

from tunesmith.dashboard.door import Thing


def settings_of(job: Thing) -> dict[str, object]:
    """Return each setting of `job` by its name in the request, such as `tuning.adapter.rank`."""
    found: dict[str, object] = {"model": job["model"]}
    method = job.get("method") or {}
    kind = method.get("type", "supervised")
    found["method"] = kind
    hyperparameters = (method.get(kind) or {}).get("hyperparameters")
    found |= _flat(hyperparameters or job.get("hyperparameters") or {}, "hyperparameters")
    found["seed"] = job.get("seed")
    found |= _flat(job.get("tuning") or {}, "tuning")
    return found


def _flat(value: Thing, name: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, inner in value.items():
        below = f"{name}.{key}"
        if isinstance(inner, dict):
            found |= _flat(inner, below)
        else:
            found[below] = inner
    return found
