"""Download the listed packages with apt-get and npm.

A package that is in the raw folder already is not asked for again. One that the
manifest names is asked for in the manifest's version first, so that a second
run elsewhere gets the same files while the registry still has them.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
APT = ["-q", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"]
COMMANDS = {"deb": ["apt-get", "download", *APT],
            "src": ["apt-get", "source", "--download-only", *APT],
            "npm": ["npm", "pack", "--silent", "--ignore-scripts"]}
STEPS = {"deb": 100, "src": 10, "npm": 8}
JOINTS = {"deb": "=", "src": "=", "npm": "@"}


def names(kind: str) -> list[str]:
    """Return the committed list of package names of one kind."""
    return (HERE / f"names_{kind}.txt").read_text(encoding="utf-8").split()


def stem(kind: str, name: str) -> str:
    """Return what a package's archive is called before its version."""
    return name.removeprefix("@").replace("/", "-") + "-" if kind == "npm" else name + "_"


def present(kind: str, folder: Path) -> set[str]:
    """Return the stems of the archives that lie in a folder."""
    if kind == "npm":
        return {re.sub(r"-\d+\.\d+\.\d+.*$", "-", p.name) for p in folder.glob("*.tgz")}
    return {p.name.split("_", 1)[0] + "_" for p in folder.glob("*.deb" if kind == "deb" else "*.dsc")}


def pinned(manifest: Path) -> dict[str, str]:
    """Return the version that the manifest records of each package."""
    if not manifest.exists():
        return {}
    rows = (line.split("\t") for line in manifest.read_text(encoding="utf-8").splitlines()[1:])
    return {row[0]: row[1] for row in rows}


def wishes(kind: str) -> list[str]:
    """Return the package names wanted of one kind."""
    if kind != "deb":
        return names("npm" if kind == "npm" else "debian_src")
    known = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split()
    return sorted(n for n in known if re.fullmatch(r"(?:golang|librust)-.*-dev", n)) + names("python")


def download(kind: str, folder: Path, specs: list[str]) -> None:
    """Run one download command; what it could not get is simply absent afterwards."""
    subprocess.run([*COMMANDS[kind], *specs], cwd=folder, check=False, timeout=900,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def attempts(kind: str, missing: list[str], pins: dict[str, str]) -> Iterator[list[str]]:
    """Yield the commands' arguments: pinned and together first, then one by one, then unpinned."""
    joint = JOINTS[kind]
    exact = {name: f"{name}{joint}{pins[name]}" if name in pins else name for name in missing}
    for start in range(0, len(missing), STEPS[kind]):
        yield [exact[name] for name in missing[start:start + STEPS[kind]]]
    for name in missing:
        yield [exact[name]]
        if exact[name] != name:
            yield [name]


def fetch_kind(kind: str, raw: Path, pins: dict[str, str]) -> list[str]:
    """Download the packages of one kind; returns the names that could not be had."""
    folder = raw / kind
    folder.mkdir(parents=True, exist_ok=True)
    here = present(kind, folder)
    missing = [name for name in wishes(kind) if stem(kind, name) not in here]
    for specs in attempts(kind, missing, pins):
        bare = [re.sub(r"(?<=.)[=@].*$", "", spec) for spec in specs]
        if len(specs) > 1 or stem(kind, bare[0]) not in present(kind, folder):
            download(kind, folder, specs)
    here = present(kind, folder)
    return [name for name in missing if stem(kind, name) not in here]


def fetch(data: Path, kinds: list[str]) -> None:
    """Download every listed package of some kinds into the raw folder."""
    pins = pinned(HERE / "manifest.tsv")
    for kind in kinds:
        lost = fetch_kind(kind, data / "raw", pins)
        print(f"{kind}: {len(lost)} not available: {' '.join(lost)}")
