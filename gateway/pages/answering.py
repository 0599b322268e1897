"""What a user says to "was this you?": once for each alert, and at once in effect."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Literal, NamedTuple

from ..errors import StoreUnavailable
from ..links import Links, Question
from ..model import Actor
from ..ports import Answers
from ..sessions import Receipt, Sessions

_ACTOR = Actor("user", "was_this_you")
Said = Literal["yes", "session", "all"]
SAID: tuple[Said, ...] = ("yes", "session", "all")


class State(StrEnum):
    """Whether a question can be answered."""

    OPEN = "open"
    UNKNOWN = "unknown"  # not our signature
    EXPIRED = "expired"
    ANSWERED = "answered"


class Outcome(NamedTuple):
    """What became of an answer; a receipt only if it ended sessions."""

    state: State
    receipt: Receipt | None = None


class Answering:
    """Reads links and does what users answer. Raises StoreUnavailable when nothing is known."""

    def __init__(
        self,
        answers: Answers,
        sessions: Sessions,
        links: Links,
        count_ended: Callable[[str], None],
    ) -> None:
        self._answers = answers
        self._sessions = sessions
        self._links = links
        self._count_ended = count_ended

    async def look(self, token: str) -> tuple[State, Question | None]:
        """Return what a link asks about; changes nothing, so that anything may open it."""
        question = self._links.read(token)
        if question is None:
            return State.UNKNOWN, None
        if time.time() * 1000 >= question.expires_ms:
            return State.EXPIRED, question
        answered = await self._answers.is_answered(question.alert_id)
        return State.ANSWERED if answered else State.OPEN, question

    async def answer(self, token: str, said: Said) -> Outcome:
        """Do what is said. Of two answers at once one counts; a failed one may be tried again."""
        state, question = await self.look(token)
        if question is None or state is not State.OPEN:
            return Outcome(state)
        if not await self._answers.begin_answer(question.alert_id):
            return Outcome(State.ANSWERED)
        try:
            receipt = await self._do(question, said)
        except StoreUnavailable:
            await self._answers.forget_answer(question.alert_id)
            raise
        ended = 0 if receipt is None else len(receipt.ended)
        with contextlib.suppress(StoreUnavailable):  # what was asked is done all the same
            await self._answers.finish_answer(question, {"answer": said, "ended": ended}, _ACTOR)
        return Outcome(State.OPEN, receipt)

    async def _do(self, question: Question, said: Said) -> Receipt | None:
        if said == "yes":
            return None
        if said == "all":
            receipt = await self._sessions.end_all(question.user, "", _ACTOR)
        else:
            receipt = await self._sessions.end_family(question.user, question.session_id, _ACTOR)
        for each in receipt.ended:
            self._count_ended(each.why)
        return receipt
