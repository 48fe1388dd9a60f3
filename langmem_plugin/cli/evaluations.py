"""The evaluations that `langmem-plugin eval` knows; each module is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langmem_plugin.by_name import function_named
from langmem_plugin.cli import recall_evaluation
from langmem_plugin.cli.evaluation import Evaluation, Outcome, numbers, progress
from langmem_plugin.cli.reliability import RELIABILITY
from langmem_plugin.errors import InvalidSetting


def _overhead_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--messages", type=numbers, default=(100, 1_000, 10_000), metavar="N,N", help="(100,1000,10000)"
    )
    parser.add_argument("--budget", type=int, default=4_000, metavar="N", help="tokens of a request (4000)")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="turns timed at each length (50)")
    parser.add_argument("--encrypted", action="store_true", help="on an encrypted database")


def _overhead(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import overhead

    results = overhead.measure(
        sorted(arguments.messages),
        budget=arguments.budget,
        rounds=arguments.rounds,
        encrypted=arguments.encrypted,
        progress=progress,
    )
    return overhead.to_markdown(results), [asdict(result) for result in results]


def _vectors_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sessions", type=numbers, default=(200, 1_000, 5_000, 20_000), metavar="N,N", help="(200,1000,5000,20000)"
    )
    parser.add_argument("--total", type=int, default=20_000, metavar="N", help="vectors of all sessions (20000)")
    parser.add_argument("--dimensions", type=int, default=384, metavar="N", help="numbers of a vector (384)")


def _vectors(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import vectors

    measured = vectors.measure(
        arguments.sessions, total=arguments.total, dimensions=arguments.dimensions, progress=progress
    )
    return vectors.to_markdown(measured), asdict(measured)


def _constraints_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=_folder, required=True, metavar="DIR", help="the folder of the data sets")
    parser.add_argument(
        "--labelled", type=Path, nargs="+", default=(), metavar="FILE", help="labelled messages, JSON lines"
    )
    parser.add_argument("--judged", type=Path, metavar="FILE", help="findings in BEAM's turns that a person judged")


def _constraints(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import constraints

    report = constraints.evaluate(arguments.data, labelled=arguments.labelled, judged=arguments.judged)
    return constraints.to_markdown(report), report.to_json()


def _recall_arguments(parser: argparse.ArgumentParser) -> None:
    _conversations_arguments(parser)
    recall_evaluation.add_arguments(parser)


def _conversations_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=_conversations, required=True, metavar="PATH", help="conversations: file or folder"
    )
    parser.add_argument(
        "--budget", type=numbers, default=(1_000, 2_000, 4_000), metavar="N,N", help="tokens (1000,2000,4000)"
    )


def _prefix_arguments(parser: argparse.ArgumentParser) -> None:
    _conversations_arguments(parser)
    parser.add_argument("--embedder", metavar="NAME", help="recall by meaning, too; as for recall")
    parser.add_argument("--most", type=int, metavar="N", help="only so many conversations (all)")
    parser.add_argument("--others", action="store_true", help="also what LangChain and LlamaIndex bring along")


def _prefix(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.embedders import as_embedder
    from langmem_plugin.evaluation import others, prefix
    from langmem_plugin.evaluation.loaders import load
    from langmem_plugin.memory import Memory
    from langmem_plugin.tokens import TokenCounter

    embedder = as_embedder(arguments.embedder)
    conversations = load(arguments.data)[: arguments.most]
    rows = prefix.prefix_level(
        conversations,
        lambda clock: Memory.open(embedder=embedder, clock=clock),
        budgets=arguments.budget,
        progress=progress,
    )
    if arguments.others:
        counter = TokenCounter.for_model("gpt-4o")
        for name, make in others.others().items():
            rows += prefix.prefix_of(
                conversations, make, counter=counter, method=name, budgets=arguments.budget, progress=progress
            )
    table = _module("metrics").to_markdown(rows, ("reuse", "recomputed tokens", "tokens", "over budget")).rstrip()
    return table, [{"method": row.method, **row.figures} for row in rows]


def _growth_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=numbers, default=(100, 100_000), metavar="N,N", help="(100,100000)")
    parser.add_argument("--sessions", type=int, default=10_000, metavar="N", help="opened in one process (10000)")
    parser.add_argument("--concurrent", type=int, default=500, metavar="N", help="talking at the same time (500)")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="turns timed at each length (50)")


def _growth(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import growth

    short, long, count = min(arguments.messages), max(arguments.messages), arguments.sessions
    rest = {"concurrent": arguments.concurrent, "rounds": arguments.rounds, "progress": progress}
    found = growth.measure(short=short, long=long, sessions=count, kept=count, **rest)
    return growth.to_markdown(found), [asdict(found)]


def _frameworks(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation.frameworks import check, to_markdown
    from langmem_plugin.evaluation.loaders import load

    outcomes = check(load(arguments.data), budgets=arguments.budget, most=arguments.most, progress=progress)
    return to_markdown(outcomes), [asdict(outcome) for outcome in outcomes]


def _frameworks_arguments(parser: argparse.ArgumentParser) -> None:
    _conversations_arguments(parser)
    parser.add_argument("--most", type=int, metavar="N", help="only so many turns of each conversation (all)")


def _histories_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=_number, default=10_000, metavar="N", help="histories (10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first one's number (0)")


def _histories(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import histories

    tallies = histories.measure(arguments.count, seed=arguments.seed, progress=progress)
    return histories.to_markdown(tallies), [asdict(tally) | {"clean": tally.clean} for tally in tallies]


def _histories_gate(_arguments: argparse.Namespace, figures: Any) -> str:
    bad = ", ".join(row["way"] for row in figures if not row["clean"])
    return f"there are faults by way of {bad}; --seed N --count 1 shows one again" if bad else ""


def _retention_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=500, metavar="N", help="user messages (500)")
    parser.add_argument("--constraints", type=int, default=30, metavar="N", help="how many are stated, 6 to 30 (30)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another conversation (0)")
    parser.add_argument("--alone", action="store_true", help="without what the frameworks bring along")


def _retention(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import retention

    results = retention.measure(
        turns=arguments.turns,
        constraints=arguments.constraints,
        seed=arguments.seed,
        only="ours" if arguments.alone else "all",
        progress=progress,
    )
    return retention.to_markdown(results).rstrip(), [asdict(one) for one in results]


def _attacks_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=_folder, metavar="DIR", help="BIPIA, Giskard and naughty-string files (none)")
    parser.add_argument("--most", type=int, metavar="N", help="at most about so many cases (all)")


def _attacks(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import attacks

    report = attacks.run(attacks.load_attacks(arguments.data), most=arguments.most, progress=progress)
    return attacks.to_markdown(report).rstrip(), asdict(report)


def _long_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--turns",
        type=numbers,
        default=(50, 100, 200, 600, 1_000),
        metavar="N,N",
        help="asked there (50,100,200,600,1000)",
    )
    parser.add_argument("--budget", type=_number, default=2_000, metavar="N", help="tokens of a request (2000)")
    parser.add_argument("--questions", type=_number, default=50, metavar="N", help="at each length, at most (50)")
    parser.add_argument(
        "--embedder", metavar="NAME", help='recall by meaning, too: "chroma", a folder, a model\'s name'
    )
    parser.add_argument(
        "--memory", metavar="MODULE:NAME", help="measure what this function of yours returns; see docs/evaluation.md"
    )
    parser.add_argument("--min-recall", type=_share, metavar="X", help="exit code 3 if a length's recall is below")
    parser.add_argument(
        "--min-constraints", type=_share, metavar="X", help="exit code 3 if rules stand in a smaller share of requests"
    )


def _long(arguments: argparse.Namespace) -> Outcome:
    from langmem_plugin.evaluation import long
    from langmem_plugin.tokens import TokenCounter

    if arguments.memory:
        measured = long.as_long_memory(
            function_named(arguments.memory, option="--memory", want="give MODULE:FUNCTION")()
        )
    else:
        measured = long.OwnMemory.opened(budget=arguments.budget, embedder=arguments.embedder)
    try:
        rows = long.measure(
            measured,
            turns=arguments.turns,
            counter=TokenCounter.for_model("gpt-4o"),
            most_questions=arguments.questions,
            progress=progress,
        )
    finally:
        if isinstance(measured, long.OwnMemory):
            measured.close()
    return long.to_markdown(rows), [asdict(row) for row in rows]


def _long_gate(arguments: argparse.Namespace, figures: Any) -> str:
    reasons = [
        f"{name} is {row[name]:.3f} after {row['turns']:,} exchanges, at least {least} was asked for"
        for name, least in (("recall", arguments.min_recall), ("constraints", arguments.min_constraints))
        for row in figures
        if least is not None and row[name] < least
    ]
    return "; ".join(reasons)


EVALUATIONS = (
    *RELIABILITY,
    Evaluation(
        name="long",
        help="planted facts and rules, asked after 50 to 1,000 exchanges of a made-up talk: a gate for your CI",
        add_arguments=_long_arguments,
        run=_long,
        gate=_long_gate,
    ),
    Evaluation(
        name="overhead",
        help="milliseconds that the memory takes beside the model, at growing lengths of history",
        add_arguments=_overhead_arguments,
        run=_overhead,
    ),
    Evaluation(
        name="recall",
        help="how much of the evidence for questions about the past stands in the request",
        add_arguments=_recall_arguments,
        run=recall_evaluation.run,
    ),
    recall_evaluation.LATENCY,
    Evaluation(
        name="vectors",
        help="exact search and Chroma beside each other: milliseconds by size of session, and what Chroma misses",
        add_arguments=_vectors_arguments,
        run=_vectors,
    ),
    Evaluation(
        name="prefix",
        help="how much of each request repeats the beginning of the one before it, so that a provider's cache hits",
        add_arguments=_prefix_arguments,
        run=_prefix,
    ),
    Evaluation(
        name="growth",
        help="what long histories, many open sessions and concurrent ones cost",
        add_arguments=_growth_arguments,
        run=_growth,
    ),
    Evaluation(
        name="constraints",
        help="how many of the users' standing statements the rules find, and how many they make up",
        add_arguments=_constraints_arguments,
        run=_constraints,
    ),
    Evaluation(
        name="retention",
        help="whether constraints outlive a long conversation, here and in what the frameworks bring along",
        add_arguments=_retention_arguments,
        run=_retention,
    ),
    Evaluation(
        name="attacks",
        help="whether anything that others wrote becomes a constraint, with an extractor in an attacker's hands",
        add_arguments=_attacks_arguments,
        run=_attacks,
    ),
    Evaluation(
        name="frameworks",
        help="whether every request that reaches a model through both adapters is within budget, valid and complete",
        add_arguments=_frameworks_arguments,
        run=_frameworks,
    ),
    Evaluation(
        name="histories",
        help="whether any of thousands of random histories makes a request too long, invalid or incomplete",
        add_arguments=_histories_arguments,
        run=_histories,
        gate=_histories_gate,
    ),
)


def _number(text: str) -> int:
    return numbers(text)[0]


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
    return share


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"langmem_plugin.evaluation.{name}")
    except ModuleNotFoundError as error:
        raise InvalidSetting("eval", name, "this release does not have that evaluation") from error


def _conversations(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {text}")
    return path / "locomo" if (path / "locomo").is_dir() else path


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return folder
