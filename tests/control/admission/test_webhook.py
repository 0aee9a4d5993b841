"""The webhook follows the configuration: what is asked of the supervisor, what is served, what is said."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable

from stage.certificates import Pair, selfsigned

from ingressd.control.admission.webhook import Webhook
from ingressd.control.objects.static import StaticAdmission
from ingressd.ipc import orders
from ingressd.ipc.orders import Order
from ingressd.model.problem import Problem
from ingressd.model.secret import PrivateBytes
from ingressd.proxy.tls.contexts import webhook_context


class FakeListener:
    """Remembers what it was told to serve."""

    def __init__(self) -> None:
        self.serving: tuple[int, ssl.SSLContext] | None = None
        self.served = 0
        self.closed = False

    async def serve(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        assert listening.fileno() >= 0
        self.serving = (listening.fileno(), context)
        self.served += 1

    def stop(self) -> None:
        self.serving = None

    async def close(self) -> None:
        self.closed = True


class Stage:
    def __init__(self) -> None:
        self.listener = FakeListener()
        self.told: list[Order] = []
        self.problems: list[Problem] = []
        self.webhook = Webhook(
            self.listener,  # type: ignore[arg-type]
            contexts=webhook_context,
            tell=self.told.append,
            say=self.say,
        )

    def say(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)

    def addresses(self) -> list[tuple[str, int]]:
        assert {order.op for order in self.told} <= {orders.WEBHOOK}
        return [(order.host, order.port) for order in self.told]

    async def bind(self, port: int, detail: str = "") -> socket.socket | None:
        """The supervisor's answer, with a socket unless there is a reason why not."""
        passed = None if detail else socket.socket()
        self.webhook.bound(Order(orders.ADMISSION, host="::", port=port, detail=detail), passed)
        await settle()
        return passed


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def wanted(pair: Pair, port: int = 9443) -> StaticAdmission:
    return StaticAdmission("::", port, pair.cert, PrivateBytes(pair.key))


ONE, TWO = selfsigned("one.test"), selfsigned("two.test")
BROKEN = Pair(ONE.cert, TWO.key)


def play(scene: Callable[[Stage], Awaitable[None]]) -> Stage:
    async def run() -> Stage:
        stage = Stage()
        task = asyncio.create_task(stage.webhook.run())
        try:
            await scene(stage)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert stage.listener.closed
        return stage

    return asyncio.run(run())


def test_nothing_wanted_asks_for_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(None)
        await settle()

    stage = play(scene)
    assert (stage.told, stage.listener.served) == ([], 0)


def test_it_serves_once_the_supervisor_has_handed_over_the_socket() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(ONE))
        await settle()
        assert (stage.addresses(), stage.listener.serving) == ([("::", 9443)], None)
        await stage.bind(9443)
        assert stage.listener.served == 1
        stage.webhook.follow(wanted(ONE))
        await settle()
        assert (len(stage.told), stage.listener.served) == (1, 1)

    assert play(scene).problems == []


def test_a_new_pair_is_a_new_context_on_the_same_socket() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(ONE))
        await stage.bind(9443)
        before = stage.listener.serving
        stage.webhook.follow(wanted(TWO))
        await settle()
        assert before is not None
        assert stage.listener.serving is not None
        assert stage.listener.serving[0] == before[0]
        assert stage.listener.serving[1] is not before[1]
        assert len(stage.told) == 1

    play(scene)


def test_a_broken_pair_keeps_the_last_good_and_says_so_until_it_is_mended() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(ONE))
        await stage.bind(9443)
        before = stage.listener.serving
        stage.webhook.follow(wanted(BROKEN))
        await settle()
        assert stage.listener.serving == before
        (problem,) = stage.problems
        assert (problem.severity, problem.reason) == ("error", "InvalidCertificate")
        assert "the last good pair serves on" in problem.message
        stage.webhook.follow(wanted(TWO))
        await settle()
        assert stage.listener.serving != before

    assert play(scene).problems == []


def test_a_pair_that_was_never_good_binds_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(BROKEN))
        await settle()
        assert stage.addresses() == []
        assert "the webhook does not answer" in stage.problems[0].message
        stage.webhook.follow(wanted(ONE))
        assert stage.addresses() == [("::", 9443)]

    assert play(scene).problems == []


def test_another_address_is_asked_for_and_the_old_socket_let_go() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(ONE))
        old = await stage.bind(9443)
        stage.webhook.follow(wanted(ONE, 9444))
        await settle()
        assert old is not None
        assert (old.fileno(), stage.listener.serving) == (-1, None)
        await stage.bind(9444)
        assert stage.listener.serving is not None
        stage.webhook.follow(None)
        await settle()
        assert stage.listener.serving is None
        assert stage.addresses() == [("::", 9443), ("::", 9444), ("", 0)]

    play(scene)


def test_an_answer_to_an_earlier_question_is_let_go() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(ONE))
        stage.webhook.follow(wanted(ONE, 9444))
        late = await stage.bind(9443)
        assert late is not None
        assert (late.fileno(), stage.listener.serving) == (-1, None)
        await stage.bind(9444)
        assert stage.listener.serving is not None

    play(scene)


def test_an_address_in_use_is_said_until_it_is_bound() -> None:
    async def scene(stage: Stage) -> None:
        stage.webhook.follow(wanted(ONE))
        await stage.bind(9443, "cannot listen on [::]:9443: Address already in use")
        (problem,) = stage.problems
        assert (problem.reason, problem.field) == ("NotBound", "address")
        await stage.bind(9443)
        assert stage.problems == []

    play(scene)
