"""What `RayJobs` asks over HTTP, and what it makes of answers that are not good."""

from __future__ import annotations

import json
import shlex
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tunesmith.cluster.protocol import Submission
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.domain.node_groups import NodeGroup


class Dashboard:
    """An HTTP server that gives the answers a test lays down, and records what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, str]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.tokens: set[str | None] = set()
        dashboard = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                dashboard.tokens.add(self.headers["Authorization"])
                asked = (self.command, self.path)
                dashboard.requests.append((*asked, json.loads(body) if body else None))
                code, text = dashboard.answers.get(asked, (404, f"Job {self.path} does not exist"))
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    dashboard = Dashboard()
    thread = threading.Thread(target=dashboard.server.serve_forever, args=(0.01,))
    thread.start()
    yield dashboard
    dashboard.server.shutdown()
    thread.join()
    dashboard.server.server_close()


@pytest.fixture
def ray(dashboard: Dashboard) -> RayJobs:
    return RayJobs(dashboard.address, python="/opt/my python", token="secret")


JOB = Submission(id="ftjob-1-1", command=("python", "-m", "pkg", "it's"), cpus=2.0)


def test_a_submission_becomes_a_shell_line_that_runs_the_clusters_python_in_the_shells_place(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    dashboard.answers["POST", "/api/jobs/"] = (200, "{}")
    ray.submit(JOB)
    [(_, _, sent)] = dashboard.requests
    assert shlex.split(sent.pop("entrypoint")) == ["exec", "/opt/my python", "-m", "pkg", "it's"]
    assert sent == {"submission_id": "ftjob-1-1", "entrypoint_num_cpus": 2.0}


@pytest.mark.parametrize(
    ("device", "held"),
    [
        ("GPU", {"entrypoint_num_gpus": 1}),
        ("HPU", {"entrypoint_resources": {"HPU": 1}}),
    ],
)
def test_a_device_is_held_by_the_name_that_ray_has_for_it(
    dashboard: Dashboard, ray: RayJobs, device: str, held: dict[str, object]
) -> None:
    dashboard.answers["POST", "/api/jobs/"] = (200, "{}")
    ray.submit(JOB.model_copy(update={"device": device}))
    [(_, _, sent)] = dashboard.requests
    assert held.items() <= sent.items()


def test_a_driver_holds_no_processors_since_its_workers_do(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    dashboard.answers["POST", "/api/jobs/"] = (200, "{}")
    ray.submit(JOB.model_copy(update={"drives": True}))
    assert dashboard.requests[0][2]["entrypoint_num_cpus"] == 0


def test_a_program_that_is_not_python_is_left_as_it_is(dashboard: Dashboard, ray: RayJobs) -> None:
    dashboard.answers["POST", "/api/jobs/"] = (200, "{}")
    ray.submit(JOB.model_copy(update={"command": ("echo", "python")}))
    assert dashboard.requests[0][2]["entrypoint"] == "exec echo python"


def test_a_submission_that_ray_refuses_because_it_knows_the_id_is_well(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    dashboard.answers["POST", "/api/jobs/"] = (500, "Traceback\nValueError: already exists.")
    dashboard.answers["GET", "/api/jobs/ftjob-1-1"] = (200, '{"status": "RUNNING"}')
    ray.submit(JOB)
    assert [path for _, path, _ in dashboard.requests] == ["/api/jobs/", "/api/jobs/ftjob-1-1"]


def test_a_submission_that_ray_refuses_otherwise_tells_rays_last_words(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    dashboard.answers["POST", "/api/jobs/"] = (500, "Traceback\n  line\nNo available agent.\n")
    with pytest.raises(ClusterUnavailableError, match=r"refused .* ftjob-1-1: No available agent"):
        ray.submit(JOB)


def test_of_what_was_printed_the_last_lines_are_read_on_the_node_of_the_program(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    dashboard.answers["GET", "/api/jobs/a"] = (200, '{"driver_node_id": "n"}')
    path = "/api/v0/logs/file?node_id=n&submission_id=a&lines=5&filter_ansi_code=true"
    dashboard.answers["GET", path] = (200, "last\n")
    assert ray.logs("a", lines=5) == "last\n"
    dashboard.answers["GET", path] = (500, "the node is gone")
    assert ray.logs("a", lines=5) == ""
    dashboard.answers["GET", "/api/jobs/a"] = (200, '{"driver_node_id": null}')
    assert ray.logs("a", lines=5) == ""


def test_the_token_goes_with_every_request(dashboard: Dashboard, ray: RayJobs) -> None:
    ray.status("a")
    ray.logs("a")
    assert dashboard.tokens == {"Bearer secret"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, "Unauthorized: Missing authentication token"), "wants another token"),
        ((403, "Forbidden: Invalid authentication token"), "wants another token"),
        ((404, "404: Not Found"), "404"),
        ((500, "Traceback:\nRpcError: gone."), r"500 RpcError: gone\.$"),
        ((200, "<html>"), "not JSON"),
        ((200, "[]"), "no JSON object"),
    ],
)
def test_an_answer_that_is_no_answer_is_never_taken_for_an_unknown_submission(
    dashboard: Dashboard, ray: RayJobs, answer: tuple[int, str], words: str
) -> None:
    dashboard.answers["GET", "/api/jobs/a"] = answer
    with pytest.raises(ClusterUnavailableError, match=words):
        ray.status("a")


def test_nobody_at_the_address_is_an_unavailable_cluster() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterUnavailableError, match=f"Ray at {address} does not answer"):
        RayJobs(address, python="python").resources()


def test_an_address_that_leads_to_no_ray_is_an_unavailable_cluster() -> None:
    with pytest.raises(ClusterUnavailableError, match="no Ray at ray-module"):
        RayJobs("ray-module", python="python").resources()


LIVING = "/api/v0/nodes?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"


def lists_nodes(dashboard: Dashboard, nodes: Any) -> None:
    content = {"data": {"result": {"result": nodes}}}
    dashboard.answers["GET", LIVING] = (200, json.dumps(content))


def resources_answers(dashboard: Dashboard, usage: Any) -> None:
    nodes = [
        {"node_id": "a", "state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 8e9}},
        {"node_id": "b", "state": "ALIVE", "resources_total": {}},
    ]
    lists_nodes(dashboard, nodes)
    content = {"data": {"clusterStatus": usage}}
    dashboard.answers["GET", "/api/cluster_status"] = (200, json.dumps(content))


def shows_usage(dashboard: Dashboard, usage: dict[str, str]) -> None:
    content = {"data": {"nodeLogicalResources": usage}}
    dashboard.answers["GET", "/nodes?view=summary"] = (200, json.dumps(content))


def test_resources_are_those_of_the_living_nodes(dashboard: Dashboard, ray: RayJobs) -> None:
    resources_answers(dashboard, {"loadMetricsReport": {"usage": {"CPU": [1.5, 4.0]}}})
    found = ray.resources()
    assert [(node.id, node.total) for node in found.nodes] == [
        ("a", {"CPU": 4.0, "memory": 8e9}),
        ("b", {}),
    ]
    assert found.free_cpus == 2.5


def test_a_ray_that_has_not_counted_yet_is_unavailable(dashboard: Dashboard, ray: RayJobs) -> None:
    resources_answers(dashboard, None)
    shows_usage(dashboard, {})
    with pytest.raises(ClusterUnavailableError, match="not counted its resources yet"):
        ray.resources()


def test_a_list_of_nodes_that_is_none_is_an_unavailable_cluster(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    resources_answers(dashboard, {"loadMetricsReport": {"usage": {"CPU": [1.5, 4.0]}}})
    lists_nodes(dashboard, None)

    with pytest.raises(ClusterUnavailableError, match="not counted its resources yet"):
        ray.resources()


@pytest.mark.parametrize(
    ("told", "free"),
    [
        ("1.0/4.0 CPU\n0B/7.45GiB memory", {"CPU": 3.0, "memory": 8e9}),
        ("0.0/4.0 CPU (0.0 used of 3.0 reserved in placement groups)", {"CPU": 1.0, "memory": 8e9}),
        ("3.0/4.0 CPU (2.0 used of 2.0 reserved in placement groups)", {"CPU": 1.0, "memory": 8e9}),
    ],
)
def test_rays_second_autoscaler_tells_in_lines_for_people_what_is_taken(
    dashboard: Dashboard, ray: RayJobs, told: str, free: dict[str, float]
) -> None:
    resources_answers(dashboard, None)
    shows_usage(dashboard, {"a": told, "gone": "4.0/4.0 CPU"})
    assert [node.free for node in ray.resources().nodes] == [free, {}]


def test_bytes_that_ray_rounded_never_leave_less_free_than_there_is(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    resources_answers(dashboard, None)
    taken = 2.997 * 2**30
    shows_usage(dashboard, {"a": "0.0/4.0 CPU\n3.00GiB/7.45GiB memory\n1.5MiB/2.0MiB other"})
    free = ray.resources().nodes[0].free["memory"]
    assert 8e9 - taken <= free < 8e9 - taken + 2**30 / 100


def test_what_ray_would_tell_otherwise_is_not_taken_for_nothing(
    dashboard: Dashboard, ray: RayJobs
) -> None:
    resources_answers(dashboard, None)
    shows_usage(dashboard, {"a": "CPU: 1 of 4"})
    with pytest.raises(ClusterUnavailableError, match="not counted its resources yet"):
        ray.resources()


GROUPS = {
    "small": NodeGroup(resources={"CPU": 4.0}, most=3, least=1),
    "cards": NodeGroup(resources={"CPU": 8.0, "GPU": 2.0, "memory": 64e9}, most=2),
}


def test_of_each_group_as_many_nodes_may_come_as_are_not_there(dashboard: Dashboard) -> None:
    """A node is known by its label, and where it has none by its size."""
    labels = {"ray.io/node-group": "cards"}
    cards, small = {"CPU": 8.0, "GPU": 2.0, "memory": 60e9}, {"CPU": 4.0, "memory": 9e9}
    nodes = [
        {"node_id": "head", "is_head_node": True, "resources_total": small},
        {"node_id": "labelled", "labels": labels, "resources_total": small},
        {"node_id": "unlabelled", "labels": {}, "resources_total": cards},
        {"node_id": "another", "labels": labels, "resources_total": cards},
        {"node_id": "fixed", "resources_total": {"CPU": 64.0}},
        {"node_id": "other", "labels": {"ray.io/node-group": "x"}, "resources_total": cards},
        {"node_id": "lone", "resources_total": small},
    ]
    resources_answers(dashboard, {"loadMetricsReport": {"usage": {}}})
    lists_nodes(dashboard, nodes)

    found = RayJobs(dashboard.address, python="python", groups=GROUPS).resources()

    assert [(each.name, each.more) for each in found.coming] == [("small", 2), ("cards", 0)]
    # As many of each group as stay are there, and of the cards three, who all may leave.
    passing = [node.id for node in found.nodes if node.passing]
    assert passing == ["labelled", "unlabelled", "another"]


def test_nobody_scales_a_cluster_unless_told(dashboard: Dashboard, ray: RayJobs) -> None:
    resources_answers(dashboard, {"loadMetricsReport": {"usage": {"CPU": [1.5, 4.0]}}})
    found = ray.resources()
    assert found.coming == ()
    assert not any(node.passing for node in found.nodes)
