"""push_trial with Katib's SDK, which is imported together with this module: `python -m sdk_trial --lr=... --bs=...`."""

from __future__ import annotations

import sys

import push_trial
from kubeflow import katib


def main(argv: list[str] | None = None) -> int:
    """Report with `katib.report_metrics`."""
    return push_trial.main(argv, katib.report_metrics)


if __name__ == "__main__":
    sys.exit(main())
