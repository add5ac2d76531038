"""Early stopping: the thresholds that a search sends to a trial (docs/how-to/early-stopping.md).

4gt0.52_8gt0.31     at report 4, stop if the best value so far is greater than 0.52, ...
4lt0.71             at report 4, stop if the best value so far is less than 0.71
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

VARIABLE = "GAN_TUNER_STOP_AT"
_ONE = re.compile(r"([1-9]\d{0,8})(gt|lt)(-?\d+(?:\.\d+)?(?:e-?\d+)?)", re.ASCII)


@dataclass(frozen=True)
class Threshold:
    """At report number `report`, the best value so far must not be beyond `value`."""

    report: int
    minimize: bool
    value: float

    def missed(self, values: Sequence[float]) -> bool:
        """Whether a trial with these reports stops now."""
        if len(values) != self.report:
            return False
        return min(values) > self.value if self.minimize else max(values) < self.value


def parse(text: str) -> tuple[Threshold, ...]:
    """Return the thresholds of a text, none for an empty one. Raises ValueError for any other text."""
    found = []
    for each in text.split("_") if text else ():
        if not (match := _ONE.fullmatch(each)) or not math.isfinite(value := float(match[3])):
            raise ValueError(each)
        found.append(Threshold(int(match[1]), match[2] == "gt", value))
    return tuple(found)
