"""Decide, from a package's name alone, whether it is held out for evaluation."""

from __future__ import annotations

import hashlib
import re

HELD_OUT_ONE_IN = 33
SALT = "tidepool-1473"  # chosen so that no very large project is held out

# Projects held out besides the hashed ones, so that every language has enough.
EXTRA_HELD_OUT: frozenset[str] = frozenset("""
    billboard box2d bumpalo cglib chipmunk cjson cpputest dbus ddevault devise dfinity exacl expat fest
    flake gflags glfw googletest gorhom guzzlehttp hapi hikaricp hyena javapoet jline kafkajs league
    libsdl meshoptimizer monolog nlohmann oxhttp phpseclib phpunit picocli poetry praw puma pysnmp
    ramsey recharts reduxjs requests sentencepiece skalibs snappy sord spin stylus thumbnailator
    truth tsparticles twig victory xmlunit yajl
""".split())

_PREFIX = re.compile(
    r"^(?:golang-(?:github|gitlab|gopkg|golang|google|bitbucket|k8s|sigs|honnef|uber|go|opentelemetry|"
    r"nhooyr|layeh|rsc|dbus|etcd|code|salsa|sourcehut|git)?-?|librust-|python3?-|node-|php-|ruby-|apache-|lib(?=.*-java$))"
)


def project_of(package: str) -> str:
    """Return the upstream project a package name belongs to.

    Scoped npm names give their scope. For others the distribution prefix goes
    and the first word of the rest stands for the project, so that siblings such
    as `librust-tokio-util-dev` and `librust-tokio-dev` agree.
    """
    name = package.lower()
    if name.startswith("@"):
        name = name[1:].split("/", 1)[0]
        return re.split(r"[-_.]", name)[0] or name
    name = re.sub(r"-(?:dev|java)$", "", _PREFIX.sub("", name))
    words = [word for word in re.split(r"[-_./+]", name) if word]
    word = words[0] if words else name
    return re.sub(r"(?<=[a-z]{2})\d+$", "", word) or word


def is_held_out(package: str) -> bool:
    """Tell whether a package, named without version, is in the held-out split."""
    project = project_of(package)
    if project in EXTRA_HELD_OUT:
        return True
    digest = hashlib.sha256(f"{SALT}:{project}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0
