"""Figures are read back from what they are made of: bars, colours, words; never from pixels."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations

import matplotlib
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

import lab
from lab import Trace, Traces
from lab.figures import (
    draw_growth,
    draw_lanes,
    draw_scatter,
    draw_sequence,
    draw_timeline,
    growth,
    scatter,
    sequence,
    timeline,
)
from lab.figures.look import (
    REFERENCE,
    STYLE,
    WAITING,
    WORK,
    Drawing,
    fitted,
    spread,
    text_width,
)
from lab.traces import Floor, Task
from lab.traces.words import in_seconds

WAITING, WORK, REFERENCE = WAITING.lower(), WORK.lower(), REFERENCE.lower()


def request(*tasks, answered=0.004, sent=0.0, **known):
    responded = None if answered is None else answered - 0.0005
    ends = [at for task in tasks for at in (task.finished, task.gone) if at is not None]
    plain = {
        "status": 202,
        "received": 0.001,
        "responded": responded,
        "returned": max([responded or 0.0, *ends]) + 0.001,
        "answered": answered,
        "floor": Floor(0.0007, 0.0016),
    }
    return Trace(f"{sent}", sent, "POST", "/webhook-test", tasks=[*tasks], **plain | known)


def chain(count, each=0.1, names="task_{}"):
    """Tasks that run one after another."""
    begins = [0.005 + number * (each + 0.001) for number in range(count)]
    return [
        Task(names.format(n), "background", "loop", 0.002, at, at + each / 10, at + each)
        for n, at in enumerate(begins, 1)
    ]


def every_state():
    return [
        Task("email", added=0.002, queued=0.004, started=0.005, finished=0.305),
        Task("invoice", queued=0.305, started=0.306, finished=0.4, error="ValueError: 7"),
        Task("audit", added=0.002, gone=0.401),
        Task("resize", "thread", "thread 4711", queued=0.002, started=0.0021, finished=0.5),
        Task("crunch", "process", queued=0.003, started=0.2, gone=0.6),
        Task("notify", "create_task", started=0.003, finished=0.1, error="CancelledError"),
        Task("later", "queue", queued=0.003),
        Task("now", "queue", queued=0.003, started=0.55),
    ]  # fmt: skip


def burst(count, tasks=2):
    return Traces(request(*chain(tasks), sent=7 + number / 20) for number in range(count))


def inline(*spans):
    return Traces(request(answered=span) for span in spans)


def texts(drawing: Drawing):
    FigureCanvasAgg(drawing.figure).draw()
    (axes,) = drawing.figure.axes
    found = [*drawing.figure.texts, *axes.texts]
    for place, axis in enumerate((axes.xaxis, axes.yaxis) if axes.axison else ()):
        low, high = sorted(axis.get_view_interval())
        # An axis also keeps ticks that lie outside its limits.
        seen = [tick for tick in axis.get_ticklabels() if low <= tick.get_position()[place] <= high]
        found += [axis.label, *seen]
    return [text for text in found if text.get_text()]


def words(drawing):
    return [text.get_text() for text in texts(drawing)]


def word(drawing, wanted):
    (found,) = (text for text in texts(drawing) if text.get_text() == wanted)
    return found


def bars(drawing):
    """From the top: where each bar begins and ends, and its edge's colour."""
    found = sorted(drawing.figure.axes[0].patches, key=lambda bar: bar.get_y())
    return [
        (
            round(bar.get_x(), 4),
            round(bar.get_x() + bar.get_width(), 4),
            to_hex(bar.get_edgecolor()),
            bar.get_hatch(),
        )
        for bar in found
    ]


def assert_readable(drawing):
    """No label is cut off by the figure's edge, and none lies on another."""
    boxes = [
        (text.get_text(), Text.get_window_extent(text).padded(-1)) for text in texts(drawing)
        if not text.get_rotation() % 90
    ]  # fmt: skip
    page = drawing.figure.bbox
    for name, box in boxes:
        assert page.x0 <= box.x0, name
        assert box.x1 <= page.x1, name
        assert page.y0 <= box.y0, name
        assert box.y1 <= page.y1, name
    for (one, a), (other, b) in combinations(boxes, 2):
        assert not a.overlaps(b), (one, other)


# The timeline.


def test_a_timeline_has_rows_for_the_answer_and_each_task_in_order():
    drawing = draw_timeline(request(*chain(3)))
    assert bars(drawing) == [
        (0, 0.004, WAITING, None),
        (0.015, 0.105, WORK, None),
        (0.116, 0.206, WORK, None),
        (0.217, 0.307, WORK, None),
    ]
    rows = [word(drawing, name).xy[1] for name in ("answered", "task_1", "task_2", "task_3")]
    assert rows == [0, 1, 2, 3]
    assert words(drawing).count("0.090 s") == 3


def test_a_dashed_line_marks_the_response():
    axes = draw_timeline(request(*chain(1))).figure.axes[0]
    (rule,) = (line for line in axes.lines if to_hex(line.get_color()) == WAITING)
    assert list(rule.get_xdata()) == [0.0035, 0.0035]
    assert rule.is_dashed()


def test_a_thin_line_shows_how_long_a_task_waited():
    axes = draw_timeline(request(*chain(1))).figure.axes[0]
    (wait,) = (line for line in axes.lines if to_hex(line.get_color()) == WORK)
    assert [round(at, 3) for at in wait.get_xdata()] == [0.005, 0.015]


@pytest.mark.parametrize("draw", [draw_timeline, draw_lanes])
def test_a_line_leads_from_a_task_to_each_that_it_handed_over(draw):
    store = Task("store", added=0.001, started=0.004, finished=0.1)
    resize = Task("resize", "thread", added=0.02, started=0.03, finished=0.2, parent=store)
    drawing = draw(request(store, Task("other", started=0.1, finished=0.2), resize))
    top, bottom = (word(drawing, name).xy[1] for name in ("store", "resize"))
    lines = [line.get_xydata().tolist() for line in drawing.figure.axes[0].lines]
    assert [[0.02, top + 0.27], [0.02, bottom]] in lines
    assert word(drawing, "thread of store").xy[1] == bottom
    assert "resize of store from 0.030 s" in drawing.alt
    assert_readable(drawing)


def test_each_state_of_a_task_is_drawn_and_named():
    drawing = draw_timeline([request(*every_state())], now=0.7)
    shown_words = words(drawing)
    for expected in (
        "0.300 s", "0.094 s ValueError", "never ran", "0.498 s", "lost", "cancelled", "waiting",
        "running",
    ):  # fmt: skip
        assert expected in shown_words
    for runner in ("thread", "process", "create_task", "queue"):
        assert runner in shown_words
    assert "background" not in shown_words
    hatches = [hatch for *_, hatch in bars(drawing)]
    assert hatches == [None, None, "//////", None, None, None, None]
    assert bars(drawing)[-1][1] == 0.7, "running work reaches now"
    assert word(drawing, "never ran").get_bbox_patch().get_linestyle() == "--"


@pytest.mark.parametrize(
    ("trace", "told"),
    [
        (request(answered=None, error="ConnectError: refused", gone=0.2), "ConnectError"),
        (request(answered=None, gone=0.2), "lost"),
        (Trace("a", 0.0), "waiting"),
    ],
)
def test_a_missing_answer_is_named(trace, told):
    drawing = draw_timeline(trace)
    assert told in words(drawing)
    assert "not answered" in drawing.alt


def test_many_requests_share_one_axis_and_are_numbered():
    drawing = draw_timeline(burst(5))
    assert [f"request {n}" in words(drawing) for n in range(1, 7)] == [True] * 5 + [False]
    answers = [begin for begin, _, color, _ in bars(drawing) if color == WAITING]
    assert answers == [0, 0.05, 0.1, 0.15, 0.2]


@pytest.mark.parametrize(("traces", "rows"), [(burst(20, 3), 80), (burst(60), 60)])
def test_too_many_rows_are_drawn_as_one_path_per_colour(traces, rows):
    axes = draw_timeline(traces).figure.axes[0]
    assert not axes.patches
    assert {to_hex(line.get_color()) for line in axes.lines} == {WAITING, WORK}
    assert axes.get_ylim() == (rows - 0.5, -0.5)
    assert axes.get_ylabel() == "request"


def test_rows_without_names_count_failed_and_lost_tasks():
    traces = [*burst(50), request(*every_state(), sent=8)]
    assert (
        "1 failed · 1 never ran · 1 lost · 1 cancelled · 1 waiting · 1 running · noise floor 0.7 ms"
    ) in words(draw_timeline(traces))


def test_thousands_of_marks_are_rasterised():
    few, many = draw_timeline(burst(100)), draw_timeline(burst(1_000))
    assert not any(line.get_rasterized() for line in few.figure.axes[0].lines)
    assert all(line.get_rasterized() for line in many.figure.axes[0].lines)
    assert len(many.svg) < 100_000


def test_a_request_with_many_tasks_numbers_the_tasks():
    axes = draw_timeline(request(*chain(100))).figure.axes[0]
    assert axes.get_ylabel() == "task"
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["0", "20", "40"]


# Scatter, growth, sequence.


def test_a_scatter_plots_answered_against_finished():
    drawing = draw_scatter(background=burst(2), inline=inline(0.1, 0.2))
    axes = drawing.figure.axes[0]
    diagonal, background, reference = axes.lines
    assert to_hex(diagonal.get_color()) == REFERENCE
    assert background.get_xydata().round(3).tolist() == [[0.207, 0.004]] * 2
    assert reference.get_ydata().tolist() == [0.1, 0.2]
    assert [to_hex(line.get_markeredgecolor()) for line in (background, reference)] == [
        WAITING, REFERENCE,
    ]  # fmt: skip
    assert background.get_markerfacecolor() == "none"
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] == 0
    assert word(drawing, "background").get_color().lower() == WAITING
    assert "answered = finished" in words(drawing)


def test_a_scatter_counts_the_requests_that_it_leaves_out():
    lost = request(Task("email", started=0.1, gone=0.2))
    assert "1 unanswered or lost · noise floor 0.7 ms" in words(draw_scatter([lost, *inline(0.1)]))
    with pytest.raises(ValueError, match="no request with an answer and finished work in traces"):
        draw_scatter(lost)


def test_a_scatter_of_thousands_is_rasterised():
    drawing = draw_scatter(inline(*(n / 1000 for n in range(1, 3_000))))
    assert drawing.figure.axes[0].lines[1].get_rasterized()
    assert len(drawing.svg) < 100_000


def test_growth_draws_the_median():
    drawing = draw_growth({n: [request(*chain(n)), request(*chain(n))] for n in (2, 1, 3)})
    lines = [line for line in drawing.figure.axes[0].lines if line.get_linestyle() == "-"]
    assert [to_hex(line.get_color()) for line in lines] == [WORK, WAITING]
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3]] * 2
    assert list(lines[1].get_ydata()) == [0.004] * 3
    assert {"answered", "finished", "tasks"} < set(words(drawing))


def test_a_sequence_draws_the_steps_in_measured_order():
    drawing = draw_sequence(request(*chain(1)))
    assert drawing.alt == (
        "Sequence of POST /webhook-test (202): POST /webhook-test at 0.000 s;"
        " add_task(task_1) at 0.002 s; 202 responded at 0.004 s; task_1 started at 0.015 s;"
        " task_1 finished at 0.105 s; call returned at 0.106 s"
    )
    steps = ["sent 0 s", "0.002 s", "responded 0.004 s", "started 0.015 s", "finished 0.105 s"]
    heights = [word(drawing, step).xy[1] for step in steps]
    assert heights == sorted(heights)


def test_a_sequence_says_same_call_only_for_background_tasks():
    words_of_note = "no queue: run by the same call"
    assert words_of_note in words(draw_sequence(request(*chain(2))))
    assert words_of_note not in words(draw_sequence(request(*every_state())))


# What holds for every figure.

LONG = "send_the_order_confirmation_to_every_customer_{}"
PLENTY = {
    "one": lambda: draw_timeline(request(*chain(1))),
    "eight": lambda: draw_timeline(request(*chain(8))),
    "long names": lambda: draw_timeline(request(*chain(2, names=LONG))),
    "tiny": lambda: draw_timeline(request(*chain(3, each=0.0001))),
    "late": lambda: draw_timeline(request(*chain(1, each=9), answered=9.5)),
    "inline": lambda: draw_timeline(inline(0.3)),
    "states": lambda: draw_timeline(request(*every_state()), now=0.7),
    "five": lambda: draw_timeline(burst(5)),
    "dense": lambda: draw_timeline(burst(1_000)),
    "nothing": lambda: draw_timeline(Trace("a", 0.0)),
    "scatter": lambda: draw_scatter(inline(0.1)),
    "groups": lambda: draw_scatter(a=burst(3), b=burst(3, 3), inline=inline(0.1, 0.2)),
    "growth": lambda: draw_growth({n: request(*chain(n)) for n in range(1, 9)}),
    "growth inline": lambda: draw_growth({n: inline(n / 10) for n in (1, 2)}, x="requests"),
    "sequence": lambda: draw_sequence(request(*chain(3))),
    "sequence of states": lambda: draw_sequence(request(*every_state())),
    "sequence of long names": lambda: draw_sequence(request(*chain(2, names=LONG))),
}
plenty = pytest.mark.parametrize("draw", PLENTY.values(), ids=PLENTY.keys())


@plenty
def test_labels_are_never_cut_and_never_overlap(draw):
    assert_readable(draw())


@plenty
def test_the_same_traces_give_the_same_svg_with_an_alt_text(draw):
    drawing = draw()
    assert drawing.svg == draw().svg
    root = ET.fromstring(drawing.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == drawing.alt
    assert root.findtext("{http://www.w3.org/2000/svg}title") == drawing.alt


@plenty
def test_axes_start_at_zero_with_few_ticks(draw):
    axes = draw().figure.axes[0]
    assert axes.get_xlim()[0] == 0
    low, high = axes.get_xlim()
    assert len([tick for tick in axes.get_xticks() if low <= tick <= high]) <= 6 or not axes.axison
    assert axes.get_title() == ""
    assert axes.get_legend() is None


def test_the_alt_text_of_a_timeline():
    assert draw_timeline(request(*chain(1))).alt == (
        "Timeline: answered at 0.004 s; task_1 from 0.015 s to 0.105 s"
    )
    assert draw_timeline(burst(5)).alt == (
        "Timeline of 5 requests: 5 answered after 0.004 s to 0.004 s; 10 tasks finished"
    )
    told = draw_timeline(request(*every_state())).alt
    assert "invoice from 0.306 s to 0.400 s, failed with ValueError; audit never ran" in told


def test_names_with_markup_and_dollars_stay_plain_text():
    task = Task('<lambda> "$x$"', started=0.1, finished=0.2)
    drawing = draw_timeline(request(task))
    assert ET.fromstring(drawing.svg).get("aria-label") == drawing.alt
    assert task.name in words(drawing)


def test_drawing_without_traces_raises():
    for draw in (
        timeline, scatter, draw_timeline, draw_scatter,
        lambda none: scatter(background=none), lambda none: growth({1: none}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no traces to draw"):
            draw([])
    for draw in (scatter, lambda: growth({})):
        with pytest.raises(ValueError, match="no traces to draw"):
            draw()


def test_a_figure_is_shown_once_and_the_call_returns_none():
    InteractiveShell.instance()
    try:
        for show in (
            lambda: timeline(request(*chain(1))),
            lambda: scatter(burst(3), inline=inline(0.1)),
            lambda: sequence(request(*chain(1))),
            lambda: growth({1: request(*chain(1))}),
        ):
            with capture_output() as captured:
                assert show() is None
            (output,) = captured.outputs
            assert set(output.data) == {"text/html", "image/svg+xml", "text/plain"}
            assert output.data["text/html"].startswith('<img alt="')
            assert output.data["image/svg+xml"].startswith("<svg ")
    finally:
        InteractiveShell.clear_instance()


def test_a_script_prints_the_alt_text_and_needs_no_pyplot():
    script = (
        "import sys; from lab import Trace, timeline\n"
        "timeline(Trace('a', 0.0, answered=0.1, responded=0.1, returned=0.1))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("Timeline: answered at 0.100 s\n", "")


def test_drawing_waits_for_the_work():
    running = Trace("a", 0.0, _until=lambda settled, timeout: False)
    for show in (timeline, scatter, sequence, lambda trace: growth({1: trace})):
        with pytest.raises(TimeoutError):
            show(running)


def test_drawing_keeps_the_readers_own_settings():
    before = dict(matplotlib.rcParams)
    assert draw_timeline(request(*chain(1))).svg
    assert dict(matplotlib.rcParams) == before
    assert STYLE.is_file()


def test_a_drawing_is_saved_in_the_format_of_its_suffix(tmp_path):
    drawing = draw_timeline(request(*chain(1)))
    drawing.save(tmp_path / "one.svg")
    drawing.save(tmp_path / "one.png")
    assert (tmp_path / "one.svg").read_text(encoding="utf-8") == drawing.svg
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


SHOWN = {
    lab.backlog: lambda **file: lab.backlog(a=burst(3), **file),
    lab.growth: lambda **file: lab.growth({1: request(*chain(1))}, **file),
    lab.heartbeat: lambda **file: lab.heartbeat(plain=inline(0.1), **file),
    lab.knee: lambda **file: lab.knee({50: burst(3), 150: burst(3)}, **file),
    lab.lanes: lambda **file: lab.lanes(burst(2), **file),
    lab.scatter: lambda **file: lab.scatter(inline(0.1), **file),
    lab.sequence: lambda **file: lab.sequence(request(*chain(1)), **file),
    lab.steps: lambda **file: lab.steps(a=burst(3), **file),
    lab.timeline: lambda **file: lab.timeline(request(*chain(1)), **file),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=lambda show: show.__code__.co_names[1])
def test_a_figure_is_written_to_a_file_instead_of_shown(tmp_path, capsys, show):
    assert show(file=tmp_path / "one.svg") is None
    assert show(file=str(tmp_path / "one.png")) is None
    assert ET.parse(tmp_path / "one.svg").getroot().get("role") == "img"
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match=r"one\.pdf: .* ends in \.svg or \.png"):
        show(file=tmp_path / "one.pdf")
    assert not (tmp_path / "one.pdf").exists()


def test_every_public_figure_takes_a_file():
    public = {getattr(lab, name) for name in lab.__all__}
    assert {each for each in public if each.__module__ == "lab.figures"} == {*SHOWN}


def test_text_is_measured_shortened_and_spread():
    assert text_width("wide", 9) > text_width("i", 9) > 0
    assert fitted("short", 9, 100) == "short"
    short = fitted(LONG, 9, 100)
    assert "…" in short
    assert text_width(short, 9) <= 100
    assert [in_seconds(span) for span in (0, 0.0001, 0.0126, 12)] == [
        "0.000 s", "<0.001 s", "0.013 s", "12.000 s",
    ]  # fmt: skip
    assert spread([5, 0, 0.5], 2) == [5, 0, 2]


def test_a_request_of_another_client_is_drawn_from_received_on():
    other = request(Task("work", started=0.2, finished=0.3, added=0.1), answered=None,
                    received=0.0, responded=0.15)  # fmt: skip
    drawing = draw_timeline(other)
    assert "responded at 0.150 s" in drawing.alt
    assert "answered" not in " ".join(words(drawing))
    assert drawing.figure.axes[0].get_xlabel() == "seconds after receiving"
