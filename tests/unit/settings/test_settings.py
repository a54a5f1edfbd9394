from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunesmith.domain.errors import SettingsError
from tunesmith.domain.models import HubSource
from tunesmith.domain.tracking import (
    MlflowIntegration,
    TensorboardIntegration,
    Tracking,
    WandbIntegration,
)
from tunesmith.settings import load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("TUNESMITH_", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_without_any_settings_the_service_listens_on_loopback_at_opeas_port() -> None:
    settings = load_settings({})

    assert (settings.host, settings.port) == ("127.0.0.1", 8015)
    assert settings.ray_address is None
    assert list(settings.catalogue) == ["smollm2-135m-instruct"]


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text('port = 1\nhost = "file"\norganization = "file"\n')
    monkeypatch.setenv("TUNESMITH_PORT", "2")
    monkeypatch.setenv("TUNESMITH_HOST", "env")

    settings = load_settings({"data": tmp_path, "port": 3})

    assert (settings.port, settings.host, settings.organization) == (3, "env", "file")


def test_ray_address_is_read_under_rays_own_name_and_empty_means_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert load_settings({}).ray_address == "http://head:8265"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert load_settings({}).ray_address is None


def test_models_of_the_file_stand_beside_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        '[models."meta-llama/Llama-3.2-1B"]\n'
        'source = {kind = "hub", repo = "meta-llama/Llama-3.2-1B", revision = "abc"}\n'
    )

    catalogue = load_settings({"data": tmp_path}).catalogue

    assert sorted(catalogue) == ["meta-llama/Llama-3.2-1B", "smollm2-135m-instruct"]
    source = catalogue["meta-llama/Llama-3.2-1B"].source
    assert source == HubSource(repo="meta-llama/Llama-3.2-1B", revision="abc")
    assert not catalogue["meta-llama/Llama-3.2-1B"].trust_remote_code


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("port = 70000", "port"),
        ("prot = 8015", "prot"),
        ('[models."a:b"]\nsource = {kind = "hub", repo = "a/b"}', "name"),
        ('[models.a]\nsource = {kind = "ftp", path = "x"}', "models.a.source"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "settings.toml").write_text(text)

    with pytest.raises(SettingsError, match=f"'{place}"):
        load_settings({"data": tmp_path})


def test_a_settings_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no settings file .*absent\.toml"):
        load_settings({"settings": tmp_path / "absent.toml"})


def test_a_settings_file_that_is_not_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = \n")

    with pytest.raises(SettingsError, match=r"settings\.toml' is not TOML: .*line 1"):
        load_settings({"data": tmp_path})


def test_the_clusters_token_comes_from_rays_own_variables_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert load_settings({}).ray_token == "of-the-file"

    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-variable")
    settings = load_settings({})

    assert settings.ray_token == "of-the-variable"
    assert "of-the-variable" not in repr(settings)


def test_the_settings_file_names_the_cluster_and_its_token_where_the_environment_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = 'ray_address = "http://there:8265"\nray_token = "of-the-settings-file"\n'
    (tmp_path / "settings.toml").write_text(lines)

    settings = load_settings({"data": tmp_path})
    assert settings.ray_address == "http://there:8265"
    assert settings.ray_token == "of-the-settings-file"

    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-variable")
    settings = load_settings({"data": tmp_path})
    assert settings.ray_address == "http://elsewhere:8265"
    assert settings.ray_token == "of-the-variable"


def test_a_token_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/absent/token")

    with pytest.raises(SettingsError, match="RAY_AUTH_TOKEN_PATH names '/absent/token'"):
        load_settings({})


@pytest.mark.parametrize("name", ["TUNESMITH_HOST", "TUNESMITH_DATA", "TUNESMITH_SETTINGS"])
def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    usual = load_settings({})
    monkeypatch.setenv(name, "")

    assert load_settings({}) == usual


@pytest.mark.parametrize("given", [{"host": ""}, {"data": ""}])
def test_an_empty_option_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given))):
        load_settings(given)


def test_a_variable_of_no_setting_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNESMITH_PROT", "99")

    with pytest.raises(SettingsError, match=r"no setting 'TUNESMITH_PROT'.*TUNESMITH_PORT"):
        load_settings({})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TUNESMITH_MODELS", "{bad", "models"),
        ("TUNESMITH_SETTINGS", "/", "'/' cannot be read"),
        ("TUNESMITH_DATA", "~nobody-of-that-name/x", "~nobody-of-that-name/x"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=told):
        load_settings({})


def test_a_secret_under_a_name_that_is_no_setting_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('hf_token = "rrrrrrrr"')
    with pytest.raises(SettingsError, match="hf_token") as refused:
        load_settings({"data": tmp_path})
    assert "rrrrrrrr" not in str(refused.value)


def test_the_token_of_the_cluster_is_not_shown_with_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "rrrrrrrr")
    settings = load_settings({})
    assert settings.ray_token == "rrrrrrrr"
    assert "rrrrrrrr" not in repr(settings)


def test_every_job_may_be_tracked_by_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        'tensorboard = true\nwandb_project = "w"\nmlflow_experiment = "m"\n'
        'mlflow_tracking_uri = "http://mlflow:5000"\n'
    )

    tracking = load_settings({"data": tmp_path}).tracking

    assert tracking == Tracking(
        of_every_job=(
            TensorboardIntegration(),
            WandbIntegration(project="w"),
            MlflowIntegration(experiment="m"),
        ),
        mlflow_tracking_uri="http://mlflow:5000",
    )
    assert load_settings({}).tracking == Tracking()


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("mlflow:5000", "Give its address"),
        ("sqlite:///m.db", "Give its address"),
        ("http://me:hunter22@mlflow:5000", "A secret has no place"),
        ("http://mlflow:5000/?token=hunter22", "A secret has no place"),
    ],
)
def test_the_address_of_mlflow_is_a_servers_and_holds_no_secret(uri: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"'mlflow_tracking_uri' cannot be used: {why}") as told:
        load_settings({"mlflow_tracking_uri": uri})
    assert "hunter22" not in str(told.value)


def test_the_database_is_named_by_its_url_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings({}).database_url is None
    url = "postgresql://ann:s3cret%40word@host/tunes?password=an%20other"
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", url)

    settings = load_settings({})

    assert settings.database_url == url
    assert "s3cret" not in repr(settings)
    assert settings.database_secrets == {"s3cret%40word", "s3cret@word", "an other"}


def test_another_database_is_refused_and_its_url_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", "mysql://ann:s3cret@host/tunes")
    with pytest.raises(SettingsError, match=r"'database_url' cannot be used.*postgresql") as told:
        load_settings({})
    assert "s3cret" not in told.value.message


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
    ],
)
def test_artifacts_may_be_kept_in_a_bucket_instead_of_the_folder(
    monkeypatch: pytest.MonkeyPatch, url: str, kept: str
) -> None:
    here = load_settings({})
    assert (here.artifacts_url, here.location) == (None, str(here.data))
    monkeypatch.setenv("TUNESMITH_ARTIFACTS_URL", url)
    assert load_settings({}).location == kept


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("bucket/prefix", "Give a bucket, such as s3://bucket/prefix"),
        ("https://bucket.s3.example/prefix", "Give a bucket"),
        ("s3:///prefix", "Give a bucket"),
        ("s3://bucket/a//b", "Give a bucket"),
        ("s3://bucket/a/../b", "Give a bucket"),
        ("s3://AKIAX:hunter22@bucket/prefix", "endpoint and keys come from AWS_ENDPOINT_URL"),
        ("s3://bucket:9000/prefix", "endpoint and keys come from"),
        ("s3://bucket/prefix?secret=hunter22", "endpoint and keys come from"),
        ("s3://bucket/prefix#hunter22", "endpoint and keys come from"),
    ],
)
def test_what_is_no_bucket_alone_is_refused_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    monkeypatch.setenv("TUNESMITH_ARTIFACTS_URL", url)
    with pytest.raises(SettingsError, match=rf"'artifacts_url' cannot be used: .*{why}") as told:
        load_settings({})
    assert "hunter22" not in told.value.message


def test_groups_of_nodes_are_tables_of_the_file_or_json_in_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = '[node_groups.cards]\nresources = { CPU = 16, memory = "64Gi", GPU = 2 }\nmost = 4\n'
    (tmp_path / "settings.toml").write_text(table)
    cards = load_settings({"data": tmp_path}).node_groups["cards"]
    assert cards.resources == {"CPU": 16, "memory": 64 * 2**30, "GPU": 2}
    assert (cards.most, cards.least) == (4, 0)

    variable = '{"cpus": {"resources": {"CPU": "7500m", "memory": "32G"}, "most": 2, "least": 1}}'
    monkeypatch.setenv("TUNESMITH_NODE_GROUPS", variable)
    groups = load_settings({"data": tmp_path}).node_groups
    assert list(groups) == ["cpus"]
    assert groups["cpus"].resources == {"CPU": 7.5, "memory": 32e9}
    assert groups["cpus"].least == 1


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ('resources = { memory = "much" }\nmost = 1', r"node_groups\.a\.resources\.memory"),
        ("resources = { CPU = 0 }\nmost = 1", r"node_groups\.a\.resources\.CPU"),
        ("resources = {}\nmost = 1", r"node_groups\.a\.resources"),
        ("resources = { CPU = 1 }", r"node_groups\.a\.most"),
    ],
)
def test_a_group_of_nodes_that_says_nothing_of_use_is_named(
    tmp_path: Path, table: str, place: str
) -> None:
    (tmp_path / "settings.toml").write_text(f"[node_groups.a]\n{table}\n")
    with pytest.raises(SettingsError, match=place):
        load_settings({"data": tmp_path})
