"""File name patterns: `* ** ? [a-z] {a,b} !(x)`, matched against a name without directories."""

from __future__ import annotations

import re
from typing import Callable, Tuple


class BadPattern(ValueError):
    pass


def name_matcher(pattern: str) -> Callable[[str], bool]:
    """A test of base names. A leading `**/` may stand for nothing; any other `/` never matches a name."""
    while pattern.startswith("**/"):
        pattern = pattern[3:]
    expression, rest = _translate(pattern, "")
    if rest:
        raise BadPattern("syntax error in pattern")
    compiled = re.compile(expression, re.S)
    return lambda name: compiled.fullmatch(name) is not None


def _translate(pattern: str, stops: str) -> Tuple[str, str]:
    """The regular expression of a pattern up to one of `stops`, and what is left of the pattern."""
    found = ""
    while pattern and pattern[0] not in stops:
        if pattern.startswith("!("):
            choices, pattern = _choices(pattern[2:], ")", "|")
            found += f"(?!(?:{choices})$).*"
        elif pattern[0] == "{":
            choices, pattern = _choices(pattern[1:], "}", ",")
            found += f"(?:{choices})"
        elif pattern[0] == "[":
            one, pattern = _class(pattern)
            found += one
        elif pattern == "\\" or pattern[0] == "}":
            raise BadPattern("syntax error in pattern")
        elif pattern[0] == "\\":
            found, pattern = found + re.escape(pattern[1]), pattern[2:]
        else:
            found += {"*": ".*", "?": "."}.get(pattern[0], re.escape(pattern[0]))
            pattern = pattern[1:]
    return found, pattern


def _choices(pattern: str, end: str, separator: str) -> Tuple[str, str]:
    choices = []
    while True:
        one, pattern = _translate(pattern, end + separator)
        choices.append(one)
        if not pattern:
            raise BadPattern("syntax error in pattern")
        stop, pattern = pattern[0], pattern[1:]
        if stop == end:
            return "|".join(choices), pattern


def _class(pattern: str) -> Tuple[str, str]:
    found = re.match(r"\[([!^]?)(\]?[^\]]*)\]", pattern)
    if not found or not found.group(2):
        raise BadPattern("syntax error in pattern")
    inside = re.sub(r"([\\\[&~|])", r"\\\1", found.group(2))
    try:
        re.compile(f"[{inside}]")
    except re.error:
        raise BadPattern("syntax error in pattern") from None
    return f"[{'^' if found.group(1) else ''}{inside}]", pattern[found.end() :]
