"""The index is a dict of sets, whatever it keeps inside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingressd.control.translate.index import Index

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.sampled_from("wxyz")), max_size=30)


@given(STEPS)
def test_it_behaves_as_a_dict_of_sets(steps: list[tuple[bool, str, str]]) -> None:
    index: Index[str, str] = Index()
    plain: dict[str, set[str]] = {"a": set(), "b": set()}
    for add, name, item in steps:
        if add:
            index.add(name, item)
            plain[name].add(item)
        else:
            index.discard(name, item)
            plain[name].discard(item)
        assert {one: set(index.get(one)) for one in "ab"} == plain
        assert [len(index.get(one)) for one in "ab"] == [len(plain[one]) for one in "ab"]
        assert set(index) == {one for one in "ab" if plain[one]}
        assert [one in index for one in "ab"] == [bool(plain[one]) for one in "ab"]
