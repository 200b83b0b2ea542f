"""The sidecar's routes, as a function from a request to an answer. Errors are plain text, as Go's."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .policy import Policy, PolicyError, Rule, TooManyRulesError
from .vault import Vault, VaultError

AUTH_HEADER = "OPENSANDBOX-EGRESS-AUTH"
_MAX_BODY = 1 << 20
_MAX_ECHO = 200


class Answer(NamedTuple):
    status: int
    headers: List[Tuple[str, str]]
    body: bytes


def _json(value: Any, status: int = 200) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
    return Answer(status, [("Content-Type", "application/json")], body)


def _text(status: int, message: str, headers: Tuple[Tuple[str, str], ...] = ()) -> Answer:
    shown = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"), *headers]
    return Answer(status, shown, (message + "\n").encode("utf-8", "replace"))


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Sidecar:
    """One sandbox's egress sidecar; callers must send its `token` in the header OPENSANDBOX-EGRESS-AUTH."""

    def __init__(self, policy: Policy, *, transparent: bool, has_network: bool = True) -> None:
        self._has_network = has_network
        self.token = secrets.token_urlsafe(24)
        self._policy = policy
        self._vault = Vault()
        self._transparent = transparent
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, token: Optional[str], body: bytes) -> Answer:
        if path == "/healthz":
            return Answer(200, [("Content-Type", "text/plain; charset=utf-8")], b"ok")
        if path == "/credential-vault/_active":
            return _text(403, "forbidden") if method == "GET" else _not_allowed("GET")
        resource = path.strip("/").split("/")
        if resource[0] not in ("policy", "credential-vault") or (resource[0] == "policy" and path != "/policy"):
            return _text(404, "404 page not found")
        if not hmac.compare_digest((token or "").encode("utf-8", "replace"), self.token.encode()):
            return _text(401, "unauthorized")
        try:
            with self._lock:
                if resource[0] == "policy":
                    return self._on_policy(method, body[:_MAX_BODY])
                return self._on_vault(method, resource[1:], body[:_MAX_BODY])
        except TooManyRulesError as error:
            return _text(413, str(error))
        except (VaultError, _RefusedError) as error:
            return _text(error.status, str(error))

    # policy

    def _on_policy(self, method: str, body: bytes) -> Answer:
        text = body.decode("utf-8", "replace").strip()
        if method == "GET":
            return _json({**self._status(self._policy), "policy": self._policy.to_json()})
        if method in ("POST", "PUT"):
            return self._replace(text)
        if method == "PATCH":
            return self._patch(text)
        if method == "DELETE":
            return self._delete(text)
        return _not_allowed("GET, POST, PUT, PATCH, DELETE")

    def _status(self, policy: Policy) -> Dict[str, Any]:
        # "none" and "no-network" are ours: the real ones are "dns" and "dns+nft". What nothing enforces must show.
        told = {"status": "ok", "mode": policy.mode, "enforcementMode": "none"}
        if self._has_network:
            return told
        if policy.permits_nothing:
            return {**told, "enforcementMode": "no-network"}
        reason = "the sandbox was created without any network and stays so: what this policy allows is out of reach"
        return {**told, "reason": reason}

    def _replace(self, text: str) -> Answer:
        if not text:
            self._commit(Policy())
            reason = "policy reset to default deny-all"
            return _json({"status": "ok", "mode": "deny_all", "reason": reason})
        return self._commit(_parse("invalid policy", Policy.parse, text))

    def _patch(self, text: str) -> Answer:
        rules = _parse("invalid patch rules", lambda raw: [Rule.parse(rule) for rule in _array(raw)], text)
        return self._commit(self._policy.patched(rules))

    def _delete(self, text: str) -> Answer:
        targets = _parse("invalid delete targets", lambda raw: [_string(t) for t in _array(raw)], text)
        policy = self._policy.without(targets)
        if policy == self._policy:
            return _json({**self._status(policy), "reason": "no matching targets found"})
        return self._commit(policy)

    def _commit(self, policy: Policy) -> Answer:
        try:
            self._vault.check_policy(policy)
        except VaultError as error:
            raise _RefusedError(400, f"credential vault policy validation: {error}") from None
        self._policy = policy
        return _json(self._status(policy))

    # vault

    def _on_vault(self, method: str, below: List[str], body: bytes) -> Answer:
        if below:
            return self._below_vault(method, below)
        if method == "GET":
            return _json(self._vault.state())
        if method not in ("POST", "PATCH", "DELETE"):
            return _not_allowed("GET, POST, PATCH, DELETE")
        if not self._transparent:
            raise _RefusedError(412, "credential vault requires transparent mitmproxy")
        if method == "DELETE":
            self._vault.delete()
            return Answer(204, [], b"")
        kind = "request" if method == "POST" else "mutation request"
        request = _parse(f"invalid credential vault {kind}", _object, body.decode("utf-8", "replace"))
        if method == "POST":
            return _json(self._vault.create(request, self._policy), 201)
        return _json(self._vault.patch(request, self._policy))

    def _below_vault(self, method: str, below: List[str]) -> Answer:
        kind, name = below[0], "/".join(below[1:]).strip()
        if kind not in ("credentials", "bindings"):
            return _text(404, "not found")
        if method != "GET":
            return _not_allowed("GET")
        state = self._vault.state()
        if len(below) == 1:
            return _json({"revision": state["revision"], kind: state[kind]})
        found = next((item for item in state[kind] if item["name"] == name), None)
        return _json(found) if found else _text(404, f"{kind[:-1]} not found")


def _not_allowed(allowed: str) -> Answer:
    return _text(405, "method not allowed", (("Allow", allowed),))


def _parse(prefix: str, read: Any, text: str) -> Any:
    if not text.strip():
        raise _RefusedError(400, f"{prefix}: EOF" if "vault" in prefix else "empty body")
    try:
        return read(json.loads(text))
    except TooManyRulesError:
        raise
    except json.JSONDecodeError as error:
        raise _RefusedError(400, f"{prefix}: {error}") from None
    except RecursionError:
        raise _RefusedError(400, f"{prefix}: nested too deep") from None
    except PolicyError as error:
        # A rule's own fault is found by the real sidecar only after the merge, and told with another prefix.
        if prefix == "invalid patch rules" and not str(error).startswith(("json:", "empty")):
            prefix = "invalid merged policy"
        raise _RefusedError(400, f"{prefix}: {error}"[:_MAX_ECHO]) from None


def _array(raw: Any) -> List[Any]:
    if raw is not None and not isinstance(raw, list):
        raise PolicyError("json: cannot unmarshal into Go value of type array")
    if not raw:
        raise PolicyError("empty array")
    return list(raw)


def _string(raw: Any) -> str:
    if not isinstance(raw, str):
        raise PolicyError("json: cannot unmarshal into Go value of type string")
    return raw


def _object(raw: Any) -> Dict[str, Any]:
    if not isinstance(raw, dict):
        raise PolicyError("json: cannot unmarshal into Go value of type object")
    return raw
