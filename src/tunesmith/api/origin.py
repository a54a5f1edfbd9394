"""Whether a request to a service without keys comes from where its operator is.

Loopback alone keeps no browser out: the page of any site can have its visitor's browser send
requests there, across origins or, by a name of its own that leads there, within its own ("DNS
rebinding"). The browser tells of both, in `Origin` and in `Host`.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from tunesmith.api.codes import FOREIGN_ORIGIN
from tunesmith.domain.errors import UserError
from tunesmith.protocol.reading import shortened


def check_origin(headers: Headers, *, names: Collection[str]) -> None:
    """Raise `UserError` unless a request with `headers` was sent to this machine, and from it.

    That is to a loopback address, `localhost` or one of `names`, and from no page of another one.
    """
    host = headers.get("host", "")
    if not _is_here(f"//{host}", names):
        raise _foreign(f"this request asks for '{shortened(host)}'")
    origin = headers.get("origin")
    if origin is not None and not _is_here(origin, names):
        raise _foreign(f"this request comes from a page of '{shortened(origin)}'")


def _is_here(url: str, names: Collection[str]) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return name is not None and (name == "localhost" or name in names or _is_loopback(name))


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _foreign(fault: str) -> UserError:
    return UserError(
        f"This service asks for no key, so it answers this machine alone, and {fault}. Call it by "
        "'127.0.0.1' or 'localhost', or have the operator make a key with `tunesmith keys create`.",
        code=FOREIGN_ORIGIN,
    )
