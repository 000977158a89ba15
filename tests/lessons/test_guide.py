"""Verdicts follow from evidence; and those on the guide, for the pinned versions, are held here."""

import json
import re
from string import Formatter

import nbformat
import pytest

from lab.languages import Text
from lab.lessons.guide import Guide, Verdict, judge
from lab.lessons.statements import STATEMENTS, Statement
from lab.publishing.notebooks import NOTEBOOKS, make, tags
from lab.publishing.run import execute

LESSON = NOTEBOOKS / "source" / "09_check_the_guide.py"
# Amounts of memory, too close to be held to one verdict.
CLOSE = {"thread-cost", "few-resources"}
EXPECTED = {
    "holds": {
        "inline", "register", "diagram-order", "series", "by-hand", "loop-or-pool", "own-thread",
        "together", "webhook", "api", "processes", "unmanaged",
    },
    "holds with a condition": {
        "at-once", "after", "bad-json", "automatic", "next", "injected", "bound", "reuse",
        "one-by-one", "light", "cpu-threads", "survives", "thread-silent", "mail", "cache",
        "not-too-many", "ten", "testable",
    },
    "does not hold": {
        "queue", "connection", "caught", "blocks-loop", "outlives", "only-extreme",
    },
    "cannot be measured": {"ninety", "concise"},
}  # fmt: skip

ONE = Statement(
    "one", "2.3", "02_one_after_another", Text("All of `them`.", "全部。"),
    Text("{some} of {all}.", "{all} 个中有 {some} 个。"), Text("But {odd}.", "但 {odd}。"),
)  # fmt: skip
TASTE = Statement(
    "taste", "3.1, 4", "", Text("Fine.", "好。"), Text("A taste.", "口味。"), measurable=False
)


@pytest.fixture
def guide() -> Guide:
    return Guide([ONE, TASTE], "en")


@pytest.mark.parametrize(
    ("claim", "but", "verdict"),
    [
        (True, False, Verdict.HOLDS),
        (True, True, Verdict.CONDITION),
        (False, False, Verdict.FAILS),
        (False, True, Verdict.FAILS),
    ],
)
def test_a_verdict_follows_from_the_claim_and_the_counter_case(
    claim: bool, but: bool, verdict: Verdict
) -> None:
    assert judge(claim, but) == verdict


def test_a_verdict_turns_with_its_evidence(guide: Guide) -> None:
    assert guide.verdicts == {"one": "not checked", "taste": "cannot be measured"}
    shown = guide.check("one", True, some=3, all=3)._repr_html_()
    assert guide.verdicts["one"] == "holds"
    assert "✓ holds<" in shown
    assert "3 of 3." in shown
    shown = guide.check("one", True, but=True, some=3, all=3, odd="not <b>")._repr_html_()
    assert guide.verdicts["one"] == "holds with a condition"
    assert "3 of 3. But not &lt;b&gt;." in shown
    shown = guide.check("one", False, some=1, all=3)._repr_html_()
    assert guide.verdicts["one"] == "does not hold"
    assert "1 of 3." in shown
    assert "But" not in shown


def test_the_table_names_statements_lessons_reasons_and_versions(guide: Guide) -> None:
    guide.check("one", False, some=1, all=3)
    html = guide._repr_html_()
    assert "does not hold: 1; cannot be measured: 1" in html
    assert re.search(r"Python 3\.\d+.*, fastapi \d.*, uvicorn \d", html)
    assert "<code>them</code>" in html
    assert '<a href="02_one_after_another.ipynb">lesson 2</a>' in html
    assert html.index("§2.3") < html.index("§3.1, 4") < html.index("A taste.")
    assert "Fine." in guide.section("4")._repr_html_()
    assert "them" not in guide.section("4")._repr_html_()


def test_the_table_is_in_the_language_that_was_asked_for() -> None:
    for language, says, verdict in [("en", "All of", "holds"), ("zh", "全部", "成立")]:
        html = Guide([ONE], language).check("one", True, some=3, all=3)._repr_html_()
        assert says in html
        assert f"✓ {verdict}<" in html


def test_chinese_sentences_stand_without_a_space_between_them() -> None:
    html = Guide([ONE], "zh").check("one", True, but=True, some=3, all=3, odd="x")._repr_html_()
    assert "3 个中有 3 个。但 x。" in html


def test_a_text_may_be_empty_in_chinese_or_have_one_language() -> None:
    assert Text("; ", "").of("zh") == ""
    assert Text("ours").of("zh") == Text("ours").of("en") == "ours"


def test_check_refuses_evidence_that_does_not_fit(guide: Guide) -> None:
    with pytest.raises(KeyError, match="no statement 'two'; there are one, taste"):
        guide.check("two", True)
    with pytest.raises(ValueError, match="cannot be measured"):
        guide.check("taste", True)
    with pytest.raises(ValueError, match="tells of 'all'"):
        guide.check("one", True, some=1)
    with pytest.raises(KeyError, match=r"3\.2"):
        guide.section("3.2")
    bare = ONE._replace(condition=None)
    with pytest.raises(ValueError, match="names no condition"):
        Guide([bare], "en").check("one", True, but=True, some=1, all=1)
    assert guide.verdicts["one"] == "not checked"


def test_statements_are_complete_and_in_the_order_of_the_guide() -> None:
    sections = [statement.section.split(", ")[0] for statement in STATEMENTS]
    assert sections == sorted(sections)
    assert set(sections) == {"1", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "4"}
    assert len({statement.key for statement in STATEMENTS}) == len(STATEMENTS)
    for statement in STATEMENTS:
        assert bool(statement.lesson) == statement.measurable
        assert not statement.lesson or (NOTEBOOKS / f"{statement.lesson}.ipynb").exists()
        for words in (statement.says, statement.evidence, statement.condition):
            if words is not None:
                assert figures(words.en) == figures(words.zh), statement.key
                assert re.search("[\u4e00-\u9fff]", words.zh)
                assert not re.search("[\u4e00-\u9fff]", words.en)


def figures(words: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(words)} - {None}


@pytest.mark.slow
def test_the_pinned_versions_give_the_expected_verdicts() -> None:
    notebook = make(LESSON, "en")
    places = [number for number, cell in enumerate(notebook.cells) if "key-figure" in tags(cell)]
    assert len(places) == 1
    telling = nbformat.v4.new_code_cell("print(json.dumps(guide.verdicts))")
    notebook.cells[places[0] + 1 :] = [telling]
    problem = execute(notebook, NOTEBOOKS)
    if problem:
        pytest.fail(problem, pytrace=False)
    verdicts = json.loads(telling.outputs[0].text)
    assert {verdicts.pop(key) for key in CLOSE} <= {"holds", "holds with a condition"}
    by_verdict = {
        verdict: {key for key, given in verdicts.items() if given == verdict}
        for verdict in set(verdicts.values())
    }
    assert by_verdict == EXPECTED
