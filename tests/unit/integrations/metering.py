"""Events of each kind, and what any adapter of metrics must count for them."""

from __future__ import annotations

from imgstore.errors import ConnectionLostError, StalledError, UnavailableError
from imgstore.model import Event

LOST = ConnectionLostError("reset")

EVENTS = [
    Event("opened", "fast", "disk", seconds=0.02),
    Event("opened", "fast", "other", seconds=0.2),
    Event("delivered", "fast", "disk", count=1000),
    Event("delivered", "fast", "other", count=500),
    Event("refetched", "fast", "disk", count=300),
    Event("failed", "fast", "disk", error=LOST),
    Event("failed", "fast", "disk", error=UnavailableError("503"), opening=True),
    Event("failed", "cold", "disk", "put", error=ArithmeticError("text"), opening=True),
    Event("opened", "cold", "disk", "put", seconds=42.0),
    Event("stalled", "fast", "disk", error=StalledError("slow")),
    Event("resumed", "fast", "disk", attempt=2, error=LOST),
    Event("resumed", "fast", "disk", attempt=3, error=LOST),
    Event("repaired", "fast", "disk", count=4096),
    Event("source", "fast", "disk"),
]

# counter, store, op, class
COUNTS = {
    ("bytes", "fast", "get", "received"): 1500,
    ("bytes", "fast", "get", "refetched"): 300,
    ("attempts", "fast", "get", "opened"): 2,
    ("attempts", "fast", "get", "failed"): 1,
    ("attempts", "cold", "put", "failed"): 1,
    ("attempts", "cold", "put", "opened"): 1,
    ("errors", "fast", "get", "ConnectionLostError"): 1,
    ("errors", "fast", "get", "UnavailableError"): 1,
    ("errors", "cold", "put", "other"): 1,
    ("stalls", "fast", "get", "StalledError"): 1,
    ("resumes", "fast", "get", "ConnectionLostError"): 2,
    ("repairs", "fast", "get", ""): 1,
}

# store, op: how many, seconds in all
DURATIONS = {("fast", "get"): (2, 0.22), ("cold", "put"): (1, 42.0)}
