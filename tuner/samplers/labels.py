"""What our suggestion service writes into Katib's objects, and `gantune` reads from them.

Katib stores a trial's labels and sends them back with each request. It also stores the settings in a reply's algorithm,
and sends them with each later request.
"""

from __future__ import annotations

NUMBER_LABEL = "gan-tuner/trial-number"
SEARCH_LABEL = "gan-tuner/search"  # Katib sends the trials of all namespaces that have an Experiment of the same name
SEARCH_SETTING = "search_id"  # "ID-N": the ID of the label, and the number of the first trial that the service proposed
