"""Continues many texts at once with one model: each step says the next token of all of them.

A text joins as soon as a slot is free, and leaves when it ends, whatever the others do. One thread
does all of it; whoever asks is called with each token.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from tunesmith.domain.answers import Chosen, Finish, Sampling
from tunesmith.inference.factors import Factors
from tunesmith.inference.sampling import Sampler
from tunesmith.inference.slots import SLOT_ATTENTION, Joined, Pass, Slots

_log = logging.getLogger(__name__)

_AT_ONCE = 512
"""Tokens of a prompt that go through the model together, with the next ones of other texts."""


@dataclass(frozen=True)
class Listener:
    """Whom a text is told to. All of it is called in the engine's thread, and must not wait."""

    said: Callable[[Chosen], bool]
    """Called with each token; returns whether the text goes on."""
    ended: Callable[[Finish], object]
    """Called once, behind the last token."""
    failed: Callable[[Exception], object]
    """Called in place of `ended` where something went wrong."""


@dataclass(eq=False)
class Text:
    """A text that is to be continued."""

    prompt: tuple[int, ...]
    """Its tokens so far, at least one."""
    sampling: Sampling
    """How the next ones are chosen."""
    ends: frozenset[int]
    """Tokens that end it; they are told to nobody."""
    listener: Listener
    """Whom it is told to."""
    adapter: int | None = None
    """Place of its adapter among the factors; `None` for the model alone."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set where nobody wants it any more."""


@dataclass(eq=False)
class _Going:
    """A text that has a slot."""

    text: Text
    sampler: Sampler
    given: int = 0
    """Tokens of the prompt that went through the model."""
    said: int = 0
    """Tokens that were chosen."""
    last: int = 0
    """The token that goes through the model next."""

    @property
    def begun(self) -> bool:
        return self.given == len(self.text.prompt)


class Engine:
    """One model and the texts that it continues."""

    def __init__(self, model: PreTrainedModel, *, slots: int, longest: int) -> None:
        """Continue up to `slots` texts at once with `model`, each of at most `longest` tokens.

        The model is changed: it answers this way only from now on.
        """
        self.factors = Factors(model, rows=slots)
        """The adapters that texts may have."""
        self.longest = longest
        """Tokens of the longest text, prompt and answer."""
        self.vocabulary: int = model.get_input_embeddings().num_embeddings
        """How many tokens there are."""
        model.set_attn_implementation(SLOT_ATTENTION)
        model.eval()
        self._model = model
        self._slots = Slots(slots)
        self._count = slots
        self._waiting: deque[Text] = deque()
        self._going: list[_Going] = []
        self._woken = threading.Condition()
        self._turn = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def say(self, text: Text) -> None:
        """Continue `text` as soon as there is a slot for it.

        Raises `ValueError` where its prompt leaves no room for an answer, or the engine is closed.
        """
        if not 0 < len(text.prompt) < self.longest:
            raise ValueError(
                f"The prompt has {len(text.prompt)} tokens; between 1 and {self.longest - 1} are "
                "taken."
            )
        with self._woken:
            if self._closing:
                raise ValueError("The model was taken out of memory.")
            self._waiting.append(text)
            self._woken.notify()

    def cancel(self, text: Text) -> None:
        """Leave `text` where it is; see `Continuing.cancel`."""
        text.cancelled.set()

    def between(self, do: Callable[[], None]) -> None:
        """Call `do` while no token is made: so adapters are put in place and taken away."""
        with self._turn:
            do()

    def close(self) -> None:
        """End; texts that are not over are told that they failed."""
        with self._woken:
            self._closing = True
            self._woken.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                with self._woken:
                    while not (self._waiting or self._going or self._closing):
                        self._woken.wait()
                if self._closing:
                    self._fail(RuntimeError("The model was taken out of memory."))
                    return
                with self._turn:
                    self._step()

    def _step(self) -> None:
        """Bring one text nearer to its first token, and let all others say the next."""
        try:
            self._leave(lambda going: going.text.cancelled.is_set())
            ready = list(self._going if self._all_begun else self._going[:-1])
            if self._all_begun:
                self._join()
            if self._all_begun:
                if ready:
                    self._tell(ready, self._through(ready))
            else:
                self._begin(ready)
        except Exception as error:  # noqa: BLE001  the thread's edge: whoever asked is told
            _log.exception("Texts could not be continued")
            self._fail(error)

    @property
    def _all_begun(self) -> bool:
        """Whether no text still has a part of its prompt before it; the last one alone may."""
        return not self._going or self._going[-1].begun

    def _join(self) -> None:
        """Give a free slot to the first text that waits."""
        with self._woken:
            while self._waiting and len(self._going) < self._count:
                text = self._waiting.popleft()
                if not text.cancelled.is_set():
                    self._slots.lengths[len(self._going)] = 0
                    self._going.append(_Going(text, Sampler(text.sampling)))
                    return

    def _begin(self, ready: list[_Going]) -> None:
        """Send the next part of the last text's prompt through the model.

        The next tokens of those that are `ready` go along: what takes the time is to read the
        weights, which is done once for both.
        """
        going = self._going[-1]
        tokens = going.text.prompt[going.given : going.given + _AT_ONCE]
        logits = self._through(ready, going, prompt=tokens)
        going.given += len(tokens)
        rows = [*ready, going] if going.begun else ready
        self._tell(rows, logits[: len(rows)])

    def _through(
        self, ready: Sequence[_Going], last: _Going | None = None, *, prompt: Sequence[int] = ()
    ) -> torch.Tensor:
        """Return the logits behind the last token of each row, (rows, vocabulary), fp32.

        Rows are those that are `ready`, whose next tokens are known, and the `last` one with the
        part `prompt` of its prompt.
        """
        passes = [Pass(self._slots, 0, len(ready), 1)] if ready else []
        tokens = [one.last for one in ready]
        adapters = [one.text.adapter for one in ready]
        if last is not None:
            passes.append(Pass(self._slots, len(self._going) - 1, 1, len(prompt)))
            tokens += prompt
            adapters += [last.text.adapter] * len(prompt)
        going = Joined(tuple(passes))
        lasts = going.lasts
        self.factors.choose(adapters, kept=lasts.tolist())
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor([tokens]),
            position_ids=going.positions,
            use_cache=False,
            logits_to_keep=lasts,
            going=going,
        ).logits
        going.done()
        return logits[0].float()

    def _tell(self, rows: Sequence[_Going], logits: torch.Tensor) -> None:
        """Choose and tell the next token of `rows`; those that end with it leave."""
        over: set[int] = set()
        try:
            for row, found in zip(rows, logits, strict=True):
                if not self._told(row, found):
                    over.add(id(row))
        finally:
            # Who has heard the end of a text is not told that it failed, where another one does.
            self._leave(lambda row: id(row) in over)

    def _told(self, row: _Going, logits: torch.Tensor) -> bool:
        """Tell the next token of `row`, and return whether the text goes on."""
        text = row.text
        chosen = row.sampler.choose(logits)
        if chosen.token in text.ends:
            text.listener.ended(Finish.STOP)
            return False
        row.last = chosen.token
        row.said += 1
        if not text.listener.said(chosen):
            text.listener.ended(Finish.STOP)
            return False
        room = self.longest - len(text.prompt)
        if row.said >= min(text.sampling.max_tokens or room, room):
            text.listener.ended(Finish.LENGTH)
            return False
        return True

    def _leave(self, over: Callable[[_Going], bool]) -> None:
        """Fill the slots of those that are `over`, so that no gap is left.

        The last one that has begun comes to stand there; one that has not stays the last.
        """
        for number in reversed(range(len(self._going))):
            if not over(self._going[number]):
                continue
            last = len(self._going) - 1
            gap = number
            for source in (last - 1, last) if not self._all_begun else (last,):
                if gap < source:
                    self._slots.move(source, gap)
                    self._going[gap] = self._going[source]
                    gap = source
            self._going.pop()

    def _fail(self, error: Exception) -> None:
        with self._woken:
            texts = [*(one.text for one in self._going), *self._waiting]
            self._going.clear()
            self._waiting.clear()
        for text in texts:
            text.listener.failed(error)
