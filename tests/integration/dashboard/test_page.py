"""The page in a real browser, over a service that makes up what takes a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from browser import LOOKS, Visit
from stand_in import EXPORTED, StandIn
from tunesmith.domain.keys import Scope, new_key

if TYPE_CHECKING:
    from integration.dashboard.conftest import Jobs

Visiting = Callable[..., Visit]

ODD = "<img src=x onerror=alert(1)> `${1}` .jsonl"
GOOD = json.dumps(
    {
        "messages": [
            {"role": "user", "content": "Say 1"},
            {"role": "assistant", "content": "1 and 1"},
        ]
    }
)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_accessible_and_fits_in_every_look(
    visit: Visiting, jobs: Jobs, look: str
) -> None:
    seen = visit(look)
    pages = {
        "home": "/",
        "files": "/files",
        "new": "/new",
        "models": "/models",
        "playground": "/playground",
        "compare": f"/compare?first={jobs.ended}&second={jobs.running}",
        "job": f"/jobs/{jobs.ended}",
        "running": f"/jobs/{jobs.running}",
        "unknown": "/jobs/ftjob-none",
    }
    for name, path in pages.items():
        page = seen.open(path)
        if "job" in path and name != "unknown":
            page.wait_for_selector(".curves canvas, .curves svg")
        seen.keep(name)
        assert seen.serious() == [], name
        assert seen.too_wide <= 0, name
        assert page.evaluate("document.documentElement.dataset.theme") == (
            "dark" if look == "dark" else "light"
        )


def test_light_and_dark_are_switched_by_the_keyboard_and_kept(visit: Visiting) -> None:
    seen = visit()
    page = seen.open("/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.get_by_role("button", name="Dark").focus()
    page.keyboard.press("Enter")

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page = seen.open("/files")
    expect(page.get_by_role("button", name="Light")).to_be_visible()


def test_home_tells_what_runs_and_what_waits(visit: Visiting, jobs: Jobs) -> None:
    page = visit().open("/")

    for title in ("Running", "Waiting", "Ended"):
        expect(page.get_by_role("heading", name=re.compile(rf"^{title} \(\d"))).to_be_visible()
    expect(page.get_by_role("link", name="third")).to_have_attribute(
        "href", f"/jobs/{jobs.waiting}"
    )


def test_a_job_is_watched_while_it_learns(visit: Visiting, service: StandIn, jobs: Jobs) -> None:
    page = visit().open(f"/jobs/{jobs.running}")
    expect(page.get_by_text("Step 40 of 200")).to_be_visible()

    service.run(service.store.job(jobs.running), steps=3, first=41, total=200)

    expect(page.get_by_text("Step 43 of 200")).to_be_visible()
    expect(page.locator(".log td", has_text="Step 43/200").first).to_be_visible()
    loss = page.evaluate(
        "getElement(Number(document.querySelector('.nicegui-echart').id.slice(1)))"
        ".chart.getOption().series[0].data.map((point) => point[0])"
    )
    assert loss == list(range(1, 44))


def test_a_job_is_cancelled_only_when_asked_twice(visit: Visiting, service: StandIn) -> None:
    job = service.add_job(suffix="doomed")
    page = visit().open(f"/jobs/{job.id}")

    page.get_by_role("button", name="Cancel", exact=True).click()
    assert service.store.job(job.id).status == "queued"
    page.get_by_role("button", name="Yes, cancel").click()

    expect(page.locator(".badge.is-cancelled")).to_be_visible()
    assert service.store.job(job.id).status == "cancelled"


def test_the_verdict_shows_answers_as_text_side_by_side(visit: Visiting, jobs: Jobs) -> None:
    page = visit().open(f"/jobs/{jobs.ended}")

    expect(page.get_by_text("Better than what it started from")).to_be_visible()
    expect(page.get_by_text("What is <b>2 and 2</b>?")).to_be_visible()
    expect(page.locator(".answer").nth(0)).to_contain_text("I cannot say.")
    expect(page.locator(".answer").nth(1)).to_contain_text("4")


def test_a_bad_file_shows_its_report_with_the_line_in_its_place(visit: Visiting) -> None:
    page = visit().open("/files")
    content = f'{GOOD}\n{{"messages": []}}\n{GOOD}\n'.encode()
    page.get_by_label("Drop training files here").set_input_files(
        {"name": ODD, "mimeType": "application/jsonl", "buffer": content}
    )
    page.get_by_role("link", name=ODD).click()

    expect(page.get_by_text("A job would refuse this file.")).to_be_visible(timeout=60_000)
    expect(page.locator(".finding.is-error mark").first).to_have_text(
        re.compile(r'^\s*2\s+\{"messages": \[\]\}')
    )
    expect(page.get_by_role("heading", name=ODD)).to_be_visible()


def test_a_file_shows_its_rows_before_any_job_learns_from_it(visit: Visiting) -> None:
    seen = visit()
    page = seen.open("/files")
    page.get_by_label("Drop training files here").set_input_files(
        {"name": "new.jsonl", "mimeType": "application/jsonl", "buffer": f"{GOOD}\n\n".encode()}
    )
    page.get_by_role("link", name="new.jsonl").click()

    expect(page.locator(".tokens mark")).to_have_text("1 and 1<|im_end|>", timeout=60_000)
    seen.keep("file")
    assert seen.serious() == []
    page.get_by_label("Line of the file").fill("2")
    page.get_by_role("button", name="Show the row").click()
    expect(page.get_by_text("has no row on line 2")).to_be_visible(timeout=60_000)


def test_the_form_shows_the_same_request_as_curl_and_python(visit: Visiting) -> None:
    page = visit().open("/new")
    page.get_by_label("Epochs").fill("4")
    page.get_by_label("Suffix").fill("it's")

    expect(page.get_by_label("The request for curl")).to_contain_text('"n_epochs": 4')
    expect(page.get_by_label("The request in Python")).to_contain_text('"n_epochs": 4')
    # What was typed stays when the page beside it changes.
    expect(page.get_by_label("Epochs")).to_have_value("4")
    expect(page.get_by_label("Suffix")).to_have_value("it's")


def test_a_refused_job_says_why_on_the_form(visit: Visiting, jobs: Jobs) -> None:
    page = visit().open("/new")
    page.get_by_label("Epochs").fill("99")
    page.get_by_role("button", name="Create the job").click()

    expect(page.get_by_role("alert").filter(has_text="n_epochs")).to_be_visible()


def test_two_models_answer_side_by_side(visit: Visiting, jobs: Jobs) -> None:
    page = visit().open("/playground")
    page.get_by_label("Question").fill("What is it?")
    page.get_by_role("button", name="Ask both").click()

    expect(page.locator(".answer").nth(0)).to_contain_text("This is what tiny says to it.")
    expect(page.locator(".answer").nth(1)).to_contain_text("This is what ft:tiny:acme:support")


def test_a_conversation_goes_on_until_it_is_started_anew(
    visit: Visiting, service: StandIn, jobs: Jobs
) -> None:
    service.answering.asked.clear()
    page = visit().open("/playground")
    for question in ("First?", "Second?"):
        page.get_by_label("Question").fill(question)
        page.get_by_role("button", name="Ask both").click()
        last = page.locator(".answers").last.locator(".answer")
        for side in (0, 1):
            expect(last.nth(side).get_by_text(re.compile("pieces in"))).to_be_visible()

    # The order of a turn's two models is open.
    first, second = service.answering.asked[:2], service.answering.asked[2:]
    assert [str(each).count("First?") for each in first] == [1, 1]
    assert not any("Second?" in str(each) or "This is what" in str(each) for each in first)
    for each in second:
        assert all(said in str(each) for said in ("First?", "Second?"))
        assert str(each).count("This is what") == 1
    page.get_by_role("button", name="Start anew").click()
    expect(page.locator(".answer")).to_have_count(0)


def test_an_adapter_is_prepared_and_downloaded(visit: Visiting, jobs: Jobs) -> None:
    page = visit().open(f"/jobs/{jobs.ended}")
    page.get_by_role("link", name="Download the adapter").click()
    page.get_by_role("button", name="Prepare the download").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("^Download all files")).first.click()

    assert download.value.path().read_bytes() == EXPORTED


def test_what_differs_between_two_jobs_is_marked(visit: Visiting, jobs: Jobs) -> None:
    page = visit().open(f"/compare?first={jobs.ended}&second={jobs.running}")

    row = page.locator("tr.differs", has_text="hyperparameters.n_epochs")
    expect(row.locator("td").nth(0)).to_have_text("3")
    expect(row.locator("td").nth(1)).to_have_text("5")


def test_a_lost_connection_is_told_and_comes_back(visit: Visiting) -> None:
    seen = visit()
    page = seen.open("/files")
    seen.context.set_offline(True)
    page.evaluate("window.socket.io.engine.close()")

    expect(page.get_by_text("The connection to the service is lost")).to_be_visible()
    seen.context.set_offline(False)
    expect(page.get_by_text("Connected again.")).to_be_visible(timeout=20_000)


def test_another_site_cannot_reach_the_page_of_an_open_service(service: StandIn) -> None:
    names = service.app.state.doorkeeper
    names._names = frozenset()
    try:
        foreign = httpx.get(f"{service.url}/", headers={"Origin": "https://evil.example"})
        own = httpx.get(f"{service.url}/", headers={"Origin": service.url})
    finally:
        names._names = None

    assert (foreign.status_code, own.status_code) == (403, 200)
    assert "frame-ancestors 'none'" in own.headers["content-security-policy"]
    cookie = own.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_signing_in_asks_for_a_key_that_no_browser_keeps(visit: Visiting, service: StandIn) -> None:
    secret, key = new_key("default", "me", scope=Scope.READ, now=1, expires_at=None)
    service.store.add_key(key)
    # For a second, the service goes by the keys that it knew.
    while httpx.get(f"{service.url}/v1/files").status_code != 401:
        pass
    seen = visit()
    page = seen.open("/files")
    expect(page).to_have_url(re.compile("/sign-in"))
    assert seen.serious() == []

    page.get_by_label("API key").fill("sk-ts-wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="none of this service's")).to_be_visible()
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile("/files$"))
    kept = json.dumps([page.context.cookies(), page.evaluate("({...localStorage})")])
    assert secret not in page.content() + kept + " ".join(seen.asked)
    page.get_by_role("link", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
