"""The playground: choose an experiment, press a button, and watch the timeline grow.

The server has a process of its own, so that drawing does not disturb the measurement. All drawing
is done on the kernel's event loop, between its cells: matplotlib's style belongs to the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections import Counter, deque
from html import escape
from math import ceil
from time import perf_counter
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]
from IPython.display import Javascript, display
from pydantic import ValidationError

from ..figures import draw_timeline
from ..figures.look import POINTS, Drawing
from ..queue.notebook_queue import Queue
from ..servers.web import Web, serve
from ..traces import Traces
from ..traces.tables import moment as written
from .choice import (
    HAND_OVERS,
    LEAST_SECONDS,
    MOST_AT_ONCE,
    MOST_SECONDS,
    MOST_TASKS,
    Choice,
)
from .code import code
from .works import WORKS

REDRAW = 0.2
KEPT = 3
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

# JupyterLab takes arrow keys and letters for its shortcuts, even from a drop-down list. A screen
# reader announces what changes inside a status, but not a status put in place of another.
AT_HAND = """\
window.addEventListener("focusin", ({target}) => {
  const playground = target.closest?.(".lab-playground");
  if (!playground) return;
  target.setAttribute("data-lm-suppress-shortcuts", "true");
  playground.querySelector(".lab-status .widget-html-content")?.setAttribute("role", "status");
});
"""

WORK_LABELS = {
    "sleep": "sleep: def, time.sleep",
    "async_sleep": "async_sleep: async def, asyncio.sleep",
    "blocking_in_async": "blocking_in_async: async def, time.sleep",
    "compute": "compute: def, the processor",
}


def start_server() -> Web:
    """Start the server that the playground measures."""
    web = serve("lab.playground.app:app", on="process")
    # The very first request is slow, because it imports and compiles: that is not the lesson.
    web.post("/inline", params={"hand_over": "inline", "tasks": 1, "seconds": LEAST_SECONDS})
    return web


class Run:
    """One experiment, from its first request on; its traces grow while it runs.

    A server takes one run at a time: a run's requests are the newest ones of the server.
    """

    def __init__(self, web: Web, choice: Choice) -> None:
        self.choice = choice
        self.begun = perf_counter()
        self.stopped: float | None = None
        self._web = web
        self._before = len(web.traces)
        # Daemons: a request that waits for its answer must not delay the kernel's end.
        self._senders = [
            threading.Thread(target=self._send, name="lab playground", daemon=True)
            for _ in range(choice.at_once)
        ]
        for sender in self._senders:
            sender.start()

    def _send(self) -> None:
        with contextlib.suppress(RuntimeError):  # stopped before this one was sent
            self._web.post(
                self.choice.path,
                params=self.choice.model_dump(),
                # Each caller has a connection of its own, which a failing task may cut.
                headers={"connection": "close"},
                timeout=None,
            )

    @property
    def traces(self) -> Traces:
        """The requests sent so far, with their stamps up to now."""
        return self._web.traces[self._before : self._before + self.choice.at_once]

    @property
    def over(self) -> bool:
        """Whether the run is over: all requests are answered, and their work has ended."""
        return not any(sender.is_alive() for sender in self._senders) and all(
            trace.settled for trace in self.traces
        )

    @property
    def ahead(self) -> float:
        """How far a growing figure should reach, in seconds: to the next multiple of a task."""
        if self.over:
            return 0.0
        return ceil((perf_counter() - self.begun) / self.choice.seconds) * self.choice.seconds

    def wait(self, timeout: float = 60) -> Traces:
        """Wait until the run is over; return its requests.

        timeout: seconds. Raises TimeoutError, which names the open tasks.
        """
        for sender in self._senders:
            sender.join(timeout)
        return self.traces.wait(timeout)

    def stop(self) -> None:
        """Kill the server, and with it all open work."""
        self.stopped = perf_counter() - self.begun
        self._web.signal(KILL)

    def __str__(self) -> str:
        """Return the outcome as a sentence."""
        traces = self.traces
        answers = [trace.answered for trace in traces if trace.answered is not None]
        ends = [trace.finished for trace in traces if trace.finished is not None]
        if self.stopped is not None:
            parts = [f"Stopped after {written(self.stopped)} s by killing the server"]
        elif not self.over:
            parts = ["Running"]
        elif ends:
            parts = [f"Finished after {written(max(ends))} s"]
        else:
            parts = ["The server has ended"]
        if answers:
            late = "" if len(answers) == 1 else f" to {written(max(answers))}"
            statuses = sorted({str(trace.status) for trace in traces if trace.status})
            parts.append(f"answered {' and '.join(statuses)} after {written(min(answers))}{late} s")
        states = Counter(task.state for task in traces.tasks if self.over)
        parts += [f"{number} {state}" for state, number in states.items()]
        return f"{'; '.join(parts)}."


class Sheet:
    """The figures of runs, one below the other on one time axis, the newest first."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = [run for run in runs if run.traces]
        self.drawings = [drawn(run) for run in self.runs]
        axes = [drawing.figure.axes[0] for drawing in self.drawings]
        spans = [one.get_xlim()[1] for one in axes] + [run.ahead for run in self.runs]
        span = max(spans, default=1.0)
        left = max((one.get_position().x0 for one in axes), default=0.0)
        for one in axes:
            place = one.get_position()
            one.set_xlim(0, span)
            one.set_position((left, place.y0, place.x1 - left, place.height))

    def __repr__(self) -> str:
        pairs = zip(self.runs, self.drawings, strict=True)
        return "\n".join(f"{run.choice}. {drawing.alt}" for run, drawing in pairs)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        figures = "".join(map(figure, self.runs, self.drawings))
        return {"text/html": figures, "text/plain": repr(self)}


def drawn(run: Run) -> Drawing:
    """Draw a run's timeline; open work is drawn up to now."""
    traces = run.traces
    now = None if run.over else perf_counter() - min(trace.sent for trace in traces)
    return draw_timeline(traces, now)


def figure(run: Run, drawing: Drawing) -> str:
    """Return a drawing below its title as HTML; its room stays while the picture is replaced."""
    width, height = drawing.figure.get_size_inches() * POINTS
    image = drawing._repr_mimebundle_()[0]["text/html"]
    return (
        '<figure style="margin: 0 0 1em">'
        f"<figcaption><b>{escape(str(run.choice))}</b></figcaption>"
        f'<div style="max-width: {width:g}pt; aspect-ratio: {width:g} / {height:g}">{image}</div>'
        "</figure>"
    )


class Playground:
    """The controls, their server, and the last runs."""

    def __init__(self) -> None:
        self.hand_over = widgets.Dropdown(options=list(HAND_OVERS), value="background")
        self.work = widgets.Dropdown(options=[(WORK_LABELS[name], name) for name in WORKS])
        self.tasks = widgets.BoundedIntText(3, min=1, max=MOST_TASKS)
        self.seconds = widgets.BoundedFloatText(0.3, min=LEAST_SECONDS, max=MOST_SECONDS, step=0.05)
        self.at_once = widgets.BoundedIntText(1, min=1, max=MOST_AT_ONCE)
        self.failing = widgets.Dropdown(options=failures(3))
        for control, label in (
            (self.hand_over, "hand-over"),
            (self.work, "work"),
            (self.tasks, f"tasks (1 to {MOST_TASKS})"),
            (self.seconds, f"seconds ({LEAST_SECONDS:g} to {MOST_SECONDS:g})"),
            (self.at_once, f"requests at once (1 to {MOST_AT_ONCE})"),
            (self.failing, "which task fails"),
        ):
            control.description = label
            control.style.description_width = "13em"
            control.layout.width = "auto"
            control.observe(self._chosen, "value")
        self.button = widgets.Button(button_style="primary")
        self.button.on_click(self._pressed)
        self.compare = widgets.Checkbox(
            False, description=f"compare with the last {KEPT - 1}", indent=False
        )
        self.compare.observe(lambda _: self._draw(), "value")
        self.status = widgets.HTML()
        self.status.add_class("lab-status")
        grid = widgets.GridBox(
            [self.hand_over, self.work, self.tasks, self.seconds, self.at_once, self.failing],
            layout=widgets.Layout(grid_template_columns="repeat(auto-fit, minmax(24em, 1fr))"),
        )
        self.compare.layout.margin = "0 0 0 1em"
        acts = widgets.HBox(
            [self.button, self.compare], layout=widgets.Layout(align_items="center")
        )
        self.controls = widgets.VBox([grid, acts, self.status])
        self.controls.add_class("lab-playground")
        self.runs: deque[Run] = deque(maxlen=KEPT)
        self.under_way: asyncio.Task[None] | None = None
        self._web = start_server()
        self._queue: Queue | None = None
        self._figure: Any = None
        self._code: Any = None
        self._offer("Run")

    @property
    def choice(self) -> Choice:
        """The values of the controls. Raises ValueError when they do not fit together."""
        return Choice(**{name: getattr(self, name).value for name in Choice.model_fields})

    def show(self) -> None:
        """Show the controls, and below them a first run."""
        self.runs.appendleft(Run(self._web, self.choice))
        self.runs[0].wait()
        self._say(str(self.runs[0]))
        display(Javascript(AT_HAND), self.controls)  # type: ignore[no-untyped-call]
        self._figure = display(self._sheet(), display_id=True)  # type: ignore[no-untyped-call]

    def code(self) -> None:
        """Show the code that does the same as the newest run; each new run updates it."""
        self._code = display(self._by_hand(), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """End the server and the queue, and remove the controls."""
        if self.under_way is not None:
            self.under_way.cancel()
        self.controls.close()
        self._web.signal(KILL)
        if self._queue is not None:
            self._queue.stop()

    def _chosen(self, change: dict[str, Any]) -> None:
        if change["owner"] is self.tasks:
            kept = self.failing.value
            self.failing.options = failures(self.tasks.value)
            self.failing.value = kept if kept <= self.tasks.value else 0
        if self._allowed() and not self._busy:
            self._say("Guess what comes, then press Run.")

    def _allowed(self) -> Choice | None:
        """Return the choice; if its values do not fit together, show why and return None."""
        try:
            return self.choice
        except ValidationError as error:
            self._say(explained(error))
            return None

    @property
    def _busy(self) -> bool:
        return self.under_way is not None and not self.under_way.done()

    def _pressed(self, _: widgets.Button) -> None:
        if self.button.description == "Stop":
            self.runs[0].stop()
        elif not self._busy and (choice := self._allowed()):
            self.under_way = asyncio.get_running_loop().create_task(self._run(choice))

    async def _run(self, choice: Choice) -> None:
        try:
            if choice.hand_over == "queue" and self._queue is None:
                self._say("Starting a broker and a worker.")
                self._queue = await asyncio.to_thread(Queue, worker="lab.playground.worker")
                self._web.signal(KILL)  # the next server will have the queue's variables
                await asyncio.to_thread(self._web.join)
            if self._web.exit_code is not None:
                self._say("Starting the server.")
                self._web = await asyncio.to_thread(start_server)
            run = Run(self._web, choice)
            self.runs.appendleft(run)
            self._offer("Stop")
            self._say(str(run))
            if self._code is not None:
                self._code.update(self._by_hand(), raw=True)
            over = False
            while not over:
                await asyncio.sleep(REDRAW)
                over = run.over
                self._draw()
                self._say(str(run))
            if run.stopped is not None:
                await asyncio.to_thread(self._web.join)
        except RuntimeError as error:  # the server does not start
            self._say(str(error))
        finally:
            self._offer("Run")

    def _sheet(self) -> Sheet:
        return Sheet(list(self.runs) if self.compare.value else [self.runs[0]])

    def _draw(self) -> None:
        self._figure.update(self._sheet())

    def _by_hand(self) -> dict[str, str]:
        text = code(self.runs[0].choice)
        return {"text/markdown": f"```python\n{text}```", "text/plain": text}

    def _offer(self, act: str) -> None:
        self.button.description = act
        self.button.tooltip = {
            "Run": "Send the requests",
            "Stop": "Kill the server, with all work that is open",
        }[act]

    def _say(self, text: str) -> None:
        self.status.value = escape(text)


def failures(tasks: int) -> list[tuple[str, int]]:
    """Return the options of the control for the failing task."""
    return [("none", 0), *((f"task {number}", number) for number in range(1, tasks + 1))]


def explained(error: ValidationError) -> str:
    """Return why a choice is refused, as a sentence."""
    return error.errors()[0]["msg"].removeprefix("Value error, ") + "."


_shown: Playground | None = None


def play() -> Playground:
    """Show the playground; a playground that was shown before ends with its server."""
    global _shown
    if _shown is not None:
        _shown.close()
    _shown = Playground()
    _shown.show()
    return _shown
