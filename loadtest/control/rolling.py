"""Backend failover: pods that exit at once on SIGTERM while their Deployment rolls, and one that is away for a while.

gateway-api-bench makes one pod of four refuse connections and counts requests that fail. Here, besides, every pod is
replaced several times under GET and POST, and each request carries a mark: pods tell which had reached them.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

from loadtest.control import world
from loadtest.control.system import System

REPLICAS = 4
DELAY_S = 0.005
"""How long a pod works on a request, so that some are always under way."""
NEWS_S = (-0.02, 0.1)
"""When the EndpointSlice says that a pod is terminating, after (or before) its process has exited."""
GONE_S = 0.15


class Deployment:
    """Pods of one application behind a slice that tells of them."""

    def __init__(self, system: System, index: int) -> None:
        self._system = system
        self._index = index
        self._generation = 0
        self.port: int = 0
        self.pods: list[str] = []
        self.ever: list[str] = []

    def start(self) -> None:
        """The first pods, the Service, the Ingress."""
        for _ in range(REPLICAS):
            self.pods.append(self.new_pod())
        self.tell()
        self._system.api.apply(world.service(self._index))
        self._system.api.apply(world.ingress(self._index))

    def new_pod(self) -> str:
        """A pod that answers; its address."""
        self._generation += 1
        address = world.pod_address(self._index, generation=self._generation)
        self.port = self._system.pods.ask("start", host=address, port=self.port, delay_s=DELAY_S)
        self.ever.append(f"{address}:{self.port}")
        return address

    def kill(self, address: str) -> None:
        """Its process exits."""
        self._system.pods.ask("kill", host=address, port=self.port)

    def revive(self, address: str) -> None:
        """It answers again at its old address."""
        self._system.pods.ask("start", host=address, port=self.port, delay_s=DELAY_S)

    def tell(self, *, terminating: str = "") -> None:
        """Write the slice."""
        endpoints = [world.endpoint(address, terminating=address == terminating) for address in self.pods]
        self._system.api.apply(world.endpoint_slice(self._index, endpoints, self.port))


def roll(deployment: Deployment, chance: random.Random) -> None:
    """Replace every pod: a new one joins, an old one is deleted; its process and the slice hear of it independently."""
    for old in list(deployment.pods):
        deployment.pods.append(deployment.new_pod())
        deployment.tell()
        time.sleep(0.1)
        news_s = chance.uniform(*NEWS_S)
        if news_s < 0:
            deployment.tell(terminating=old)
            time.sleep(-news_s)
            deployment.kill(old)
        else:
            deployment.kill(old)
            time.sleep(news_s)
            deployment.tell(terminating=old)
        time.sleep(GONE_S)
        deployment.pods.remove(old)
        deployment.tell()


def measure_rolling(system: System, *, index: int, rolls: int, rate: float, seed: int = 1) -> dict[str, Any]:
    """GET and POST, half each, while a Deployment rolls."""
    deployment = Deployment(system, index)
    deployment.start()
    time.sleep(1.0)
    # What new pods will be is not known yet: any address of the application is right.
    right = [
        f"{world.pod_address(index, generation=generation)}:{deployment.port}"
        for generation in range(1, REPLICAS * (rolls + 2))
    ]
    system.client.ask(
        "load",
        host="127.0.0.1",
        port=system.http_port,
        rate=rate,
        targets=[["rolling", world.host_of(index), "/", right]],
        posts=0.5,
    )
    chance = random.Random(seed)
    for _ in range(rolls):
        roll(deployment, chance)
    loaded = system.client.ask("loaded")
    return {"pods": rolls * REPLICAS, **judge(loaded, system.pods.ask("marks"))}


def judge(loaded: dict[str, Any], marks: list[str]) -> dict[str, Any]:
    """Failures by method; a failed POST is excused when it had reached a pod. POSTs that reached two are duplicates."""
    failed = [one for group in loaded["groups"].values() for one in group["failed"]]
    reached = Counter(marks)
    unexcused = [one for one in failed if one["method"] == "POST" and not reached[one["mark"]]]
    return {
        "requests": loaded["requests"],
        "unanswered": loaded["unanswered"],
        "failed_gets": sum(one["method"] == "GET" for one in failed),
        "failed_posts": sum(one["method"] == "POST" for one in failed),
        "unexcused_posts": len(unexcused),
        "duplicate_posts": sum(count > 1 for mark, count in reached.items() if mark.startswith("POST")),
        "repeated_gets": sum(count > 1 for mark, count in reached.items() if mark.startswith("GET")),
        "shown": [*unexcused, *[one for one in failed if one["method"] == "GET"]][:5],
        "p99_ms": loaded["groups"]["rolling"]["p99_ms"],
    }


def measure_failover(system: System, *, index: int, rounds: int, away_s: float, rate: float) -> dict[str, Any]:
    """One pod of four refuses connections for a while, the API server says nothing of it: GETs only."""
    deployment = Deployment(system, index)
    deployment.start()
    time.sleep(1.0)
    targets = [["rolling", world.host_of(index), "/", deployment.ever]]
    name = "ingressd_upstream_connect_failures_total"
    before = system.metrics().get(name, 0.0)
    system.client.ask("load", host="127.0.0.1", port=system.http_port, rate=rate, targets=targets)
    for _ in range(rounds):
        time.sleep(away_s)
        deployment.kill(deployment.pods[0])
        time.sleep(away_s)
        deployment.revive(deployment.pods[0])
    time.sleep(away_s)
    loaded = system.client.ask("loaded")
    group = loaded["groups"]["rolling"]
    return {
        "rounds": rounds,
        "away_s": away_s,
        "requests": loaded["requests"],
        "failed": len(group["failed"]) + loaded["unanswered"],
        "tries_at_the_dead_pod": system.metrics().get(name, 0.0) - before,
        "p99_ms": group["p99_ms"],
    }
