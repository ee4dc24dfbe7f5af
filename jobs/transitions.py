"""How a job's state may change: a table, and the question asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from hub.core.errors import Conflict
from pst.messages import Message, word
from pst_client.contract import JobState


class Action(StrEnum):
    """What is done to a job: by people, by the worker that holds it, or by the reaper."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    STOP = "stop"  # the worker confirms that it cancelled
    REQUEUE = "requeue"  # the attempt ended early; another may go on
    SUSPEND = "suspend"  # the attempt ended early because a pause was asked for


QUEUED, RUNNING, PAUSED, CANCELLING = JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

TRANSITIONS: Mapping[JobState, Mapping[Action, JobState]] = {
    QUEUED: {
        Action.CANCEL: CANCELLED,
        Action.PAUSE: PAUSED,
        Action.CLAIM: RUNNING,
    },
    RUNNING: {
        Action.CANCEL: CANCELLING,
        # The worker is asked at its next heartbeat; only when it has saved a checkpoint is the job paused.
        Action.PAUSE: RUNNING,
        Action.RESUME: RUNNING,
        Action.SUCCEED: SUCCEEDED,
        Action.FAIL: FAILED,
        Action.REQUEUE: QUEUED,
        Action.SUSPEND: PAUSED,
    },
    # Whatever ends the attempt now, the user was told that the job is being cancelled: nothing is published.
    CANCELLING: {
        Action.CANCEL: CANCELLING,
        Action.STOP: CANCELLED,
        Action.SUCCEED: CANCELLED,
        Action.FAIL: CANCELLED,
        Action.REQUEUE: CANCELLED,
        Action.SUSPEND: CANCELLED,
    },
    PAUSED: {
        Action.CANCEL: CANCELLED,
        Action.PAUSE: PAUSED,
        Action.RESUME: QUEUED,
    },
    FAILED: {Action.RETRY: QUEUED},
    SUCCEEDED: {},
    CANCELLED: {},
}


def after(state: JobState, action: Action) -> JobState:
    """The state that ``action`` leads to. Raises :class:`Conflict` where the table has no such step."""
    found = TRANSITIONS[state].get(action)
    if found is None:
        raise Conflict(
            Message("The job is {state}: it can't {action} now.", state=word(state.value), action=word(action.value)),
            code="wrong_state",
        )
    return found
