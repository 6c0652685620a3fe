"""How an agent step fails once its requests are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from workflows.core.errors import PhaselineError
from workflows.core.units import shown_duration
from workflows.core.usage import Usage

Ending = Literal["failed", "waiting", "stopped"]


def ending(error: BaseException | None) -> Ending:
    """What an error means for its run: a failure, a wait for people, or a stop by a budget or quota."""
    code = error.exit_code if isinstance(error, PhaselineError) else 1
    return "waiting" if code == 3 else "stopped" if code == 4 else "failed"


class StepFailed(PhaselineError):
    """The conversation ended without an acceptable output.

    `spent` is what it cost, `turns` how many requests it took, `last_answer` the text of the last one.
    """

    def __init__(self, message: str = "the step failed", cure: str = "") -> None:
        super().__init__(message, cure)
        self.spent = Usage()
        self.turns = 0
        self.last_answer = ""


class TimedOut(StepFailed):
    """An attempt took longer than the step's timeout (seconds)."""

    def __init__(self, limit: float) -> None:
        super().__init__(
            f"it took longer than its timeout of {shown_duration(limit)}",
            "raise the step's `timeout`, or give it less to do",
        )


class Refused(StepFailed):
    """The model declined. `category` is the provider's, or empty."""

    final = True

    def __init__(self, message: str = "", category: str = "") -> None:
        super().__init__(
            message or f"the model refused the request{f' (category {category})' if category else ''}",
            "change the step's instruction or inputs, or choose another model",
        )
        self.category = category


class TurnsExhausted(StepFailed):
    """The conversation reached `max_turns`; the tools of the last answer were not run."""

    final = True


class AnswerTooLong(StepFailed):
    """The answer does not fit into `max_tokens`."""

    final = True


class ContextExceeded(StepFailed):
    """The conversation no longer fits into the model's context window."""

    final = True


class Poisoned(StepFailed):
    """The provider refuses what the conversation has become, also after answers of it were set aside."""

    final = True


class OutputRejected(StepFailed):
    """The output still broke its contract after every repair. `problems` says how; `last_answer` is kept."""

    final = True

    def __init__(self, message: str = "the output was rejected", problems: Sequence[str] = ()) -> None:
        super().__init__(
            message, "mend the instruction or loosen the output's schema or rules, or raise output.repair"
        )
        self.problems = tuple(problems)


class FailedBefore(StepFailed):
    """The step failed in an earlier process of the run, and nobody asked to try it again. `type` names the
    failure of then."""

    final = True

    def __init__(self, message: str = "the step failed", cure: str = "", type: str = "StepFailed") -> None:
        super().__init__(message, cure)
        self.type = type

    @classmethod
    def of(cls, error: Mapping[str, Any] | None) -> FailedBefore:
        """From the error of a step's row."""
        known = error or {}
        return cls(
            str(known.get("message", "")) or "the step failed",
            str(known.get("cure", "")),
            str(known.get("type", "StepFailed")),
        )


FINAL_ENDS = frozenset(
    kind.__name__
    for kind in (Refused, TurnsExhausted, AnswerTooLong, ContextExceeded, OutputRejected, Poisoned)
) | {"HookFailed", "HandlerFault", "Unanswered", "WrongArguments", "Drifted"}
"""Names of failures that the same recorded turns would lead to again."""

CONVERSATION_ENDS = frozenset(
    kind.__name__ for kind in (Refused, AnswerTooLong, ContextExceeded, OutputRejected, Poisoned)
) | {"Drifted"}
"""Those after which a conversation cannot go on: a step that is continued begins another one. A spent limit
(`max_turns`) is none of them: raised, the conversation goes on."""
