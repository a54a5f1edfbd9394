"""The files of a project: upload, list, delete."""

from __future__ import annotations

from fastapi.responses import Response
from nicegui import ui

from tunesmith.dashboard.door import Door, Thing, quoted
from tunesmith.dashboard.frame import Site
from tunesmith.dashboard.parts import Tag, button, cell, link, note, panel, table, tell
from tunesmith.dashboard.words import moment, size

_PAGE = 50
_PURPOSES = {"fine-tune": "training", "fine-tune-results": "results"}


def add_pages(site: Site) -> None:
    """Add `/files`."""

    @ui.page("/files")
    async def files() -> Response | None:
        return await site.show("Files", place="/files", build=_build)


async def _build(door: Door) -> None:
    with Tag("div", classes="drop"):
        named = Tag("label", "Drop training files here, or choose them")
        Tag("br")
        chosen = Tag("input", type="file", multiple=True)
        named.give(for_=chosen.html_id)
        note("Chat, preference, text and other formats, as JSON lines, JSON, CSV or Parquet.")
        # Its rows are the browser's own.
        Tag("div", id="uploads")
    listed = _List(door)

    async def uploaded() -> None:
        await listed.show(after=None)

    ui.on("uploaded", uploaded)
    await listed.show(after=None)


class _List:
    """The list, page by page."""

    def __init__(self, door: Door) -> None:
        self._door = door
        with panel("Files"):
            self._place = Tag("div")

    async def show(self, *, after: str | None) -> None:
        page = await self._door.get("/files", limit=_PAGE, after=after)
        self._place.clear()
        with self._place:
            if page["data"]:
                self._table(page["data"])
            else:
                note("There is none yet. Drop one above; its report tells what is wrong in it.")
            with Tag("div", classes="actions"):
                if after:
                    button("Newest files", lambda: self.show(after=None))
                if page["has_more"]:
                    last = page["data"][-1]["id"]
                    button("Older files", lambda: self.show(after=last))

    def _table(self, files: list[Thing]) -> None:
        with table("Files, newest first", ("Name", "Purpose", "Size", "Uploaded", "Id", "Delete")):
            for file in files:
                with Tag("tr") as row:
                    with cell("Name"):
                        link(file["filename"], f"/files/{quoted(file['id'])}")
                    purpose = file["purpose"]
                    cell("Purpose", _PURPOSES.get(purpose, purpose), classes="quiet")
                    cell("Size", size(file["bytes"]), classes="figure")
                    cell("Uploaded", moment(file["created_at"]), classes="quiet")
                    cell("Id", file["id"], classes="name")
                    with cell("Delete"):
                        self._delete_button(file, row)

    def _delete_button(self, file: Thing, row: Tag) -> None:
        asked = {"once": False}

        async def delete() -> None:
            if not asked["once"]:
                asked["once"] = True
                made.say("Really delete")
                return
            await self._door.delete(f"/files/{quoted(file['id'])}")
            row.delete()
            tell(f"{file['filename']} is deleted.")

        made = button("Delete", delete, kind="quiet", aria_label=None)
        made.give(aria_description=str(file["filename"]))
