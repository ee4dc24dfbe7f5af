"""The table of transitions: what it allows, that it is complete, and that nothing leaves a final state but a retry."""

from __future__ import annotations

import pytest

from hub.core.errors import Conflict
from jobs.models import FINAL, LEASED
from jobs.transitions import TRANSITIONS, Action, after
from pst_client.contract import JobState

S, A = JobState, Action
# Written out anew, not read from the table: every pair that is missing here must be refused.
EXPECTED = {
    (S.QUEUED, A.CANCEL): S.CANCELLED,
    (S.QUEUED, A.PAUSE): S.PAUSED,
    (S.QUEUED, A.CLAIM): S.RUNNING,
    (S.RUNNING, A.CANCEL): S.CANCELLING,
    (S.RUNNING, A.PAUSE): S.RUNNING,
    (S.RUNNING, A.RESUME): S.RUNNING,
    (S.RUNNING, A.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, A.FAIL): S.FAILED,
    (S.RUNNING, A.REQUEUE): S.QUEUED,
    (S.RUNNING, A.SUSPEND): S.PAUSED,
    (S.CANCELLING, A.CANCEL): S.CANCELLING,
    (S.CANCELLING, A.STOP): S.CANCELLED,
    (S.CANCELLING, A.SUCCEED): S.CANCELLED,
    (S.CANCELLING, A.FAIL): S.CANCELLED,
    (S.CANCELLING, A.REQUEUE): S.CANCELLED,
    (S.CANCELLING, A.SUSPEND): S.CANCELLED,
    (S.PAUSED, A.CANCEL): S.CANCELLED,
    (S.PAUSED, A.PAUSE): S.PAUSED,
    (S.PAUSED, A.RESUME): S.QUEUED,
    (S.FAILED, A.RETRY): S.QUEUED,
}


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("action", list(Action))
def test_every_pair_of_state_and_action(state: JobState, action: Action) -> None:
    expected = EXPECTED.get((state, action))
    if expected is None:
        with pytest.raises(Conflict) as refused:
            after(state, action)
        assert refused.value.code == "wrong_state"
        assert state.value in refused.value.message
    else:
        assert after(state, action) == expected


def test_the_table_names_every_state() -> None:
    assert set(TRANSITIONS) == set(JobState)


def test_every_state_is_reached_from_the_queue() -> None:
    reached, grown = {JobState.QUEUED}, True
    while grown:
        further = {target for state in reached for target in TRANSITIONS[state].values()}
        grown = not further <= reached
        reached |= further
    assert reached == set(JobState)


def test_only_a_retry_leaves_a_final_state() -> None:
    assert {action for state in FINAL for action in TRANSITIONS[state]} == {Action.RETRY}


def test_a_lease_begins_with_a_claim_only() -> None:
    begins = {
        action
        for state in set(JobState) - set(LEASED)
        for action, target in TRANSITIONS[state].items()
        if target in LEASED
    }
    assert begins == {Action.CLAIM}
