"""Prepare a sandbox once, and start others from a copy of it."""

import os

from opensandbox_sync import SandboxClient


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client:
        with client.create("python:3.12") as sandbox:
            sandbox.commands.run("echo prepared > state.txt", check=True)
            snapshot = client.snapshots.wait_ready(sandbox.snapshot("example").id)
            print("the snapshot is", snapshot.state)
        try:
            for number in (1, 2):
                with client.create(snapshot_id=snapshot.id) as copy:
                    state = copy.commands.run(f"echo {number} >> state.txt; cat state.txt").stdout.split()
                    print(f"copy {number}:", " ".join(state))
            print("listed:", snapshot.id in [found.id for found in client.snapshots.list(name="example")])
        finally:
            client.snapshots.delete(snapshot.id)


if __name__ == "__main__":
    main()
