"""A hook of MkDocs: links from a page to files of the repository outside docs/ become the files' names.

The site has no copy of these files. A link to a file that does not exist fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^\]\n]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page's text with the links that leave docs/ replaced."""
    here = posixpath.dirname(f"docs/{page.file.src_uri}")

    def replaced(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[2]))
        if target.startswith("docs/"):
            return link[0]
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{page.file.src_uri}: {target} is not in the repository")
        text = link[1].strip("`")
        return (
            f"`{target}`"
            if text in (target, posixpath.basename(target))
            else f"{link[1]} (`{target}`)"
        )

    return LINK.sub(replaced, markdown)
