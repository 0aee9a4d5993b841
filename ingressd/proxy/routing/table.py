"""The route table: a dict of hosts, a dict of one-label wildcards, and for each host a trie over path elements.

Rules, in order (the contract's "Matching"; KEP-1453):
1. An exact host beats a wildcard, which takes exactly one label; a wildcard beats the host "" that takes every other.
   The host is chosen first: a path that misses on it tries no other host.
2. Within the host Exact beats Prefix, and the longer Prefix beats the shorter. Prefix goes by path element, and its
   trailing slash is ignored; Exact is exact.
3. What no rule takes goes to the host's own default, then to the default of the host "", which is everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from ingressd.model.units import Route, VirtualHost

T = TypeVar("T")


_NOTHING: Final[dict[bytes, Any]] = {}
"""Shared by all nodes without children and hosts without Exact rules, which is most of them; nobody writes into it."""


class PathNode(Generic[T]):
    """One path element of the trie. `leaf` is that of the Prefix rule which ends here."""

    __slots__ = ("children", "leaf")

    def __init__(self) -> None:
        self.children: dict[bytes, PathNode[T]] = _NOTHING
        self.leaf: T | None = None


class HostRoutes(Generic[T]):
    """The compiled routes of one host. Built once by `compile_host`, never changed after."""

    __slots__ = ("default", "depth", "exact", "root")

    def __init__(self) -> None:
        self.exact: dict[bytes, T] = _NOTHING
        self.root: PathNode[T] = PathNode()
        self.depth = 0
        """How many elements the longest Prefix has: what is behind them need not be split."""
        self.default: T | None = None


def compile_host(vhost: VirtualHost, leaf: Callable[[Route], T]) -> HostRoutes[T]:
    """Compile one virtual host; `leaf` makes what `match` shall return for a route.

    The first of two routes with the same path type and path wins, as their order is their precedence.
    """
    compiled: HostRoutes[T] = HostRoutes()
    for route in vhost.routes:
        path = route.path.encode()
        if route.path_type == "Exact":
            if path not in compiled.exact:
                if not compiled.exact:
                    compiled.exact = {}
                compiled.exact[path] = leaf(route)
            continue
        elements = path.strip(b"/").split(b"/") if path.strip(b"/") else []
        node = compiled.root
        for element in elements:
            child = node.children.get(element)
            if child is None:
                child = PathNode()
                if not node.children:
                    node.children = {}
                node.children[element] = child
            node = child
        if node.leaf is None:
            node.leaf = leaf(route)
        compiled.depth = max(compiled.depth, len(elements))
    if vhost.default is not None:
        compiled.default = leaf(vhost.default)
    return compiled


UNBUILT: Final[HostRoutes[Any]] = HostRoutes()
"""In place of a host that is compiled when the first request for it comes."""


class RouteTable(Generic[T]):
    """All hosts of a snapshot: `with_changes` gives a new table that shares what did not change.

    Nothing in a table changes but that `build` puts the routes of a host in the place of `UNBUILT`. It is called with
    the host's name as in `VirtualHost.host`, and may not raise.
    """

    __slots__ = ("_build", "_catch_all", "_hosts", "_wildcards")

    def __init__(
        self,
        hosts: dict[bytes, HostRoutes[T]],
        wildcards: dict[bytes, HostRoutes[T]],
        *,
        catch_all: HostRoutes[T] | None,
        build: Callable[[str], HostRoutes[T]],
    ) -> None:
        self._build = build
        self._hosts = hosts
        self._wildcards = wildcards
        """Keyed by what follows the star, with its dot: b".example.com"."""
        self._catch_all = catch_all

    @classmethod
    def empty(cls, build: Callable[[str], HostRoutes[T]] = lambda host: HostRoutes()) -> RouteTable[T]:
        """A table that matches nothing."""
        return cls({}, {}, catch_all=None, build=build)

    def __len__(self) -> int:
        return len(self._hosts) + len(self._wildcards) + (self._catch_all is not None)

    def with_changes(self, changed: Mapping[str, HostRoutes[T]], removed: Iterable[str] = ()) -> RouteTable[T]:
        """A table with the hosts of `changed` in place of its own, and without those of `removed`.

        Hosts are spelled as in `VirtualHost.host`: "shop.example.com", "*.example.com", "" for the catch-all.
        """
        # Copying a dict of 10,000 hosts takes a tenth of a millisecond; recompiling them would take a hundred.
        hosts, wildcards, catch_all = self._hosts.copy(), self._wildcards.copy(), self._catch_all
        for name in removed:
            key = name.encode()
            if not key:
                catch_all = None
            elif key[:2] == b"*.":
                wildcards.pop(key[1:], None)
            else:
                hosts.pop(key, None)
        for name, routes in changed.items():
            key = name.encode()
            if not key:
                catch_all = routes
            elif key[:2] == b"*.":
                wildcards[key[1:]] = routes
            else:
                hosts[key] = routes
        return RouteTable(hosts, wildcards, catch_all=catch_all, build=self._build)

    def match(self, host: bytes, path: bytes) -> T | None:
        """The leaf for a request, or None (404). `host` and `path` come from `normalise_host` and `normalise_path`."""
        routes = self._hosts.get(host)
        if routes is None:
            if self._wildcards:
                # find gives -1 for a host of one label, which asks for its last byte: no wildcard is that short.
                suffix = host[host.find(b".") :]
                routes = self._wildcards.get(suffix)
                if routes is UNBUILT:
                    routes = self._wildcards[suffix] = self._build("*" + suffix.decode("ascii"))
            if routes is None:
                routes = self._catch_all
                if routes is None:
                    return None
                if routes is UNBUILT:
                    routes = self._catch_all = self._build("")
        elif routes is UNBUILT:
            routes = self._hosts[host] = self._build(host.decode("ascii"))
        leaf: T | None
        # An Exact rule that matches is as long as the path itself, so no Prefix can beat it.
        if routes.exact:
            leaf = routes.exact.get(path)
            if leaf is not None:
                return leaf
        node = routes.root
        leaf = node.leaf
        if routes.depth:
            # The path begins with a slash: the first element is empty and stands for the root. Elements deeper than any
            # rule stay in one piece.
            for element in path.split(b"/", routes.depth + 1)[1:]:
                child = node.children.get(element)
                if child is None:
                    break
                node = child
                if node.leaf is not None:
                    leaf = node.leaf
        if leaf is None:
            leaf = routes.default
            if leaf is None and self._catch_all is not None:
                if self._catch_all is UNBUILT:
                    self._catch_all = self._build("")
                leaf = self._catch_all.default
        return leaf

    def has(self, host: bytes) -> bool:
        """Whether the table holds this very host."""
        return host in self._hosts

    def knows(self, host: bytes) -> bool:
        """Whether an exact or wildcard host of the table takes `host`, so that its misses are its own."""
        return host in self._hosts or host[host.find(b".") :] in self._wildcards

    def takes_misses(self, leaf: object) -> bool:
        """Whether a leaf that was matched takes the misses of every host."""
        return self._catch_all is not None and self._catch_all.default is leaf
