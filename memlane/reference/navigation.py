"""The navigation of the docs: each folder is a part of it, each page stands in its folder. MkDocs calls this."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

_PARTS = {
    "tutorial": "Tutorial",
    "howto": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
}
"""The folders in the order in which they are shown; a page in any other ends a strict build."""


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """The configuration with its navigation."""
    config.nav = navigation(Path(config.docs_dir))
    return config


def navigation(docs: Path) -> list[Any]:
    """The pages of a folder, part by part; a part's pages are in the order of their names."""
    pages = [path.name for path in sorted(docs.glob("*.md")) if path.name != "index.md"]
    parts = [
        {title: [f"{folder}/{path.name}" for path in sorted((docs / folder).glob("*.md"))]}
        for folder, title in _PARTS.items()
    ]
    return ["index.md", *parts, *pages]
