"""Hook of the site: a link to a file outside docs/ becomes the path of the file."""

import re
from pathlib import Path

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, page, config, files) -> str:
    """A link that leads to no file stays, so that the strict build refuses it."""
    docs = Path(config["docs_dir"]).resolve()
    folder = docs / Path(page.file.src_uri).parent

    def path_of(link: re.Match) -> str:
        target = (folder / link[2].partition("#")[0]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]
        path = target.relative_to(docs.parent).as_posix()
        return f"`{path}`" if link[1].strip("`") in (path, target.name) else f"{link[1]} (`{path}`)"

    return LINK.sub(path_of, markdown)
