"""Start a job, go away, and come back to it: only its sandbox's id and its own are needed, from any program."""

import os

from opensandbox_sync import SandboxClient

JOB = "for n in 1 2 3; do echo part $n of $PARTS; sleep 0.3; done; exit 4"


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client, client.create("python:3.12") as sandbox:
        job = sandbox.commands.start(JOB, env={"PARTS": "3"}, timeout=60)
        print("started", flush=True)

        again = client.connect(sandbox.id).commands.get(job.id)
        print("running:", again.status().running, flush=True)
        for text in again.follow():
            print(text, end="", flush=True)
        print("exit code", again.wait())


if __name__ == "__main__":
    main()
