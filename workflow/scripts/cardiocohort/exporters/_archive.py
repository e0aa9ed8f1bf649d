"""A deck's files as one archive. Owned by the inputs stage."""

import gzip
import tarfile
from pathlib import Path

from ..runtime.artifacts import atomic_path, remove, write_text

NAME = "deck.tar.gz"
COMPRESSION_LEVEL = 6  # of zlib, as gzip's own


def pack(readme: Path) -> Path:
    """Put all other files of a deck into an archive beside its `readme`, which says so; returns the archive.

    The same files make the same archive: it has neither times nor owners.
    """
    folder, archive = readme.parent, readme.with_name(NAME)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != readme)
    with (
        atomic_path(archive) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, raw, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            tar.add(file, file.relative_to(folder).as_posix(), filter=_plain)
    for path in {*folder.iterdir()} - {readme, archive}:
        remove(path)
    text = readme.read_text(encoding="utf-8")
    write_text(readme, f"{text}All other files are in {NAME}: unpack them here with tar -xzf {NAME}\n")
    return archive


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.mode = 0, 0o644
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
