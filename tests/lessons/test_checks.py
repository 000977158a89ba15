"""A check shows which conditions hold and what the others lack, and never raises."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lab import check

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: capsys.readouterr().out.splitlines()


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def condition() -> NoReturn:
        raise error

    return condition


def test_a_condition_that_holds_is_ticked(lines: Lines) -> None:
    check(one=lambda: 1 == 1, listed=lambda: [0])
    assert lines() == ["✓ one", "✓ listed"]


def test_a_failed_condition_shows_its_own_code(lines: Lines) -> None:
    tasks: list[str] = []
    check(one_task=lambda: len(tasks) == 1, none=lambda: not tasks)
    assert lines() == ["✗ one_task: len(tasks) == 1 → False", "✓ none"]


def test_each_condition_shows_its_own_code_on_one_line_or_several(lines: Lines) -> None:
    check(a=lambda: 1 > 2, b=lambda: 2 > 3)  # fmt: skip
    check(
        long=lambda: (
            "a"
            == "b"
        ),
    )  # fmt: skip
    assert lines() == ["✗ a: 1 > 2 → False", "✗ b: 2 > 3 → False", "✗ long: 'a' == 'b' → False"]


def test_an_exercise_not_yet_done_points_to_the_cell_above(lines: Lines) -> None:
    check(one_task=lambda: together.tasks == 1)  # type: ignore[name-defined] # noqa: F821
    assert lines() == ["✗ one_task: NameError: name 'together' is not defined ↑"]


def test_an_error_is_named_and_the_next_condition_still_checked(lines: Lines) -> None:
    check(first=lambda: [][0], then=lambda: True)
    assert lines() == ["✗ first: [][0] → IndexError: list index out of range", "✓ then"]


def test_conditions_in_a_notebook_cell_show_their_code(lines: Lines) -> None:
    shell = InteractiveShell()
    shell.run_cell("from lab import check\nawait __import__('asyncio').sleep(0)")
    shell.run_cell("x = 1\ncheck(two=lambda: x == 2,\n      y=lambda: y == 2)")
    assert lines() == [
        "✗ two: x == 2 → False",
        "✗ y: NameError: name 'y' is not defined ↑",
    ]


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit


class MuteName(NameError):
    def __str__(self) -> str:
        raise ValueError


class Undecided:
    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (raising(SystemExit(3)), "✗ it: it → SystemExit: 3"),
        (raising(GeneratorExit()), "✗ it: it → GeneratorExit"),
        (raising(ValueError("two\nlines")), "✗ it: it → ValueError: two lines"),
        (raising(Mute()), "✗ it: it → Mute"),
        (raising(MuteName()), "✗ it: MuteName ↑"),
        (raising(RecursionError()), "✗ it: it → RecursionError"),
        (raising(ExceptionGroup("some", [ValueError()])), None),
        (Undecided, "✗ it: it → ValueError: neither true nor false"),
        (True, "✗ it: it → TypeError: 'bool' object is not callable"),
        (lambda one: one, None),
        (int, "✗ it: it → False"),
        (eval("lambda: 0"), "✗ it: it → False"),
    ],
)
def test_check_never_raises_what_a_condition_raises(
    condition: Any, told: str | None, lines: Lines
) -> None:
    check(it=condition)
    (line,) = lines()
    assert line == told if told else line.startswith("✗ it: ")


def test_the_interrupt_of_a_cell_passes_through(lines: Lines) -> None:
    with pytest.raises(KeyboardInterrupt):
        check(it=raising(KeyboardInterrupt()), next=lambda: True)
    assert lines() == []
