#!/usr/bin/env python3
"""Writes test/golden/data/events.tfevents: what TensorBoard's own writer makes of a few events, and events.json, the same as numbers.

    python -m venv V && V/bin/pip install tensorboard
    V/bin/python scripts/goldens/make_events.py
"""
import json, os
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

out = os.path.join(os.path.dirname(__file__), "..", "..", "test", "golden", "data")
steps = [
    {"step": 1, "scalars": {"train/reward": 0.25, "clipRatio/low": 0.0}},
    {"step": 300, "scalars": {"train/reward": -1e30, "rewards/größe/mean": 1e-30, "train/kl": float("nan")}},
    {"step": 5_000_000_000, "scalars": {f"train/m{i}": i / 7 for i in range(30)}},
]
with open(os.path.join(out, "events.tfevents"), "wb") as f:
    writer = RecordWriter(f)
    writer.write(Event(wall_time=1700000000.25, file_version="brain.Event:2").SerializeToString())
    writer.write(Event(wall_time=1700000000.25, step=7, session_log=SessionLog(status=SessionLog.START)).SerializeToString())
    for i, s in enumerate(steps):
        values = [Summary.Value(tag=t, simple_value=v) for t, v in s["scalars"].items()]
        writer.write(Event(wall_time=1700000001.5 + i, step=s["step"], summary=Summary(value=values)).SerializeToString())
    writer.flush()
with open(os.path.join(out, "events.json"), "w") as f:
    json.dump([{**s, "scalars": {t: None if v != v else v for t, v in s["scalars"].items()}} for s in steps], f, ensure_ascii=False)
    f.write("\n")
