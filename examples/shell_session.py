"""A shell session: runs that share a directory and exported variables, and what a timeout or an exit leaves of it.

Runs on the embedded server (extra ``local``: not isolated, a trial on this machine), or on a real one:
``OPEN_SANDBOX_DOMAIN=box.example.com OPEN_SANDBOX_API_KEY=… python examples/shell_session.py``
"""

import os

from opensandbox_sync import CommandTimeoutError, NotFoundError, SandboxClient


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client, client.create("python:3.12") as sandbox:
        with sandbox.sessions.create(cwd="/tmp") as session:
            session.run("cd /usr && export COLOR=blue", check=True)
            print(session.run("pwd; echo $COLOR").stdout)

            # An exit ends its run, not the session.
            print("exit code", session.run("exit 7").exit_code)

            # A timeout ends the run's shell; what came until then is on the error.
            try:
                session.run("echo working; exec sleep 60", timeout=1)
            except CommandTimeoutError as error:
                print("out of time after:", error.execution.stdout)

            with session.stream("for i in 1 2 3; do echo line $i; done") as stream:
                for line in stream.lines():
                    print(line)
            print("still in", session.run("pwd").stdout)
        try:
            session.run("true")
        except NotFoundError:
            print("the session has ended")


if __name__ == "__main__":
    main()
