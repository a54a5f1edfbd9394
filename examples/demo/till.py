"""The demo's task: a café's orders, written down in the short code of its till.

No model knows this code beforehand, so what it answers right it has learnt from
the examples. Everything is drawn from a seed: the same examples on each run.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

SYSTEM = "Write the order in till code."
DRINKS = {
    "latte": "LAT",
    "flat white": "FLW",
    "mocha": "MOC",
    "cortado": "COR",
    "cappuccino": "CAP",
    "chai": "CHA",
}
SIZES = {"small": "S", "medium": "M", "large": "L"}
MILKS = {"oat": "OAT", "soy": "SOY", "almond": "ALM", "whole": "WHO"}
COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4}
PLACES = {"to go": "GO", "for here": "IN"}
NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack")
WORDINGS = (
    "{count} {size} {drink} with {milk} milk {place}, the name is {name}.",
    "Hi, {name} here, {count} {size} {drink} with {milk} milk, {place} please.",
    "Can I have {count} {size} {drink}, {milk} milk, {place}? It's for {name}.",
    "{place}: {count} {drink}, {size}, {milk} milk. Call {name}.",
)


class Order(NamedTuple):
    """What one customer says, and what the till wants."""

    said: str
    """The order in plain words."""
    code: str
    """The same in till code, e.g. `2 LAT L OAT GO Anna`."""

    def as_chat(self) -> dict[str, list[dict[str, str]]]:
        """Return the order as one line of OpenAI's chat format."""
        return {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": self.said},
                {"role": "assistant", "content": self.code},
            ]
        }


def orders(*, training: int, held_out: int, seed: int) -> tuple[list[Order], list[Order]]:
    """Return `training` orders to learn from and `held_out` others to be asked about.

    No two of them order the same thing for the same person.
    """
    chance = random.Random(seed)
    things = list(itertools.product(COUNTS, SIZES, DRINKS, MILKS, PLACES, NAMES))
    drawn = chance.sample(things, training + held_out)
    made = [_order(thing, chance.choice(WORDINGS)) for thing in drawn]
    return made[:training], made[training:]


def _order(thing: tuple[str, ...], wording: str) -> Order:
    count, size, drink, milk, place, name = thing
    said = wording.format(count=count, size=size, drink=drink, milk=milk, place=place, name=name)
    code = f"{COUNTS[count]} {DRINKS[drink]} {SIZES[size]} {MILKS[milk]} {PLACES[place]} {name}"
    return Order(said=said[0].upper() + said[1:], code=code)
