"""The options of one store: from its own section, else from [store_defaults], else their defaults."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from oslo_config import cfg

from imgstore.config.files import Sections, where
from imgstore.config.options import DEFAULTS, LAYER_NAMES, LAYER_OPTIONS, UNLIMITED, group_of
from imgstore.errors import ConfigError
from imgstore.secret import SecretFile, secret_texts
from imgstore.stack import LayerSettings

LOG = logging.getLogger(__name__)

_OPEN_TO_ALL: Final = stat.S_IROTH | stat.S_IWOTH


def secret_files(options: Iterable[cfg.Opt]) -> list[cfg.Opt]:
    """Gives the option `NAME_file` for each secret one, but where the driver has one of that name itself."""
    options = list(options)
    own = {option.dest for option in options}
    return [
        cfg.StrOpt(
            f"{option.dest}_file",
            help=f"File that holds '{option.dest}' and nothing else, in place of that option, so that no "
            "secret stands in this file. It is read for each use, so that a secret that another program "
            "renews counts at once, also after the store has refused the old one. It must be there at the "
            "start; make it readable for the service alone.",
        )
        for option in options
        if option.secret and f"{option.dest}_file" not in own
    ]


class StoreOptions:
    """What `conf` says for one store. Made and read at the start, in one thread."""

    def __init__(
        self, conf: cfg.ConfigOpts, files: Mapping[str, Sections], store_id: str, options: Sequence[cfg.Opt]
    ) -> None:
        """Registers the store's section with `conf`: the driver's `options`, those for files, the layers'.

        Raises: ConfigError for an option that has the name of a layer's, or another meaning in `conf`.
        """
        self.group = group_of(store_id)
        self._conf = conf
        self._files = files
        self._options = {option.dest: option for option in options}
        self._extra = {option.dest: option for option in secret_files(options)}
        if taken := sorted(LAYER_NAMES & self._options.keys()):
            raise ConfigError(f"its option {taken[0]!r} has the name of a setting that every store has")
        for option in [*self._options.values(), *self._extra.values()]:
            register(conf, _optional(option), self.group)
            # Two drivers may differ about an option of one name: here it is text, for each to read.
            register(conf, cfg.MultiStrOpt(option.dest, secret=True), DEFAULTS)
        for option in LAYER_OPTIONS:
            register(conf, option, self.group)

    @property
    def known(self) -> set[str]:
        """The names that mean something in the store's section, deprecated ones included."""
        old = {str(each.name) for option in self._options.values() for each in option.deprecated_opts}
        return old | set(self._conf[self.group])

    def layers(self) -> LayerSettings:
        """Gives the settings of the layers. Raises: ConfigError."""
        settings = {option.dest: self._value(option) for option in LAYER_OPTIONS}
        lifted = [name for name in UNLIMITED if settings[name] == 0]
        return LayerSettings(**{**settings, **dict.fromkeys(lifted)})

    def arguments(self, preset: Mapping[str, Any], secrets: set[str]) -> dict[str, Any]:
        """Gives the driver's keyword arguments; `preset` goes before the defaults of its options.

        An option without value and default is left to the constructor. The text of each secret is added to
        `secrets`; a file that holds one is read, so that a wrong path is an error now.

        Raises: ConfigError.
        """
        found: dict[str, Any] = {}
        secret = {name: f"{name}_file" for name, option in self._options.items() if option.secret}
        for name, option in self._options.items():
            if name in secret:
                found.update(self._secret(option, secret[name], secrets))
            elif name not in secret.values():
                found[name] = self._value(option, preset.get(name))
        for name, option in self._options.items():
            if option.required and found.get(name) is None:
                raise ConfigError(f"the option {name!r} is needed; set it in [{self.group}]")
        return {name: value for name, value in found.items() if value is not None}

    def _secret(self, option: cfg.Opt, file_name: str, secrets: set[str]) -> dict[str, Any]:
        """Gives the argument for a secret, or for its file; the nearer section that has either decides."""
        file_option = self._extra.get(file_name) or self._options[file_name]
        for group in (self.group, DEFAULTS):
            value, path = self._given(group, option), self._given(group, file_option)
            if value is not None and path is not None:
                raise ConfigError(
                    f"the options {option.dest!r} and {file_name!r} in [{group}] exclude each other; give one"
                )
            if value is not None:
                secrets.update(secret_texts(value))
                return {option.dest: value}
            if path is not None:
                file = SecretFile(path, file_name)
                secrets.update(secret_texts(file()))
                self._warn_if_open(file)
                return {option.dest: file} if file_name in self._extra else {file_name: path}
        return {option.dest: self._default(option)}

    def _warn_if_open(self, file: SecretFile) -> None:
        with contextlib.suppress(OSError):
            if os.stat(file.path).st_mode & _OPEN_TO_ALL:
                LOG.warning("[%s]: every user of this machine may read or change %s", self.group, file.path)

    def _value(self, option: cfg.Opt, preset: Any = None) -> Any:
        for group in (self.group, DEFAULTS):
            value = self._given(group, option)
            if value is not None:
                return value
        return self._default(option) if preset is None else preset

    def _default(self, option: cfg.Opt) -> Any:
        # by way of conf, since a default may name other options
        return self._conf[self.group][option.dest]

    def _given(self, group: str, option: cfg.Opt) -> Any:
        """Gives what was set in `group`, whoever set it; None for nothing. Raises: ConfigError."""
        name = option.dest
        try:
            location = self._conf.get_location(name, group)
            if location is None or location.location is cfg.Locations.opt_default:
                return None
            value = self._conf[group][name]
            if group != DEFAULTS or name in LAYER_NAMES:
                return value
            return [option.type(each) for each in value] if option.multi else option.type(value[-1])
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
            why = ": '$' in a value names another option; '$$' stands for itself"
        except (cfg.Error, ValueError) as exc:
            # oslo.config wraps what the option's type said
            why = "" if option.secret else f": {exc.__context__ or exc}"
        # Outside the handler, since oslo.config's own error shows the value.
        at = where(self._files, group, name)
        raise ConfigError(f"the option {name!r} in [{group}]{at} is not valid{why}")


def register(conf: cfg.ConfigOpts, option: cfg.Opt, group: str) -> None:
    """Registers an option of a store's section.

    Raises: ConfigError where it has another meaning in `conf`.
    """
    try:
        conf.register_opt(option, group)
    except cfg.DuplicateOptError:
        raise ConfigError(
            f"this program has given the option {option.dest!r} in [{group}] another meaning"
        ) from None


@functools.cache  # one for each, since oslo.config notes in it what it has warned of, and compares that
def _optional(option: cfg.Opt) -> cfg.Opt:
    """Gives `option` as one that [store_defaults] may give instead: nothing else would look there for it."""
    option = copy.copy(option)
    option.required = False
    return option
