"""Takes `--flag=value`, and writes event files of TensorBoard."""

import argparse
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
lr = parser.parse_args().lr
writer = EventFileWriter(f"runs/{time.time()}")  # as torch's SummaryWriter does
for step in range(2):
    value = Summary.Value(tag="val_acc", simple_value=1 - lr)
    writer.add_event(Event(wall_time=1.7e9 - lr + step, step=step, summary=Summary(value=[value])))
writer.close()
