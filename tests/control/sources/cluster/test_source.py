"""The whole source: what is listed and complete when, Secrets by reference, several namespaces, what cannot be read."""

import asyncio
import base64

from control.sources.cluster.following import Sourced
from control.sources.cluster.played_api import PLURALS, PlayedApi
from stage.fast_loop import run_fast

from ingressd.control.objects.event import ObjectKey
from ingressd.control.sources.cluster.api import ApiError
from ingressd.settings.config import KubernetesConfig

CLASS = {"spec": {"controller": "ingressd.dev/ingress-controller"}}


def secret(text):
    return {"type": "kubernetes.io/tls", "data": {"tls.key": base64.b64encode(text.encode()).decode()}}


def key(kind, name, namespace="ns"):
    return ObjectKey(kind, namespace, name)


def cluster():
    api = PlayedApi()
    api.put("IngressClass", "ingressd", **CLASS)
    api.put("Ingress", "a", spec={"rules": [{"host": "a.test"}]})
    api.put("Service", "a", spec={"ports": [{"port": 80}]})
    api.put("EndpointSlice", "a", addressType="IPv4")
    api.put("Secret", "one", **secret("1"))
    api.put("Secret", "two", **secret("2"))
    api.put("ConfigMap", "settings", data={"hsts": "false"})
    return api


def source(scenario, api=None, **options):
    async def run():
        played = api or cluster()
        async with Sourced(played, **options) as sourced:
            await scenario(played, sourced)

    run_fast(run())


def paths(api, *, watch=None):
    return [p for p, query, _ in api.requests if p != "/version" and (watch is None or ("watch" in query) == watch)]


def gets(api):
    return [path.rpartition("/")[2] for path in paths(api) if path.rpartition("/")[2] not in PLURALS.values()]


def refused_for(kind, error):
    """An API server that answers so about one kind, until `lift` is called."""
    api = cluster()
    real_request, real_enter = api.request, api._fault
    state = {"refusing": True}

    def check(path, plural=PLURALS[kind]):
        if state["refusing"] and plural in path.split("/"):
            raise error

    async def request(method, path, **more):
        check(path)
        return await real_request(method, path, **more)

    async def fault(path, timeout_s):
        check(path)
        return await real_enter(path, timeout_s)

    api.request, api._fault = request, fault
    api.lift = lambda: state.update(refusing=False)
    return api


# ---------------------------------------------------------------------- listed and complete
def test_a_first_batch_comes_at_once_and_it_is_complete_when_what_is_wanted_is_known():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches)
        first = sourced.batches[0]
        assert (first.source, first.events, first.listed, first.complete) == ("cluster", (), False, False)
        await sourced.until(lambda: sourced.last.listed)
        assert not sourced.last.complete
        kinds = {found.kind for found in sourced.objects}
        assert kinds == {"IngressClass", "Ingress", "Service", "EndpointSlice"}
        assert sourced.source.want(frozenset({key("Secret", "one"), key("Secret", "none")})) is False
        await sourced.until(lambda: sourced.last.complete)
        assert [found.name for found in sourced.objects if found.kind == "Secret"] == ["one"]
        assert len(sourced.batches) <= 4
        assert sourced.last.problems == ()

    source(scenario)


def test_nothing_wanted_is_complete_at_once():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        assert sourced.source.want(frozenset()) is True

    source(scenario)


def test_it_is_not_listed_before_every_kind_is():
    async def scenario(api, sourced):
        await asyncio.sleep(60)
        assert not sourced.last.listed
        assert sourced.source.age_s() is None
        api.lift()
        await sourced.until(lambda: sourced.last.listed, within_s=5)

    source(scenario, refused_for("EndpointSlice", ApiError(500, "InternalError", "no")))


def test_it_is_not_complete_before_what_is_wanted_could_be_read():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        api.faults.extend(ApiError(500, "InternalError", "no") for _ in range(20))
        assert sourced.source.want(frozenset({key("Secret", "one")})) is False
        await asyncio.sleep(10)
        assert not sourced.last.complete
        assert sourced.reasons() == ["NotFetched"]
        await sourced.until(lambda: sourced.last.complete)
        assert sourced.last.problems == ()

    source(scenario)


def test_later_one_attempt_has_to_do():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        assert sourced.source.want(frozenset()) is True
        api.faults.extend(ApiError(500, "InternalError", "no") for _ in range(20))
        assert sourced.source.want(frozenset({key("Secret", "one")})) is False
        await sourced.until(lambda: sourced.last.complete, within_s=0.1)
        await sourced.until(lambda: key("Secret", "one") in sourced.objects)

    source(scenario)


# ---------------------------------------------------------------------- by reference
def test_only_what_is_wanted_is_read_and_again_when_it_changes():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        sourced.source.want(frozenset({key("Secret", "one"), key("ConfigMap", "settings")}))
        await sourced.until(lambda: sourced.last.complete)
        assert sorted(gets(api)) == ["one", "settings"]
        api.put("Secret", "two", **secret("2"))
        api.put("Secret", "one", **secret("new"))
        await sourced.until(lambda: sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"new")
        assert sorted(gets(api)) == ["one", "one", "settings"]
        api.delete("ConfigMap", "settings")
        await sourced.until(lambda: key("ConfigMap", "settings") not in sourced.objects)

    source(scenario)


def test_what_is_wanted_and_does_not_exist_comes_when_it_does():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        assert sourced.source.want(frozenset({key("Secret", "late")})) is True
        assert gets(api) == []
        api.put("Secret", "late", **secret("x"))
        assert await sourced.until(lambda: key("Secret", "late") in sourced.objects) < 0.1

    source(scenario)


def test_what_is_not_wanted_any_more_is_forgotten():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        sourced.source.want(frozenset({key("Secret", "one")}))
        await sourced.until(lambda: sourced.last.complete)
        sourced.source.want(frozenset())
        await sourced.until(lambda: key("Secret", "one") not in sourced.objects)
        api.put("Secret", "one", **secret("new"))
        await asyncio.sleep(60)
        assert gets(api) == ["one"]

    source(scenario)


def test_what_is_not_wanted_any_more_when_it_arrives_is_dropped():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        sourced.source.want(frozenset())
        real = api.request

        async def slow(*args, **more):
            found = await real(*args, **more)
            await asyncio.sleep(1)
            return found

        api.request = slow
        sourced.source.want(frozenset({key("Secret", "one")}))
        await asyncio.sleep(0.5)
        sourced.source.want(frozenset())
        await asyncio.sleep(5)
        assert key("Secret", "one") not in sourced.objects

    source(scenario)


def test_a_secret_that_changes_while_it_is_fetched_ends_at_its_last_version():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        real = api.request

        async def slow(method, path, **more):
            found = await real(method, path, **more)
            if path.endswith("/one"):
                await asyncio.sleep(1)
            return found

        api.request = slow
        sourced.source.want(frozenset({key("Secret", "one")}))
        await asyncio.sleep(0.5)
        api.put("Secret", "one", **secret("new"))
        await sourced.until(lambda: sourced.last.complete)
        await sourced.until(lambda: sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"new", 5)

    source(scenario)


def test_who_may_get_secrets_and_not_list_them_is_served_and_they_are_polled():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed, within_s=5)
        assert sourced.reasons() == ["Forbidden"]
        sourced.source.want(frozenset({key("Secret", "one"), key("Secret", "none")}))
        await sourced.until(lambda: sourced.last.complete, within_s=1)
        assert sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"1"
        api.put("Secret", "one", **secret("new"))
        api.put("Secret", "none", **secret("came"))
        await sourced.until(lambda: key("Secret", "none") in sourced.objects, within_s=35)
        await sourced.until(lambda: sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"new", 35)

    api = cluster()
    real = api.request

    async def request(method, path, **more):
        if path == "/api/v1/secrets":
            raise ApiError(403, "Forbidden", "secrets is forbidden: cannot list resource")
        return await real(method, path, **more)

    api.request = request
    source(scenario, api)


def test_a_secret_that_may_not_be_read_is_a_problem_of_that_secret():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed, within_s=5)
        sourced.source.want(frozenset({key("Secret", "one")}))
        await sourced.until(lambda: sourced.last.complete, within_s=1)
        found = [str(problem) for problem in sourced.last.problems]
        assert [text for text in found if "Secret ns/one: cannot be read: 403 Forbidden" in text]
        api.lift()
        await sourced.until(lambda: sourced.last.problems == () and key("Secret", "one") in sourced.objects)

    source(scenario, refused_for("Secret", ApiError(403, "Forbidden", "secrets is forbidden")))


# ---------------------------------------------------------------------- what cannot be read
def test_without_ingressclasses_we_serve_on_by_name():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed, within_s=5)
        assert "IngressClass" not in {found.kind for found in sourced.objects}
        assert [str(problem) for problem in sourced.last.problems] == [
            "error: Config kubernetes ingressclasses: ingressclasses cannot be read: 403 Forbidden: no [Forbidden]"
        ]
        api.lift()
        await sourced.until(lambda: key("IngressClass", "ingressd", "") in sourced.objects, within_s=15)
        await sourced.until(lambda: sourced.last.problems == ())

    source(scenario, refused_for("IngressClass", ApiError(403, "Forbidden", "no")))


def test_without_services_we_are_never_ready_and_say_why():
    async def scenario(api, sourced):
        await asyncio.sleep(120)
        assert not sourced.last.listed
        assert sourced.reasons() == ["NotServed"]

    source(scenario, refused_for("Service", ApiError(404, "NotFound", "the server could not find the resource")))


def test_an_object_that_cannot_be_read_is_a_problem_and_its_last_version_stays():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        before = sourced.objects[key("Ingress", "a")]
        api.put("Ingress", "a", spec={"rules": [{"host": 7}]})
        await sourced.until(lambda: sourced.last.problems)
        assert [str(problem) for problem in sourced.last.problems] == [
            "error: Ingress ns/a spec.rules[0].host: Expected `str`, got `int` [InvalidObject]"
        ]
        assert sourced.objects[key("Ingress", "a")] is before
        api.put("Ingress", "b", spec={"rules": 1})
        await sourced.until(lambda: len(sourced.last.problems) == 2)
        api.delete("Ingress", "b")
        api.put("Ingress", "a", spec={"rules": []})
        await sourced.until(lambda: not sourced.last.problems)

    source(scenario)


def test_a_server_that_is_away_is_one_problem_and_takes_nothing():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        sourced.source.want(frozenset({key("Secret", "one")}))
        await sourced.until(lambda: sourced.last.complete)
        before = dict(sourced.objects)
        api.away = True
        api.break_streams()
        await sourced.until(lambda: sourced.last.problems, within_s=15)
        await asyncio.sleep(600)
        assert sourced.reasons() == ["ApiServerAway"]
        assert sourced.objects == before
        assert 595 < sourced.source.age_s() < 625
        api.delete("Ingress", "a")
        api.put("Secret", "one", **secret("new"))
        api.away = False
        await sourced.until(lambda: key("Ingress", "a") not in sourced.objects, within_s=5)
        await sourced.until(lambda: sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"new", 5)
        await sourced.until(lambda: not sourced.last.problems, within_s=5)
        assert len(sourced.batches) < 30

    source(scenario)


def test_the_copy_that_kubectl_leaves_in_an_object_is_not_kept():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        metadata = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}
        api.objects["Ingress", "ns", "a"]["metadata"]["annotations"] = metadata
        api.version += 1
        api.objects["Ingress", "ns", "a"]["metadata"]["resourceVersion"] = str(api.version)
        api._tell("MODIFIED", "Ingress", "ns", api.objects["Ingress", "ns", "a"])
        await sourced.until(lambda: sourced.objects[key("Ingress", "a")].metadata.annotations == {"a": "b"})

    source(scenario)


# ---------------------------------------------------------------------- namespaces and selectors
def test_namespaces_are_watched_one_by_one_and_classes_for_all():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        found = set(paths(api, watch=False))
        assert "/apis/networking.k8s.io/v1/ingressclasses" in found
        assert "/apis/networking.k8s.io/v1/namespaces/x/ingresses" in found
        assert "/apis/networking.k8s.io/v1/ingresses" not in found
        assert len(found) == 1 + 2 * 5
        assert {found.namespace for found in sourced.objects} == {"", "ns"}
        states = {state.kind: state.objects for state in sourced.source.kinds()}
        assert states == {
            "Ingress": 1,
            "IngressClass": 1,
            "Service": 1,
            "EndpointSlice": 1,
            "Secret": 2,
            "ConfigMap": 1,
        }

    api = cluster()
    api.put("Ingress", "elsewhere", namespace="y")
    source(scenario, api, config=KubernetesConfig(kubeconfig="/x", namespaces=("ns", "x")))


def test_the_flag_watch_namespace_narrows():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        assert {path for path in paths(api) if "/namespaces/x/" in path} == set()

    source(scenario, config=KubernetesConfig(kubeconfig="/x", namespaces=("ns", "x")), watch_namespace="ns")
    source(scenario, watch_namespace="ns")


def test_the_flag_and_the_file_that_have_nothing_in_common_are_a_problem():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        assert sourced.reasons() == ["NothingToRead"]
        assert set(paths(api)) == {"/apis/networking.k8s.io/v1/ingressclasses"}

    source(scenario, config=KubernetesConfig(kubeconfig="/x", namespaces=("x",)), watch_namespace="ns")


def test_a_wanted_object_of_a_namespace_that_is_not_watched_is_fetched():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        sourced.source.want(frozenset({key("Secret", "default", "system")}))
        await sourced.until(lambda: sourced.last.complete)
        assert sourced.objects[key("Secret", "default", "system")].data["tls.key"].reveal() == b"d"

    api = cluster()
    api.put("Secret", "default", namespace="system", **secret("d"))
    source(scenario, api, config=KubernetesConfig(kubeconfig="/x", namespaces=("ns",)))


def test_the_selector_is_about_ingresses_alone():
    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        await asyncio.sleep(1)
        chosen = {path for path, query, _ in api.requests if "labelSelector" in query}
        assert chosen == {"/apis/networking.k8s.io/v1/ingresses"}

    source(scenario, config=KubernetesConfig(kubeconfig="/x", label_selector="tier=web"))


# ---------------------------------------------------------------------- seeds
def seeds(api):
    """What a source knew of a server."""

    async def run():
        async with Sourced(api) as sourced:
            await sourced.until(lambda: sourced.batches and sourced.last.listed)
            sourced.source.want(frozenset({key("Secret", "one")}))
            await sourced.until(lambda: sourced.last.complete)
            return sourced.objects

    return run_fast(run())


def test_what_was_known_before_a_restart_serves_and_is_compared_with_what_is_listed_later():
    known = seeds(cluster())

    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches)
        sourced.source.seed(known.items(), age_s=7.0)
        await sourced.until(lambda: sourced.last.listed, within_s=0.1)
        assert {found.kind for found in sourced.objects} == {"IngressClass", "Ingress", "Service", "EndpointSlice"}
        sourced.source.want(frozenset({key("Secret", "one"), key("Secret", "two")}))
        await sourced.until(lambda: sourced.last.complete, within_s=0.1)
        assert sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"1"
        assert 7 <= sourced.source.age_s() < 8
        api.delete("Service", "a")
        api.put("Ingress", "b")
        api.put("Secret", "one", **secret("new"))
        await asyncio.sleep(60)
        api.away = False
        await sourced.until(lambda: key("Ingress", "b") in sourced.objects, within_s=5)
        await sourced.until(lambda: key("Service", "a") not in sourced.objects, within_s=5)
        await sourced.until(lambda: sourced.objects[key("Secret", "one")].data["tls.key"].reveal() == b"new", 5)
        await sourced.until(lambda: key("Secret", "two") in sourced.objects, within_s=5)
        assert key("Ingress", "a") in sourced.objects

    api = cluster()
    api.away = True
    source(scenario, api)


def test_what_was_listed_already_is_not_replaced_by_what_was_known_before():
    known = seeds(cluster())

    async def scenario(api, sourced):
        await sourced.until(lambda: sourced.batches and sourced.last.listed)
        sourced.source.seed(known.items(), age_s=7.0)
        await asyncio.sleep(1)
        assert key("Service", "a") not in sourced.objects

    api = cluster()
    api.delete("Service", "a")
    source(scenario, api)
