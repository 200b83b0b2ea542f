"""Which names of a tree to leave out: patterns as in a ``.gitignore``. Pure: it looks at no file."""

from __future__ import annotations

import re
from typing import Iterable, List, Tuple

from ..errors import InvalidArgumentError


class Ignore:
    """Patterns as in a ``.gitignore``; paths are relative to the tree's root, with ``/`` between their names.

    ``name`` and ``*.pyc`` match at any depth, ``/name`` and ``a/b`` from the root on, ``name/`` directories only;
    ``*``, ``?`` and ``[a-z]`` stop at a ``/``, ``**`` does not; ``!pattern`` takes back what an earlier pattern left
    out. The last pattern that matches decides, and what is below a directory that is left out is left out with it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        if isinstance(patterns, (str, bytes)) or not isinstance(patterns, Iterable):
            raise InvalidArgumentError(f"ignore must be a list of patterns, such as ['*.pyc'], not {patterns!r}")
        self._rules = [rule for pattern in patterns for rule in _rules(pattern)]

    def matches(self, path: str, is_directory: bool) -> bool:
        """Whether ``path`` itself is left out; the directories above it are not looked at."""
        found = False
        for expression, only_directories, negated in self._rules:
            if found == negated and (is_directory or not only_directories) and expression.fullmatch(path):
                found = not negated
        return found

    def covers(self, path: str, is_directory: bool) -> bool:
        """Whether ``path`` or a directory above it is left out."""
        names = path.split("/")
        above = ("/".join(names[:count]) for count in range(1, len(names)))
        return any(self.matches(parent, True) for parent in above) or self.matches(path, is_directory)


_Rule = Tuple["re.Pattern[str]", bool, bool]
_CLASS = re.compile(r"\[([!^]?)((?:\\.|\]|[^\]\\])(?:\\.|[^\]\\])*)\]")


def _rules(pattern: str) -> List[_Rule]:
    """The rule of one line; none for a blank line or a comment."""
    if not isinstance(pattern, str):
        raise InvalidArgumentError(f"ignore must be a list of texts; {pattern!r} is none")
    text = pattern.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    if not text or text.startswith("#"):
        return []
    negated = text.startswith("!")
    text = text[negated:]
    only_directories = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    try:
        expression = ("" if anchored else "(?:.*/)?") + _translate(text[text.startswith("/") :])
        return [(re.compile(expression, re.S), only_directories, negated)] if text else []
    except re.error as cause:
        raise InvalidArgumentError(f"ignore: {pattern!r} is not a pattern: {cause}") from cause


def _translate(text: str) -> str:
    found, at = "", 0
    while at < len(text):
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            found, at = found + "(?:.*/)?", at + 3
        elif text[at:] == "**" and (at == 0 or text[at - 1] == "/"):
            found, at = found + ".*", at + 2
        elif text[at] == "*":
            found, at = found + "[^/]*", at + 1
        elif text[at] == "?":
            found, at = found + "[^/]", at + 1
        elif text[at] == "[" and (one := _CLASS.match(text, at)):
            inside = re.sub(r"([\[&~|])", r"\\\1", re.sub(r"^\]", r"\]", one.group(2)))
            found, at = found + f"(?!/)[{'^' if one.group(1) else ''}{inside}]", one.end()
        else:
            at += text[at] == "\\" and at + 1 < len(text)
            found, at = found + re.escape(text[at]), at + 1
    return found
