"""One job on several GPUs: the child starts one process for each through torchrun, and says how they ended.

Runs within the child of :mod:`pst_worker.child`, in the place of the training itself. Process 0 writes the events, to
the file descriptor that this process holds open for it, and ``outcome.json``; the others write ``outcome-RANK.json``
where they fail.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pst import machine
from pst.messages import Message
from pst_worker.child import describe_exit
from pst_worker.run import CODES, end, outcome_name

SHUTDOWN_SECONDS = 50  # for a checkpoint; the worker gives the whole child ten more


def torchrun_arguments(folder: Path, events: int, processes: int, parent: int) -> list[str]:
    """What torchrun is given to start ``processes`` of :mod:`pst_worker.run`, whose parent is ``parent``."""
    launch = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    return [*launch, "-m", "pst_worker.run", str(folder), "--events", str(events), "--parent", str(parent)]


def run(folder: Path, events: int, processes: int) -> int:
    """Run the job and return the exit code, as one process alone would."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SHUTDOWN_SECONDS)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, machine.cpus() // processes)))
    failed, code = 0, 0
    try:
        main(torchrun_arguments(folder, events, processes, os.getpid()))
    except ChildFailedError as error:
        failed, code = first_to_end({rank: (item.exitcode, item.timestamp) for rank, item in error.failures.items()})
    except SignalException:
        pass  # processes that were told to stop say so themselves
    return end(folder, *concluded(folder, processes, failed, code))


def first_to_end(failures: Mapping[int, tuple[int, float]]) -> tuple[int, int]:
    """Rank and exit code of the process that ended first, of (exit code, time) by rank. Processes that lose a peer
    abort, and torchrun may find them in the same moment as the peer: one that aborted is named last."""
    rank = min(failures, key=lambda rank: (failures[rank][0] == -signal.SIGABRT, failures[rank][1]))
    return rank, failures[rank][0]


def concluded(folder: Path, processes: int, failed: int, code: int) -> tuple[int, dict[str, Any]]:
    """Exit code and outcome of the whole: the first process's, unless that only says that another one is gone;
    otherwise what the other says, or what can be said of ``code``, the exit code of the first to end so (``failed``).
    """
    found = [folder / outcome_name(rank) for rank in range(processes)]
    outcomes = [json.loads(path.read_text(encoding="utf-8")) for path in found if path.is_file()]
    for outcome in outcomes:
        if outcome["outcome"] != "died":
            return CODES[outcome["outcome"]], outcome
    sentence = Message(
        "Process {failed} of {processes} ended. {death}",
        failed=failed + 1,
        processes=processes,
        death=describe_exit(code),
    )
    return CODES["died"], {"outcome": "died", "error": sentence}
