"""What the sample configuration shows: every setting, and a store of each driver of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oslo_config import cfg

from imgstore.config import drivers
from imgstore.config.mirrors import LEGS
from imgstore.config.options import DEFAULTS, LAYER_OPTIONS, MAIN, MAIN_OPTIONS, group_of
from imgstore.config.values import secret_files

# A name that somebody might give to a store, by driver.
EXAMPLES: Final[Mapping[str, str]] = {
    "filesystem": "disks",
    "http": "web",
    "memory": "scratch",
    "rbd": "fast",
    "s3": "cold",
    "swift": "objects",
}
_MIRROR_EXAMPLE: Final = "either"


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Gives all options by section, for oslo-config-generator and sphinx; the entry point of that kind."""
    main = cfg.OptGroup(MAIN, help="Which stores there are.")
    defaults = cfg.OptGroup(
        DEFAULTS,
        help="What counts for every store whose own section does not say otherwise. All the settings here "
        "may stand in the section of a store as well, and all the options of enabled drivers here.",
    )
    sections = [(main, [*MAIN_OPTIONS]), (defaults, [*LAYER_OPTIONS])]
    for driver, store_id in EXAMPLES.items():
        options = drivers.load(driver).OPTIONS
        group = cfg.OptGroup(
            group_of(store_id),
            help=f"The options of the driver '{driver}', for a store that enabled_stores names as "
            f"{store_id}:{driver}.",
        )
        sections.append((group, [*options, *secret_files(options)]))
    mirror = cfg.OptGroup(
        group_of(_MIRROR_EXAMPLE),
        help="A mirror: stores that hold the same images, as one store that is read from. enabled_stores "
        f"names it as {_MIRROR_EXAMPLE}:{drivers.MIRROR}.",
    )
    return [*sections, (mirror, [LEGS])]
