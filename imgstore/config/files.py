"""The files of a configuration: where they are looked for, and what in them nobody would read.

oslo.config passes over options and sections that it was not told of, so a misspelt one would count for
nothing, silently. The files are parsed once more here, by its own parser.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeAlias

from oslo_config import cfg, iniparser

from imgstore.config.drivers import nearest
from imgstore.config.options import DEFAULTS, MAIN, MAIN_OPTIONS, group_of, register_opts
from imgstore.errors import ConfigError

LOG = logging.getLogger(__name__)

PATH_VARIABLE: Final = "IMGSTORE_CONFIG"
_PREFIX: Final = group_of("")
_MAIN_NAMES: Final = frozenset(option.dest for option in MAIN_OPTIONS)
# One letter too many, one lost, or two exchanged; [image_store] may well be the service's own.
_MISSPELT: Final = 0.85

# Sections by name in lower case, as oslo.config compares them; the names of the options that each one sets.
Sections: TypeAlias = "Mapping[str, Collection[str]]"


def load(path: str | None = None) -> cfg.ConfigOpts:
    """Reads the configuration for a program that has none of its own: `conf` for `open_stores`.

    It is the file at `path`, else the one that $IMGSTORE_CONFIG names, else where oslo.config looks
    (`~/.imgstore/imgstore.conf`, `/etc/imgstore/imgstore.conf`, and `imgstore.conf.d` beside them), else
    nothing, which gives the store `local`. Variables as OS_STORE_WEB__URL go before all of them.

    Raises: ConfigError for a file that is named and not there, or that cannot be read or parsed. It names the
    line and does not show it.
    """
    named = path or os.environ.get(PATH_VARIABLE)
    if named:
        files, folders = [os.path.abspath(os.path.expanduser(named))], []
    else:
        # each is found twice: as the project's and as the program's
        files = cfg.find_config_files(project="imgstore", prog="imgstore")[:1]
        folders = cfg.find_config_dirs(project="imgstore", prog="imgstore")[:1]
    for each in [*files, *_inside(folders)]:
        parse(each)
    conf = cfg.ConfigOpts()
    conf(
        [],
        project="imgstore",
        prog="imgstore",
        default_config_files=files,
        default_config_dirs=folders,
    )
    register_opts(conf)
    return conf


def parse(path: str) -> Sections:
    """Gives what the file at `path` sets. Raises: ConfigError that names file and line, and shows neither."""
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except iniparser.ParseError as exc:
        told = f"{path}, line {exc.lineno}: {exc.msg}"
    except UnicodeDecodeError:
        told = f"{path} is no text"
    except OSError as exc:
        raise ConfigError(f"the configuration {path} cannot be read: {exc.strerror}") from exc
    else:
        found: dict[str, set[str]] = {}
        for name, options in sections.items():
            # A heading without options, as the sample has many, says nothing.
            if options:
                found.setdefault(name.lower(), set()).update(options)
        return found
    # Outside the handler, since what cannot be parsed may hold a secret.
    raise ConfigError(told)


def read_files(conf: cfg.ConfigOpts) -> dict[str, Sections]:
    """Gives what each file that `conf` was made of sets, in the order in which they count.

    Raises: ConfigError where `conf` has not been called.
    """
    found = {}
    for path in _paths(conf):
        try:
            found[path] = parse(path)
        except ConfigError as exc:
            # A service may have given up the right to read it; what was read then counts.
            LOG.warning("%s; options without effect in it go unnoticed", exc)
    return found


def check(files: Mapping[str, Sections], known: Mapping[str, Collection[str]]) -> None:
    """Looks for what no one reads. `known` gives the options by section: the ones of all enabled stores.

    A section of a store that is not enabled is told as a warning, since it may be switched off on purpose.

    Raises: ConfigError naming every option and section that is most likely misspelt.
    """
    wrong = [*_unread_options(files, known), *_unread_sections(files, known)]
    if wrong:
        raise ConfigError("; ".join(wrong))


def stores_told(files: Mapping[str, Sections]) -> list[str]:
    """Gives the sections that look like those of stores."""
    found = {section for sections in files.values() for section in sections}
    return sorted(each for each in found if each.startswith(_PREFIX) and each != DEFAULTS)


def where(files: Mapping[str, Sections], section: str, option: str) -> str:
    """Gives ` of FILE` for the file whose `option` counts, nothing where no file has it."""
    holding = [path for path, sections in files.items() if option in sections.get(section, ())]
    return f" of {holding[-1]}" if holding else ""


def _unread_options(files: Mapping[str, Sections], known: Mapping[str, Collection[str]]) -> Iterator[str]:
    for path, sections in files.items():
        for section in sorted(sections.keys() & known.keys()):
            for option in sorted(set(sections[section]) - set(known[section])):
                yield f"{path}: [{section}] has no option {option!r}{nearest(option, known[section])}"


def _unread_sections(files: Mapping[str, Sections], known: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Gives sections that are most likely meant for us; others are the service's own.

    One of a store that is not enabled is, where an enabled store of nearly that name is without a section.
    """
    unread = {section: path for path, sections in files.items() for section in sections}
    absent = [_id(section) for section in known.keys() - unread.keys() - {MAIN}]
    for section in sorted(unread.keys() - known.keys()):
        if not section.startswith(_PREFIX):
            if section in _MAIN_NAMES:
                yield f"{unread[section]}: {section} is no section; it is an option in [{MAIN}]"
            elif meant := nearest(section, known, likeness=_MISSPELT):
                yield f"{unread[section]}: nobody reads [{section}]{meant}"
            continue
        if meant := nearest(_id(section), absent, _PREFIX):
            yield f"{unread[section]}: no enabled store reads [{section}]{meant}"
        else:
            LOG.warning("%s: [%s] counts for nothing: no such store is enabled", unread[section], section)


def _id(section: str) -> str:
    return section.removeprefix(_PREFIX)


def _paths(conf: cfg.ConfigOpts) -> Iterator[str]:
    try:
        files, folders = conf.config_file, conf.config_dir
    except cfg.NoSuchOptError:
        raise ConfigError(
            "conf has not read anything yet: call it, conf(arguments), before the stores"
        ) from None
    every = [*(files or ()), *_inside([*conf.config_dirs, *(folders or ())])]
    yield from dict.fromkeys(os.path.abspath(os.path.expanduser(path)) for path in every)


def _inside(folders: Collection[str]) -> Iterator[str]:
    for folder in folders:
        yield from sorted(glob.glob(os.path.join(os.path.expanduser(folder), "*.conf")))
