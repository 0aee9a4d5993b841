"""Near the budget nobody new comes in, and who waits for a request is closed, those first that have waited longest."""

from __future__ import annotations

from stage.played import Stage, play

from ingressd.model.units import ProcessPolicy
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.runtime.memory import CONNECTION_BYTES, FILLED, LOOK_S, RARE_LOOK_S, SHARE, budget_of

REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUDGET = ProcessPolicy(memory_budget_bytes=100 * CONNECTION_BYTES, keep_alive_s=60.0)


def look(stage: Stage) -> None:
    stage.now[0] += RARE_LOOK_S
    stage.dataplane._memory.look(stage.now[0])


def idle_client(stage: Stage) -> ClientConnection:
    """One that has been served."""
    upstream, client = stage.pooled(), stage.client()
    client.data_received(REQUEST)
    stage.worker.outbox.flush()
    upstream.data_received(ANSWER)
    assert stage.sent(client).endswith(b"ok")
    stage.endpoint.pool.drop_idle()
    return client


def test_the_budget_is_a_share_of_the_limit_divided_by_the_workers() -> None:
    assert budget_of(1000, 2) == int(1000 * SHARE) // 2
    assert budget_of(None, 2) == 0


def test_without_a_budget_nothing_is_refused() -> None:
    def scene(stage: Stage) -> None:
        client = idle_client(stage)
        client.transport.unsent_bytes = 10**12
        look(stage)
        assert stage.worker.shedding is None

    play(scene)


def test_what_is_held_is_counted() -> None:
    def scene(stage: Stage) -> None:
        idle_client(stage).transport.unsent_bytes = 1000
        stage.client().data_received(b"GET /" + b"x" * 500)
        look(stage)
        assert stage.worker.counters.memory_held_bytes == 2 * CONNECTION_BYTES + 1000 + 505
        assert stage.worker.counters.memory_budget_bytes == 100 * CONNECTION_BYTES

    play(scene, process=BUDGET)


def test_the_eldest_idle_connections_are_closed_until_there_is_room() -> None:
    def scene(stage: Stage) -> None:
        clients = []
        for _ in range(95):
            stage.now[0] += 0.01
            clients.append(idle_client(stage))
        stage.now[0] += 5.0
        look(stage)
        closed = [client.transport.ended == "closed" for client in clients]
        assert closed == [True] * 15 + [False] * 80

    play(scene, process=BUDGET)


def test_near_the_budget_requests_are_refused_and_later_served_again() -> None:
    def scene(stage: Stage) -> None:
        hog = stage.client()
        stage.pooled()
        hog.data_received(REQUEST)
        hog.transport.unsent_bytes = 82 * CONNECTION_BYTES
        look(stage)
        assert stage.dataplane._overload.tight
        assert not hog.transport.ended
        late = stage.client()
        late.data_received(REQUEST)
        answer = stage.sent(late)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert stage.worker.counters.shed == 1
        another = stage.client()
        another.data_received(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not stage.sent(another).startswith(b"HTTP/1.1 503 ")
        hog.transport.unsent_bytes = 0
        look(stage)
        upstream = stage.pooled()
        late.data_received(REQUEST)
        assert stage.sent(upstream).startswith(b"GET /x ")

    play(scene, process=BUDGET)


def test_beyond_the_budget_who_holds_most_is_cut_off() -> None:
    def scene(stage: Stage) -> None:
        hogs = []
        for size in (20, 70, 30):
            stage.pooled()
            client = stage.client()
            client.data_received(REQUEST)
            client.transport.unsent_bytes = size * CONNECTION_BYTES
            hogs.append(client)
        look(stage)
        assert [client.transport.ended for client in hogs] == ["", "aborted", ""]

    play(scene, process=BUDGET)


def test_who_has_not_taken_the_end_of_his_last_answer_counts_and_can_be_cut_off() -> None:
    """Over TLS a connection is closed at once, and what it has not taken waits in our buffers all the same."""

    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.tls = True
        client.data_received(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        stage.worker.outbox.flush()
        client.transport.unsent_bytes = 110 * CONNECTION_BYTES
        upstream.data_received(ANSWER)
        assert client.transport.ended == "closed"
        look(stage)
        assert stage.worker.counters.memory_held_bytes > 110 * CONNECTION_BYTES
        assert client.transport.ended == "aborted"

    play(scene, process=BUDGET)


def test_beyond_the_budget_who_stalls_before_he_is_a_client_goes_first() -> None:
    """Handshakes that are begun and left cost whoever sends them nothing: no request may end for them."""

    class Arrival:
        def __init__(self, stage: Stage, deadline_s: float) -> None:
            self._stage = stage
            self.deadline_s = deadline_s
            stage.worker.arrivals.add(self)

        def on_deadline(self, now: float) -> None:
            self._stage.worker.arrivals.remove(self)

    def scene(stage: Stage) -> None:
        stage.pooled()
        client = stage.client()
        client.data_received(REQUEST)
        client.transport.unsent_bytes = 40 * CONNECTION_BYTES
        arrivals = [Arrival(stage, stage.now[0] + 60.0 - at) for at in range(12)]
        look(stage)
        assert stage.worker.counters.memory_held_bytes > 100 * CONNECTION_BYTES
        assert not client.transport.ended
        gone = [arrival not in stage.worker.arrivals for arrival in arrivals]
        assert gone == [False] * 8 + [True] * 4, "so many as it takes, those first that have taken longest"

    play(scene, process=BUDGET)


def test_looks_are_rare_while_the_budget_is_out_of_reach() -> None:
    def scene(stage: Stage) -> None:
        client = idle_client(stage)
        look(stage)
        client.transport.unsent_bytes = 1000
        stage.dataplane._memory.look(stage.now[0] + LOOK_S)
        assert stage.worker.counters.memory_held_bytes == CONNECTION_BYTES

    play(scene, process=ProcessPolicy(memory_budget_bytes=10**9))


def test_many_buffers_that_fill_are_looked_at_at_once() -> None:
    def scene(stage: Stage) -> None:
        stage.dataplane._memory.look(stage.now[0])
        clients = []
        for _ in range(FILLED):
            stage.pooled()
            client = stage.client()
            client.data_received(REQUEST)
            client.transport.unsent_bytes = 4 * CONNECTION_BYTES
            clients.append(client)
        stage.dataplane._memory._rare_s = 0.0
        assert not stage.dataplane._overload.tight
        for client in clients:
            client.pause_writing()
        assert stage.dataplane._overload.tight

    play(scene, process=BUDGET)
