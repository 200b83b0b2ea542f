"""Patterns as in a .gitignore. Each case says what git does."""

from __future__ import annotations

from typing import Any, List

import pytest

from opensandbox_sync.errors import InvalidArgumentError
from opensandbox_sync.services.ignore import Ignore


@pytest.mark.parametrize(
    ("patterns", "covered", "kept"),
    [
        ([], "", "a"),
        (["*.pyc"], "a.pyc sub/a.pyc .pyc", "a.py a.pyc.txt"),
        (["build"], "build build/x sub/build sub/build/x", "builds rebuild"),
        (["/build"], "build build/x", "sub/build"),
        (["a/b"], "a/b a/b/c", "b x/a/b"),
        (["a/**/b"], "a/b a/x/b a/x/y/b", "b a/bb"),
        (["**/b"], "b a/b a/x/b", "bb"),
        (["a/**"], "a/x a/x/y", "a b/a"),
        (["a**b"], "ab axxb", "a/b"),
        (["?.txt"], "a.txt é.txt sub/b.txt", "ab.txt .txt"),
        (["[ab].c"], "a.c b.c", "c.c"),
        (["[!a-m].c", "[^x]"], "z.c b", "a.c x"),
        (["[]a]"], "] a", "b"),
        (["*", "!keep", "!*/"], "a sub/a", "keep sub/keep"),
        (["*.log", "!important.log"], "a.log", "important.log sub/important.log"),
        (["!a", "a"], "a", "b"),
        (["# comment", "", "   "], "", "# a"),
        (["\\#a", "\\!b"], "#a !b", "a b"),
        (["\\*.c"], "*.c", "a.c"),
        (["a.c"], "a.c", "abc"),
        (["a(b|c){2}+$^"], "a(b|c){2}+$^", "ab"),
        (["[a-"], "[a-", "a"),
        (["*.txt\n", "*.md\r\n"], "a.txt a.md", "a.rst"),
        (["/"], "", "a a/b"),
    ],
)
def test_what_a_pattern_covers(patterns: List[str], covered: str, kept: str) -> None:
    ignore = Ignore(patterns)
    assert [path for path in covered.split() if not ignore.covers(path, False)] == []
    assert [path for path in kept.split() if ignore.covers(path, False)] == []


def test_a_pattern_with_a_slash_at_its_end_is_for_directories() -> None:
    ignore = Ignore(["out/", "a/b/"])
    assert ignore.covers("out", True) and ignore.covers("x/out", True) and ignore.covers("out/file", False)
    assert ignore.covers("a/b", True)
    assert not ignore.covers("out", False) and not ignore.covers("a/b", False) and not ignore.covers("x/a/b", True)


def test_what_is_below_an_ignored_directory_cannot_be_taken_back() -> None:
    ignore = Ignore(["build/", "!build/keep"])
    assert ignore.covers("build/keep", False)
    assert not ignore.matches("build/keep", False)


def test_spaces_count_only_where_they_are_escaped() -> None:
    ignore = Ignore(["a  ", "b\\ "])
    assert ignore.covers("a", False) and ignore.covers("b ", False)
    assert not ignore.covers("a  ", False) and not ignore.covers("b", False)


@pytest.mark.parametrize("patterns", ["*.pyc", b"x", None, 5, [5], [None], ["[z-a]"]])
def test_what_is_no_pattern_is_refused(patterns: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="ignore"):
        Ignore(patterns)
