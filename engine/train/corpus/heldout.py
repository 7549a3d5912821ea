"""Held-out files as plain files, to complete in: `tidepool bench lines --files DATA/heldout`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from verify import rows


def write_held_out(data: Path) -> int:
    """Write every held-out file of the packs to DATA/heldout/PACKAGE/PATH; returns how many there are."""
    target, count = data / "heldout", 0
    for pack in sorted(data.glob("pack-*.jsonl.xz")):
        for row in rows(pack):
            path = PurePosixPath(row["path"])
            if not row["heldout"] or path.is_absolute() or ".." in path.parts:
                continue
            file = target / row["pkg"].replace("/", "__") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(row["text"], encoding="utf-8", newline="\n")
            count += 1
    return count
