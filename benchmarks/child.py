"""One measurement: one client, one case, in a process of its own.

    python benchmarks/child.py CLIENT MEASURE ADDRESS CONTROL ARGUMENT

prints one line of JSON. Nothing is imported before the clock starts that a client would have to import itself.
"""

from __future__ import annotations

import sys
import time

CLIENT, MEASURE, ADDRESS, CONTROL, ARGUMENT = sys.argv[1:6]


def client_class():
    return __import__(f"clients.{CLIENT}", fromlist=["Client"]).Client


def imported():
    began = time.perf_counter()
    client_class()
    return {"seconds": time.perf_counter() - began}


def constructed():
    began = time.perf_counter()
    client = client_class()(ADDRESS)
    seconds = time.perf_counter() - began
    client.close()
    return {"seconds": seconds}


def first_call():
    began = time.perf_counter()
    client = client_class()(ADDRESS)
    client.info()
    seconds = time.perf_counter() - began
    client.close()
    return {"seconds": seconds}


def another_client():
    make = client_class()
    make(ADDRESS).close()
    return repeated(lambda: make(ADDRESS).close(), int(ARGUMENT))


def repeated(function, times):
    """Seconds of one call, its requests and the server's CPU time for it; our own peak memory over all of them."""
    before, memory = control(), peak_mib()
    began = time.perf_counter()
    for _ in range(times):
        function()
    elapsed = time.perf_counter() - began
    after = control()
    return {
        "seconds": elapsed / times,
        "peak_mib": peak_mib() - memory,
        "requests": (after["requests"] - before["requests"]) / times,
        "server_cpu": (after["cpu"] - before["cpu"]) / times,
    }


def call():
    name, times = ARGUMENT.split()
    client = attached()
    function = getattr(client, name)
    for _ in range(3):
        function()
    return repeated(function, int(times))


def run():
    command, times = ARGUMENT.split()
    client = attached()
    check(client.true(), "true")
    return repeated(lambda: check(client.run(command), command), int(times))


def session():
    function = attached().session()
    check(function(), "true")
    return repeated(lambda: check(function(), "true"), int(ARGUMENT))


def first_event():
    client = attached()
    waits = []

    def measured():
        began = time.perf_counter()
        client.callback("first", lambda _: waits.append(time.perf_counter() - began))

    measured()
    waits.clear()
    result = repeated(measured, int(ARGUMENT))
    return {**result, "seconds": sorted(waits)[len(waits) // 2]}


def threads():
    import threading

    count, times = map(int, ARGUMENT.split())
    client = attached()
    check(client.true(), "true")

    def work():
        mine = client.for_thread()
        for _ in range(times):
            check(mine.true(), "true")
        done.append(True)

    def crowd():
        workers = [threading.Thread(target=work) for _ in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    done = []
    result = repeated(crowd, 1)
    assert len(done) == count, f"{count - len(done)} threads failed"
    return result


def captured():
    client = attached()
    check(client.true(), "true")
    return repeated(lambda: check(client.run(ARGUMENT), ARGUMENT), 1)


def callback(method="callback"):
    client = attached()
    if not hasattr(client, method):
        return {}
    check(client.true(), "true")
    count = 0

    def on_text(text):
        nonlocal count
        count += len(text)

    def measured():
        assert getattr(client, method)(ARGUMENT, on_text) == 0

    result = repeated(measured, 1)
    check(("x" * count, 0), ARGUMENT)
    return result


def iterated():
    return callback("iterate")


def upload_bytes():
    client = attached()
    data = random_bytes()
    return repeated(lambda: client.upload_bytes(ARGUMENT, data), 1)


def upload_file():
    client = attached()
    with temporary_path() as path:
        path.write_bytes(random_bytes())
        return repeated(lambda: client.upload_file(ARGUMENT, path), 1)


def download_bytes():
    client = attached()
    return repeated(lambda: right_size(client.download_bytes(ARGUMENT)), 1)


def download_iter():
    client = attached()
    return repeated(lambda: right_size(client.download_iter(ARGUMENT)), 1)


def download_file():
    client = attached()
    with temporary_path() as path:
        result = repeated(lambda: client.download_file(ARGUMENT, path), 1)
        right_size(path.stat().st_size)
        return result


def upload_tree():
    client = attached()
    with temporary_path() as path:
        for name, content in tree():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return repeated(lambda: client.upload_tree(path, "/new"), 1)


def download_tree():
    client = attached()
    with temporary_path() as path:
        path.mkdir()
        result = repeated(lambda: client.download_tree(f"/tree/{ARGUMENT}", path), 1)
        for name, content in tree():
            assert (path / name).stat().st_size == len(content), f"{CLIENT}: {name}"
        return result


def tree():
    """Small files by name, as the server lists them."""
    from server import tree_names

    return [(name, b"x" * int(name.rsplit("-", 1)[1])) for name in tree_names(int(ARGUMENT))]


def attached():
    client = client_class()(ADDRESS)
    client.attach()
    return client


def check(outcome, command):
    """The work was done: all of the text, and exit code 0. (Cut line ends may come back, one for each text.)"""
    from server import text_length

    text, code = outcome
    missing = len(text) - text_length(command)
    extra = int(command.split()[1]) if command.endswith(" cut") else 0
    assert code == 0 and 0 <= missing <= extra, f"{CLIENT}: exit code {code}, {missing} characters"


def right_size(size):
    assert size == int(ARGUMENT.rsplit("/", 1)[1]), f"{CLIENT}: {size} bytes"


def random_bytes():
    import os

    return os.urandom(1 << 20) * (int(ARGUMENT.rsplit("/", 1)[1]) >> 20)


def temporary_path():
    import contextlib
    import tempfile
    from pathlib import Path

    @contextlib.contextmanager
    def made():
        with tempfile.TemporaryDirectory() as directory:
            yield Path(directory, "file")

    return made()


def peak_mib():
    """The most memory this process ever had. (``ru_maxrss`` can begin with its parent's; Linux's VmHWM cannot.)"""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib would be an import
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def control():
    import http.client
    import json

    connection = http.client.HTTPConnection(CONTROL)
    connection.request("GET", "/bench/stats")
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def main():
    result = globals()[MEASURE]()
    if result and "peak_mib" not in result:
        result["peak_mib"] = peak_mib()  # start-up: the whole process
    import json

    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
