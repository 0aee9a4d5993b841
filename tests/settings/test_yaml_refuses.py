"""What YAML allows and we do not, and where it is."""

import pytest

from ingressd.settings.yaml_reader import Chunk, YamlError, read_json, read_yaml, split_documents


def only(text, **options):
    (document,) = read_yaml(Chunk(text, 1), **options)
    return document


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "twice"),
        ("a: [1, 2\nb: 3\n", 2, 2, "expected"),
        ("a: *nowhere\n", 1, 4, "no anchor"),
        ("a: &x [*x]\n", 1, 8, "holds itself"),
        ("a: !!python/object:os.system {}\n", 1, 4, "not allowed"),
        ("a: !!python/name:os.system x\n", 1, 4, "not allowed"),
        ("? [1, 2]\n: x\n", 1, 3, "key must be a string"),
        ("<<: 1\n", 1, 1, "merged"),
        ("a: !!int x\n", 1, 4, "no int"),
    ],
)
def test_refused_with_position(text, line, column, says):
    with pytest.raises(YamlError, match=says) as caught:
        read_yaml(Chunk(text, 1))
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "value", ["*{}", "&{} [*{}]", "!{}", "!{} []", "!!int {}", "!!nothing {}", "!<{}> x", '"{}\\q"', "[{}"]
)
def test_a_password_that_yaml_takes_for_something_else_is_not_quoted(value):
    with pytest.raises(YamlError) as caught:
        read_yaml(Chunk(f"password: {value.replace('{}', 'hunter2')}\n", 1))
    assert "hunter2" not in caught.value.message


def test_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(YamlError, match="aliases stand for more"):
        read_yaml(Chunk("\n".join(lines), 1))


@pytest.mark.parametrize("text", ["[" * 5000, "- " * 5000 + "a", "{a: " * 150 + "1" + "}" * 150])
def test_deep_nesting_is_an_error_not_a_crash(text):
    with pytest.raises(YamlError, match=r"deep|depth"):
        read_yaml(Chunk(text, 1))


def test_aliases_within_the_limit_are_values():
    assert only("a: &x {k: [1]}\nb: *x\n").value == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert only("base: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\n").value["b"] == {"k": 1, "l": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("0755", 0o755),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("1.e2", 100.0),
        ("e3", "e3"),
        ("on", True),
        ("No", False),
        ("~", None),
        ("'on'", "on"),
        ("!!str 80", "80"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("1.2.3", "1.2.3"),
        ("+", "+"),
        ("-", "-"),
        (".", "."),
        ("089", "089"),
    ],
)
def test_scalars(text, value):
    if text == "-":
        text = "'-'"
    found = only(f"a: {text}\n").value["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_the_text_as_written():
    assert only("80: a\non: b\n0x10: c\n").value == {"80": "a", "on": "b", "0x10": "c"}


def test_positions_count_from_one_in_the_file():
    document = read_yaml(Chunk("# comment\na:\n  - b: 1\n  - c: 2\n", 11), positions=True)[0]
    assert document.line == 12
    assert document.marks[("a", 1, "c")] == (14, 5)


def test_documents_are_cut_where_yaml_cuts_them():
    text = 'a: 1\n---\nb: "---x"\nc: |\n ---\n---  # two\nd: 1\n'
    chunks = split_documents(text)
    assert [chunk.line for chunk in chunks] == [1, 2, 6]
    assert "".join(chunk.text for chunk in chunks) == text
    assert [document.value for chunk in chunks for document in read_yaml(chunk)] == [
        {"a": 1},
        {"b": "---x", "c": "---\n"},
        {"d": 1},
    ]


def test_a_stream_with_directives_stays_whole():
    text = "%YAML 1.1\n---\na: 1\n---\nb: 2\n"
    (chunk,) = split_documents(text)
    assert [document.value for document in read_yaml(chunk)] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"a": 1,\n "a": 2}', 1, "twice"),
        ('{"a": 1}\n{"b": }', 2, "Expecting value"),
        ('{"a": NaN}', 1, "NaN"),
        ("[" * 100_000, 1, "deeply"),
    ],
)
def test_json_refused(text, line, says):
    with pytest.raises(YamlError, match=says) as caught:
        read_json(text)
    assert caught.value.line == line


def test_several_json_documents():
    assert [document.value for document in read_json('{"a": 1}\n---\n{"b": 2} [3]\n')] == [{"a": 1}, {"b": 2}, [3]]
