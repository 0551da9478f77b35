"""Hooks of MkDocs: pages that are generated, and links that leave docs/."""

import posixpath
import re
from pathlib import Path
from typing import Any

from cli_reference import cli_page
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parent.parent
NOTEBOOK = "docs/notebook/ptqdb.ipynb"
# Files outside docs/ that are pages of the site, and the notebook.
PAGES = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "data/README.md": "project/data.md",
    NOTEBOOK: "tutorial/notebook.md",
}
_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made now or that lie outside docs/."""
    body, resources = MarkdownExporter().from_filename(str(ROOT / NOTEBOOK))
    for name, content in resources["outputs"].items():
        files.append(File.generated(config, f"tutorial/{name}", content=content))
    files.append(File.generated(config, PAGES[NOTEBOOK], content=without_styles(body)))
    files.append(File.generated(config, "reference/cli.md", content=cli_page()))
    for source, page in PAGES.items():
        if source != NOTEBOOK:
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the pages of the site; what is no page becomes plain text."""
    markdown = re.sub(r"^```sh no-run$", "```sh", markdown, flags=re.MULTILINE)
    return linked(markdown, page.file.src_uri)


def linked(markdown: str, page: str) -> str:
    """A page's text with its links as the site has them.

    Parameters
    ----------
    page
        Its path in the site, such as ``reference/sql.md``.
    """
    folder = posixpath.dirname(_SOURCES.get(page, f"docs/{page}"))

    def replaced(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(folder, link))
        if path not in PAGES and not path.startswith("docs/"):
            return text if "`" in text else f"`{text}`"
        target = PAGES.get(path, path.removeprefix("docs/"))
        return f"[{text}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(replaced, markdown)


def without_styles(markdown: str) -> str:
    """The notebook's text with plain tables: the theme styles those and lets them scroll."""
    text = re.sub(r"<style>.*?</style>\n?", "", markdown, flags=re.DOTALL)
    return text.replace('<table border="1" class="dataframe">', "<table>")
