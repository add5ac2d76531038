"""`python -m tuner.suggestion`: serve until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from tuner.katib.facts import GRPC_PORT
from tuner.kube.dbmanager import address_in_cluster
from tuner.suggestion.server import Server

STOP = (signal.SIGTERM, signal.SIGINT)
GRACE = 5.0  # seconds for running requests after SIGTERM


def main() -> int:
    """Serve; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m tuner.suggestion", description="A suggestion service for Katib 0.19."
    )
    parser.add_argument(
        "--port",
        type=int,
        default=GRPC_PORT,
        help=f"Listen on this port. The default is {GRPC_PORT}.",
    )
    parser.add_argument(
        "--db-manager",
        metavar="ADDRESS",
        default=os.environ.get("KATIB_DB_MANAGER") or address_in_cluster(),
        help="Read the curves of finished trials here, to stop bad trials early. The default is "
        f"the variable KATIB_DB_MANAGER, or {address_in_cluster()}.",
    )
    options = parser.parse_args()
    port = options.port
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # Blocked before gRPC starts its threads, which inherit this: a signal that another thread
    # receives would not wake a main thread that waits for an event.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        server = Server(port, db_manager=options.db_manager)
    except RuntimeError as error:
        print(f"port {port} cannot be used: {error}", file=sys.stderr)
        return 2
    logging.getLogger("tuner.suggestion").info("serving on port %d", server.port)
    signal.sigwait(STOP)
    server.stop(GRACE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
