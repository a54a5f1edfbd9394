"""Finds examples that occur twice, by hashes of what each says: 32 bytes an example.

One hash, of 64 bits, is of the wording's ASCII letters in lower case, without
blanks and ASCII punctuation; letters beyond ASCII count as they are. That two
different examples among ten million share it by chance has a likelihood of about 3 in a
million (n² / 2⁶⁵). Of those that share it, another of 64 bits tells which are the
same letter by letter. Both are XXH3: quick, and no seal against whoever wants to collide, whose
gain would be a warning too many.
"""

from __future__ import annotations

import heapq
import string
from array import array
from collections.abc import Iterator, Sequence
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from tunesmith.dataset.findings import Findings
from tunesmith.dataset.problems import Problem, Rule, place

_LOWER = bytes(range(256)).lower()
_PASSED_OVER = (string.whitespace + string.punctuation).encode()


class Fingerprints:
    """The hashes and places of examples, in their file's order."""

    def __init__(self) -> None:
        """Know no example yet."""
        self._exact, self._near = array("Q"), array("Q")
        self._lines, self._elements = array("q"), array("q")

    def add(self, words: bytes, line: int, *, element: int) -> None:
        """Add the example at `line` and `element` that says `words`, in UTF-8."""
        self._near.append(xxh3_64_intdigest(words.translate(_LOWER, _PASSED_OVER) or words))
        self._exact.append(xxh3_64_intdigest(words))
        self._lines.append(line)
        self._elements.append(element)

    def add_lines(self, wordings: Sequence[bytes], line: int) -> None:
        """Add the examples of the lines from `line` on, which say `wordings` without zero bytes."""
        whole = b"\0".join(wordings).translate(_LOWER, _PASSED_OVER)
        plain = whole.split(b"\0") if wordings else []
        # An example of punctuation alone is like no other.
        told = [each or words for each, words in zip(plain, wordings, strict=True)]
        self._near.extend(map(xxh3_64_intdigest, told))
        self._exact.extend(map(xxh3_64_intdigest, wordings))
        self._lines.extend(range(line, line + len(wordings)))
        self._elements.extend(repeat(0, len(wordings)))

    def join(self, later: Fingerprints) -> None:
        """Add the examples of `later`, which stand behind these."""
        self._exact.extend(later._exact)
        self._near.extend(later._near)
        self._lines.extend(later._lines)
        self._elements.extend(later._elements)

    def find_duplicates(self, findings: Findings) -> None:
        """Add to `findings` each example that an earlier one is like."""
        twins = {Rule.DUPLICATE: array("q"), Rule.NEAR_DUPLICATE: array("q")}
        first = dict[int, int]()
        for example, there, rule in self._twins():
            twins[rule].append(example)
            first[example] = there
        for rule, found in twins.items():
            shown = heapq.nsmallest(findings.kept, found)
            for example in shown:
                findings.add(self._twice(example, first[example], rule=rule))
            findings.count(rule, len(found) - len(shown))

    def find_overlap(self, held_out: Fingerprints, findings: Findings) -> None:
        """Add to `findings` each example that is like one of `held_out`."""
        there = pc.index_in(_column(self._near), value_set=_column(held_out._near))
        found = pc.indices_nonzero(pc.is_valid(there))
        for at in found.slice(0, findings.kept).to_pylist():
            findings.add(self._overlapping(at, held_out, other=there[at].as_py()))
        findings.count(Rule.OVERLAP, max(len(found) - findings.kept, 0))

    def _twins(self) -> Iterator[tuple[int, int, Rule]]:
        """Yield each example with a twin before it, that twin, and how alike they are."""
        near = _column(self._near)
        order = pc.sort_indices(near)
        ascending = near.take(order)
        like_before = pc.equal(ascending.slice(1), ascending.slice(0, max(len(near) - 1, 0)))
        end, first, seen = -1, 0, dict[int, int]()
        for at in pc.indices_nonzero(like_before).to_pylist():
            # The sort is stable, so that those which are alike stand in the file's order.
            example = order[at + 1].as_py()
            if at != end:
                first = order[at].as_py()
                seen = {self._exact[first]: first}
            end = at + 1
            twin = seen.setdefault(self._exact[example], example)
            if twin != example:
                yield example, twin, Rule.DUPLICATE
            else:
                yield example, first, Rule.NEAR_DUPLICATE

    def _twice(self, example: int, first: int, *, rule: Rule) -> Problem:
        there = place(self._lines[first], self._elements[first])
        if rule is Rule.DUPLICATE:
            fault = f"the same example as {there}. Remove one, unless it is meant to count twice."
        else:
            fault = f"but for case, blanks and punctuation the same as {there}. Remove one."
        return self._problem(example, rule, fault=fault)

    def _overlapping(self, example: int, held_out: Fingerprints, *, other: int) -> Problem:
        there = place(held_out._lines[other], held_out._elements[other])
        fault = (
            f"the validation file has this example too ({there}), so that what is measured "
            "there is what was learnt here. Remove it from one of the two."
        )
        return self._problem(example, Rule.OVERLAP, fault=fault)

    def _problem(self, example: int, rule: Rule, *, fault: str) -> Problem:
        line, element = self._lines[example], self._elements[example]
        message = f"{place(line, element)}: {fault}"
        return Problem(line=line, element=element, pointer="", rule=rule, message=message)


def _column(hashes: array[int]) -> pa.Array:
    """Return `hashes` as an Arrow column, without a copy."""
    return pa.Array.from_buffers(pa.uint64(), len(hashes), [None, pa.py_buffer(hashes)])
