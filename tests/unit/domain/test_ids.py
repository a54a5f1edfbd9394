from __future__ import annotations

import re

from tunesmith.domain.ids import (
    Dialect,
    checkpoint_model_name,
    new_checkpoint_id,
    new_event_id,
    new_file_id,
    new_job_id,
    tuned_model_name,
)


def test_ids_have_the_forms_that_clients_expect() -> None:
    uuid4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(r"file-[A-Za-z0-9]{24}", new_file_id())
    assert re.fullmatch(r"ftjob-[A-Za-z0-9]{24}", new_job_id(Dialect.OPENAI))
    assert re.fullmatch(rf"ft-job-{uuid4}", new_job_id(Dialect.OPEA))
    assert re.fullmatch(r"ftevent-[A-Za-z0-9]{24}", new_event_id())
    assert re.fullmatch(r"ftckpt_[A-Za-z0-9]{24}", new_checkpoint_id())


def test_no_two_ids_are_alike() -> None:
    assert len({new_file_id() for _ in range(1000)}) == 1000


def test_a_tuned_model_is_named_as_openai_names_it() -> None:
    job_id = "ftjob-abcdefgh12345678"
    named = tuned_model_name(base="base", organization="org", suffix="mine", job_id=job_id)
    unnamed = tuned_model_name(base="base", organization="org", suffix=None, job_id=job_id)

    assert named == "ft:base:org:mine:12345678"
    assert unnamed == "ft:base:org::12345678"
    assert checkpoint_model_name(named, 40) == "ft:base:org:mine:12345678:ckpt-step-40"
