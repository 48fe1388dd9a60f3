"""The evaluations of what a store keeps, whatever happens to it: see docs/reliability.md."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from langmem_plugin.cli.evaluation import Evaluation, Outcome, numbers, progress


def _faults_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="an empty database to try (a SQLite file of its own each)")
    for name, number, what in (
        ("kills", 2_000, "writing processes that are killed"),
        ("kills-with-vectors", 200, "of them, that embed into Chroma"),
        ("controls", 20, "that write a turn in two, which must be found out"),
        ("processes", 8, "that write at once"),
        ("threads", 8, "of each"),
        ("turns", 50, "of each thread"),
        ("file-operations", 0, "beneath SQLite that go wrong, and two controls; Linux, with a C compiler"),
        ("postgres-restarts", 0, "stops and cuts of a PostgreSQL server of its own"),
        ("redis-restarts", 0, "kills and cuts of a Redis server of its own"),
        ("seed", 0, "of chance"),
    ):
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=f"{what} ({number})")
    parser.add_argument(
        "--postgres", action="store_true", help="writers at once on a PostgreSQL server of its own, too"
    )


def _faults(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import faults

    found = faults.measure(
        url=arguments.url,
        kills=arguments.kills,
        kills_with_vectors=arguments.kills_with_vectors,
        controls=arguments.controls,
        processes=arguments.processes,
        threads=arguments.threads,
        turns=arguments.turns,
        restarts=arguments.postgres_restarts,
        redis_restarts=arguments.redis_restarts,
        file_operations=arguments.file_operations,
        postgres=arguments.postgres,
        seed=arguments.seed,
        progress=progress,
    )
    return faults.to_markdown(found), found


def _isolation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="a database to try (a SQLite file of its own)")
    parser.add_argument("--no-vectors", action="store_true", help="recall by keywords alone")
    for name, number, what in (
        ("owners", 100, "with a canary each"),
        ("operations", 100_000, "random calls"),
        ("seed", 0, "of chance"),
    ):
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=f"{what} ({number})")


def _isolation(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import isolation

    found = isolation.measure(
        owners=arguments.owners,
        operations=arguments.operations,
        url=arguments.url,
        vectors=not arguments.no_vectors,
        seed=arguments.seed,
        progress=progress,
    )
    return isolation.to_markdown(found), found


def _inputs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder with blns.json and utf8tests.txt (none)")
    parser.add_argument("--postgres", action="store_true", help="also on a PostgreSQL server of its own")
    parser.add_argument("--redis", action="store_true", help="also on a Redis server of its own")
    parser.add_argument("--mutations", type=int, default=100_000, metavar="N", help="of the texts (100000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of chance (0)")


def _inputs(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import inputs

    found = inputs.measure(
        mutations=arguments.mutations,
        data=arguments.data,
        postgres=arguments.postgres,
        redis=arguments.redis,
        seed=arguments.seed,
        progress=progress,
    )
    return inputs.to_markdown(found), found


def _throughput_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="an empty database (a SQLite file of its own)")
    parser.add_argument("--postgres", action="store_true", help="also on a PostgreSQL server of its own")
    parser.add_argument("--processes", type=numbers, default=(1, 4), metavar="N,N", help="(1,4)")
    parser.add_argument("--turns", type=int, default=500, metavar="N", help="of each process (500)")


def _throughput(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import throughput

    found = throughput.measure(
        processes=arguments.processes,
        turns=arguments.turns,
        postgres=arguments.postgres,
        url=arguments.url,
        progress=progress,
    )
    return throughput.to_markdown(found), [asdict(one) for one in found]


def _erasure_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--owners", type=int, default=1_000, metavar="N", help="who said something (1000)")
    parser.add_argument("--erased", type=int, default=100, metavar="N", help="of them, to be forgotten (100)")


def _erasure(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import erasure

    found = erasure.measure(owners=arguments.owners, erased=arguments.erased, progress=progress)
    return erasure.to_markdown(found), found


def _index_faults_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="that each trouble lasts (5)")
    parser.add_argument("--messages", type=int, default=600, metavar="N", help="of each session that is asked (600)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="that ask at once (4)")
    parser.add_argument("--no-server", action="store_true", help="the embedded index alone")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of chance (0)")


def _index_faults(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import index_faults

    found = index_faults.measure(
        index_faults.FOLDER if arguments.no_server else (*index_faults.FOLDER, *index_faults.SERVER),
        seconds=arguments.seconds,
        messages=arguments.messages,
        threads=arguments.threads,
        seed=arguments.seed,
        progress=progress,
    )
    return index_faults.to_markdown(found), [asdict(one) for one in found]


def _rotation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000, metavar="N", help="messages (10000)")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="processes killed while they change it (5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of chance (0)")


def _rotation(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import rotation

    found = rotation.measure(rows=arguments.rows, kills=arguments.kills, seed=arguments.seed, progress=progress)
    return rotation.to_markdown(found), asdict(found)


def _outage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=1_000, metavar="N", help="without the summariser (1000)")
    parser.add_argument("--budget", type=int, default=2_000, metavar="N", help="tokens of a request (2000)")


def _outage(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import outage

    found = outage.measure(turns=arguments.turns, budget=arguments.budget, progress=progress)
    return outage.to_markdown(found), found


RELIABILITY = (
    Evaluation(
        name="faults",
        help="whether anything acknowledged is lost when writers are killed, crowded and doubled, or the disk fails",
        add_arguments=_faults_arguments,
        run=_faults,
    ),
    Evaluation(
        name="index-faults",
        help="whether requests are answered, and rightly, while Chroma is damaged, locked, killed and hung",
        add_arguments=_index_faults_arguments,
        run=_index_faults,
    ),
    Evaluation(
        name="isolation",
        help="whether anything of one owner turns up with another over random calls",
        add_arguments=_isolation_arguments,
        run=_isolation,
    ),
    Evaluation(
        name="inputs",
        help="whether hostile text and mutations of it come back exactly or are refused, by all backends alike",
        add_arguments=_inputs_arguments,
        run=_inputs,
    ),
    Evaluation(
        name="outage",
        help="what is answered and what is lost while the summariser is away for a whole conversation",
        add_arguments=_outage_arguments,
        run=_outage,
        gate=lambda _arguments, figures: "" if figures["passed"] else "something was lost, or the model was waited for",
    ),
    Evaluation(
        name="throughput",
        help="durable turns a second by one process and by several, on SQLite and PostgreSQL",
        add_arguments=_throughput_arguments,
        run=_throughput,
    ),
    Evaluation(
        name="erasure",
        help="how much of what owners said is in any file after they were forgotten",
        add_arguments=_erasure_arguments,
        run=_erasure,
    ),
    Evaluation(
        name="rotation",
        help="what a change of an encryption key costs those who read and write, and what kills on the way lose",
        add_arguments=_rotation_arguments,
        run=_rotation,
    ),
)
