"""The whole way through the page, in a browser, on a live service."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser import Visit, chromium
from e2e.conftest import new_data
from e2e.rows import sums
from e2e.service import COMMAND, Service, running

LEARNT = 240_000
"""Milliseconds that a job may take here."""


@dataclass(frozen=True)
class Site:
    """A service that asks for a key."""

    service: Service
    key: str

    def has(self, path: str) -> bool:
        """Tell whether the API has a route yet."""
        return path in httpx.get(f"{self.service.url}/openapi.json").json()["paths"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Iterator[Site]:
    data = new_data(tmp_path_factory.mktemp("page"), tiny_model)
    made = subprocess.run(
        [COMMAND, "keys", "create", "--data", str(data), "--project", "default", "--name", "me"],
        capture_output=True,
        text=True,
        check=True,
    )
    key = re.search(r"sk-ts-\S+", made.stdout)
    assert key
    with running(data) as service:
        yield Site(service, key[0])


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_from_a_bad_file_to_the_answers_of_a_tuned_model(
    browser: Browser, site: Site, look: str
) -> None:
    seen = Visit(browser, site.service.url, look=look)
    sign_in(seen, site.key)
    read_the_report_of_a_bad_file(seen)
    make_a_job(seen, name=f"way-{look}")
    watch_it_learn(seen)
    see_a_row_with_its_mask(seen)
    if site.has("/v1/chat/completions"):
        compare_the_answers(seen)
    if site.has("/v1/exports"):
        download_the_adapter(seen)
    seen.close()
    assert seen.faults == []
    assert seen.foreign == []


def looked_at(seen: Visit, name: str) -> None:
    """Keep a screenshot, and hold the page to axe's rules and to the screen's width."""
    seen.keep(f"way-{name}")
    assert seen.serious() == []
    assert seen.too_wide <= 0


def sign_in(seen: Visit, key: str) -> None:
    page = seen.open("/files")
    expect(page).to_have_url(re.compile("/sign-in"))
    looked_at(seen, "1-sign-in")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/files$"))
    expect(page.get_by_role("heading", name="Files", level=1)).to_be_visible()


def upload(seen: Visit, name: str, content: bytes) -> None:
    page = seen.open("/files")
    page.get_by_label("Drop training files here").set_input_files(
        {"name": name, "mimeType": "application/jsonl", "buffer": content}
    )
    expect(page.locator("#uploads")).to_contain_text("uploaded")
    page.get_by_role("link", name=name).first.click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def read_the_report_of_a_bad_file(seen: Visit) -> None:
    upload(seen, f"bad-{seen.look}.jsonl", sums(10) + b'{"messages": []}\n' + sums(10))
    page = seen.page
    expect(page.get_by_text("A job would refuse this file.")).to_be_visible(timeout=60_000)
    expect(page.locator(".finding.is-error mark").first).to_contain_text('11  {"messages": []}')
    looked_at(seen, "2-report")


def make_a_job(seen: Visit, *, name: str) -> None:
    upload(seen, f"good-{seen.look}.jsonl", sums(40))
    page = seen.page
    expect(page.get_by_text("A job would take this file.")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Make a job of it").click()
    page.wait_for_function("window.did_handshake")
    page.get_by_label("Model", exact=True).select_option("tiny")
    page.get_by_label("Suffix").fill(name)
    page.get_by_label("Held-out share").fill("20")
    page.get_by_label("Epochs").fill("10")
    page.get_by_label("Batch size").fill("4")
    page.get_by_text("Processors, priority").click()
    page.get_by_label("Processors").fill("1")
    expect(page.get_by_label("The request for curl")).to_contain_text('"cpus": 1')
    expect(page.get_by_text("Tokens trained on")).to_be_visible(timeout=60_000)
    looked_at(seen, "3-new-job")
    page.get_by_role("button", name="Create the job").click()
    expect(page).to_have_url(re.compile("/jobs/ftjob-"))


def watch_it_learn(seen: Visit) -> None:
    page = seen.page
    expect(page.locator(".curves .nicegui-echart").first).to_be_visible(timeout=LEARNT)
    expect(page.locator(".badge.is-succeeded").first).to_be_visible(timeout=LEARNT)
    expect(page.get_by_text(re.compile(r"^Step 80 of 80"))).to_be_visible()
    expect(page.get_by_text("held out").first).to_be_visible()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=LEARNT)
    looked_at(seen, "4-job")


def see_a_row_with_its_mask(seen: Visit) -> None:
    page = seen.page
    page.get_by_label("Line of the file").fill("7")
    page.get_by_role("button", name="Show the row").click()
    learnt = page.locator(".tokens .learnt")
    expect(learnt.first).to_contain_text("<|im_end|>")
    looked_at(seen, "5-row")


def compare_the_answers(seen: Visit) -> None:
    page = seen.page
    page.get_by_role("link", name="Try the model").click()
    page.wait_for_function("window.did_handshake")
    page.get_by_label("Question").fill("1 + 1")
    page.get_by_role("button", name="Ask both").click()
    for side in (0, 1):
        done = page.locator(".answer").nth(side).get_by_text(re.compile("pieces in"))
        expect(done).to_be_visible(timeout=LEARNT)
    looked_at(seen, "6-answers")
    page.go_back()
    page.wait_for_selector("h1")


def download_the_adapter(seen: Visit) -> None:
    page = seen.page
    page.get_by_role("link", name="Download the adapter").click()
    page.get_by_role("button", name="Prepare the download").click()
    link = page.get_by_role("link", name=re.compile("^Download all files")).first
    expect(link).to_be_visible(timeout=LEARNT)
    with page.expect_download() as download:
        link.click()
    content = download.value.path().read_bytes()
    assert b"adapter_model.safetensors" in content
    looked_at(seen, "7-download")
