"""Ray behind its Jobs API: one HTTP request for each question, nothing kept in between."""

from __future__ import annotations

import http.client
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tunesmith.cluster.protocol import (
    CPU,
    Coming,
    Resources,
    Submission,
    SubmissionState,
    SubmissionStatus,
)
from tunesmith.cluster.usage import Usage, Used, used_as_told
from tunesmith.domain.devices import DEVICES
from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.domain.node_groups import NodeGroup

_TIMEOUT = 10.0
"""Seconds that Ray has for an answer: on a machine whose processors all train, it is slow."""
_LONGEST_WORDS = 300
"""Characters of an answer that an error repeats."""
_LIVING = "/api/v0/nodes?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
"""What lists the nodes that are alive, as many as Ray lists at most; without it, Ray lists 100 of
all that there ever were."""


class RayJobs:
    """Runs commands on the Ray cluster at one address.

    The requests are those of Ray's Jobs REST API
    (https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html)
    and, for `logs` and `resources`, of its state API and its dashboard. Ray's own client sends
    the same ones, but without a timeout, and with an address and a token that the environment
    can change for all.
    """

    def __init__(
        self,
        address: str,
        *,
        python: str,
        token: str | None = None,
        groups: Mapping[str, NodeGroup] | None = None,
    ) -> None:
        """Take the cluster's address, its Python, and its token where it asks for one.

        `address` is the dashboard's (`http://host:8265`) or any that `ray.init` takes
        (`auto`, `host:6379`, `ray://host:10001`); nothing is asked yet. While there is no Ray
        at the latter kinds, Ray takes up to 40 s to say so. `python` is what the program
        `python` of a submission becomes. `groups` are the nodes that would be added, by the names
        of Ray's label `ray.io/node-group`: Ray does not tell of them before they are there.
        """
        self._address = address
        self._groups = groups or {}
        self._python = python
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._dashboard: str | None = None

    def submit(self, submission: Submission) -> None:
        """Start `submission`; see `Cluster.submit`."""
        content: dict[str, Any] = {
            "submission_id": submission.id,
            "entrypoint": self._entrypoint(submission.command),
            "entrypoint_num_cpus": 0 if submission.drives else submission.cpus,
        }
        if submission.device == "GPU":
            content["entrypoint_num_gpus"] = 1
        elif submission.device is not None:
            content["entrypoint_resources"] = {submission.device: 1}
        if submission.memory is not None:
            content["entrypoint_memory"] = submission.memory
        if submission.node is not None:
            content["entrypoint_label_selector"] = {"ray.io/node-id": submission.node}
        code, text = self._ask("POST", "/api/jobs/", content=content)
        # Ray refuses an id that it knows as a server's fault, like any other.
        if code != 200 and self.status(submission.id) is None:
            raise self._fault(f"it refused submission {submission.id}: {_last_words(text)}")

    def status(self, submission_id: str) -> SubmissionStatus | None:
        """Return how it stands; see `Cluster.status`."""
        job = self._ask_about(submission_id)
        if job is None:
            return None
        return SubmissionStatus(
            state=SubmissionState(job["status"]),
            message=job.get("message") or "",
            node=job.get("driver_node_id"),
        )

    def stop(self, submission_id: str) -> None:
        """Ask it to end; see `Cluster.stop`."""
        self._ask_about(submission_id, "/stop", method="POST")

    def logs(self, submission_id: str, *, lines: int = 1000) -> str:
        """Return what it has printed last, behind Ray's own lines; see `Cluster.logs`."""
        job = self._ask_about(submission_id)
        if job is None or not job.get("driver_node_id"):
            return ""
        # The Jobs API would read all of it, which may be large.
        where = {"node_id": job["driver_node_id"], "submission_id": submission_id}
        query = urlencode({**where, "lines": lines, "filter_ansi_code": "true"})
        code, text = self._ask("GET", f"/api/v0/logs/file?{query}")
        # Where a node is gone, Ray says that it failed.
        return text if code == 200 else ""

    def resources(self) -> Resources:
        """Return what there is and what is free, which Ray counts every few seconds."""
        listed = self._retrieve(_LIVING)
        try:
            nodes = listed["data"]["result"]["result"]
            addresses = Counter(node.get("node_ip") for node in nodes)
            usage = self._usage()
            counted = tuple(
                usage.node(node, alone=addresses[node.get("node_ip")] == 1) for node in nodes
            )
            named = {node["node_id"]: self._group(node) for node in nodes}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise self._fault("it has not counted its resources yet") from None
        if not self._groups:
            return Resources(nodes=counted)
        there = Counter(named.values())
        coming = (
            Coming(name=name, resources=group.resources, more=max(group.most - there[name], 0))
            for name, group in self._groups.items()
        )
        leaving = {name for name, group in self._groups.items() if there[name] > group.least}
        marked = (
            node.model_copy(update={"passing": named[node.id] in leaving}) for node in counted
        )
        return Resources(nodes=tuple(marked), coming=tuple(coming))

    def _group(self, node: dict[str, Any]) -> str | None:
        """Return the name of the group that `node` belongs to, if it is one of ours.

        KubeRay and Ray's second autoscaler label it. What has no label is known by its size.
        """
        label = (node.get("labels") or {}).get("ray.io/node-group")
        if label is not None or node.get("is_head_node"):
            return label if label in self._groups else None
        total = node["resources_total"]
        for name, group in self._groups.items():
            sizes = ((kind, group.resources.get(kind, 0.0)) for kind in (CPU, *DEVICES))
            if all(total.get(kind, 0.0) == amount for kind, amount in sizes):
                return name
        return None

    def _usage(self) -> Usage:
        """Return what is taken on the nodes. Raises `KeyError` and the like where Ray is odd."""
        status = self._retrieve("/api/cluster_status")["data"]["clusterStatus"]
        if status is not None:
            report = status["loadMetricsReport"]
            together: Used = {name: used for name, (used, _) in report["usage"].items()}
            by_address = {
                address: {name: float(used) for name, (used, _) in of_node.items()}
                for address, of_node in (report.get("usageByNode") or {}).items()
            }
            return Usage(together=together, by_address=by_address)
        # Ray's second autoscaler leaves no such report, but what its own pages show.
        told = self._retrieve("/nodes?view=summary")["data"]["nodeLogicalResources"]
        if not told:
            raise ValueError("nothing is counted")
        return Usage(by_id={node: used_as_told(lines) for node, lines in told.items()})

    def serving(self) -> dict[str, Any]:
        """Return what Ray Serve says of itself: `applications`, and `http_options` where it runs.

        https://docs.ray.io/en/latest/serve/api/index.html#serve-rest-api
        """
        return self._retrieve("/api/serve/applications/")

    def dashboard(self) -> str:
        """Return the dashboard's URL."""
        return self._find_dashboard()

    def _entrypoint(self, command: tuple[str, ...]) -> str:
        """Return the shell line for `command`.

        It replaces the shell by the program, so that a signal reaches the program and the
        exit code that Ray sees is the program's own.
        """
        program, *arguments = command
        return shlex.join(["exec", self._python if program == "python" else program, *arguments])

    def _ask_about(
        self, submission_id: str, what: str = "", *, method: str = "GET"
    ) -> dict[str, Any] | None:
        """Return Ray's answer on one submission, `None` where Ray says that it knows none."""
        code, text = self._ask(method, f"/api/jobs/{quote(submission_id, safe='')}{what}")
        # Anything may answer 404; only these words are Ray's that it looked and found none.
        if code == 404 and "does not exist" in text:
            return None
        return self._content(code, text)

    def _retrieve(self, path: str) -> dict[str, Any]:
        return self._content(*self._ask("GET", path))

    def _content(self, code: int, text: str) -> dict[str, Any]:
        if code != 200:
            raise self._fault(f"it answers {code} {_last_words(text)}")
        try:
            content = json.loads(text)
        except ValueError:
            raise self._fault("its answer is not JSON, so it is not Ray's") from None
        if not isinstance(content, dict):
            raise self._fault("its answer is no JSON object, so it is not Ray's")
        return content

    def _ask(
        self, method: str, path: str, *, content: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        """Send one request; return the answer's code and text."""
        url = urlsplit(self._find_dashboard())
        secure = url.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(url.netloc, timeout=_TIMEOUT)
        try:
            body = None if content is None else json.dumps(content)
            headers = self._headers | {"Content-Type": "application/json"}
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise self._fault(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if answer.status in (401, 403):
            raise self._fault(f"it wants another token ({_last_words(text)})")
        return answer.status, text

    def _find_dashboard(self) -> str:
        """Return the dashboard's URL, which the other kinds of address only lead to."""
        if self._dashboard is None:
            url = self._address
            if not url.startswith(("http://", "https://")):
                url = _look_up_dashboard(url)
            self._dashboard = url
        return self._dashboard

    def _fault(self, words: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(f"Ray at {self._address} does not answer: {words}.")


def _look_up_dashboard(address: str) -> str:
    # Two seconds and a hundred megabytes, which a plain URL saves.
    from ray.dashboard.utils import get_address_for_submission_client  # noqa: PLC0415
    from ray.exceptions import RayError  # noqa: PLC0415

    try:
        return str(get_address_for_submission_client(address))
    except (OSError, RuntimeError, ValueError, RayError) as error:
        words = _last_words(str(error))
        raise ClusterUnavailableError(f"There is no Ray at {address}: {words}.") from error


def _last_words(text: str) -> str:
    """Return the last line, where a traceback says what was wrong, without its full stop."""
    lines = text.strip().splitlines() or ["nothing"]
    return lines[-1].strip()[:_LONGEST_WORDS].rstrip(".")
