"""Read licences and say which files are under permissive terms only."""

from __future__ import annotations

import fnmatch
import re

# What may follow a licence's name: a version, a clause count, the holder named in the text, a known exception.
_HOLDERS = (r"google|hsqldb|nlnetlabs|regents|uc|ucb|uc-regents|berkeley|netbsd|freebsd|intel|amd|arm|apple|sun|oracle|ibm|"
            r"microsoft|facebook|mit|cisco|redhat|xiph|xiph\.org|ccl|circonus|modification|views|old-style|style|like|cmu|"
            r"xfree86|sgi|hp|dec|tcpdump|jdom|llvm|go|golang|authors")
_PERMISSIVE = re.compile(
    rf"""(?:
      (?:mit|expat|x11|isc|0bsd|zlib|libpng|unlicense|postgresql|curl|ncsa|uoi-ncsa|hpnd|blessing|ijg|icu|tcl(?:/tk)?|lua
        |mit/x(?:11)?|public[ -]domain|pd|boost|bsl|psf|python|unicode|llvm|apache|asl|cc0|wtfpl|zlib/libpng|mit-expat)
      | (?:new|modified|simplified|revised)[- ]bsd | bsd | [23]-clause[- ]bsd | bsd-c[23] | apache[ -]software
        | python[ ]software[ ]foundation | isc[ ]license[ ]iscl
    )
    (?:[ ]?(?:license|licence|software[ ]license))?
    (?:[-_ ]?v?\d(?:\.\d+)*(?:-universal)?)?
    (?:[-_ ]?clauses?)?
    (?:[-~_ ](?:{_HOLDERS}))?
    (?:[ ]with[ ]llvm[- ]exceptions?|-llvm-exceptions?)?
    (?:[-_ ]?(?:license|licence|dfs-2016|tou))?""",
    re.IGNORECASE | re.VERBOSE)
# Words that make a whole name fail even where the start of it looks permissive.
_COPYLEFT = re.compile(
    r"gpl|mpl|epl|cddl|cc-by|artistic|sspl|busl|elastic|eupl|osl|qpl|cpl|gfdl|non-?free|non-?commercial|proprietary|jsr|"
    r"4-clause|bsd-4|json",
    re.IGNORECASE)


def is_permissive(expression: str) -> bool:
    """Tell whether a licence expression leaves a permissive choice.

    Every part joined by `and` (or a comma) must have at least one permissive
    alternative among the parts joined by `or` (or a slash).
    """
    text = re.sub(r"[()]", " ", expression.strip())
    if not text:
        return False
    for part in re.split(r"\s+and\s+|\s*,\s*(?:and\s+)?|\s*&\s*", text, flags=re.IGNORECASE):
        choices = [c.strip() for c in re.split(r"\s+or\s+|/|\|", part, flags=re.IGNORECASE)]
        if not any(_PERMISSIVE.fullmatch(c) and not _COPYLEFT.search(c) for c in choices if c):
            return False
    return True


def _glob_regex(patterns: str) -> re.Pattern[str]:
    """Turn the patterns of a Files field into one regular expression."""
    parts = [fnmatch.translate(p.removeprefix("./")) for p in patterns.split()]
    return re.compile("|".join(parts) or r"(?!)")


class CopyrightFile:
    """The licences named by a Debian copyright file."""

    def __init__(self, text: str) -> None:
        """Parse the stanzas, or guess from the text when it has none."""
        self.stanzas: list[tuple[re.Pattern[str], str, bool]] = []
        self.main = ""
        for stanza in re.split(r"\n\s*\n", text):
            files = re.search(r"^Files:\s*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE)
            licence = re.search(r"^License:[ \t]*(.*)", stanza, re.MULTILINE)
            if files and licence:
                names, terms = files[1], licence[1].strip()
                if all(n.startswith("debian/") for n in names.split()):
                    continue
                if "*" in names.split():
                    self.main = terms
                self.stanzas.append((_glob_regex(names), terms, is_permissive(terms)))
        if not self.main and self.stanzas:
            self.main = self.stanzas[0][1]
        if not self.stanzas:
            self.main = self._guess(text)

    @staticmethod
    def _guess(text: str) -> str:
        """Name the licence of a free-form copyright file; empty when unsure."""
        upstream = re.split(r"(?i)debian packaging", text)[0]
        if re.search(r"General Public|Mozilla Public|Eclipse Public|CDDL|Artistic", upstream, re.I):
            return ""
        for name, mark in (("Apache-2.0", r"Apache License"), ("Expat", r"Permission is hereby granted, free"),
                           ("BSD", r"Redistribution and use in source"), ("ISC", r"Permission to use, copy, modify")):
            if re.search(mark, upstream):
                return name
        return ""

    def package_ok(self) -> bool:
        """Tell whether the package's main licence is permissive."""
        return is_permissive(self.main)

    def whole_ok(self) -> bool:
        """Tell whether every upstream stanza is permissive."""
        return self.package_ok() and all(ok for _, _, ok in self.stanzas)

    def file_ok(self, path: str) -> bool:
        """Tell whether the last stanza that names a file is permissive."""
        verdict = self.package_ok()
        for pattern, _, ok in self.stanzas:
            if pattern.match(path):
                verdict = ok
        return verdict
