"""Watch what a sandbox uses while it works."""

import os

from opensandbox_sync import SandboxClient


def main() -> None:
    client = SandboxClient() if os.environ.get("OPEN_SANDBOX_DOMAIN") else SandboxClient.local()
    with client, client.create("python:3.12") as sandbox:
        job = sandbox.commands.start("i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done")
        with sandbox.metrics.watch() as watch:
            for count, metrics in enumerate(watch, 1):
                used = 100 * metrics.mem_used_mib / metrics.mem_total_mib
                print(
                    f"cpu {metrics.cpu_used_pct:.0f} % of {metrics.cpu_count:g} cores, memory {used:.0f} %", flush=True
                )
                if count == 2:
                    break
        job.interrupt()


if __name__ == "__main__":
    main()
