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
STOP_LABEL = "gan-tuner/stop-at"  # the thresholds of a trial (tuner.experiment.early_stopping)
# what `gantune submit` tells our service of the manifest's early stopping, since Katib does not send
# annotations, and runs a service of its own for earlyStopping
FACTORS_SETTING, MEDIAN_SETTING = "stop_factors", "medianstop"
# why no trial is stopped, "" if trials are
NOT_STOPPED_SETTING = "not_stopped"
# a fingerprint of each trial from that one on (tuner.suggestion.identity)
ISSUED_SETTING = "issued"
