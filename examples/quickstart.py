"""A sandbox from its creation to its end: one command's output as it comes, and its exit code.

Runs on the embedded server (extra ``local``: not isolated, a trial on this machine), or on a real one:
``OPEN_SANDBOX_DOMAIN=box.example.com OPEN_SANDBOX_API_KEY=… python examples/quickstart.py``
"""

import os

from opensandbox_sync import NotFoundError, SandboxClient

COMMAND = "for step in 1 2 3; do echo step $step; sleep 0.5; done; echo done >&2; exit 7"


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client:
        with client.create("python:3.12", on_progress=print) as sandbox:
            execution = sandbox.commands.run(COMMAND, on_stdout=show, on_stderr=show)
            print("exit code", execution.exit_code)
        try:
            print("the sandbox is", sandbox.info().state)
        except NotFoundError:
            print("the sandbox is gone")


def show(text: str) -> None:
    """Print a line of output, whether or not the server keeps its line end."""
    print("  |", text.rstrip("\n"), flush=True)


if __name__ == "__main__":
    main()
