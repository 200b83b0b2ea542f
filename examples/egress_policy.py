"""Egress: a sandbox that may reach two names, and its policy changed while it runs.

Runs on the embedded server (extra ``local``), which keeps and reports a policy and enforces none; or on a real one with
an egress sidecar:
``OPEN_SANDBOX_DOMAIN=box.example.com OPEN_SANDBOX_API_KEY=… python examples/egress_policy.py``
"""

import os

from opensandbox_sync import NetworkPolicy, NetworkRule, Sandbox, SandboxClient

POLICY = NetworkPolicy(
    default_action="deny",
    egress=[NetworkRule("allow", "api.test"), NetworkRule("allow", "files.test")],
)


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client, client.create("python:3.12", network_policy=POLICY) as sandbox:
        print("enforced by", sandbox.egress.get().enforcement_mode)
        show("created", sandbox)

        # New rules go before the old ones, and replace those for the same target.
        sandbox.egress.allow("*.example.com")
        sandbox.egress.deny("api.test")
        show("patched", sandbox)

        sandbox.egress.delete(["api.test"])
        show("deleted", sandbox)

        sandbox.egress.replace(NetworkPolicy(default_action="allow", egress=[NetworkRule("deny", "10.0.0.0/8")]))
        show("replaced", sandbox)


def show(when: str, sandbox: Sandbox) -> None:
    policy = sandbox.egress.get().policy
    assert policy is not None
    rules = [f"{rule.action} {rule.target}" for rule in policy.egress]
    print(f"{when}: {'; '.join(rules)}; else {policy.default_action}")


if __name__ == "__main__":
    main()
