"""What other tools are given is read back: Perfetto's events by their rules, OTLP by its schema."""

import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lab.publishing.notebooks import ROOT
from lab.traces import Task, Trace, Traces

RECORDINGS = sorted((ROOT / "data").glob("r*/**/*.json"))


def plenty() -> Traces:
    store = Task("store", added=0.001, queued=0.004, started=0.005, finished=0.1, where="loop")
    tasks = [
        store,
        Task("resize", "thread", "thread 7", added=0.02, started=0.03, finished=0.2, parent=store),
        Task("fail", queued=0.1, started=0.1, finished=0.15, error="ValueError: no: way"),
        Task("never", added=0.001, gone=0.2),
        Task("lost", "process", "process 9", added=0.001, started=0.1, gone=0.2, process=9),
        Task("open", "queue", queued=0.003),
        Task("running", "queue", queued=0.003, started=0.05),
        Task("at once", started=0.1, finished=0.1),
    ]
    whole = Trace("1", 5.0, "POST", "/x", 202, received=0.001, responded=0.003, answered=0.004,
                  returned=0.16, tasks=tasks, date=1_800_000_000.0)  # fmt: skip
    other = Trace("2", 5.1, "GET", "/y", 500, received=0.0, responded=0.003, returned=0.003,
                  otel="0af7651916cd43dd8448eb211c80319c", ending=(("SIGTERM", 0.5),))  # fmt: skip
    return Traces([whole, other, Trace("3", 5.2), Trace("4", 5.3, received=0.1, error="ReadError")])


def events(traces: Traces, tmp_path: Path) -> list[dict[str, Any]]:
    traces.export(tmp_path / "run.perfetto.json")
    return json.loads((tmp_path / "run.perfetto.json").read_bytes())["traceEvents"]


def slices(told: list[dict[str, Any]]) -> dict[tuple[int, str], list[tuple[str, float, float]]]:
    """The slices of each track, by its group and id, as they are closed: (name, from, to)."""
    open_ones, closed = defaultdict(list), defaultdict(list)
    for event in told:
        track = event["pid"], event.get("id", "")
        if event["ph"] == "b":
            open_ones[track].append(event)
        elif event["ph"] == "e":
            begin = open_ones[track].pop()
            assert begin["name"] == event["name"], "what is opened last is closed first"
            assert begin["cat"] == event["cat"]
            closed[track].append((event["name"], begin["ts"], event["ts"]))
        elif event["ph"] == "n":
            assert open_ones[track], "a moment lies within its request"
    assert not any(open_ones.values())
    return dict(sorted(closed.items(), key=lambda each: (each[0][0], int(each[0][1], 16))))


@pytest.mark.parametrize("recording", [None, *RECORDINGS], ids=lambda path: path and path.stem)
def test_trace_events_are_in_order_paired_and_nested(
    recording: Path | None, tmp_path: Path
) -> None:
    traces = Traces.load(recording) if recording else plenty()
    told = events(traces, tmp_path)
    timed = [event for event in told if event["ph"] != "M"]
    assert {event["ph"] for event in timed} <= {"b", "e", "n"}
    assert all(one["ts"] <= two["ts"] for one, two in itertools.pairwise(timed))
    tracks = slices(told)
    assert len(tracks) == len(traces) + len(traces.tasks)
    for group, trace in enumerate(traces, 1):
        own = [told for track, told in tracks.items() if track[0] == group]
        # The outer one of a track is closed last.
        (request, begin, end), *tasks = [told[-1] for told in own]
        assert (request, begin) == (f"{trace.method} {trace.path}", round(trace.sent * 1e6, 1))
        assert [name for name, *_ in tasks] == [task.name for task in trace.tasks]
        assert all(begin <= a <= b <= end for told in own for _, a, b in told)


def test_a_task_waits_and_runs_on_a_track_of_its_own(tmp_path: Path) -> None:
    told = events(plenty(), tmp_path)
    tracks = {each[-1][0]: each for each in slices(told).values()}
    assert tracks["store"] == [
        ("waiting", 5.001e6, 5.005e6), ("finished", 5.005e6, 5.1e6), ("store", 5.001e6, 5.1e6),
    ]  # fmt: skip
    assert [name for name, *_ in tracks["never"]] == ["waiting", "never"]
    assert [name for name, *_ in tracks["lost"]] == ["waiting", "lost", "lost"]
    (resize,) = [event["args"] for event in told if event["name"] == "resize" and event["args"]]
    assert resize == {
        "runner": "thread", "where": "thread 7", "state": "finished", "parent": "store",
    }  # fmt: skip
    marks = [(event["name"], event["ts"]) for event in told if event["ph"] == "n"]
    assert ("responded", 5.003e6) in marks
    assert ("answered", 5.004e6) in marks
    assert ("SIGTERM", 5.6e6) in marks


def spans(traces: Traces, tmp_path: Path) -> list[dict[str, Any]]:
    """The spans, by OTLP's own schema: a field that it does not know would be an error."""
    traces.export(tmp_path / "run.otlp.json")
    text = (tmp_path / "run.otlp.json").read_text()
    # Its JSON has hexadecimal ids. Read as base64 and written as that again, they are the same.
    told = MessageToDict(Parse(text, ExportTraceServiceRequest()))
    ((resource,),) = [told["resourceSpans"]]
    return resource["scopeSpans"][0]["spans"]


def test_spans_have_their_parents_moments_and_errors(tmp_path: Path) -> None:
    told = spans(plenty(), tmp_path)
    named = {span["name"]: span for span in told}
    request, store = named["POST /x"], named["store"]
    assert len({span["spanId"] for span in told}) == len(told)
    assert {len(span["spanId"]) for span in told} == {16}
    assert {len(span["traceId"]) for span in told} == {32}
    assert "parentSpanId" not in request
    assert store["parentSpanId"] == request["spanId"]
    assert named["resize"]["parentSpanId"] == store["spanId"]
    assert {span["traceId"] for span in told[:9]} == {request["traceId"]}
    start = 1_800_000_000_000_000_000
    moments = [
        int(span[f"{which}TimeUnixNano"]) - start
        for span in (request, store)
        for which in ("start", "end")
    ]
    assert moments == [0, 4_000_000, 5_000_000, 100_000_000]
    assert request["kind"] == "SPAN_KIND_SERVER"
    assert request["status"] == {}
    assert named["fail"]["status"]["code"] == "STATUS_CODE_ERROR"
    *_, raised = named["fail"]["events"]
    assert raised["name"] == "exception"
    assert [each["value"]["stringValue"] for each in raised["attributes"]] == [
        "ValueError", "no: way",
    ]  # fmt: skip
    assert named["never"]["status"]["message"] == "never ran"
    assert named["lost"]["status"]["message"] == "lost"


def test_a_request_stands_in_the_apps_own_trace_if_it_has_one(tmp_path: Path) -> None:
    named = {span["name"]: span for span in spans(plenty(), tmp_path)}
    assert named["GET /y"]["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert named["GET /y"]["status"]["code"] == "STATUS_CODE_ERROR"


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_every_recording_becomes_spans(recording: Path, tmp_path: Path) -> None:
    traces = Traces.load(recording)
    told = spans(traces, tmp_path)
    assert len(told) == len(traces) + len(traces.tasks)
    for span in told:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])


@pytest.mark.parametrize("name", ["run.json", "run.perfetto", "perfetto.json.gz", "run.csv"])
def test_another_ending_is_refused_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.perfetto\.json or \.otlp\.json"):
        plenty().export(tmp_path / name)
    assert not [*tmp_path.iterdir()]
