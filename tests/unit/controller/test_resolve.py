from __future__ import annotations

import pytest

from tunesmith.cluster.fake import empty_node
from tunesmith.cluster.protocol import Resources
from tunesmith.controller.resolve import WINDOW_STEPS, resolve_grant, resolve_spec
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.hyperparameters import resolve_hyperparameters
from tunesmith.domain.ids import Dialect
from tunesmith.domain.jobs import Job, JobStatus
from tunesmith.domain.models import CatalogueEntry, HubSource
from tunesmith.domain.preferences import Kto, Preference, Sigmoid, Simpo
from tunesmith.domain.spec import THINK_MARKS, JobRequest, LoraSpec, Method, RankingSpec, TrainSpec

FILE = File(
    id="file-1",
    filename="a.jsonl",
    purpose=Purpose.FINE_TUNE,
    bytes=1,
    sha256="00",
    created_at=1,
    key="files/a",
)


def test_all_processors_of_the_largest_node_are_taken_unless_fewer_are_asked_for() -> None:
    nodes = (empty_node("a", cpus=4), empty_node("b", cpus=16))
    resources = Resources(nodes=nodes)

    assert resolve_grant(JobRequest(), resources).cpus == 16
    assert resolve_grant(JobRequest(cpus=3), resources).cpus == 3
    with pytest.raises(InvalidRequestError, match=r"has 17 CPUs; the largest has 16"):
        resolve_grant(JobRequest(cpus=17), resources)


def test_a_cluster_without_processors_holds_nothing() -> None:
    with pytest.raises(InvalidRequestError, match="the largest has 0"):
        resolve_grant(JobRequest(), Resources(nodes=()))


def frozen(request: JobRequest, *, examples: int = 1000) -> TrainSpec:
    resolved = resolve_hyperparameters(request, examples=examples)
    job = Job(
        id="ftjob-1",
        dialect=Dialect.OPENAI,
        created_at=1,
        status=JobStatus.QUEUED,
        model="m",
        training_file="file-1",
        training_filename="a.jsonl",
        request=request,
        resolved=resolved,
        seed=7,
        organization="acme",
    )
    entry = CatalogueEntry(name="m", source=HubSource(repo="a/m"))
    return resolve_spec(job, entry=entry, files=(FILE, None), cpus=1, keep=3)


@pytest.mark.parametrize(
    ("asked", "beta", "loss"),
    [
        (None, 0.1, Sigmoid()),
        (Kto(desirable_weight=2), 0.1, Kto(desirable_weight=2)),
        (Simpo(gamma=0.5), None, Simpo(gamma=0.5)),
    ],
)
def test_the_spec_of_a_job_on_pairs_names_its_loss_and_all_that_it_has(
    asked: Preference | None, beta: float | None, loss: Preference
) -> None:
    spec = frozen(JobRequest(method=Method.DPO, preference=asked))
    assert (spec.preference, spec.beta) == (loss, beta)
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_spec_of_another_job_has_no_loss_of_pairs_and_the_usual_marks_of_thoughts() -> None:
    spec = frozen(JobRequest(method=Method.REASONING))
    assert (spec.preference, spec.beta, spec.think) == (None, None, THINK_MARKS)
    assert frozen(JobRequest(think=("[T]", "[/T]"))).think == ("[T]", "[/T]")


def test_pretraining_evaluates_and_saves_by_steps_since_its_windows_are_not_counted_yet() -> None:
    few = frozen(JobRequest(method=Method.PRETRAINING), examples=10)
    assert (few.evaluate_every, few.checkpoint_every) == (WINDOW_STEPS, WINDOW_STEPS)
    many = frozen(JobRequest(method=Method.PRETRAINING), examples=160_000)
    assert many.evaluate_every == 1000
    asked = JobRequest(method=Method.PRETRAINING, evaluate_every=3, checkpoint_every=4)
    assert (frozen(asked).evaluate_every, frozen(asked).checkpoint_every) == (3, 4)


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_only_what_learns_from_passages_is_told_how(method: Method) -> None:
    asked = RankingSpec(group_size=2)

    assert frozen(JobRequest(method=method)).ranking == RankingSpec()
    assert frozen(JobRequest(method=method, ranking=asked)).ranking == asked
    assert frozen(JobRequest()).ranking is None


def test_no_adapter_stays_none() -> None:
    assert frozen(JobRequest(lora=None)).lora is None
    assert frozen(JobRequest()).lora == LoraSpec()
