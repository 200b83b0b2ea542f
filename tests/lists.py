"""What scripted lifecycle servers answer, for the tests of snapshots, templates and pools."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from opensandbox_sync import SandboxClient

from .wire import Peer, Piece, Request, Respond, whole


@contextlib.contextmanager
def peer_server(respond: Respond, **settings: Any) -> Iterator[Tuple[SandboxClient, Peer]]:
    """A client whose lifecycle server is a ``Peer``."""
    peer = Peer(respond)
    try:
        with SandboxClient(**{"domain": peer.address, "api_key": "key-of-the-server", **settings}) as client:
            yield client, peer
    finally:
        peer.stop()


def pages(items: List[Dict[str, Any]]) -> Respond:
    """Two items a page, whatever size was asked for; the first of each further page is the last of the one before, as
    when something is created between the two calls.
    """

    def respond(request: Request) -> Iterable[Piece]:
        number = int(request.query["page"])
        shown = items[max(0, (number - 1) * 2 - 1) : number * 2]
        pagination = {"page": number, "pageSize": 2, "hasNextPage": number * 2 < len(items)}
        return whole(200, {"items": shown, "pagination": pagination})

    return respond


def one_after_another(*answers: Iterable[Piece]) -> Respond:
    """Each request gets the next answer, and the last one for ever."""
    left = [list(answer) for answer in answers]
    return lambda request: left.pop(0) if len(left) > 1 else left[0]
