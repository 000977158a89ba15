"""The notebooks: made from one source, well-formed in both languages."""

import io
import re
import shutil
import tokenize
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from lab.languages import LANGUAGES
from lab.publishing.notebooks import (
    EXERCISE,
    build,
    folder,
    is_generated,
    make,
    sign,
    solve,
    sources,
    tags,
    text,
)

SOURCE = """\
# %% [markdown] lang="en"
# # 1. Do a thing

# %% [markdown] lang="zh"
# # 1. 做一件
# 事

# %%
x = 1

# %% tags=["solution"]
assert x == 1
"""

FORBIDDEN = [r"sys\.path", r"%run", r"import \*", r"!pip", r"\bplt\.", r"^time\.sleep"]


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "01_do.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_a_source_gives_two_notebooks_with_the_same_code(notebooks: Path) -> None:
    assert len(build(notebooks)) == 2
    english, chinese = (read(folder(one, notebooks) / "01_do.ipynb") for one in LANGUAGES)
    assert english.cells[0].source == "# 1. Do a thing"
    assert chinese.cells[0].source == "# 1. 做一件事"
    assert [c.source for c in english.cells if c.cell_type == "code"] == ["x = 1", EXERCISE.en]
    assert [c.source for c in chinese.cells if c.cell_type == "code"] == ["x = 1", EXERCISE.zh]
    assert [c.id for c in english.cells] == [c.id for c in chinese.cells]
    assert len({c.id for c in english.cells}) == len(english.cells)


def test_a_solution_is_folded_below_its_exercise(notebooks: Path) -> None:
    build(notebooks)
    last = read(notebooks / "01_do.ipynb").cells[-1].source
    assert "<details>" in last
    assert "assert x == 1" in last


def test_a_folded_solution_is_moved_into_its_cell_unless_a_reader_has_answered(
    notebooks: Path,
) -> None:
    build(notebooks)
    for language in LANGUAGES:
        path = folder(language, notebooks) / "01_do.ipynb"
        last = solve(read(path), language).cells[-1]
        assert (last.cell_type, last.source, tags(last)) == ("code", "assert x == 1", ["solution"])
        answered = read(path)
        answered.cells[-2].source = "mine = 1"
        assert solve(answered, language).cells[-2:] == answered.cells[-2:]
        assert answered.cells[-2].source == "mine = 1"


def test_building_again_changes_nothing(notebooks: Path) -> None:
    build(notebooks)
    assert build(notebooks) == []


def test_a_notebook_without_a_source_goes_and_a_readers_own_stay(notebooks: Path) -> None:
    build(notebooks)
    own = [notebooks / "01_do-Copy1.ipynb", notebooks / "mine.ipynb", notebooks / "broken.ipynb"]
    shutil.copy(notebooks / "01_do.ipynb", own[0])
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), own[1])
    own[2].write_text("not JSON", encoding="utf-8")
    (notebooks / "source" / "01_do.py").unlink()
    assert len(build(notebooks)) == 2
    assert sorted(notebooks.rglob("*.ipynb")) == sorted(own)


def test_built_notebooks_are_signed_unless_they_hold_outputs(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    build(notebooks)
    english, chinese = (folder(one, notebooks) / "01_do.ipynb" for one in LANGUAGES)
    with_output = read(chinese)
    with_output.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    nbformat.write(with_output, chinese)
    nbformat.write(nbformat.v4.new_notebook(), notebooks / "mine.ipynb")
    sign(notebooks)
    with NotebookNotary() as notary:
        assert notary.check_signature(read(english))
        assert not notary.check_signature(read(chinese))
        assert not notary.check_signature(read(notebooks / "mine.ipynb"))


def test_prose_without_a_language_goes_to_both(notebooks: Path) -> None:
    source = notebooks / "source" / "01_do.py"
    source.write_text(SOURCE + "\n# %% [markdown]\n# `x`\n", encoding="utf-8")
    for language in LANGUAGES:
        assert make(source, language).cells[-1].source == "`x`"


def test_code_may_stand_in_a_pair(notebooks: Path) -> None:
    source = notebooks / "source" / "01_do.py"
    pair = SOURCE.replace(
        '# %% tags=["solution"]\nassert x == 1',
        '# %% tags=["solution"] lang="en"\nassert x == 1  # one\n\n'
        '# %% tags=["solution"] lang="zh"\nassert x == 1  # 一',
    )
    source.write_text(pair + "\n# %%\ny = 2\n", encoding="utf-8")
    for solved in (False, True):
        english, chinese = (make(source, one, solved).cells for one in LANGUAGES)
        assert [c.id for c in english] == [c.id for c in chinese]
        assert "assert x == 1  # one" in english[-2].source
        assert "assert x == 1  # 一" in chinese[-2].source


@pytest.mark.parametrize("partner", ['# %% lang="zh"', '# %% [markdown] lang="zh" tags=["long"]'])
def test_the_cells_of_a_pair_are_of_one_kind(notebooks: Path, partner: str) -> None:
    source = notebooks / "source" / "01_do.py"
    source.write_text(SOURCE.replace('# %% [markdown] lang="zh"', partner), encoding="utf-8")
    with pytest.raises(ValueError, match=r"01_do\.py, cell 1 .*pairs"):
        make(source, "en")


def test_a_solved_notebook_holds_its_solutions(notebooks: Path) -> None:
    cells = make(notebooks / "source" / "01_do.py", "en", solved=True).cells
    assert [c.source for c in cells if c.cell_type == "code"] == ["x = 1", "assert x == 1"]


@pytest.mark.parametrize("lost", ["en", "zh"])
def test_prose_without_its_partner_is_an_error_that_names_the_place(
    notebooks: Path, lost: str
) -> None:
    source = notebooks / "source" / "01_do.py"
    cells = SOURCE.split("# %%")
    kept = [cell for cell in cells if f'lang="{lost}"' not in cell]
    source.write_text("# %%".join(kept), encoding="utf-8")
    with pytest.raises(ValueError, match=r"01_do\.py, cell 1 .*pairs"):
        build(notebooks)
    assert not list(notebooks.rglob("*.ipynb"))


def test_what_is_committed_is_what_the_build_makes() -> None:
    for source in sources():
        for language in LANGUAGES:
            committed = folder(language) / f"{source.stem}.ipynb"
            assert committed.read_text(encoding="utf-8") == text(make(source, language))
            assert is_generated(committed)
    for language in LANGUAGES:
        names = {path.stem for path in folder(language).glob("*.ipynb") if is_generated(path)}
        assert names == {source.stem for source in sources()}


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
class TestStyle:
    def test_cells_are_short(self, source: Path) -> None:
        for cell in make(source, "en", solved=True).cells:
            if cell.cell_type == "code" and "app" not in tags(cell):
                lines = [line for line in cell.source.splitlines() if line.strip()]
                assert len(lines) <= (20 if "solution" in tags(cell) else 12), cell.source

    def test_prose_is_short(self, source: Path) -> None:
        for language, word, most in (("en", r"\S+", 80), ("zh", r"[\u4e00-\u9fff]", 160)):
            for cell in make(source, language, solved=True).cells:
                if cell.cell_type == "markdown" and "long" not in tags(cell):
                    assert len(re.findall(word, cell.source)) <= most, cell.source

    def test_it_opens_and_closes_as_every_lesson_does(self, source: Path) -> None:
        if not source.stem[0].isdigit():
            pytest.skip("not a lesson")
        for language, words in {
            "en": ["**Do**", "**Learn**", "**Need**", "## Check", "**What we saw**",
                   "## Exercises", "**In practice"],
            "zh": ["**动手**", "**收获**", "**前置**", "## 检查", "**我们看到了**",
                   "## 练习", "**实际使用**"],
        }.items():  # fmt: skip
            prose = "\n".join(
                cell.source for cell in make(source, language).cells if cell.cell_type == "markdown"
            )
            assert prose.startswith("# ")
            assert [word for word in words if word not in prose] == []

    def test_nothing_forbidden_stands_in_its_code(self, source: Path) -> None:
        for cell in make(source, "en", solved=True).cells:
            if cell.cell_type == "code":
                for pattern in FORBIDDEN:
                    assert not re.search(pattern, cell.source, re.MULTILINE), cell.source

    def test_the_chinese_is_chinese(self, source: Path) -> None:
        for one, other in zip(make(source, "en").cells, make(source, "zh").cells, strict=True):
            if one.cell_type == "markdown" and one.source != other.source:
                assert re.search(r"[\u4e00-\u9fff]", other.source), other.source
                assert not re.search(r"[\u4e00-\u9fff]", one.source), one.source

    def test_the_code_is_the_same_but_for_its_comments_and_language(self, source: Path) -> None:
        english, chinese = (make(source, one, solved=True).cells for one in LANGUAGES)
        for one, other in zip(english, chinese, strict=True):
            assert one.cell_type == other.cell_type
            if one.cell_type == "code":
                code = other.source.replace('language="zh"', "")
                assert tokens(one.source)[0] == tokens(code)[0]

    def test_chinese_solutions_are_explained_in_chinese(self, source: Path) -> None:
        for cell in make(source, "zh", solved=True).cells:
            if "solution" in tags(cell):
                for comment in tokens(cell.source)[1]:
                    assert re.search(r"[\u4e00-\u9fff]", comment), cell.source


def tokens(code: str) -> tuple[list[str], list[str]]:
    """The words of a piece of code, and its comments."""
    found = list(tokenize.generate_tokens(io.StringIO(code).readline))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE}
    words = [token.string for token in found if token.type not in blank]
    return words, [token.string for token in found if token.type == tokenize.COMMENT]
