"""Read licences and say which files are under permissive terms only."""

from __future__ import annotations

import fnmatch
import re

_PERMISSIVE = re.compile(
    r"^(?:mit|expat|x11|isc|0bsd|bsd|[23]-clause-bsd|apache|asl-?2|zlib|libpng|unlicense|cc0|bsl-1|boost|psf|python|"
    r"public-domain|pd$|postgresql|curl|ncsa|uoi-ncsa|unicode|hpnd|blessing|ijg|icu|llvm|tcl|lua)",
    re.IGNORECASE)
_COPYLEFT = re.compile(
    r"gpl|mpl|epl|cddl|cc-by|artistic|sspl|busl|elastic|eupl|osl|qpl|cpl|gfdl|non-?free|proprietary|jsr",
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
        if not any(_PERMISSIVE.match(c) and not _COPYLEFT.search(c) for c in choices if c):
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
