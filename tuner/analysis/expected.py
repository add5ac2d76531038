"""Expected best against the number of trials (Lucic et al. 2018, arXiv 1711.10337): are more trials worth it?

The best of k trials that are drawn from the observed ones with replacement has the expectation
sum_i v_i (F_i^k - F_(i-1)^k) over the values in order from the worst to the best, with F_i = i / n
(Dodge et al. 2019, arXiv 1909.03004, eq. 4). The band repeats this for resampled trials
(bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.result import Goal

MIN_TRIALS = 4
REPEATS = 200
POINTS = 60  # numbers of trials at which the curve is computed


def expected_best(
    values: Sequence[float], goal: Goal, *, repeats: int = REPEATS
) -> tuple[list[int], NDArray[np.float64]]:
    """Return numbers of trials k, and [3, k]: the expected best of k trials, and its 10 % and 90 % bootstrap bounds."""
    size = len(values)
    counts = sorted({round(k) for k in np.linspace(1, size, min(size, POINTS))})
    upper = (np.arange(1, size + 1) / size)[:, None] ** np.array(counts)[None, :]  # F_i^k, [n, k]
    weights = np.diff(upper, axis=0, prepend=0.0)
    worst_first = np.sort(np.asarray(values, dtype=np.float64))
    rows = np.sort(np.random.default_rng(0).integers(0, size, (repeats, size)), axis=1)
    if goal is Goal.MINIMIZE:
        worst_first = worst_first[::-1]
    repeated = worst_first[rows] @ weights  # rows are sorted, and so is what they choose
    low, high = np.quantile(repeated, [0.1, 0.9], axis=0)
    return counts, np.stack([worst_first @ weights, low, high])
