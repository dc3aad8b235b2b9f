"""A scripted HTTP server on a real socket: it breaks as told, and its log is the truth about bytes sent.

It needs nothing of imgstore, so that a mistake there can't hide here. See `ScriptedServer` for its use,
`breaks` for faults of the connection, `lies` for those of the reply, `identity` for those of the version,
`codings` for content codings, and `certificates` for a certificate authority to test TLS with.
"""

from imgstore.testing.server.breaks import (
    BodyDelay,
    Cut,
    EarlyResponse,
    ExtraBytes,
    HeaderDelay,
    HeaderFlood,
    HeaderTrickle,
    Interim,
    PlaintextOnTls,
    RawReply,
    Reset,
    Stall,
    Throttle,
    TlsAlert,
    TlsTruncate,
    Trickle,
)
from imgstore.testing.server.codings import Bomb, ContentEncoding
from imgstore.testing.server.fault import Fault, Positioned, Script
from imgstore.testing.server.identity import IgnoreIfMatch, NoValidators, ReplaceValidator, Swap
from imgstore.testing.server.lies import (
    CloseDelimited,
    ConnectionClose,
    ContentRange,
    Flip,
    Header,
    Multipart,
    NoLength,
    NoRanges,
    Overlay,
    Redirect,
    ShiftRange,
    Status,
    WholeInstead,
    WrongLength,
)
from imgstore.testing.server.log import Exchange, Log
from imgstore.testing.server.reply import Piece, Position, Reply, plain
from imgstore.testing.server.request import Request
from imgstore.testing.server.server import ScriptedServer
from imgstore.testing.server.shelf import AUTO, Shelf, Shelved

__all__ = [
    "AUTO",
    "BodyDelay",
    "Bomb",
    "CloseDelimited",
    "ConnectionClose",
    "ContentEncoding",
    "ContentRange",
    "Cut",
    "EarlyResponse",
    "Exchange",
    "ExtraBytes",
    "Fault",
    "Flip",
    "Header",
    "HeaderDelay",
    "HeaderFlood",
    "HeaderTrickle",
    "IgnoreIfMatch",
    "Interim",
    "Log",
    "Multipart",
    "NoLength",
    "NoRanges",
    "NoValidators",
    "Overlay",
    "Piece",
    "PlaintextOnTls",
    "Position",
    "Positioned",
    "RawReply",
    "Redirect",
    "ReplaceValidator",
    "Reply",
    "Request",
    "Reset",
    "Script",
    "ScriptedServer",
    "Shelf",
    "Shelved",
    "ShiftRange",
    "Stall",
    "Status",
    "Swap",
    "Throttle",
    "TlsAlert",
    "TlsTruncate",
    "Trickle",
    "WholeInstead",
    "WrongLength",
    "plain",
]
