"""``pst``: the platform from a terminal, and the library without it.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the platform, or a serving node, can't be reached; 4 not signed in;
130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pst.config import TaskName
from pst_client import commands
from pst_client.errors import PlatformError, Unreachable
from pst_client.show import Output

ENCODINGS = ["auto", "utf-8", "utf-8-sig", "utf-16", "gb18030", "latin-1", "windows-1250", "windows-1251"]
ENCODINGS += ["windows-1252", "shift-jis", "euc-kr", "big5", "mac-roman", "utf-7", "cp866", "koi8-r", "iso-8859-5"]
ENCODINGS += ["euc-jp", "windows-1253", "cp850"]
OK, FAILED, USAGE, UNREACHABLE, NOT_SIGNED_IN, INTERRUPTED = 0, 1, 2, 3, 4, 130
LOCAL = {
    "train": "train, export and verify what FOLDER/spec.json asks for, on this machine",
    "export": "merge and export a folder again from its best checkpoint",
    "report": "print the report card of a finished folder",
    "expand": "rebuild model.safetensors of a folder from its compact file",
    "bench": "measure how fast a model's folder runs here, dense and sparse",
    "sweep": "search over settings and targets of a folder by successive halving",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in LOCAL:
        from pst.__main__ import main as local  # it loads torch

        return local(given)
    options = parser().parse_args(given)
    output = Output(as_json=options.json)
    try:
        return int(options.run(options, output))
    except Unreachable as error:
        output.error(error.message, code=error.code)
        return UNREACHABLE
    except PlatformError as error:
        output.error(error.message, error.details, code=error.code)
        if error.status == 401:
            return NOT_SIGNED_IN
        return USAGE if error.code == "usage" else FAILED
    except OSError as error:
        output.error(f"{error.filename or 'A file'}: {error.strerror or error}", code="file")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="pst", description="Sparse fine-tuning: upload rows, name a sparsity, get a model."
    )
    commands_of = top.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document")

    def add(name: str, help_text: str) -> argparse.ArgumentParser:
        command = commands_of.add_parser(name, help=help_text, description=help_text, parents=[common])
        command.set_defaults(run=getattr(commands, name))
        return command

    login = add("login", "sign in to a platform and keep the token")
    login.add_argument("url", nargs="?", help="such as https://models.example.org")
    how = login.add_mutually_exclusive_group()
    how.add_argument("--token", help="a user's token; asked for when neither is given")
    how.add_argument("--username", help="make a token with user name and password")
    login.add_argument("--workspace", help="with --username: the workspace of the token")
    login.add_argument("--role", choices=["viewer", "editor", "owner"], help="with --username: the role of the token")

    _push(add("push", "upload files of rows and validate them"))

    estimate = add("estimate", "what a target means for a model, before a job is submitted")
    _plan(estimate)
    estimate.add_argument("--dataset", metavar="ID")
    estimate.add_argument("--num-labels", type=int, metavar="N", help="where no data set is given")

    submit = add("submit", "submit a sparse fine-tuning job")
    submit.add_argument("--dataset", required=True, metavar="ID")
    _plan(submit)
    submit.add_argument("--name")
    submit.add_argument("--model-name", help="model of the registry that the result becomes a version of")
    submit.add_argument("--queue")
    submit.add_argument("--workspace")
    submit.add_argument("--idempotency-key", help="the same key again returns the same job")
    submit.add_argument("--watch", action="store_true", help="show the job until it ends")

    watch = add("watch", "show a job until it ends; 0 when it succeeded")
    watch.add_argument("job", metavar="JOB")

    pull = add("pull", "download a version into a folder and check its signature and every file")
    pull.add_argument("model", metavar="WORKSPACE/NAME[@REVISION]", help="an alias, v3 or a commit; the newest without")
    pull.add_argument("folder", type=Path)
    pull.add_argument("--compact", action="store_true", help="without the dense weights; `pst expand` rebuilds them")
    pull.add_argument(
        "--signing-key", metavar="KEY", help="that must have signed it, instead of the platform's present"
    )

    predict = add("predict", "ask a deployed model")
    predict.add_argument("model", metavar="WORKSPACE/DEPLOYMENT")
    predict.add_argument("text", nargs="*")
    predict.add_argument("--file", type=Path, help="one text per line; - for standard input")
    predict.add_argument("--pair", help="second text of each input")
    predict.add_argument("--top-k", type=int)
    predict.add_argument("--node", metavar="URL", help="ask this node, instead of any that is ready")

    add("nodes", "workers and serving nodes")
    for name, help_text in LOCAL.items():
        commands_of.add_parser(name, help=help_text, add_help=False)
    return top


def number(text: str) -> float:
    """A number that there is: neither infinite nor nan."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError
    return found


def _push(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="training rows: CSV, TSV, JSON or JSON lines")
    command.add_argument("--validation-file", type=Path)
    command.add_argument("--test-file", type=Path)
    command.add_argument("--name")
    command.add_argument("--workspace")
    command.add_argument(
        "--task", choices=get_args(TaskName), help="what the rows teach; classification where none is given"
    )
    command.add_argument("--text", "--text-column", "--source", dest="text_column", metavar="COLUMN")
    command.add_argument("--text2", "--text-pair-column", dest="text_pair_column", metavar="COLUMN")
    command.add_argument("--label", "--label-column", "--target", dest="label_column", metavar="COLUMN")
    command.add_argument("--references-column", metavar="COLUMN", help="more right texts, a JSON list")
    command.add_argument("--label-separator", metavar="CHARACTER", help="stands between the labels of a row")
    command.add_argument("--format", choices=["auto", "csv", "tsv", "json", "jsonl"])
    command.add_argument("--encoding", choices=ENCODINGS)
    command.add_argument("--delimiter", help="one character, or tab")
    command.add_argument("--header", choices=["auto", "true", "false"])
    command.add_argument("--validation-share", type=number, metavar="SHARE")
    command.add_argument("--seed", type=int)
    command.add_argument("--no-wait", dest="wait", action="store_false", help="don't wait for the validation")


def _plan(command: argparse.ArgumentParser) -> None:
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("--base-model", metavar="WORKSPACE/NAME[@REVISION]")
    model.add_argument("--public-model", metavar="OWNER/NAME[@REVISION]", help="fetched from the public Hub by name")
    target = command.add_argument_group("target", "a sparsity, one for each group of matrices, or a budget")
    target.add_argument("--sparsity", type=number, help="share of prunable weights that become zero, 0.5 to 0.99")
    target.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="instead of --sparsity, any number of times: the share of a group of matrices, or of all whose names begin"
        " so (decoder=0.99); what no --group names stays dense",
    )
    target.add_argument("--max-nonzero-params", type=int, metavar="N")
    target.add_argument("--max-bytes", type=int, metavar="N", help="of the compact file")
    target.add_argument("--max-memory-bytes", type=int, metavar="N", help="of the loaded model")
    target.add_argument("--max-latency-ms", type=number, metavar="MS", help="of one forward pass on the node of --on")
    target.add_argument(
        "--min-speedup", type=number, metavar="TIMES", help="against the dense model, on the node of --on"
    )
    target.add_argument("--on", metavar="NODE", help="name or id of a serving node that has measured itself")
    target.add_argument("--rows", type=int, metavar="N", help="texts of one request on that node; 1")
    target.add_argument("--tokens", type=int, metavar="N", help="tokens of each text; 128")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a training setting")


if __name__ == "__main__":
    sys.exit(main())
