from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from schedule_zero.reports.record import Held, Measure, Outcome, Series
from schedule_zero.testbed import plots
from schedule_zero.testbed.answers import NOT_MEASURED, answers, duration, number
from schedule_zero.testbed.pages import moment, page, verdict, write_pages
from tests.unit.testbed_reports import HOSTILE, figures, run, scenario

VOID = {"meta", "br", "rect", "line", "circle", "path", "polyline"}


class Reader(HTMLParser):
    """What a browser takes from a page: its text, its elements, their attributes; whether each has its end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def read(report, **said) -> Reader:
    reader = Reader(page(report, **said))
    assert reader.open == []
    return reader


def words(report) -> str:
    return "\n".join(read(report).text)


def test_every_figure_of_the_report_stands_on_the_page():
    one = scenario()
    text = words(run(one))
    own = one.figures
    expected = [number(own.executions), number(own.failed), number(own.executions_per_s)]
    expected += [number(own.schedules_created), number(own.schedules_deleted)]
    expected += [
        duration(getattr(own, name))
        for name in own.__struct_fields__
        if name.startswith(("latency_", "lateness_")) and name.endswith("_s")
    ]
    for process in own.processes:
        expected += [number(value) for value in msgspec.structs.astuple(process)[1:]]
    expected += ["n1", "617", "616", "450", "24,105 MiB", "12.5 s", "60.5 s"]
    assert [figure for figure in expected if figure not in text] == []


def test_every_number_in_a_table_comes_from_the_report():
    one = scenario(series=[], faults=[], params={})
    report = run(one, promises={}, answers=[])
    known = {
        number(value)
        for value in [*msgspec.structs.astuple(one.figures)[:-2], *[m.value for m in one.measures]]
        if value
    }
    known |= {duration(value) for value in msgspec.structs.astuple(one.figures)[:-2] if isinstance(value, float)}
    known |= {number(v) for process in one.figures.processes for v in msgspec.structs.astuple(process)[1:]}
    known |= {number(held.checked) for held in one.held} | {number(held.broken) for held in one.held}
    cells = re.findall(r'<td class="n">(.*?)</td>', page(report, graphs=False))
    assert len(cells) > 20
    assert [cell for cell in cells if cell not in known | {"–"}] == []


def test_the_verdict_comes_first_and_says_what_did_not_hold():
    kept, broken, skipped = scenario("a"), scenario("b", Outcome.BROKEN), scenario("c", Outcome.SKIPPED)
    assert verdict(run(kept)) == "Everything held in 1 of 1 scenarios, and the checker found no promise broken."
    assert verdict(run(kept, promises_ok=None)) == "Everything held in 1 of 1 scenarios."
    assert "1 of 2 scenarios did not hold: b" in verdict(run(kept, broken, skipped))
    assert "found 2 breaches" in verdict(run(kept, promises_ok=False, breaches={"C1 missed": 2}))
    assert verdict(run(skipped, promises_ok=None)) == "Nothing was run."
    assert "interrupted" in verdict(run(kept, interrupted=True))
    text = words(run(kept, broken))
    assert text.index("did not hold") < text.index("Six questions")


def test_each_broken_invariant_has_its_evidence_and_what_is_left_out_is_counted():
    held = [Held("once", "each ran once", False, 90, 30, [f"job {n} ran twice" for n in range(20)])]
    text = words(run(scenario(outcome=Outcome.BROKEN, held=held, why="once: 30 of 90")))
    assert "job 19 ran twice" in text
    assert "… and 10 more" in text


def hostile(report):
    """The same with every text in it a hostile one (but those that are names of ours)."""
    plain = msgspec.to_builtins(report)

    def spoil(value, key=""):
        if isinstance(value, dict):
            return {
                (name if key not in {"params", "by_node"} else HOSTILE): spoil(v, name) for name, v in value.items()
            }
        if isinstance(value, list):
            return [spoil(item, key) for item in value]
        return HOSTILE if isinstance(value, str) and key != "outcome" else value

    return msgspec.convert(spoil(plain), type(report))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_hostile_text_stays_text(outcome):
    report = run(scenario(outcome=outcome, why="x", params={"a": "b"}), violations=["x"], notes=["y"])
    before, after = read(report), read(hostile(report))
    assert set(after.tags) <= set(before.tags) | {"circle", "polyline"}
    assert "script" not in after.tags
    assert {name for name, _ in after.attributes} <= {name for name, _ in before.attributes} | {
        "points",
        "r",
        "cx",
        "cy",
    }
    assert "<script>alert('x')</script>" in "\n".join(after.text)
    html = page(hostile(report))
    assert [char for char in html if not char.isprintable() and char not in "\n\t"] == []
    html.encode()


def test_a_page_asks_nobody_for_anything():
    reader = read(run(scenario()))
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    links = [value for name, value in reader.attributes if name in {"href", "src", "srcset", "action"}]
    assert links
    assert all(value.startswith("#") for value in links)
    assert "url(" not in page(run(scenario()))
    assert "@import" not in page(run(scenario()))
    ids = [value for name, value in reader.attributes if name == "id"]
    assert set(links) == {f"#{value}" for value in ids}


def test_an_empty_report_and_one_of_blanks_have_pages():
    assert "There is no scenario" in words(run(promises={}, promises_ok=None))
    blank = scenario(outcome=Outcome.FAILED, held=[], measures=[], series=[], faults=[], figures=figures(processes=[]))
    assert "failed" in words(run(blank))


def test_plots_can_be_left_out(tmp_path):
    assert "svg" in read(run(scenario())).tags
    assert "svg" not in read(run(scenario()), graphs=False).tags
    written = write_pages(run(scenario()), tmp_path, graphs=False)
    assert [path.name for path in written] == ["report.html", "junit.xml"]


def test_every_plot_says_in_words_what_it_shows():
    html = page(run(scenario()))
    labels = re.findall(r'<svg[^>]* aria-label="([^"]*)"', html)
    assert len(labels) == html.count("<svg")
    assert "lateness: 3 points, s from 0.01 to 0.5" in labels
    assert html.count('class="fault"') == 3, "two windows over 2 s, one of them over the 1 s of the memory"
    assert "kill of node:n2" in html


def test_the_overview_says_the_figure_that_matters_or_what_is_wrong():
    text = words(run(scenario("a"), scenario("b", Outcome.BROKEN, why="once: 3 of 40"), scenario("c", measures=[])))
    assert text.index("jobs_per_s 123") < text.index("once: 3 of 40") < text.index("Six questions")


def test_few_windows_are_named_where_they_are_and_many_are_not():
    few = [plots.Window(f"kill of n{n}", n, n + 0.5) for n in range(3)]
    points = [(0.0, 1.0), (10.0, 2.0)]
    assert "kill of n2</text>" in plots.lines("x", points, x="s", y="s", windows=few)
    many = plots.lines("x", points, x="s", y="s", windows=[*few, plots.Window("stop", 5.0, None)])
    assert "</text>" in many
    assert "kill of n2</text>" not in many
    assert "<title>kill of n2</title>" in many


def test_few_values_of_something_else_than_time_have_a_bar_each():
    html = page(run(scenario(series=[Series("late by interval", "ms", "ms", [(1000.0, 3.0), (1.0, 40.0)])])))
    assert 'aria-label="late by interval, in ms: 1,000 ms 3, 1 ms 40"' in html


def test_a_moment_is_told_to_the_minute():
    assert moment("2026-11-26T19:10:34+00:00") == "2026-11-26 19:10 UTC"
    assert moment("2026-11-26T19:10:34+02:00") == "2026-11-26 17:10 UTC"
    assert moment("<yesterday>") == "<yesterday>"


# --- answers ------------------------------------------------------------------------------------------


def test_the_six_questions_are_answered_from_the_scenarios_that_were_run():
    smallest = scenario("temporal_resolution", measures=[Measure("smallest_interval_ms", "ms", 10.0)])
    churn = scenario("churn")
    ramp = scenario("concurrency_ramp", measures=[Measure("kept_per_s", "fires per second", 40.0)])
    broken = scenario("state_machine", Outcome.BROKEN, why="legal: 2 of 9")
    report = run(smallest, churn, ramp, broken, breaches={"C1 missed": 2}, promises_ok=False)
    said = [answer.answer for answer in answers(report)]
    assert said[0] == "10 ms"
    assert said[1] == "churn kept (123 jobs per second, 345 schedules created)"
    assert said[2] == "state_machine broken (123 jobs per second)"
    assert said[3].startswith("at most 192 MiB")
    assert said[4] == "40 fires per second"
    assert said[5] == "state_machine broken: legal: 2 of 9; the checker found C1 missed × 2"


def test_what_was_not_run_is_not_measured():
    said = [answer.answer for answer in answers(run(scenario("rate_limit", Outcome.SKIPPED, series=[])))]
    assert said[:3] == [NOT_MEASURED] * 3
    assert said[4:] == [NOT_MEASURED] * 2
    none = scenario("temporal_resolution", measures=[Measure("smallest_interval_ms", "ms", None)])
    assert answers(run(none))[0].answer == "none of those that were tried"


# --- plots --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 0.023, [0, 0.005, 0.01, 0.015, 0.02, 0.025]),
        (5, 5, [5, 6, 7, 8, 9, 10]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_an_axis_has_round_ticks_that_enclose_its_values(low, high, ticks):
    assert plots.axis(low, high).ticks == pytest.approx(ticks)


def test_thinning_keeps_the_peak():
    points = [(float(n), 0.0) for n in range(100_000)]
    points[77_777] = (77_777.0, 9.0)
    thinned = plots.thin(points)
    assert len(thinned) <= plots.MOST_POINTS + 2
    assert (77_777.0, 9.0) in thinned
    assert thinned == sorted(thinned)


@pytest.mark.parametrize(
    "points", [[], [(0.0, 0.0)], [(1.0, 5.0)] * 3, [(1e9, 1e-9), (2e9, 1e12)], [(0.0, -1e300), (1.0, 1e300)]]
)
def test_any_points_can_be_drawn(points):
    for series in (
        Series("p", "s", "s", points),
        Series("p", "run", "ms", points),
        Series("lateness", "s", "s", points),
    ):
        html = page(run(scenario(series=[series])))
        assert "nan" not in "".join(re.findall(r'(?:cx|cy|x|y|points|width|height)="([^"]*)"', html))
        Reader(html)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0, "0 s"),
        (8.33e-05, "83.3 µs"),
        (0.0172, "17.2 ms"),
        (2.25, "2.25 s"),
        (812.3, "812 s"),
        (3e-9, "3 ns"),
    ],
)
def test_a_length_of_time_has_the_unit_that_fits(seconds, said):
    assert duration(seconds) == said
