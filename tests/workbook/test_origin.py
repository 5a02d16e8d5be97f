import pytest

from feasible.workbook.errors import InputError, closest, inside
from feasible.workbook.origin import Origin

TEXT = '''title = "x"
description = """
data = 3
[model]
"""
[data]
source = "wine"

[[constraints]]
weights = "*"
set = { name = "Box", lower = 0 }

[[constraints]]
weights = "b"
[constraints.set]
name = "Box"

[methods.a]
by.name = "Penalty"
[methods."b-c".training]
l1 = 1
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("title",), 1),
        (("data",), 6),
        (("data", "source"), 7),
        (("data", "target"), 6),
        (("model",), None),
        (("constraints",), 9),
        (("constraints", 0, "weights"), 10),
        (("constraints", 0, "set", "lower"), 11),
        (("constraints", 1), 13),
        (("constraints", 1, "set", "name"), 16),
        (("methods", "a", "by", "name"), 19),
        (("methods", "b-c", "training", "l1"), 21),
    ],
)
def test_a_key_is_found_by_its_line_or_by_that_of_its_table(key, line):
    assert Origin("x.toml", TEXT).place(key) == ("x.toml", line)


def test_an_overridden_key_stands_on_the_command_line():
    origin = Origin("x.toml", TEXT, {("data", "source"): "data.source=digits"})
    assert origin.place(("data", "source")) == ("--set data.source=digits", None)


def test_an_error_gets_the_place_of_its_key():
    with pytest.raises(InputError) as caught, Origin("x.toml", TEXT).placing("constraints"), inside(1):
        raise InputError("wrong.", key=("set",))
    assert str(caught.value) == "x.toml, line 15: wrong."
    assert (caught.value.file, caught.value.line) == ("x.toml", 15)


def test_an_error_with_a_place_keeps_it():
    with (
        pytest.raises(InputError, match=r"^other: wrong\.$"),
        Origin("x.toml", TEXT).placing(),
        inside("data"),
    ):
        raise InputError("wrong.", "other")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("prise", ["price", "rooms"], ' Closest: "price".'),
        ("PRICE", ["price", "rooms"], ' Closest: "price".'),
        ("xyz", ["price", "rooms"], " Known: price, rooms."),
        ("xyz", [f"column{i}" for i in range(20)], " Known: column0, "),
        ("xyz", [], ""),
    ],
)
def test_the_closest_known_word_is_offered(word, known, hint):
    assert closest(word, known).startswith(hint)
