"""A training process that is told of a bucket learns the same as from a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s3_server import BUCKET, KEYS, s3_server
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.artifacts.s3 import S3Artifacts
from unit.training.conftest import JOB, Bench, Rows


def move(source: Artifacts, target: Artifacts) -> None:
    for prefix in ("files", f"runs/{JOB}"):
        for key in source.list(prefix):
            target.put(key, source.get(key))


def test_a_run_reads_and_writes_a_bucket_and_its_result_is_the_same(
    bench: Bench,
    rows: Callable[[int], Rows],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench.write_spec(rows(12))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/p"
        bucket = S3Artifacts(url)
        move(bench.artifacts, bucket)
        run = RunDirectory(bucket, JOB)
        run.claim(1)
        own = ("--job", JOB, "--attempt", "1", "--artifacts", url)
        done = subprocess.run(
            [sys.executable, "-m", "tunesmith.training", *own],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        steps = run.checkpoint_steps()
        learnt = bucket.get(f"{run.output}/adapter_model.safetensors")
        log = bucket.get(f"{run.prefix}/log").decode()

    assert bench.train().error is None
    assert learnt == bench.adapter()
    assert steps == bench.run.checkpoint_steps()
    assert "Training finished" in log
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in log + done.stdout
