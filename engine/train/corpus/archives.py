"""Read downloaded packages: Debian binary and source packages, npm archives.

Every reader returns a `Package`: its name, version, licence and the candidate
files as (path, bytes), already limited to paths and licences worth a look.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from filters import MAX_BYTES, path_reason
from licences import CopyrightFile, is_permissive

_DEB_ROOTS = re.compile(
    r"^\./?usr/(?:share/gocode/src/(?P<go>.*)|share/cargo/registry/[^/]+/(?P<rust>.*)"
    r"|lib/python3(?:\.\d+)?/dist-packages/(?P<py>.*))$")


@dataclass
class Package:
    """One downloaded package and its candidate files."""

    name: str
    version: str
    source: str
    licence: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)


def go_path(path: str) -> str:
    """Drop the import path of a Go repository, leaving the path inside it."""
    parts = path.split("/")
    depth = 3 if parts[0] in ("github.com", "gitlab.com", "bitbucket.org", "golang.org", "salsa.debian.org") else 2
    return "/".join(parts[depth:]) if len(parts) > depth else parts[-1]


def _members(stream: IO[bytes]) -> Iterator[tuple[str, tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the plain files of a tar stream."""
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            if member.isfile():
                yield member.name, tar, member


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a member of a tar stream."""
    handle = tar.extractfile(member)
    return handle.read() if handle else b""


def read_deb(archive: Path) -> Package | None:
    """Read a Debian binary package; None when its licence is not permissive."""
    name, version, _ = archive.name.rsplit("_", 2)
    package = Package(name, version.replace("%3a", ":"), "debian")
    terms: CopyrightFile | None = None
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as unpacker:
        assert unpacker.stdout is not None
        for path, tar, member in _members(unpacker.stdout):
            if path.endswith(f"/doc/{name}/copyright"):
                terms = CopyrightFile(_read(tar, member).decode("utf-8", "replace"))
                continue
            found = _DEB_ROOTS.match(path)
            if not found or member.size > MAX_BYTES:
                continue
            inner = go_path(found["go"]) if found["go"] else found["rust"] or found["py"]
            if inner and not path_reason(inner):
                package.files.append((inner, _read(tar, member)))
    if terms is None or not terms.package_ok():
        return None
    package.licence = terms.main
    package.files = [(p, d) for p, d in package.files if terms.file_ok(p)]
    return package


def _source_terms(parts: list[Path]) -> CopyrightFile | None:
    """Find debian/copyright in the archives of a source package."""
    for part in sorted(parts, key=lambda p: "debian.tar" not in p.name):
        with part.open("rb") as stream:
            for path, tar, member in _members(stream):
                if re.match(r"(?:\./)?(?:[^/]+/)?debian/copyright$", path):
                    return CopyrightFile(_read(tar, member).decode("utf-8", "replace"))
    return None


def read_source(dsc: Path) -> Package | None:
    """Read a Debian source package by its .dsc file; None when not permissive."""
    text = dsc.read_text(encoding="utf-8", errors="replace")
    name, version = (re.search(rf"^{key}: (\S+)", text, re.MULTILINE)[1] for key in ("Source", "Version"))
    listed = set(re.findall(r"^ [0-9a-f]{64} \d+ (\S+\.tar\.\w+)$", text, re.MULTILINE))
    parts = [dsc.parent / item for item in sorted(listed) if (dsc.parent / item).exists()]
    terms = _source_terms(parts)
    if terms is None or not terms.package_ok():
        return None
    package = Package(name, version, "debian", terms.main)
    for part in parts:
        if "debian.tar" in part.name:
            continue
        with part.open("rb") as stream:
            for path, tar, member in _members(stream):
                inner = path.removeprefix("./").partition("/")[2]
                if inner and member.size <= MAX_BYTES and not path_reason(inner) and terms.file_ok(inner):
                    package.files.append((inner, _read(tar, member)))
    return package


def read_npm(archive: Path) -> Package | None:
    """Read an npm archive; None when its declared licence is not permissive."""
    files: list[tuple[str, bytes]] = []
    about: dict[str, object] = {}
    with archive.open("rb") as stream:
        for path, tar, member in _members(stream):
            inner = path.partition("/")[2]
            if inner == "package.json":
                about = json.loads(_read(tar, member))
            elif inner and member.size <= MAX_BYTES and not path_reason(inner):
                files.append((inner, _read(tar, member)))
    licence = about.get("license", "")
    terms = str(licence.get("type", "")) if isinstance(licence, dict) else str(licence)
    if not is_permissive(terms):
        return None
    return Package(str(about["name"]), str(about["version"]), "npm", terms, prefer_sources(files))


_OUTPUT_FOLDER = re.compile(
    r"(?:^|/)(?:dist|umd|esm\d*|cjs|fesm\d+|bundles?|_?es|_esm|_cjs|build|out|lib-\w+|dist-\w+|"
    r"commonjs|module|types|typings|legacy|production|development|compiled|release)(?:/|$)", re.IGNORECASE)


def prefer_sources(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Drop build outputs and declarations that stand beside real sources."""
    typed = [p for p, _ in files if re.search(r"\.[mc]?tsx?$", p) and not re.search(r"\.d\.[mc]?ts$", p)]
    stems = {p.rsplit("/", 1)[-1].split(".", 1)[0] for p in typed}
    declared = {re.sub(r"\.d\.[mc]?ts$", "", p) for p, _ in files if re.search(r"\.d\.[mc]?ts$", p)}
    scripts = [p for p, _ in files if re.search(r"\.[mc]?jsx?$", p)]
    inside = sum(1 for p in scripts if re.sub(r"\.[mc]?jsx?$", "", p) in declared)
    compiled = inside > 0.5 * max(len(scripts), 1)
    rooted = [p for p, _ in files if not _OUTPUT_FOLDER.search(p.rpartition("/")[0] + "/")
              and not re.search(r"\.d\.[mc]?ts$", p)]
    kept: list[tuple[str, bytes]] = []
    for path, data in files:
        folder, _, name = path.rpartition("/")
        is_declaration = bool(re.search(r"\.d\.[mc]?ts$", path))
        is_script = bool(re.search(r"\.[mc]?jsx?$", path))
        if (is_script or is_declaration) and (_OUTPUT_FOLDER.search(folder + "/") or "." == folder) and rooted:
            continue
        if is_script and (compiled or len(typed) > 20 or name.split(".", 1)[0] in stems):
            continue
        if is_declaration and (scripts or typed) and not re.match(r"(?:src|types)/", path):
            continue
        kept.append((path, data))
    return kept
