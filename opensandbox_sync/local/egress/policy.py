"""The egress policy of one sandbox: rules by target, merged as the real sidecar merges them."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

MAX_RULES = 4096


class PolicyError(ValueError):
    """A policy that cannot be taken; the words are the sidecar's."""


class TooManyRulesError(PolicyError):
    """More than MAX_RULES rules in all."""


class Rule(NamedTuple):
    action: str
    target: str

    @classmethod
    def parse(cls, raw: Any) -> Rule:
        """Trims and lower-cases the action (empty is deny), trims the target and keeps its case."""
        fields = _fields(raw, "EgressRule", ("action", "target"))
        action = fields["action"].strip().lower() or "deny"
        if action not in ("allow", "deny"):
            raise PolicyError(f'unsupported action "{action}"')
        target = fields["target"].strip()
        if not target:
            raise PolicyError("egress target cannot be empty")
        return cls(action, target)

    def matches(self, name: str) -> bool:
        """`*.example.com` matches every depth below example.com, and not example.com itself."""
        target = self.target.lower().rstrip(".")
        return name.endswith(target[1:]) if target.startswith("*.") else name == target


def _fields(raw: Any, kind: str, names: Sequence[str]) -> Dict[str, str]:
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise PolicyError(f"json: cannot unmarshal {_go_kind(raw)} into Go value of type policy.{kind}")
    fields = {name: "" if raw.get(name) is None else raw[name] for name in names}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise PolicyError(
                f"json: cannot unmarshal {_go_kind(value)} into Go struct field {kind}.{name} of type string"
            )
    return fields


def _go_kind(value: Any) -> str:
    kinds = ((bool, "bool"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


class Policy(NamedTuple):
    """Immutable: a change makes a new one, so a reader never sees half of it."""

    default_action: str = "deny"
    rules: Tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, raw: Any) -> Policy:
        """Reads `{"defaultAction", "egress"}`; null and {} are deny-all. No default action is refused."""
        default = _fields(raw, "NetworkPolicy", ("defaultAction",))["defaultAction"].strip().lower()
        rules = (raw or {}).get("egress")
        if rules is None:
            rules = []
        if not isinstance(rules, list):
            raise PolicyError(
                f"json: cannot unmarshal {_go_kind(rules)} into Go struct field NetworkPolicy.egress of type "
                "[]policy.EgressRule"
            )
        return cls(default or "deny", tuple(Rule.parse(rule) for rule in rules)).limited()

    def limited(self) -> Policy:
        if len(self.rules) > MAX_RULES:
            raise TooManyRulesError(f"egress rule total count {len(self.rules)} exceeds limit {MAX_RULES}")
        return self

    def patched(self, rules: Iterable[Rule]) -> Policy:
        """Puts the new rules first (the first for a target wins), then the old ones for other targets."""
        fresh: Dict[str, Rule] = {}
        for rule in rules:
            fresh.setdefault(rule.target.lower(), rule)
        kept = [rule for rule in self.rules if rule.target.lower() not in fresh]
        return self._replace(rules=(*fresh.values(), *kept)).limited()

    def without(self, targets: Iterable[str]) -> Policy:
        """Removes every rule for these targets, whatever their case; unknown ones are ignored."""
        gone = {target.strip().lower() for target in targets}
        return self._replace(rules=tuple(rule for rule in self.rules if rule.target.lower() not in gone))

    def allows(self, host: str) -> bool:
        """Whether the first rule for this host, or else the default, allows it; `*.a.b` is any host below."""
        name = host.lower().rstrip(".")
        if name.startswith("*."):
            name = "probe." + name[2:]
        first: Optional[Rule] = next((rule for rule in self.rules if rule.matches(name)), None)
        return (first.action if first else self.default_action) == "allow"

    @property
    def permits_nothing(self) -> bool:
        return self.default_action == "deny" and all(rule.action == "deny" for rule in self.rules)

    @property
    def mode(self) -> str:
        if self.rules:
            return "enforcing"
        return {"allow": "allow_all", "deny": "deny_all"}.get(self.default_action, "enforcing")

    def to_json(self) -> Dict[str, Any]:
        # The real sidecar sends null for no rules, and the official SDK 1.1.1 dies of it: always a list here.
        rules: List[Dict[str, str]] = [rule._asdict() for rule in self.rules]
        return {"defaultAction": self.default_action, "egress": rules}
