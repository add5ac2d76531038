"""A suggestion service for Katib: the samplers of the local engine behind Katib's gRPC interface.

    python -m tuner.suggestion --port 6789

Each request holds the Experiment and its trials, so a reply is a function of the request: the
service can be killed at any time. It has no access to Kubernetes. To stop bad trials early, it reads
the curves of finished ones from Katib's DB manager.

    server     gRPC, the health check, errors
    service    request -> reply
    request    Katib's messages -> an Experiment and its trials, checked by the rules of `gantune check`
    history    the trials by number, as the sampler sees them at each trial
    stopping   the early-stopping thresholds of new trials
"""
