"""Route change and route scale: mutations at a steady rate under load, and what they cost those who are not concerned.

gateway-api-bench's route change edits one route 20 times; its route scale makes 5,000 routes and Services and then
edits one a second. Here 1,000 edits a minute are the least.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from loadtest.control import world
from loadtest.control.system import System

ANNOTATION = "nginx.ingress.kubernetes.io/proxy-read-timeout"
WARM_S = 3.0


class Mutations:
    """Edits of applications `first` … `first + count`; whatever is edited, every route always has a pod to go to.

    Each application has a twin of its Service, app-N-b, with a pod of its own. `right` says what its host may answer.
    """

    def __init__(self, system: System, *, first: int, count: int, seed: int = 1) -> None:
        self._system = system
        self._api = system.api
        self.first = first
        self.count = count
        self._random = random.Random(seed)
        self._generation = [0] * count
        self._turn = [0] * count
        self._backend = [f"app-{first + number}" for number in range(count)]
        self._kinds: tuple[Callable[[int], None], ...] = (
            self.other_backend,
            self.reorder,
            self.annotate,
            self.roll,
            self.replace_service,
            self.come_and_go,
        )

    def prepare(self) -> None:
        """The twins."""
        objects = []
        for index in range(self.first, self.first + self.count):
            twin = f"app-{index}-b"
            address = world.pod_address(index, generation=100)
            objects.append(world.service(index, name=twin))
            objects.append(world.endpoint_slice(index, [world.endpoint(address)], self._system.pod_port, service=twin))
        self._api.apply_all(objects)

    def right(self, index: int) -> list[str]:
        """Every address that an application may ever answer from."""
        return [
            f"{world.pod_address(index, generation=generation)}:{self._system.pod_port}"
            for generation in (*range(100), 100)
        ]

    def one(self, number: int) -> None:
        """The next edit."""
        self._kinds[number % len(self._kinds)](self._random.randrange(self.count))

    def _write(self, place: int, **how: Any) -> None:
        self._api.apply(world.ingress(self.first + place, services=[self._backend[place]], **how))

    def other_backend(self, place: int) -> None:
        """The Ingress goes to the other of the two Services."""
        index = self.first + place
        twin = f"app-{index}-b"
        self._backend[place] = f"app-{index}" if self._backend[place] == twin else twin
        self._write(place)

    def reorder(self, place: int) -> None:
        """Paths in another order, which means the same."""
        paths = ["/", "/api/v1", "/api", "/static"]
        self._random.shuffle(paths)
        self._write(place, paths=paths)

    def annotate(self, place: int) -> None:
        """Another policy."""
        self._turn[place] += 1
        self._write(place, annotations={ANNOTATION: str(30 + self._turn[place] % 30)})

    def roll(self, place: int) -> None:
        """A new pod joins, then the old one leaves."""
        index = self.first + place
        old, new = self._generation[place], (self._generation[place] + 1) % 100
        self._generation[place] = new
        addresses = [world.pod_address(index, generation=generation) for generation in (old, new)]
        for present in (addresses, addresses[1:]):
            endpoints = [world.endpoint(address) for address in present]
            self._api.apply(world.endpoint_slice(index, endpoints, self._system.pod_port))

    def replace_service(self, place: int) -> None:
        """A Service that is not in use is deleted and made again, slice first or Service first."""
        index = self.first + place
        if self._backend[place] != f"app-{index}":
            self.other_backend(place)
            return
        twin = f"app-{index}-b"
        address = world.pod_address(index, generation=100)
        objects = [
            world.service(index, name=twin),
            world.endpoint_slice(index, [world.endpoint(address)], self._system.pod_port, service=twin),
        ]
        self._random.shuffle(objects)
        for made in objects:
            self._api.delete(made["kind"], made["metadata"]["namespace"], made["metadata"]["name"])
        self._api.apply_all(objects)

    def come_and_go(self, place: int) -> None:
        """An Ingress of a host that nobody asks for comes, or goes."""
        index = self.first + place
        name = f"guest-{index}"
        if self._api.object("Ingress", world.namespace_of(index), name) is None:
            self._api.apply(world.ingress(index, name=name, host=f"{name}.example.com"))
        else:
            self._api.delete("Ingress", world.namespace_of(index), name)


def steadily(mutations: Mutations, *, count: int, seconds: float, between: Callable[[float], None]) -> float:
    """So many edits in so much time, evenly; how long it took. `between` hears before each how much time has passed."""
    began = time.monotonic()
    for number in range(count):
        mutations.one(number)
        due = began + (number + 1) * seconds / count
        between(time.monotonic() - began)
        time.sleep(max(0.0, due - time.monotonic()))
    return time.monotonic() - began


def stalls(metrics: dict[str, float]) -> dict[str, float]:
    """Of each kind of process: how often its loop was late by 50 ms or more since it started, and the worst, in ms."""
    found = {}
    for process in ("controller", "worker"):
        label = f'{{process="{process}"}}'
        found[f"{process} stalls"] = metrics.get(f"ingressd_loop_stalls_total{label}", 0.0)
        found[f"{process} worst ms"] = metrics.get(f"ingressd_loop_stall_max_seconds{label}", 0.0) * 1e3
    return found


def measure(system: System, edits: Mutations, *, mutations: int, seconds: float, rate: float) -> dict[str, Any]:
    """Load alone for half the time, then with mutations. As many applications behind those of `edits` do not change."""
    first, behind = edits.first, edits.first + edits.count
    targets = [["touched", world.host_of(index), "/", edits.right(index)] for index in range(first, behind)]
    targets += [
        ["untouched", world.host_of(index), "/", [f"{world.pod_address(index)}:{system.pod_port}"]]
        for index in range(behind, behind + edits.count)
    ]
    load = {"host": "127.0.0.1", "port": system.http_port, "rate": rate, "targets": targets}
    time.sleep(1.0)
    # Connections and hosts that are there already are no part of the comparison.
    system.client.ask("load", **load)
    time.sleep(WARM_S)
    system.client.ask("loaded")
    system.client.ask("load", **load)
    time.sleep(seconds / 2)
    alone = system.client.ask("loaded")
    before = stalls(system.metrics())
    system.client.ask("load", **load)
    took_s = steadily(edits, count=mutations, seconds=seconds, between=lambda _: None)
    loaded = system.client.ask("loaded")
    after = stalls(system.metrics())
    failed = [one for group in loaded["groups"].values() for one in group["failed"]]
    quiet, busy = alone["groups"]["untouched"], loaded["groups"]["untouched"]
    return {
        "mutations": mutations,
        "seconds": took_s,
        "rate": rate,
        "requests": loaded["requests"],
        "failed": len(failed) + loaded["unanswered"],
        "shown": failed[:5],
        "untouched": {"alone": _without_failed(quiet), "with mutations": _without_failed(busy)},
        "p99_added_ms": busy["p99_ms"] - quiet["p99_ms"],
        "stalls": {name: after[name] - before[name] if "stalls" in name else after[name] for name in after},
    }


def _without_failed(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "failed"}
