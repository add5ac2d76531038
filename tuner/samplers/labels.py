"""What our suggestion service writes into Katib's objects, and `gantune` reads from them.

Katib puts the labels of a suggestion on its Trial, over those of the Experiment, by which it finds
the trials. So a key that an Experiment uses would make it lose them. It keeps the settings of a
reply, and sends them with later requests.
"""

from __future__ import annotations

NUMBER_LABEL = "gan-tuner/trial-number"
LONGEST_NUMBER = 9  # characters of the label at which it is somebody else's
SEARCH_LABEL = "gan-tuner/search-id"
# "ID-N": the ID of the label, and the number of the first trial that the service proposed
SEARCH_SETTING = "search_id"
# a fingerprint of each trial from that one on (tuner.suggestion.identity)
ISSUED_SETTING = "issued"
