"""The pages keep up with the code: links lead somewhere, every key and every metric is written about."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.config import models

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("proto/*.md")]
)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return LINK.findall(FENCE.sub("", page.read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for link in links(path):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{page} links to {link}"
        assert not anchor or anchor in anchors(found), f"{page} links to {link}, which has no such heading"


def test_the_first_page_leads_to_every_page() -> None:
    reached = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert [page for page in PAGES if page != "README.md" and page not in reached] == []


def test_pictures_load_nothing_from_elsewhere() -> None:
    for picture in (ROOT / "docs").rglob("*.svg"):
        outside = re.findall(r"""(?:url\(["']?|href=["'])(?!#)[^)"']*""", picture.read_text())
        assert not outside, f"{picture.name} loads {outside}"


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for inner in models_in(field.annotation, field.metadata):
            yield from keys(inner)


def models_in(annotation: Any, metadata: Any = ()) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from models_in(argument)
    if hasattr(annotation, "__origin__") and not isinstance(annotation.__origin__, type):
        yield from models_in(annotation.__origin__)


def test_the_page_on_configuration_names_every_key() -> None:
    every = set(keys(models.Config))
    assert {"max_request_bytes", "stream_labels", "insecure_skip_verify", "modulus"} <= every, "the walk is whole"
    page = (ROOT / "docs" / "configuration.md").read_text()
    named = {word for code in re.findall(r"`([^`]+)`", FENCE.sub("", page)) for word in re.findall(r"\w+", code)}
    assert sorted(every - named) == []
