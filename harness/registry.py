"""Finding backends: installed entry points, `path/to/file.py:NAME`, `module:NAME`.

A registry is an ordinary instance that is passed along. The main process only lists names and
makes references, which are strings; `load` imports foreign code and is called in workers alone.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.backend import CONTRACT_VERSION, LAYOUTS, Backend, BackendInfo

GROUP = "convproof.backends"
#: Backends over outside libraries: run when named, never by default.
LIBRARIES = "convproof.libraries"
_CHOICES = {"taint": ("exact", "tile", "image"), "nan_max_pool": ("propagate", "unspecified"), "layouts": LAYOUTS}
#: The suffix of a backend that travels by value.
BY_VALUE = ".cloudpickle"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class UnknownBackend(ValueError):
    """A reference that names no backend, with the nearest that exists."""


class BadBackend(TypeError):
    """An object that a reference led to, but that does not keep the contract."""


@dataclass(frozen=True)
class Registry:
    """The backends that can be named.

    Attributes
    ----------
    entries : mapping of str to str
        Backend name to `module:NAME`, in the order in which they are listed; what is run where none is named.
    libraries : mapping of str to str
        The same, of what is run when named.
    """

    entries: Mapping[str, str]
    libraries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def installed(cls) -> Registry:
        """The registry of the installed distributions' entry points; imports none of them."""
        found = ({e.name: e.value for e in entry_points(group=group)} for group in (GROUP, LIBRARIES))
        return cls(*(dict(sorted(held.items())) for held in found))

    @property
    def known(self) -> dict[str, str]:
        """Everything that has a name; one of `entries` hides a library of the same name."""
        return {**self.entries, **{n: place for n, place in self.libraries.items() if n not in self.entries}}

    def reference(self, text: str) -> str:
        """Turn what a user wrote into a reference that a worker can load.

        Returns
        -------
        str
            `name=module:NAME` for an entry point, else `path.py:NAME` (absolute) or `module:NAME`.

        Raises
        ------
        UnknownBackend
            If it names nothing.
        """
        if (found := self.known.get(text)) is not None:
            return f"{text}={found}"
        place, sep, attribute = text.rpartition(":")
        if sep and not attribute:
            raise UnknownBackend(f"backend {text!r}: say which object of {place} it is, {place}:NAME")
        if sep and place.endswith(".py"):
            path = Path(place).expanduser().resolve()
            if not path.is_file():
                raise UnknownBackend(f"backend {text!r}: there is no file {path}")
            return f"{path}:{attribute}"
        if sep and place:
            return text
        if text.endswith(".py"):
            raise UnknownBackend(f"backend {text!r}: say which object of the file, {text}:NAME")
        near = difflib.get_close_matches(text, self.known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownBackend(
            f"unknown backend {text!r}{hint} Known: {', '.join(self.known) or 'none'}; or FILE.py:NAME, or MODULE:NAME"
        )


def split(reference: str) -> tuple[str, str]:
    """The entry point's name (empty if there is none) and the `module:NAME` or `path.py:NAME` of a reference.

    Examples
    --------
    >>> split("naive=backends.naive:backend"), split("/a=b/k.py:backend")
    (('naive', 'backends.naive:backend'), ('', '/a=b/k.py:backend'))
    """
    name, sep, target = reference.partition("=")
    return (name, target) if sep and _NAME.match(name) else ("", reference)


def label(reference: str) -> str:
    """The name under which a reference is shown before its backend has been loaded.

    Examples
    --------
    >>> label("naive=backends.naive:backend"), label("/home/me/k.py:backend"), label("my.kernels:fast")
    ('naive', 'k.py:backend', 'my.kernels:fast')
    """
    name, target = split(reference)
    return name or target.rpartition("/")[2]


def by_value(backend: Backend, folder: Path) -> str:
    """A reference to a backend that no module holds: one made in a notebook or a test.

    Parameters
    ----------
    backend : Backend
        Its functions travel by value (cloudpickle); the modules that they import do not.
    folder : Path
        Where the pickle is written; it has to last as long as the reference is used.

    Raises
    ------
    ImportError
        If cloudpickle is not installed.
    """
    import cloudpickle

    path = folder / f"{backend.info.name}{BY_VALUE}"
    path.write_bytes(cloudpickle.dumps(backend))
    return f"{path.resolve()}:{backend.info.name}"


def load(reference: str) -> Backend:
    """Import what `reference` names and check it against the contract. Foreign code runs here.

    Raises
    ------
    BadBackend
        If the object does not keep the contract; the message names the backend and the part.
    Exception
        Whatever the import raises.
    """
    place, _, attribute = split(reference)[1].rpartition(":")
    if place.endswith(BY_VALUE):
        return checked(_from_bytes(Path(place)), reference)
    found: Any = _from_file(Path(place)) if place.endswith(".py") else _from_module(place)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 1)
            raise BadBackend(f"{place} has no {part!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        found = getattr(found, part)
    return checked(found() if isinstance(found, type) else found, reference)


def checked(found: Any, reference: str) -> Backend:
    """Return `found` if it keeps the contract, else raise `BadBackend`."""
    info = getattr(found, "info", None)
    if not isinstance(info, BackendInfo):
        raise BadBackend(f"backend {label(reference)!r}: `info` is {type(info).__name__}, expected a BackendInfo")
    if not _NAME.match(info.name):
        raise BadBackend(f"backend {label(reference)!r}: its name {info.name!r} holds more than letters, digits, '.', '_', '-'")
    for method in ("probe", "workspace_bytes", "prepare"):
        if not callable(getattr(found, method, None)):
            raise BadBackend(f"backend {info.name!r}: it has no method {method}()")
    for name, known in _CHOICES.items():
        value = getattr(info, name)
        if wrong := set(value if isinstance(value, tuple) else (value,)) - set(known):
            raise BadBackend(f"backend {info.name!r}: {name} {sorted(map(str, wrong))[0]!r} is none of {', '.join(known)}")
    major, minor = info.contract
    if major != CONTRACT_VERSION[0] or minor > CONTRACT_VERSION[1]:
        ours = ".".join(map(str, CONTRACT_VERSION))
        raise BadBackend(
            f"backend {info.name!r} is written for contract {major}.{minor}, this harness has {ours}: "
            "install a matching version of one of them"
        )
    return found


def _from_bytes(path: Path) -> Any:
    import pickle

    return pickle.loads(path.read_bytes())  # noqa: S301 - written by `by_value` on this machine


def _from_module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def _from_file(path: Path) -> Any:
    import hashlib
    import importlib.util

    digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
    name = f"convproof_file_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadBackend(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
