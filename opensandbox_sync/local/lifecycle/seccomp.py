"""A filter of system calls: no user namespaces, no keyrings and no descriptors of others for what runs in a sandbox.

In a user namespace of its own a process has every capability, and much of the kernel is within its reach: control
groups can be mounted there, and where it is root outside, they obey it. Keyrings belong to users, not to sandboxes.
The daemon's descriptors belong to the machine's network.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import List, NamedTuple, Optional

_LOAD, _IF_EQUAL, _IF_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in what the kernel shows of a call
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_CLONE_NEWUSER = 0x10000000
_X32 = 0x40000000
_CLONE3 = 435
_PIDFD_GETFD = 438  # newer calls have one number everywhere


class _Machine(NamedTuple):
    architecture: int
    namespaces: List[int]  # clone, unshare: their flags come first
    keys: List[int]  # add_key, request_key, keyctl


_MACHINES = {
    "x86_64": _Machine(0xC000003E, [56, 272], [248, 249, 250]),
    "aarch64": _Machine(0xC00000B7, [220, 97], [217, 218, 219]),
}


def program() -> Optional[bytes]:
    """The filter for this machine, or None where the numbers of the calls are not known."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return None
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, machine.architecture, then=1),
        _step(_RETURN, _FAIL | errno.EPERM),  # another architecture's calls have other numbers
        _step(_LOAD, _NUMBER),
        _step(_IF_LEAST, _X32, otherwise=1),
        _step(_RETURN, _FAIL | errno.ENOSYS),
        # Its flags lie in memory, where a filter cannot look; told that it is not there, everybody takes clone.
        _step(_IF_EQUAL, _CLONE3, otherwise=1),
        _step(_RETURN, _FAIL | errno.ENOSYS),
    ]
    for number in (*machine.keys, _PIDFD_GETFD):
        code += [_step(_IF_EQUAL, number, otherwise=1), _step(_RETURN, _FAIL | errno.EPERM)]
    for number in machine.namespaces:
        code += [
            _step(_IF_EQUAL, number, otherwise=4),
            _step(_LOAD, _FIRST_ARGUMENT),
            _step(_IF_ANY_BIT, _CLONE_NEWUSER, otherwise=1),
            _step(_RETURN, _FAIL | errno.EPERM),
            _step(_RETURN, _ALLOW),
        ]
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction: the numbers say how many to skip."""
    return struct.pack("=HBBI", code, then, otherwise, value)
