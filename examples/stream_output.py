"""Read a command's output line by line, and stop it once you have seen enough."""

import os

from opensandbox_sync import SandboxClient


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client, client.create("python:3.12") as sandbox:
        with sandbox.commands.stream("for n in $(seq 1000); do echo line $n; sleep 0.1; done") as stream:
            for line in stream.lines():
                print(line, flush=True)
                if line == "line 3":
                    stream.interrupt()  # the loop goes on to the command's end
        print("ended by", stream.execution.signal)


if __name__ == "__main__":
    main()
