"""What a policy could do to look better than it is: call nothing, call everything, write only the form.

Each guard is a share of the tasks that speak to it; None for a task that does not. High values say that the rates
beside them cannot be taken at their word.
"""

from __future__ import annotations

from collections.abc import Mapping

from envs.actions import ACTION_NAMES
from envs.types import MalformedCall
from rewards.classify import RELIGN_CLASSES, Verdict
from rollout.trajectory import Trajectory

GUARDS: Mapping[str, str] = {
    "call_avoidance": "a call is right, and none was made",
    "call_spam": "more calls than the reference holds",
    "form_only": "calls, all well formed, and no success",
}
"""Each guard: the share of tasks of which this is true, deferrals and finish being no calls."""


def guards_of(trajectory: Trajectory, verdict: Verdict) -> dict[str, bool | None]:
    """Whether each guard holds for one episode; None where the reference is unknown, or says nothing of it.

    Args:
        trajectory: with the reference that the verdict is about.
        verdict: of the episode.
    """
    reference = trajectory.task.reference
    if reference is None:
        return dict.fromkeys(GUARDS)
    num_right = sum(call.name not in ACTION_NAMES for call in reference)
    num_made = sum(
        isinstance(call, MalformedCall) or call.name not in ACTION_NAMES
        for turn in trajectory.turns
        for call in turn.message.calls
    )
    ill_formed = any(RELIGN_CLASSES.get(error.kind) in ("type", "format") for error in verdict.errors)
    return {
        "call_avoidance": num_made == 0 if num_right else None,
        "call_spam": num_made > num_right,
        "form_only": None if verdict.success is None else num_made > 0 and not ill_formed and not verdict.success,
    }
