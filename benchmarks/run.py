"""Measures this SDK beside the official one, plain ``requests`` and a bare socket.

    python benchmarks/run.py --quick     # under two minutes
    python benchmarks/run.py             # every case, five rounds

Each case runs in a fresh process per client; the clients take turns, in another order each round, and a ratio is taken
between two runs of the same round. See README.md for what the numbers mean.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import http.client
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import report
from cases import CASES, Case

HERE = Path(__file__).resolve().parent
QUICK_SECONDS = 115  # a quick run starts no round that would not end by then
CLIENTS = ["sync", "official", "plain_requests", "bare"]

#: One child's answer; empty where the client has no way to do it.
Sample = Dict[str, float]
#: case -> client -> one sample for each round
Samples = Dict[str, Dict[str, List[Sample]]]


@contextlib.contextmanager
def bench_server() -> Iterator[Dict[str, Any]]:
    process = subprocess.Popen([sys.executable, str(HERE / "server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def prepare(server: Dict[str, Any], case: Case, quick: bool) -> None:
    """Has the server make the case's stream before anybody asks for it."""
    if case.group == "Streams":
        connection = http.client.HTTPConnection("127.0.0.1", server["port"])
        connection.request("POST", "/bench/prepare", case.argument(quick))
        connection.getresponse().read()
        connection.close()


def measure(client: str, case: Case, server: Dict[str, Any], quick: bool) -> Sample:
    control = f"127.0.0.1:{server['port']}"
    address = f"127.0.0.1:{server['slow_port']}" if case.latency else control
    argv = [sys.executable, str(HERE / "child.py"), client, case.measure, address, control, case.argument(quick)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_round(cases: List[Case], turns: List[str], server: Dict[str, Any], quick: bool, samples: Samples) -> None:
    """Every case once for every client, in the order of ``turns``. A client that fails at a case has no sample."""
    for case in cases:
        prepare(server, case, quick)
        taken = samples.setdefault(case.name, {})
        for client in turns:
            try:
                sample = measure(client, case, server, quick)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"  {case.name}: {client} failed: {error}", file=sys.stderr, flush=True)
                sample = {}
            taken.setdefault(client, []).append(sample)
        print(report.progress(case, taken, quick), flush=True)


def usable_clients(wanted: List[str], server: Dict[str, Any]) -> List[str]:
    """Those whose packages are installed here."""
    first = CASES[0]
    usable = []
    for client in wanted:
        try:
            measure(client, first, server, quick=True)
            usable.append(client)
        except RuntimeError as error:
            print(f"  {client} is left out: {error}", file=sys.stderr, flush=True)
    return usable


def compile_ours() -> None:
    """pip compiles what it installs, but not an editable install: no case shall pay for that."""
    found = importlib.util.find_spec("opensandbox_sync")
    places = list((found.submodule_search_locations if found else None) or ())
    for place in [*places, str(HERE)]:
        compileall.compile_dir(place, quiet=1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller work, fewer cases")
    parser.add_argument("--rounds", type=int, help="runs of each case for each client (5; quick: 3)")
    parser.add_argument("--only", default="", metavar="NAMES", help="cases by name, with commas")
    parser.add_argument("--clients", default=",".join(CLIENTS), help=f"of {','.join(CLIENTS)}")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="where results.json, .md and .png go")
    return parser.parse_args()


def chosen_cases(only: str, quick: bool) -> List[Case]:
    names = [name for name in only.split(",") if name]
    unknown = set(names) - {case.name for case in CASES}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(c.name for c in CASES)}")
    return [case for case in CASES if case.argument(quick) and (not names or case.name in names)]


def main() -> None:
    options = arguments()
    cases = chosen_cases(options.only, options.quick)
    samples: Samples = {}
    compile_ours()
    began = time.monotonic()
    with bench_server() as server:
        clients = usable_clients(options.clients.split(","), server)
        rounds = 0
        while rounds < (options.rounds or (3 if options.quick else 5)):
            turn = rounds % len(clients)
            run_round(cases, clients[turn:] + clients[:turn], server, options.quick, samples)
            rounds += 1
            elapsed = time.monotonic() - began
            if options.quick and not options.rounds and elapsed * (rounds + 1) / rounds > QUICK_SECONDS:
                break
    results = report.Results(samples, clients, options.quick, rounds, time.monotonic() - began)
    options.out.mkdir(parents=True, exist_ok=True)
    text = results.markdown()
    (options.out / "results.md").write_text(text, encoding="utf-8")
    (options.out / "results.json").write_text(json.dumps(results.as_json(), indent=1), encoding="utf-8")
    drawn: Optional[Path] = results.plot(options.out / "results.png")
    no_plot = "" if drawn else " (no plot: it needs matplotlib, and the official SDK to compare with)"
    print(f"\n{text}\nWritten to {options.out}{no_plot}")


if __name__ == "__main__":
    main()
