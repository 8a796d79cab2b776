"""The site that Sphinx makes of the pages: python -m sphinx -W --keep-going -b html docs OUT.

The pages are Markdown that GitHub shows as well, so what only the site needs is here: the navigation, and where links
to the repository's other files lead.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

from asparkle import __version__

project = "asparkle"
copyright = "the authors of asparkle, Apache License 2.0"
version = release = __version__
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["dev"]  # working notes

myst_heading_anchors = 3  # named as GitHub names them; a link to one that is not there is a warning
myst_fence_as_directive = ["mermaid"]
myst_links_external_new_tab = False

html_theme = "furo"
html_title = f"asparkle {version}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
mermaid_height = "auto"

NAVIGATION = {
    "Use": [
        "tutorial",
        "launcher",
        "migrating",
        "files",
        "async",
        "embedding",
        "ssh",
        "security",
        "operating",
        "tracing",
        "history",
    ],
    "Extend": ["backend", "hosts", "testing"],
    "Reference": [
        f"reference/{page}" for page in ("rdd", "sql", "configuration", "errors", "events", "plugins", "contracts")
    ],
    "Inside": ["architecture", "contributing", "changes"],
}
"""The pages by heading; each page of the site has to be in one, or the build fails."""


def toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def for_site(app: Sphinx, page: str, source: list[str]) -> None:
    """What the site has and the file has not."""
    source[0] = source[0].replace("](../CONTRIBUTING.md", "](contributing.rst")
    if page == "index":
        source[0] += "".join(toctree(caption, pages) for caption, pages in NAVIGATION.items())


def short_contents(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Beside the page a method has its name, without its parameters."""
    if toc := context.get("toc"):
        context["toc"] = re.sub(r"<code.*?(?=</a>)", short_name, toc)


def short_name(heading: re.Match[str]) -> str:
    text = re.sub("<.*?>", "", heading[0].partition("</code>")[0])
    return f"<code>{text.partition('(')[0]}</code>"


def setup(app: Sphinx) -> None:
    app.connect("source-read", for_site)
    app.connect("html-page-context", short_contents)
