"""The arguments of every command. One parser; nothing here imports what a command needs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from blocks.paths import expand_home, full_path
from workflows.core.errors import UsageError, did_you_mean

LATER = (
    *("note", "serve", "deploy", "gateway", "worker", "test"),
    *("doctor", "prune", "robot"),
)
"""Commands of the contract that are not built yet."""

HOMELESS = frozenset({"agents", "check", "graph", "new", "robots", "route", "schema", "skills"})
"""Commands that only read the catalog: whatever is wrong with the home is no matter of theirs."""

KINDS = ("workflow", "agent", "skill", "robot", "catalog")
"""What `new` makes."""


class Answered(Exception):
    """The command line asked for help or the version: `text` is the answer, and there is nothing to run."""

    def __init__(self, text: str, document: dict[str, Any]) -> None:
        super().__init__(text)
        self.text = text
        self.document = document


def read(words: Sequence[str]) -> argparse.Namespace:
    """The arguments with `module` (of deployments.commands), `catalog`, `home` and `json` filled in.

    Raises UsageError for what cannot be read, Answered for --help and --version.
    """
    parser, commands = build()
    args, unknown = parser.parse_known_args(list(words))
    if args.command is None:
        raise Answered(parser.format_help().rstrip(), {"commands": sorted(commands)})
    if args.command in LATER:
        raise UsageError(f"`phaseline {args.command}` is not available yet", "see phaseline --help")
    if unknown:
        _refuse(unknown, commands[args.command])
    args.named = {
        option: str(full_path(written, f"--{option}"))
        for option in ("catalog", "home")
        if (written := getattr(args, option))
    }
    args.places = tuple(word for option, path in args.named.items() for word in (f"--{option}", path))
    args.catalog = expand_home(args.catalog, "--catalog") if args.catalog else default_catalog()
    if args.module not in HOMELESS:
        args.catalog = full_path(args.catalog, "--catalog")
    home = args.home or os.environ.get("PHASELINE_HOME") or "~/.phaseline"
    args.home = full_path(home, "--home" if args.home else "PHASELINE_HOME")
    return args


def default_catalog() -> Path:
    """The catalog of a command that names none."""
    named = os.environ.get("PHASELINE_CATALOG")
    if named:
        return expand_home(named, "PHASELINE_CATALOG")
    return Path(__file__).resolve().parents[2] / "workflows"


def _refuse(unknown: list[str], parser: argparse.ArgumentParser) -> NoReturn:
    options = [o for action in parser._actions for o in action.option_strings]
    word = unknown[0].split("=")[0]
    near = did_you_mean(word, options) if word.startswith("-") else ""
    hint = near if near.startswith("did you mean") else f"see {parser.prog} --help"
    what = "option" if word.startswith("-") else "argument"
    raise UsageError(f"`{parser.prog}` takes no {what} {word}", hint)


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are UsageErrors, so that they too are one document under --json."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "add_help": False, **settings})
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this help")

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(c) for c in action.choices]
        if action.dest == "command":
            near = did_you_mean(str(value), known)
            raise UsageError(
                f"there is no command '{value}'",
                near if near.startswith("did you mean") else "see phaseline --help",
            )
        name = action.metavar or action.dest
        raise UsageError(f"{name} may not be '{value}'", did_you_mean(str(value), known))


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        text = parser.format_help().rstrip()
        raise Answered(text, {"help": text})


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        from deployments.startup.provenance import version

        number = version()
        raise Answered(f"phaseline {number}", {"version": number})


def build() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and each command's own by name."""
    parser = _Parser(
        prog="phaseline",
        description="Declared teams of AI agents as durable Prefect flows.",
        epilog="Exit codes: 0 done, 1 failed or cancelled, 2 invalid definition or usage, 3 waiting for a "
        "person, 4 stopped by a budget or quota. Not available yet: " + ", ".join(sorted(LATER)) + ".",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    _add_global(parser, None)
    made = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser, title="commands")
    adder = _Adder(made.add_parser)
    _add_runs(adder)
    _add_going_on(adder)
    _add_people(adder)
    _add_definitions(adder)
    _add_prove(adder)
    _add_catalog(adder)
    _add_server(adder)
    for name in LATER:
        made.add_parser(name).add_argument("rest", nargs="*")
    return parser, dict(made.choices)


def _add_global(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("--catalog", metavar="DIR", default=default, help="the catalog (PHASELINE_CATALOG)")
    parser.add_argument(
        "--home", metavar="DIR", default=default, help="local data (PHASELINE_HOME, else ~/.phaseline)"
    )
    parser.add_argument(
        "--json", action="store_true", default=default or False, help="print one JSON document"
    )


class _Adder:
    """Adds commands that all take the global options too; given before the command they stay in force."""

    def __init__(self, add_parser: Callable[..., argparse.ArgumentParser]) -> None:
        self._add_parser = add_parser

    def __call__(self, name: str, help: str, module: str = "") -> argparse.ArgumentParser:
        parser = self._add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        parser.set_defaults(module=module or name)
        group = parser.add_argument_group("for every command")
        for flag, text in (("--catalog", "the catalog"), ("--home", "folder of local data")):
            group.add_argument(flag, metavar="DIR", default=argparse.SUPPRESS, help=text)
        group.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document"
        )
        return parser


def _add_runs(add: _Adder) -> None:
    run = add("run", "run a workflow, or continue the run of that id")
    what = run.add_mutually_exclusive_group(required=True)
    what.add_argument("workflow", nargs="?", metavar="WORKFLOW", help="name or path")
    what.add_argument("--text", metavar="TEXT", help="route this text and run what wins")
    _add_inputs(run, "name=@file reads a file")
    run.add_argument("--run-id", metavar="ID", help="the run's name; an existing one is continued")
    run.add_argument("--offline", action="store_true", help="let the offline model answer")
    run.add_argument(
        "--latest",
        choices=("table", "online"),
        default="table",
        metavar="FROM",
        help="what `latest` means: models.yaml (table), or what the provider lists now (online)",
    )
    run.add_argument("--storage", metavar="URI", help="folder or s3://bucket/prefix (PHASELINE_STORAGE)")
    runs = add("runs", "list what has run")
    runs.add_argument("--limit", type=_positive, default=20, metavar="N", help="at most N (default 20)")
    show = add("show", "show one run: steps, outputs, waits, effects, spend", "runs")
    show.add_argument("run_id", metavar="RUN_ID")
    show.add_argument("--events", action="store_true", help="everything that happened, in order")
    show.add_argument("--cost", action="store_true", help="what was spent by step, agent, model and budget")


def _add_going_on(add: _Adder) -> None:
    resume = add("resume", "continue a run where it stands")
    resume.add_argument("run_id", metavar="RUN_ID")
    resume.add_argument("--plan", action="store_true", help="only show what would be reused, and why not")
    resume.add_argument("--from", dest="step", metavar="STEP", help="redo this step and what depends on it")
    resume.add_argument(
        "--use",
        choices=("stored", "new"),
        metavar="WHICH",
        help="after a change of the workflow: the definition the run has (stored), or the catalog's (new)",
    )
    resume.add_argument(
        "--raise-budget",
        action="append",
        default=[],
        metavar="NAME=TOTAL",
        help="a higher ceiling: tokens, usd, turns or time of the run, STEP.tokens of a step; repeatable",
    )
    resume.add_argument("--woken", action="store_true", help=argparse.SUPPRESS)  # nobody asked for it
    resume.add_argument("--repeat-effects", action="store_true", help="redone steps act again")
    resume.add_argument("--storage", metavar="URI", help="default: where the run has been so far")
    cancel = add("cancel", "end a run for good, with its open questions")
    cancel.add_argument("run_id", metavar="RUN_ID")
    cancel.add_argument("--undo", action="store_true", help="take completed steps back, the last one first")
    wake = add("wake", "continue every run that is due: answered, past a deadline, or past a quota's reset")
    wake.add_argument("run_ids", nargs="*", metavar="RUN_ID", help="only these")
    wake.add_argument(
        "--confirm-clock", action="store_true", help="this machine's clock is right, however far it is ahead"
    )


def _add_people(add: _Adder) -> None:
    inbox = add("inbox", "list the open questions")
    inbox.add_argument("--run", metavar="RUN_ID", help="only those of this run")
    answer = add("answer", "answer a question")
    answer.add_argument("wait_id", metavar="WAIT_ID")
    answer.add_argument("--data", metavar="JSON", help="the whole form as JSON; @file reads it from a file")
    answer.add_argument(
        "-f",
        "--field",
        dest="fields",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one field of the form; repeatable",
    )
    answer.add_argument("--reject", action="store_true", help="say no")
    answer.add_argument("--note", default="", metavar="TEXT", help="kept beside the answer")
    answer.add_argument("--as", dest="name", metavar="NAME", help="for somebody else, on a local ledger")
    answer.add_argument("--resume", action="store_true", help="continue the run at once")
    event = add("event", "tell runs what happened outside")
    event.add_argument("type", metavar="TYPE")
    event.add_argument(
        "--key", default="", metavar="KEY", help="which one of its kind, such as an order's id"
    )
    event.add_argument("--id", metavar="ID", help="the event's own id: told twice it counts once")
    event.add_argument("--data", metavar="JSON", help="what it says, a JSON object; @file reads a file")


def _add_definitions(add: _Adder) -> None:
    check = add("check", "find every mistake of the catalog or of the named workflows")
    check.add_argument("workflows", nargs="*", metavar="WORKFLOW", help="names or paths; default: everything")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    plan = add("plan", "show what would run: order, doers, edges, worst-case tokens, cost and time")
    plan.add_argument("workflow", metavar="WORKFLOW", help="name or path")
    plan.add_argument("--run-id", metavar="ID", help="show what this run would reuse instead")
    graph = add("graph", "draw a workflow")
    graph.add_argument("workflow", metavar="WORKFLOW", help="name or path")
    graph.add_argument("--format", choices=("mermaid", "dot", "svg"), help="default: by -o, else mermaid")
    graph.add_argument("-o", "--output", metavar="FILE", help="write it there")
    schema = add("schema", "print the JSON Schema of a written file")
    schema.add_argument("kind", nargs="?", metavar="KIND", help="default: list the kinds")


def _add_prove(add: _Adder) -> None:
    prove = add("prove", "kill a workflow at every place between two writes, and see that nothing differs")
    prove.add_argument("workflow", metavar="WORKFLOW", help="name or path")
    _add_inputs(prove, "{home} in it is a folder of each case's own")
    prove.add_argument("--answers", metavar="FILE", help="what people answer, by step id; default: made up")
    prove.add_argument(
        "--only", metavar="NAME", help="only these boundaries: turn.kept, 'effect.*', 'step.*@STEP'"
    )
    prove.add_argument("--limit", type=_positive, metavar="N", help="only N of them, evenly spread")
    prove.add_argument("--all", action="store_true", help="also the middle ones of many equal boundaries")
    prove.add_argument("--report", metavar="FILE", help="write a report in Markdown")
    prove.add_argument("--keep", metavar="DIR", help="keep the folders of cases that differ")
    prove.add_argument(
        "--allow-effects", action="store_true", help="although its tools reach beyond this machine"
    )


def _add_inputs(command: argparse.ArgumentParser, told: str) -> None:
    command.add_argument(
        "-i",
        "--input",
        dest="input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"one input; {told}; repeatable",
    )
    command.add_argument("--inputs", metavar="FILE", help="inputs as a JSON or YAML file")


def _add_catalog(add: _Adder) -> None:
    agents = add("agents", "list the agents, or show one")
    agents.add_argument("id", nargs="?", metavar="ID")
    agents.add_argument("--type", metavar="TYPE", help="only agents of this type, such as robot-goals")
    skills = add("skills", "list the skills and who may use them")
    skills.add_argument("--agent", metavar="ID", help="only what this agent may use")
    add("robots", "list the robots")
    route = add("route", "show where a free text would go")
    route.add_argument("text", metavar="TEXT")
    route.add_argument("--explain", action="store_true", help="show every rule tried")
    new = add("new", "make a workflow, agent, skill, robot or catalog to start from")
    new.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    new.add_argument("name", metavar="NAME", help="its name; for a catalog its folder")


def _add_server(add: _Adder) -> None:
    add("up", "start the local Prefect server and keep it", "server")
    add("down", "end the local Prefect server", "server")
    add("env", 'print the variables for the `prefect` command: eval "$(phaseline env)"', "server")


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least 1")
