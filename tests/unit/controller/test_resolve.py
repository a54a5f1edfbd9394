from __future__ import annotations

import pytest

from tunesmith.cluster.protocol import Node, Resources
from tunesmith.controller.resolve import resolve_cpus, resolve_spec
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.hyperparameters import resolve_hyperparameters
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.models import CatalogueEntry, HubSource
from tunesmith.domain.spec import JobRequest, LoraSpec, Method, RankingSpec, TrainSpec


def test_all_processors_of_the_largest_node_are_taken_unless_fewer_are_asked_for() -> None:
    nodes = (Node(id="a", cpus=4, memory=1), Node(id="b", cpus=16, memory=1))
    resources = Resources(nodes=nodes, free_cpus=20)

    assert resolve_cpus(JobRequest(), resources) == 16
    assert resolve_cpus(JobRequest(cpus=3), resources) == 3
    with pytest.raises(InvalidRequestError, match=r"has 17 CPUs; the largest has 16"):
        resolve_cpus(JobRequest(cpus=17), resources)


def test_a_cluster_without_processors_holds_nothing() -> None:
    with pytest.raises(InvalidRequestError, match="the largest has 0"):
        resolve_cpus(JobRequest(), Resources(nodes=(), free_cpus=0))


def frozen(request: JobRequest) -> TrainSpec:
    file = File(
        id="file-1",
        filename="a.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=1,
        sha256="0" * 64,
        created_at=1,
        key="files/1",
    )
    job = Job(
        id="ftjob-1",
        dialect=Dialect.OPENAI,
        created_at=1,
        status=JobStatus.QUEUED,
        model="m",
        training_file=file.id,
        training_filename=file.filename,
        request=request,
        resolved=resolve_hyperparameters(request, examples=100),
        seed=7,
        organization="acme",
    )
    entry = CatalogueEntry(name="m", source=HubSource(repo="org/m"))
    return resolve_spec(job, entry=entry, files=(file, None), cpus=1, keep=3)


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_only_what_learns_from_passages_is_told_how(method: Method) -> None:
    asked = RankingSpec(group_size=2)

    assert frozen(JobRequest(method=method)).ranking == RankingSpec()
    assert frozen(JobRequest(method=method, ranking=asked)).ranking == asked
    assert frozen(JobRequest()).ranking is None


def test_no_adapter_stays_none() -> None:
    assert frozen(JobRequest(lora=None)).lora is None
    assert frozen(JobRequest()).lora == LoraSpec()
