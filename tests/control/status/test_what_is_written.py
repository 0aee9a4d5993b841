"""Which statuses differ, and from what is only taken what is ours."""

import msgspec
import pytest

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import (
    AddressStatus,
    Ingress,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Metadata,
    PortStatus,
)
from ingressd.control.status.addresses import SLICE, AddressBook, Write, body_of

KEY = ObjectKey("Ingress", "default", "web")
OURS = (LoadBalancerIngress(ip="192.0.2.1", ports=(PortStatus(80, "TCP"),)),)
STATUS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]}}
THEIRS = (LoadBalancerIngress(hostname="other.example"),)


class Cluster(dict):
    def put(self, entries, version, key=KEY):
        metadata = Metadata(name=key.name, namespace=key.namespace, resource_version=version)
        self[key] = Ingress(metadata, status=AddressStatus(LoadBalancerStatus(entries)))


def told(book, statuses):
    """What has to be written after that."""
    book.tell(statuses)
    return book.differing(statuses)


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def book(cluster):
    return AddressBook(cluster.get)


def test_a_status_that_differs_is_written_over_the_version_that_was_seen(book, cluster):
    cluster.put((), "1")
    assert told(book, {KEY: STATUS}) == [KEY]
    assert book.write(KEY) == Write("1", OURS, first=True)
    cluster.put(THEIRS, "2")
    assert book.write(KEY) == Write("2", OURS)
    cluster.put(OURS, "3")
    assert book.write(KEY) is None


def test_ports_count(book, cluster):
    cluster.put((LoadBalancerIngress(ip="192.0.2.1"),), "1")
    assert told(book, {KEY: STATUS}) == [KEY]


def test_an_empty_status_is_written_and_an_unknown_one_is_not(book, cluster):
    cluster.put(THEIRS, "1")
    assert told(book, {KEY: {}}) == []
    assert told(book, {KEY: {"loadBalancer": {}}}) == [KEY]
    assert book.write(KEY) == Write("1", ())


def test_what_was_just_written_is_not_written_again_before_the_watch_brings_it(book, cluster):
    cluster.put((), "1")
    book.tell({KEY: STATUS})
    book.wrote(KEY, book.write(KEY), "2")
    assert book.write(KEY) is None
    other = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    book.tell({KEY: other})
    assert book.write(KEY) == Write("2", (LoadBalancerIngress(ip="192.0.2.9"),)), "on top of our own write"
    cluster.put(THEIRS, "3")
    assert book.write(KEY).version == "3"


def test_an_answer_that_changed_nothing_is_not_remembered(book, cluster):
    cluster.put((), "1")
    book.tell({KEY: STATUS})
    book.wrote(KEY, book.write(KEY), "1")
    assert book.write(KEY) is not None


def test_only_our_entries_leave_an_object_that_is_not_ours_any_more(book, cluster):
    cluster.put(OURS, "1")
    book.tell({KEY: STATUS})
    cluster.put((*THEIRS, *OURS), "2")
    assert told(book, {KEY: None}) == [KEY]
    assert book.write(KEY) == Write("2", THEIRS, removes=True)
    cluster.put(THEIRS, "3")
    assert book.write(KEY) is None
    cluster.put(OURS, "4")
    assert book.write(KEY) is None, "once is enough: its owner may have our address for reasons of its own"


def test_an_address_with_other_ports_is_not_ours(book, cluster):
    cluster.put(OURS, "1")
    book.tell({KEY: STATUS})
    cluster.put((LoadBalancerIngress(ip="192.0.2.1"),), "2")
    assert told(book, {KEY: None}) == []


def test_an_object_that_was_never_ours_is_never_touched(book, cluster):
    cluster.put(OURS, "1")
    assert told(book, {KEY: None}) == []
    assert list(book.slices()) == []


def test_an_object_that_comes_back_is_ours_again(book, cluster):
    cluster.put(OURS, "1")
    book.tell({KEY: STATUS})
    book.tell({KEY: None})
    assert told(book, {KEY: STATUS}) == []
    assert book.write(KEY) is None


def test_a_deleted_object_is_forgotten(book, cluster):
    cluster.put(OURS, "1")
    book.tell({KEY: STATUS})
    del cluster[KEY]
    assert told(book, {KEY: None}) == []
    cluster.put(OURS, "1")
    assert book.write(KEY) is None


def test_addresses_that_nobody_knows_any_more_are_still_taken_back(book, cluster):
    cluster.put(OURS, "1")
    book.tell({KEY: STATUS})
    book.tell({KEY: {}})
    assert book.write(KEY) is None
    assert told(book, {KEY: None}) == [KEY]


def test_at_the_end_everything_of_ours_is_taken_back(book, cluster):
    cluster.put((*THEIRS, *OURS), "1")
    book.tell({KEY: STATUS})
    book.give_up()
    assert book.write(KEY) == Write("1", THEIRS, removes=True)


def test_all_are_looked_at_in_slices(book, cluster):
    keys = [ObjectKey("Ingress", "default", f"i{number}") for number in range(2 * SLICE + 1)]
    for key in keys:
        cluster.put((), "1", key)
    book.tell(dict.fromkeys(keys, STATUS))
    cluster.put(OURS, "2", keys[0])
    slices = list(book.slices())
    assert [len(one) for one in slices] == [SLICE - 1, SLICE, 1]


def test_the_patch_names_the_version_and_an_empty_list_takes_the_field_away():
    assert msgspec.json.decode(body_of(Write("7", OURS))) == {"metadata": {"resourceVersion": "7"}, "status": STATUS}
    assert msgspec.json.decode(body_of(Write("7", ())))["status"] == {"loadBalancer": {"ingress": None}}
