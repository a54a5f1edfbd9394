"""Counts the tokens of examples as training would see them, many at a time."""

from __future__ import annotations

import functools
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from tunesmith.dataset.counting import Counted
from tunesmith.dataset.examples import AnyExample, Example, Pair, Ranking, Reasoning, Text
from tunesmith.dataset.passages import (
    PassageEncoder,
    longest_text,
    ranked_method,
    within_context,
)
from tunesmith.dataset.problems import Problem, Rule
from tunesmith.dataset.rendering import (
    Rendered,
    Rendering,
    SetAside,
    cut_away,
    ensure_template,
    render,
    too_short,
)
from tunesmith.dataset.texts import window_starts
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.spec import RANKED, Policy
from tunesmith.domain.validation import HistogramBar, TokenReport, ValidationOptions

_BATCH = 256
"""Examples that are encoded at a time: enough to be quick, few enough to be small."""
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(slots=True)
class Tally:
    """The tokens of some examples."""

    lengths: array[int] = field(default_factory=lambda: array("i"))
    """Tokens of each text, before cutting."""
    total: int = 0
    """Tokens that are trained on, after cutting."""
    learnt: int = 0
    """Those of them that the loss is taken on."""
    cut: int = 0
    """Examples of which some answer, or a part of it, is cut off."""
    set_aside: int = 0
    """Examples that are not trained on."""
    units: int = 0
    """What batches are made of: texts, pairs of them, or queries with their passages."""

    def join(self, later: Tally) -> None:
        """Add the tokens of `later`."""
        self.lengths.extend(later.lengths)
        self.total += later.total
        self.learnt += later.learnt
        self.cut += later.cut
        self.set_aside += later.set_aside
        self.units += later.units

    def report(self, *, model: str, max_length: int) -> TokenReport:
        """Return the statistics; percentiles are by nearest rank."""
        lengths = sorted(self.lengths)
        ranks = {f"p{rank}": max(math.ceil(rank / 100 * len(lengths)), 1) for rank in _PERCENTILES}
        found = {name: lengths[rank - 1] for name, rank in ranks.items()} if lengths else {}
        return TokenReport(
            model=model,
            max_length=max_length,
            total=self.total,
            learnt=self.learnt,
            mean=round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
            percentiles=found | ({"max": lengths[-1]} if lengths else {}),
            histogram=_histogram(self.lengths),
            cut=self.cut,
            set_aside=self.set_aside,
        )


class Measurer:
    """Measures examples by one tokenizer; it can be sent to another process."""

    def __init__(self, tokenizer: FolderTokenizer, options: ValidationOptions) -> None:
        """Cut, refuse or set aside by `options`, at the model's own context at the latest."""
        ensure_template(tokenizer)
        self._tokenizer = tokenizer
        self._over_length = options.over_length
        self._think = options.think
        self._method = ranked_method(options.method, of_reranker=tokenizer.of_reranker)
        context = tokenizer.context_length
        self._ranking = within_context(options.ranking, method=self._method, context=context)
        self.max_length = min(options.max_length, context or options.max_length)
        """Tokens of the longest text."""
        if options.method in RANKED:
            self.max_length = longest_text(self._ranking, method=self._method)
        self._waiting: list[tuple[AnyExample, list[Rendered]]] = []

    def add(self, example: AnyExample, tally: Tally) -> Iterator[Problem]:
        """Take `example` in, and yield what is found in it and in those that waited for it."""
        if isinstance(example, Ranking):
            yield from self._count_ranking(example, tally=tally)
            return
        texts: list[Rendered] = []
        for part in _rendered(example):
            found = render(part, self._tokenizer, think=self._think)
            if isinstance(found, SetAside):
                tally.set_aside += 1
                yield _aside(example, found)
                return
            texts.extend(found)
        if texts:
            self._waiting.append((example, texts))
        if len(self._waiting) >= _BATCH:
            yield from self.flush(tally)

    def flush(self, tally: Tally) -> Iterator[Problem]:
        """Measure the examples that wait, and yield what is found in them."""
        waiting, self._waiting = self._waiting, []
        counted = self._tokenizer.count([text for _, texts in waiting for text in texts])
        for example, texts in waiting:
            measured = list(islice(counted, len(texts)))
            yield from self._count(example, measured, tally=tally)

    @functools.cached_property
    def _passages(self) -> PassageEncoder:
        return PassageEncoder(self._tokenizer.backend, self._ranking, method=self._method)

    def _count_ranking(self, row: Ranking, *, tally: Tally) -> Iterator[Problem]:
        """Measure all texts of `row`; no token of them is learnt."""
        found = self._passages.encode(row)
        if isinstance(found, SetAside):
            tally.set_aside += 1
            yield _aside(row, found)
            return
        tally.lengths.extend(text.whole for text in found)
        cut = [text for text in found if text.cut]
        if cut:
            yield self._cut_texts(row, len(cut), of=len(found))
            if self._over_length is not Policy.CUT:
                tally.set_aside += 1
                return
        tally.units += 1
        tally.total += sum(len(text.tokens) for text in found)
        tally.cut += bool(cut)

    def _count(
        self, example: AnyExample, measured: list[Counted], *, tally: Tally
    ) -> Iterator[Problem]:
        tally.lengths.extend(length for length, _ in measured)
        longest = max(length for length, _ in measured)
        if isinstance(example, Text) and self._over_length is Policy.CUT:
            yield from self._count_windows(example, longest, tally=tally)
            return
        if longest > self.max_length:
            yield self._too_long(example, longest)
            if self._over_length is not Policy.CUT:
                tally.set_aside += 1
                return
        if isinstance(example, Text):
            yield from self._count_windows(example, longest, tally=tally)
            return
        inside = [self._learnt(spans, self.max_length) for _, spans in measured]
        kept = [at for at, learnt in enumerate(inside) if learnt]
        if not kept or (isinstance(example, Pair) and len(kept) < len(measured)):
            tally.set_aside += 1
            yield _aside(example, cut_away(_rendered(example)[0], self.max_length))
            return
        tally.units += 1 if isinstance(example, Pair) else len(kept)
        tally.total += sum(min(measured[at][0], self.max_length) for at in kept)
        tally.learnt += sum(inside)
        tally.cut += sum(inside) < sum(self._learnt(spans, longest) for _, spans in measured)

    def _count_windows(self, text: Text, tokens: int, *, tally: Tally) -> Iterator[Problem]:
        windows = len(window_starts(tokens, self.max_length))
        if not windows:
            tally.set_aside += 1
            yield _aside(text, too_short(text))
            return
        tally.units += windows
        # Each window but the first begins with a token of the one before.
        tally.total += tokens + windows - 1
        tally.learnt += tokens - 1

    @staticmethod
    def _learnt(spans: list[slice], length: int) -> int:
        return sum(max(min(span.stop, length) - span.start, 0) for span in spans)

    def _too_long(self, example: AnyExample, tokens: int) -> Problem:
        fault = f"{tokens} tokens, but the longest length is {self.max_length}."
        message = f"{example.place}: {fault} {self._fate} Shorten it, or raise max_length."
        return _problem(example, Rule.OVER_LENGTH, message=message)

    def _cut_texts(self, row: Ranking, count: int, *, of: int) -> Problem:
        longest = f"{self._ranking.query_max_len} and {self._ranking.passage_max_len} tokens"
        message = (
            f"{row.place}: {count} of {of} texts are longer than queries and passages may be "
            f"({longest}). {self._fate} Shorten them, or raise query_max_len or passage_max_len."
        )
        return _problem(row, Rule.OVER_LENGTH, message=message)

    @property
    def _fate(self) -> str:
        return {
            Policy.CUT: "What is beyond is cut off.",
            Policy.SET_ASIDE: "It is left out.",
            Policy.REFUSE: "Files with such examples are refused.",
        }[self._over_length]


def _rendered(example: AnyExample) -> tuple[Rendering, ...]:
    """Return what is rendered of `example`: nothing where vectors are learnt from its kind."""
    match example:
        case Example() | Reasoning() | Text():
            return (example,)
        case Pair(line=line, prompt=prompt, element=element, tools=tools):
            answers = (example.chosen, example.rejected)
            return tuple(Example(line, (*prompt, one), element, tools) for one in answers)
        case _:
            return ()


def _histogram(lengths: array[int]) -> tuple[HistogramBar, ...]:
    bars = Counter((length - 1).bit_length() for length in lengths)
    return tuple(
        HistogramBar(upto=2**bar, examples=bars[bar])
        for bar in range(min(bars, default=0), max(bars, default=-1) + 1)
    )


def _aside(example: AnyExample, found: SetAside) -> Problem:
    return _problem(example, Rule(found.rule), message=found.reason)


def _problem(example: AnyExample, rule: Rule, *, message: str) -> Problem:
    line, element = example.line, example.element
    return Problem(line=line, element=element, pointer="", rule=rule, message=message)
