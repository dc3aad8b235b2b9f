"""What a copy cost: told by the server's log, and told by `imgstore cp --json`. Both must say the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imgstore.testing.server import Exchange


@dataclass(frozen=True)
class Figures:
    """Bytes of the image that crossed the connection, those that had crossed before, and requests."""

    received: int
    refetched: int
    attempts: int
    resumes: int
    stalls: int

    def differences(self, other: Figures) -> list[str]:
        """Says where the server's figures, these, are not those of `other`, the report."""
        mine, others = asdict(self), asdict(other)
        return [
            f"{name}: the server's log says {mine[name]}, cp --json says {others[name]}"
            for name in mine
            if mine[name] != others[name]
        ]


def logged(exchanges: Iterable[Exchange]) -> Figures:
    """Counts what the server saw of one reader who goes through the image from its start.

    A byte is refetched when it was sent before; a resume is a reply, after the first, that brought bytes
    which were new; a stall is a reply with bytes that the reader left for another.
    """
    entries = list(exchanges)
    reach = refetched = resumes = 0
    for each in entries:
        start, stop = each.range_taken or (reach, reach)
        refetched += max(0, min(stop, reach) - start)
        resumes += 0 < reach < stop
        reach = max(reach, stop)
    left = [each for each in entries[:-1] if each.body_sent and each.ended in {"stalled", "peer-left"}]
    return Figures(
        received=sum(each.body_sent for each in entries),
        refetched=refetched,
        attempts=len(entries),
        resumes=resumes,
        stalls=len(left),
    )


def reported(report: Mapping[str, Any]) -> Figures:
    """Takes the same figures out of the report; -1 is one that it doesn't tell."""
    return Figures(**{name: report.get(name, -1) for name in Figures.__dataclass_fields__})
