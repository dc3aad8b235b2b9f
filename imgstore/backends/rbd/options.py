"""The options of the RBD driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imgstore.errors import ConfigError
from imgstore.store import LazyOptions

if TYPE_CHECKING:
    from oslo_config.cfg import Opt

# rbd(8) takes objects of 4 KiB to 32 MiB.
_OBJECT_SIZES: Final = (4 << 10, 32 << 20)
# What clones need, and what keeps two writers of one upload apart.
NEEDED: Final = ("layering", "exclusive-lock")


def _options() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "pool",
            default="images",
            help="The pool that holds the images. The key of an image is its name there; in names, '/', "
            "'@', '%' and control characters are written as in URLs, %2F for the slash. Names that begin "
            "with '.imgstore-' are the driver's own.",
        ),
        cfg.StrOpt("namespace", help="The namespace of the pool; without it, the one without a name."),
        cfg.StrOpt(
            "user",
            help="The Ceph user, without 'client.' in front; without it, 'admin'. Reading needs the "
            "capabilities mon 'profile rbd' and osd 'profile rbd-read-only pool=POOL', writing osd 'profile "
            "rbd pool=POOL'.",
            sample_default="images",
        ),
        cfg.StrOpt(
            "ceph_conf",
            help="The cluster's configuration file. Without it, the one that $CEPH_CONF names, or "
            "/etc/ceph/ceph.conf, or the others where Ceph's own tools look.",
            sample_default="/etc/ceph/ceph.conf",
        ),
        cfg.StrOpt(
            "keyring",
            help="The file with the user's key. Without it, the one that the configuration file names, or "
            "/etc/ceph/ceph.client.USER.keyring.",
        ),
        cfg.StrOpt(
            "snapshot",
            default="snap",
            help="The snapshot that is read of each image, and made of each image that is stored. Nova, "
            "Cinder and Glance know images by 'snap'.",
        ),
        cfg.BoolOpt(
            "require_protected",
            default=True,
            help="Whether that snapshot must be protected. One that is not may be removed at any time, which "
            "ends a read with an error.",
        ),
        cfg.BoolOpt(
            "allow_unpinned",
            default=False,
            help="Whether an image without that snapshot is read as it is now, and listed. Whoever writes "
            "to it or removes it meanwhile makes what is read a mixture, or zeros; only reading twice would "
            "show.",
        ),
        cfg.BoolOpt(
            "trash_in_use",
            default=False,
            help="Whether an image that has clones is moved to the pool's trash when it is deleted or "
            "replaced. Otherwise this is refused.",
        ),
        cfg.IntOpt(
            "object_size",
            default=4 << 20,
            help="Bytes of the objects that a new image is cut into: a power of two from 4 KiB to 32 MiB.",
        ),
        cfg.ListOpt(
            "features",
            help="The features of a new image. 'layering' and 'exclusive-lock' must be among them. Without "
            "this option they are the cluster's rbd_default_features and these two.",
            sample_default=["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"],
        ),
        cfg.IntOpt(
            "stripe_unit",
            help="Bytes that go to one object of a new image before the next one's turn; a divisor of "
            "object_size. Goes with stripe_count.",
        ),
        cfg.IntOpt("stripe_count", help="Number of objects that take turns. Goes with stripe_unit."),
        cfg.StrOpt(
            "data_pool",
            help="The pool for the data of new images, an erasure-coded one for example; what describes them "
            "stays in 'pool'.",
        ),
        cfg.BoolOpt(
            "thin",
            default=True,
            help="Whether zeros are left out when an image is stored, in stretches of 64 KiB and more: they "
            "take no room and read as zeros. What a source says are holes is left out in any case.",
        ),
        cfg.FloatOpt(
            "connect_timeout", default=10.0, help="Seconds in which a monitor of the cluster must answer."
        ),
        cfg.FloatOpt(
            "op_timeout",
            default=30.0,
            help="Seconds that the cluster may take for one operation on one object. A lost OSD is reported "
            "by then, and tried again by the layer above; Ceph by itself would wait for ever.",
        ),
        cfg.FloatOpt("receive_timeout", default=15.0, help="Seconds that a reader waits for its next bytes."),
        cfg.IntOpt(
            "io_size",
            default=2 << 20,
            help="Bytes of one read or write; each reader and writer takes up to 'in_flight' times this in "
            "memory.",
        ),
        cfg.IntOpt(
            "in_flight", default=8, help="Reads or writes that one reader or writer has under way at once."
        ),
    )


OPTIONS: Final = LazyOptions(_options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options, as the constructor takes them. Raises: ConfigError naming the one that makes no sense."""

    pool: str
    namespace: str | None
    user: str | None
    ceph_conf: str | None
    keyring: str | None
    snapshot: str
    require_protected: bool
    allow_unpinned: bool
    trash_in_use: bool
    object_size: int
    features: tuple[str, ...] | None
    stripe_unit: int | None
    stripe_count: int | None
    data_pool: str | None
    thin: bool
    connect_timeout: float
    op_timeout: float
    io_size: int
    in_flight: int

    def __post_init__(self) -> None:
        for name in ("pool", "snapshot"):
            if not getattr(self, name):
                raise ConfigError(f"the option '{name}' is empty")
        if self.user is not None and self.user.startswith("client."):
            raise ConfigError("the option 'user' goes without 'client.'; what follows it would do")
        for name in ("connect_timeout", "op_timeout", "io_size", "in_flight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"the option '{name}' is {getattr(self, name):g}; it is above 0")
        self._check_layout()

    def _check_layout(self) -> None:
        size, (least, most) = self.object_size, _OBJECT_SIZES
        if not least <= size <= most or size & (size - 1):
            raise ConfigError(
                f"the option 'object_size' is {size}; it is a power of two from {least} to {most}"
            )
        if (self.stripe_unit is None) is not (self.stripe_count is None):
            raise ConfigError("the options 'stripe_unit' and 'stripe_count' go together")
        if self.stripe_unit is not None and (self.stripe_unit < 1 or size % self.stripe_unit):
            raise ConfigError(
                f"the option 'stripe_unit' is {self.stripe_unit}; it divides object_size, {size}"
            )
        if self.stripe_count is not None and self.stripe_count < 1:
            raise ConfigError(f"the option 'stripe_count' is {self.stripe_count}; it is above 0")
        lacking = [each for each in NEEDED if self.features is not None and each not in self.features]
        if lacking:
            raise ConfigError(f"the option 'features' lacks {' and '.join(lacking)}, which the driver needs")
