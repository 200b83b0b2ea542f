"""Code in a kernel that keeps its state: values, rich results, exceptions, and a stop.

Needs an image with a Jupyter server (the official code interpreter's), or the embedded server with the extra ``code``.
"""

import os

from opensandbox_sync import CommandTimeoutError, SandboxClient

FIGURE = """
class Figure:
    def _repr_mimebundle_(self, **options):
        return {"text/plain": "a figure", "image/png": "aWNvbg=="}
Figure()
"""


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    image = os.environ.get("OPENSANDBOX_CODE_IMAGE", "opensandbox/code-interpreter:latest")
    with client, client.create(image, ready_timeout=120) as sandbox:
        sandbox.code.run("numbers = [3, 1, 2]")
        print("sorted:", sandbox.code.run("sorted(numbers)").text)

        (result,) = sandbox.code.run(FIGURE).results
        print("types:", ", ".join(sorted(result.data)))  # in a notebook, the result shows itself

        failed = sandbox.code.run("print('before'); numbers[9]")
        assert failed.error is not None
        print("output:", failed.stdout.strip())
        print("error:", failed.error.name, "-", failed.error.plain_traceback[-1])

        try:
            sandbox.code.run("while True: pass", timeout=1)
        except CommandTimeoutError:
            print("stopped; numbers are still", sandbox.code.run("numbers").text)

        other = sandbox.code.create_context("python")
        print("another context:", sandbox.code.run("'numbers' in globals()", context=other).text)


if __name__ == "__main__":
    main()
