"""Route probe: how long from the watch event until every worker answers by the change, and what is answered meanwhile.

gateway-api-bench adds a route and asks until it answers 200. Here each change is watched through every worker, and
besides new routes there are routes with a Service of their own, routes that go to another Service, and endpoints that
are replaced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from loadtest.control import world
from loadtest.control.figures import spread
from loadtest.control.system import System

LAST = 6000
"""Applications before this one are changed, so there must be so many."""
PAUSE_S = (0.02, 0.2)
"""Between changes: some fall into the rest after the one before, some not."""
SETTLE_S = 0.05


class Change(NamedTuple):
    """What to watch, and the objects to write in this order; the last one's event starts the clock."""

    host: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    objects: tuple[world.Object, ...]


def new_route(system: System, number: int, base: int) -> Change:
    """An Ingress of a new host, for a Service that is there."""
    index = base + number
    host = f"new-{index}.example.com"
    pod = f"{world.pod_address(number)}:{system.pod_port}"
    ingress = world.ingress(number, name=f"new-{index}", host=host)
    return Change(host, ("404",), (pod,), (ingress,))


def new_application(system: System, number: int, base: int) -> Change:
    """EndpointSlice, Service and Ingress in one go, as `kubectl apply` of a whole application whose pods are up."""
    index = base + number
    objects = [
        world.endpoint_slice(index, [world.endpoint(world.pod_address(index))], system.pod_port),
        world.service(index),
    ]
    random.shuffle(objects)
    pod = f"{world.pod_address(index)}:{system.pod_port}"
    return Change(world.host_of(index), ("404",), (pod,), (*objects, world.ingress(index)))


def other_service(system: System, number: int, base: int) -> Change:
    """An Ingress goes over to another Service that is there."""
    old = f"{world.pod_address(number)}:{system.pod_port}"
    # Services are of a namespace; the next of this one.
    other = number + world.NAMESPACES
    new = f"{world.pod_address(other)}:{system.pod_port}"
    return Change(world.host_of(number), (old,), (new,), (world.ingress(number, services=[f"app-{other}"]),))


def new_pods(system: System, number: int, base: int) -> Change:
    """All endpoints of a Service are replaced."""
    number += 2000
    old = f"{world.pod_address(number)}:{system.pod_port}"
    address = world.pod_address(number, generation=1)
    changed = world.endpoint_slice(number, [world.endpoint(address)], system.pod_port)
    return Change(world.host_of(number), (old,), (f"{address}:{system.pod_port}",), (changed,))


def removed_route(system: System, number: int, base: int) -> Change:
    """The host of an Ingress becomes another: the old one is no more."""
    number += 4000
    old = f"{world.pod_address(number)}:{system.pod_port}"
    return Change(world.host_of(number), (old,), ("404",), (world.ingress(number, host=f"moved-{number}.example.com"),))


KINDS: dict[str, Callable[[System, int, int], Change]] = {
    "new route": new_route,
    "new route, Service and endpoints": new_application,
    "route to another Service": other_service,
    "endpoints replaced": new_pods,
    "host renamed": removed_route,
}


def measure(system: System, *, base: int, rounds: int, seed: int = 1) -> dict[str, Any]:
    """Every kind of change, `rounds` times each, in turn."""
    random.seed(seed)
    delays: dict[str, list[float]] = {kind: [] for kind in KINDS}
    wrong: dict[str, list[str]] = {kind: [] for kind in KINDS}
    counts = dict.fromkeys(KINDS, 0)
    answers = dict.fromkeys(KINDS, 0)
    for number in range(rounds):
        for kind, make in KINDS.items():
            change = make(system, number, base)
            system.watch(change.host, old=change.old, new=change.new, settle_s=SETTLE_S)
            system.api.apply_all(change.objects[:-1])
            left_at = system.left_at(system.api.apply(change.objects[-1]))
            found = system.watched()
            answers[kind] += found["answers"]
            counts[kind] += found["wrong"]
            wrong[kind] += found["shown"]
            late = [pid for pid, at in found["first_at"].items() if at is None]
            if late:
                counts[kind] += len(late)
                wrong[kind].append(f"change {number} never came through worker {', '.join(late)}")
            else:
                delays[kind].append((max(found["first_at"].values()) - left_at) * 1e3)
            time.sleep(random.uniform(*PAUSE_S))
    every = [delay for kind in KINDS for delay in delays[kind]]
    return {
        "ingresses": base,
        "all": spread(every),
        "kinds": {
            kind: {**spread(delays[kind]), "answers": answers[kind], "wrong": counts[kind], "shown": wrong[kind][:5]}
            for kind in KINDS
        },
    }
