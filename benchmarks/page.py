"""How soon the page is seen, in Chromium on this machine: `make bench-page`.

The API and its page run over a database with 21 jobs, of which one has told of 10,000 steps; there
is no controller, and nothing else runs meanwhile. Each visit is one of a browser that has the
page's parts already, as they are kept for a year; `first_visit_s` is one of a browser that has not.

Ends with one line of JSON:

- `first_paint_s`: median over visits, in seconds, from the navigation to the first content of the
  first page; under 1 is wanted.
- `job_10000_events_s`: median, from the navigation until the curves and the newest events of the
  job with 10,000 events are there; under 1 is wanted.
- `first_visit_s`: the first of both in a new browser.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page

from browser import chromium
from stand_in import standing_in

STEPS = 10_000
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=10)
    visits = parser.parse_args().visits
    with (
        tempfile.TemporaryDirectory() as folder,
        standing_in(Path(folder)) as service,
        chromium() as browser,
    ):
        for number in range(20):
            service.finish(service.run(service.add_job(suffix=f"short-{number}"), steps=10))
        long = service.finish(service.run(service.add_job(suffix="long"), steps=STEPS))
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        first = first_paint(page, service.url)
        paints = [first_paint(page, service.url) for _ in range(visits)]
        job = f"{service.url}/jobs/{long.id}"
        opened = [job_opened(page, job) for _ in range(visits)]
    print(f"first paint: {min(paints):.3f} to {max(paints):.3f} s")
    print(f"job of {STEPS} events: {min(opened):.3f} to {max(opened):.3f} s")
    found = {
        "first_paint_s": round(statistics.median(paints), 3),
        "job_10000_events_s": round(statistics.median(opened), 3),
        "first_visit_s": round(first, 3),
    }
    print(json.dumps(found))


def first_paint(page: Page, url: str) -> float:
    """Return the seconds to the first content of the first page."""
    page.goto(url)
    page.wait_for_selector("table")
    page.wait_for_function(f"({_PAINT}) > 0")
    painted: float = page.evaluate(_PAINT)
    return painted / 1000


def job_opened(page: Page, url: str) -> float:
    """Return the seconds until the curves of a job are drawn and its events listed."""
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(".log td")
    page.wait_for_function(
        "[...document.querySelectorAll('.nicegui-echart')].filter((each) =>"
        " getElement(Number(each.id.slice(1)))?.chart?.getOption()?.series?.[0]?.data?.length > 100"
        ").length >= 4"
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
