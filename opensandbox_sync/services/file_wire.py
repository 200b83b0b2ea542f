"""What the file routes take and give: paths, modes, and what is told of a file."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import quote

from ..codec import SnakeCaseModel, decode
from ..errors import ApiError, BadRequestError, InvalidArgumentError, ProtocolError
from ..models import RemotePath, as_text, one_line

Mode = Union[int, str]

_DECIMAL_SLIPS = (400, 440, 444, 500)  # legal values (0o620, 0o670, 0o674, 0o764) that nobody means
_OCTAL = re.compile(r"(?:0o)?[0-7]{1,4}")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)
_QUERY_BYTES = 6000  # of paths in one URL: proxies take 8 KiB


@dataclass
class FileInfo(SnakeCaseModel):
    """What the sandbox's file system says of a path; a link is told as itself.

    ``type`` is ``file``, ``directory``, ``symlink`` or ``other``; ``size`` is in bytes; ``mode`` holds the permission
    bits (``0o644``); ``created_at`` is when owner, mode or content last changed. Isolated sessions leave out owner,
    group and ``created_at``.
    """

    path: str
    type: str
    size: int
    mode: int
    modified_at: Optional[datetime] = None
    created_at: Optional[datetime] = None
    owner: Optional[str] = None
    group: Optional[str] = None

    def __repr__(self) -> str:
        return f"<FileInfo {self.path!r} {self.type}, {self.size} bytes, {self.mode:#o}>"


class FileList(List[FileInfo]):
    """A listing: a list that a notebook shows as a table, and its repr in one line."""

    def __repr__(self) -> str:
        return f"<FileList of {len(self)}: {one_line(', '.join(info.path for info in self))}>"

    def _repr_html_(self) -> str:
        from ..notebook import files_html

        return files_html(self)


@dataclass
class WriteEntry:
    """One file for ``FileService.write_many``; its fields are the arguments of ``FileService.write``."""

    path: RemotePath
    data: Any
    mode: Optional[Mode] = 0o644
    owner: Optional[str] = None
    group: Optional[str] = None
    encoding: str = "utf-8"


def info_of(data: Any) -> FileInfo:
    # 0o644 is the number 644 on the wire.
    mode = data.get("mode") if isinstance(data, dict) else None
    if mode is not None:
        if isinstance(mode, bool) or not isinstance(mode, int) or not _OCTAL.fullmatch(str(mode)):
            raise ProtocolError(f"the daemon sent {mode!r} where a mode's octal digits belong")
        data = {**data, "mode": int(str(mode), 8)}
    return decode(FileInfo, data)


def infos_of(data: Any) -> FileList:
    if data is None:  # Go's way to write an empty list
        return FileList()
    if not isinstance(data, list):
        raise ProtocolError(f"the daemon sent {type(data).__name__} where a list of files belongs")
    return FileList(info_of(item) for item in data)


def checked_path(path: Any, name: str = "path") -> str:
    """A path in the sandbox as text. An empty one is refused: to some routes it is the daemon's own directory."""
    text = as_text(path)
    if not isinstance(text, str) or not text:
        raise InvalidArgumentError(f"{name} must be a path in the sandbox, such as '/tmp/a.txt'; got {path!r}")
    return checked_name(name, text)


def checked_name(name: str, value: Any) -> str:
    """Text that is a path, a part of one, or a user's name."""
    text = checked_text(name, value)
    if "\0" in text:
        raise InvalidArgumentError(f"{name} {value!r} has a NUL, which no name can hold")
    return text


def checked_text(name: str, value: Any, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or may_be_empty):
        kind = repr(value) if value == "" else type(value).__name__  # it may be a file's content
        raise InvalidArgumentError(f"{name} must be text{'' if may_be_empty else ' that is not empty'}, not {kind}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as cause:
        # Such as a name from os.listdir() that is not UTF-8: JSON would carry another one.
        raise InvalidArgumentError(f"{name} {value!r} is not Unicode, and the daemon takes no other text") from cause
    return value


def checked_encoding(encoding: Any) -> str:
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError, ValueError) as cause:  # the last for a NUL, or half of a surrogate pair, in it
        raise InvalidArgumentError(f"encoding {encoding!r} is not known") from cause
    return str(encoding)


def wire_mode(mode: Any) -> int:
    """The mode's octal digits as the number that they spell, which is what the daemon reads."""
    wanted = f"mode must be octal, such as 0o644 or '644', not {mode!r}"
    if isinstance(mode, str):
        if not _OCTAL.fullmatch(mode):
            raise InvalidArgumentError(wanted)
        number = int(mode, 8)
    elif isinstance(mode, int) and not isinstance(mode, bool):
        number = mode
        if number in _DECIMAL_SLIPS:
            raise InvalidArgumentError(f"{wanted}, which is {mode:#o}; write 0o{mode} for what it looks like")
    else:
        raise InvalidArgumentError(wanted)
    if number > 0o777 or number < 0:
        digits = str(mode)
        # Such as 644 or 755. It is not 512 that somebody meant by 0o1000.
        slip = number == mode and re.fullmatch("[0-7]{3}", digits) and list(digits) == sorted(digits, reverse=True)
        hint = f"; write 0o{mode} for what it looks like" if slip else ""
        raise InvalidArgumentError(f"{wanted}: only permission bits, 0o777 at most{hint}")
    if not number:
        raise InvalidArgumentError(f"{wanted}: the daemon takes a mode of 0 for none")
    return int(f"{number:o}")


def permissions(mode: Optional[Mode], owner: Optional[str], group: Optional[str]) -> Dict[str, Any]:
    """What is given of a mode, an owner and a group, as the daemon reads it."""
    fields: Dict[str, Any] = {} if mode is None else {"mode": wire_mode(mode)}
    for name, value in (("owner", owner), ("group", group)):
        if isinstance(value, int):
            raise InvalidArgumentError(f"{name} must be a name, which is what the daemon looks up, not {value!r}")
        if value is not None:
            fields[name] = checked_name(name, value)
    return fields


def range_header(start: Any, end: Any) -> Dict[str, str]:
    """The header that asks for ``[start:end]``; none for the whole."""
    for name, value in (("start", start), ("end", end)):
        if isinstance(value, bool) or not isinstance(value, (int, type(None))) or (name == "start" and value is None):
            raise InvalidArgumentError(f"{name} must be a number of bytes, not {value!r}")
    if end is not None and (start < 0 or end <= start):
        raise InvalidArgumentError(f"end must be above start, and start not negative; got start={start}, end={end}")
    if start < 0:
        return {"Range": f"bytes={start}"}
    if not start and end is None:
        return {}
    return {"Range": f"bytes={start}-{'' if end is None else end - 1}"}


def content_range(headers: Mapping[str, str]) -> Optional[Tuple[int, int, Optional[int]]]:
    """(start, end, size of the file where it is told) that an answer says it holds; ``end`` is the one of a slice."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if not found:
        return None
    first, last, size = found.groups()
    return int(first), int(last) + 1, None if size == "*" else int(size)


def part_length(path: str, asked: Mapping[str, str], status: int, headers: Mapping[str, str]) -> Optional[int]:
    """How many bytes an answer must bring; None where it does not say. Raises where it is not what was asked for.

    ``asked`` is what ``range_header`` gave. An empty file has no parts, and comes as a whole.
    """
    wanted = asked.get("Range")
    if (status == 206) != (wanted is not None):
        if wanted is None:
            raise ProtocolError(f"could not read {path}: the whole file was asked for, and a part came")
        return 0
    told = length_of(headers)
    if wanted is None:
        return told
    held = content_range(headers)
    if held is None or held[1] <= held[0] or not _answers(wanted, *held) or told not in (None, held[1] - held[0]):
        got = f"{headers.get('Content-Range')!r}, {'some' if told is None else told} bytes"
        raise ProtocolError(f"could not read {path}: a part was asked for ({wanted}), and another came ({got})")
    return held[1] - held[0]


def _answers(wanted: str, start: int, end: int, size: Optional[int]) -> bool:
    """Whether a part is the one that ``wanted`` asks for; a file that ends before it does shortens it."""
    first, last = wanted[len("bytes=") :].split("-")
    if not first:
        if size is None:
            return end - start <= int(last)
        return (start, end) == (max(0, size - int(last)), size)
    stop = int(last) + 1 if last else None
    if size is not None and (stop is None or stop > size):
        stop = size
    return start == int(first) and (stop is None or end == stop or (size is None and end < stop))


def length_of(headers: Mapping[str, str]) -> Optional[int]:
    """What an answer says of its own length."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def says_missing(error: ApiError) -> bool:
    """Whether it means that there is no such file, which the daemon tells with a 500, too."""
    return "no such file or directory" in error.body or ": not a directory" in error.body


def directory_error(path: str) -> BadRequestError:
    # The daemon answers 200 then, with a length of about 2**63 and no body.
    return BadRequestError(f"could not read {path}: it is a directory; use list() or download_dir()", status_code=200)


def by_length(paths: Sequence[str]) -> Iterator[List[str]]:
    """``paths`` in groups that fit into a URL."""
    group: List[str] = []
    held = 0
    for path in paths:
        size = len("&path=" + quote(path, safe=""))
        if group and held + size > _QUERY_BYTES:
            yield group
            group, held = [], 0
        group.append(path)
        held += size
    if group:
        yield group


def named(paths: Sequence[str]) -> str:
    """The paths in words, for an error."""
    return paths[0] if len(paths) == 1 else f"{len(paths)} paths, the first of them {paths[0]}"
