"""A real Chromium for the pages that promptad writes, opened from their files; tests skip, with the reason, where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@contextmanager
def opened(page: Path, *, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page in a window of its own, as somebody without a network sees it; an error of its script fails the test."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    errors: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        window = context.new_page()
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        window.goto(page.resolve().as_uri())
        yield window
        browser.close()
    assert errors == []


def saved_labels(window: Any, folder: Path) -> Path:
    """The file that "Save labels" gives, put into a folder."""
    with window.expect_download() as download:
        window.get_by_role("button", name="Save labels").click()
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target
