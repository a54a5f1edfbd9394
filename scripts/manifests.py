"""Writes the plain manifests of `deploy/kubernetes` from the chart: `make manifests`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
CHART = DEPLOY / "helm" / "tunesmith"
PLAIN = DEPLOY / "kubernetes"
NAME = "tunesmith"
"""Both of the release and of its namespace."""

HEADING = "# Made of the chart beside values.yaml by `make manifests`; edit those.\n"

HELMS_OWN = ("app.kubernetes.io/managed-by:", "helm.sh/")
"""What begins the lines that say that Helm looks after an object."""


def render(values: dict[str, Any]) -> dict[str, str]:
    """Return what Helm makes of the chart's templates with `values`, by the templates' names.

    A template of which nothing is left is left out. Raises `helm_python.HelmError` where the
    values are not such as the chart's schema describes.
    """
    import helm_python  # noqa: PLC0415  what only looks at the manifests needs none

    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name=NAME, namespace=NAME)
    return {Path(name).name: text for name, text in rendered.items() if text.strip()}


def plain() -> dict[str, str]:
    """Return the plain manifests by their files' names."""
    values = yaml.safe_load((PLAIN / "values.yaml").read_text(encoding="utf-8"))
    return {name: HEADING + _without_helm(text) for name, text in sorted(render(values).items())}


def _without_helm(text: str) -> str:
    lines = (line.rstrip() for line in text.strip().splitlines())
    kept = [line for line in lines if line and not line.strip().startswith(HELMS_OWN)]
    # The first document needs no mark of its beginning.
    return "\n".join(kept[1:] if kept[0] == "---" else kept) + "\n"


def main() -> None:
    """Write the manifests, and take away those that there are no templates of any more."""
    made = plain()
    for path in PLAIN.glob("*.yaml"):
        if path.name not in (*made, "values.yaml"):
            path.unlink()
    for name, text in made.items():
        (PLAIN / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
