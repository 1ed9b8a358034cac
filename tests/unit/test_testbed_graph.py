from __future__ import annotations

import re

import pytest

from schedule_zero.reports import record
from schedule_zero.reports.record import Graph, Step
from schedule_zero.testbed import plot_graph
from schedule_zero.testbed.graph import graph_of, violated
from schedule_zero.testbed.pages import page
from schedule_zero.testbed.plots import Window
from tests.unit.scenario_bed import run as ran
from tests.unit.testbed_reports import HOSTILE, run, scenario

DIAMOND = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]


def step(name, start_s=None, end_s=None, node="n1", outcome="ok") -> Step:
    return Step(name, start_s, end_s, node if start_s is not None else "", "" if end_s is None else outcome)


def diamond(*, d_s=4.0, overlap=False) -> Graph:
    """``d`` begins at ``d_s``; all else that it waits for is over after 3.5 s."""
    steps = [step("a", 0.0, 1.0), step("b", 1.5, 2.5, "n2"), step("c", 1.6, 3.5, "n3"), step("d", d_s, d_s + 1)]
    return Graph("a diamond", steps, DIAMOND, overlap)


def made(runs, edges, **said) -> Graph:
    return graph_of("g", runs, edges, at_s=lambda ns: ns / 1e9, **said)


def words(graph) -> str:
    return re.sub("<[^>]*>", "", plot_graph.dag(graph).partition("<figcaption")[2].partition(">")[2])


# --- what there is to tell ------------------------------------------------------------------------------


def test_each_run_of_a_step_is_told_and_what_did_not_run_and_what_has_no_end():
    runs = {"a": [ran("x", "a", 1, None, node_id="n2"), ran("x", "a", 3, 4, outcome="error")], "b": []}
    assert made(runs, [("a", "b")]).steps == [
        Step("a", 1.0, None, "n2", ""),
        Step("a, run 2", 3.0, 4.0, "n1", "error"),
        Step("b"),
    ]


def test_what_waits_may_begin_with_the_run_that_ended_first():
    runs = {"a": [ran("x", "a", 1, 9), ran("x", "a", 3, 4)], "b": [ran("y", "b", 5, 6)]}
    graph = made(runs, [("a", "b")])
    assert graph.edges == [("a, run 2", "b")]
    assert violated(graph) == []


def test_where_they_may_overlap_an_edge_comes_from_the_first_start():
    runs = {"a": [ran("x", "a", 1, 9), ran("x", "a", 3, 4)], "b": [ran("y", "b", 2, 6)]}
    assert made(runs, [("a", "b")], overlap=True).edges == [("a", "b")]
    assert violated(made(runs, [("a", "b")], overlap=True)) == []


def test_an_edge_is_violated_where_the_later_step_began_before_the_end_of_the_earlier():
    assert violated(diamond()) == []
    assert violated(diamond(d_s=3.5)) == []
    assert violated(diamond(d_s=3.4)) == [("c", "d")]
    assert violated(diamond(d_s=0.5)) == [("b", "d"), ("c", "d")]
    assert violated(diamond(d_s=1.7, overlap=True)) == []
    assert violated(diamond(d_s=1.55, overlap=True)) == [("c", "d")]


def test_an_edge_is_violated_where_the_earlier_step_has_no_end_or_did_not_run():
    steps = [step("lost", 0.0), step("never"), step("then", 5.0, 6.0)]
    edges = [("lost", "then"), ("never", "then"), ("then", "never"), ("unheard of", "then")]
    assert violated(Graph("g", steps, edges)) == [("lost", "then"), ("never", "then")]


def test_a_graph_stands_in_the_record(tmp_path):
    one = scenario(graphs=[diamond()])
    record.write(run(one), tmp_path)
    assert record.read(tmp_path).scenarios[0].graphs == [diamond()]


# --- what is drawn --------------------------------------------------------------------------------------


def test_each_step_is_a_bar_that_says_its_name_node_and_times():
    html = plot_graph.dag(diamond())
    titles = re.findall(r"<rect[^>]*><title>(.*?)</title>", html)
    assert titles == [
        "a on n1: ok, from 0 s to 1 s (1 s)",
        "d on n1: ok, from 4 s to 5 s (1 s)",
        "b on n2: ok, from 1.5 s to 2.5 s (1 s)",
        "c on n3: ok, from 1.6 s to 3.5 s (1.9 s)",
    ]
    assert html.count('class="edge"') == 4
    assert "violated" not in re.sub('<title>.*?</title>|aria-label="[^"]*"|<figcaption.*', "", html)


def test_a_violated_edge_and_its_step_are_marked_and_told():
    html = plot_graph.dag(diamond(d_s=3.4))
    assert html.count('class="edge violated"') == 1
    assert html.count('class="step ok violated"') == 1
    assert "<title>d began before the end of c</title>" in html
    assert html.index('class="edge"') < html.rindex('class="step') < html.index('class="edge violated"'), "on top"
    assert "1 of 4 dependencies violated: d began before the end of c." in words(diamond(d_s=3.4))
    assert "d began before the start of c" in words(diamond(d_s=1.0, overlap=True))


def places(html, element, class_, *names) -> list[tuple[float, ...]]:
    """The attributes of these names of all such elements, as numbers."""
    found = re.findall(rf'<{element} [^>]*class="{class_}"', html)
    return [tuple(float(re.search(rf' {name}="(.*?)"', one)[1]) for name in names) for one in found]


def test_a_bar_is_as_long_as_its_step_took_and_an_edge_goes_from_end_to_start():
    html = plot_graph.dag(diamond())
    (a, d, b, c), per_s = places(html, "rect", "step ok", "x", "width"), (960 - 92 - 14) / 5
    assert [width for _, width in (a, b, c, d)] == pytest.approx([per_s, per_s, 1.9 * per_s, per_s], abs=0.1)
    edges = places(html, "line", "edge", "x1", "x2")
    between = [(sum(one), then[0]) for one, then in ((a, b), (a, c), (b, d), (c, d))]
    assert edges == [pytest.approx(edge, abs=0.1) for edge in between]


def test_steps_of_a_node_that_overlap_have_rows_of_their_own():
    steps = [step("a", 0.0, 2.0), step("b", 1.0, 3.0), step("c", 2.5, 4.0), step("x", 0.0, 4.0, "n2")]
    html = plot_graph.dag(Graph("g", steps, []))
    y = dict(re.findall(r'<rect x="[\d.]+" y="([\d.]+)"[^>]*><title>(.)', html))
    rows = {name: at for at, name in y.items()}
    assert len(rows) == 3, "c takes the row of a, which is over"
    assert 'text-anchor="end" class="axis">n2</text>' in html


def test_what_failed_has_no_end_or_did_not_run_is_told_in_words():
    steps = [step("bad", 0.0, 1.0, outcome="error"), step("lost", 0.5), *(step(f"idle-{n}") for n in range(7))]
    said = words(Graph("g", steps, []))
    assert said.startswith("2 runs on 1 node in 1 s.")
    assert "1 failed: bad." in said
    assert "Of 1 nothing tells of the end: lost." in said
    assert "7 did not run: idle-0, idle-1, idle-2, idle-3, idle-4 and 2 more." in said
    html = plot_graph.dag(Graph("g", steps, []))
    assert 'class="step error"' in html
    assert 'class="step open"' in html


def test_of_too_many_steps_whole_parts_are_drawn_where_something_is_odd_first():
    steps, edges = [], []
    for part in range(100):
        steps += [step(f"{part}.a", part, part + 0.4), step(f"{part}.b", part + (0.2 if part == 90 else 0.5), part + 1)]
        edges.append((f"{part}.a", f"{part}.b"))
    graph = Graph("g", steps, edges)
    shown = {one.name for one in plot_graph.chosen(graph, violated(graph))}
    assert len(shown) == plot_graph.MOST_STEPS
    assert {"90.a", "90.b", "0.a", "73.b"} <= shown
    assert all((f"{part}.a" in shown) == (f"{part}.b" in shown) for part in range(100))
    assert "200 runs on 1 node" in words(graph)
    assert "150 of them are drawn" in words(graph)
    assert plot_graph.dag(graph).count('class="step ') == plot_graph.MOST_STEPS


def test_of_one_part_that_is_too_large_its_beginning_is_drawn():
    steps = [step(f"{n}", n, n + 1) for n in range(400)]
    graph = Graph("g", steps, [(f"{n}", f"{n + 1}") for n in range(399)])
    assert [one.name for one in plot_graph.chosen(graph, [])] == [f"{n}" for n in range(plot_graph.MOST_STEPS)]


def test_what_was_done_meanwhile_is_shaded():
    html = plot_graph.dag(diamond(), windows=[Window("kill of node:n2", 1.0, 2.0), Window("later", 99.0, None)])
    assert html.count('class="fault"') == 1
    assert "<title>kill of node:n2</title>" in html
    assert "Shaded: kill of node:n2, later." in html


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [step("never")],
        [step("a", 0.0, 0.0)],
        [step("a", 5.0)],
        [step("a", 3.0, 1.0), step("a", 3.0, 1.0)],
        [step("a", -1e9, 1e12), step("b", 1e-9, 2e-9)],
        [step(f"{n}", 0.0, 1.0, f"node {n}") for n in range(149)],
    ],
)
def test_any_times_can_be_drawn(steps):
    html = plot_graph.dag(Graph("g", steps, [(one.name, two.name) for one in steps for two in steps]))
    assert "nan" not in "".join(re.findall(r'(?:x|y|x1|x2|y1|y2|width|height)="([^"]*)"', html))
    assert html.count("<line") <= plot_graph.MOST_EDGES + 20


def test_hostile_names_stay_text():
    steps = [step(f"{HOSTILE}{n}", n, n + 1, f"{HOSTILE}{n}") for n in range(2)]
    graph = Graph(HOSTILE, [*steps, step(HOSTILE)], [(f"{HOSTILE}1", f"{HOSTILE}0")])
    html = page(run(scenario(graphs=[graph], series=[])))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert [char for char in html if not char.isprintable() and char not in "\n\t"] == []


def test_the_picture_says_in_words_what_it_shows():
    html = plot_graph.dag(diamond(d_s=3.4))
    said = re.search(r'<svg[^>]* role="img" aria-label="([^"]*)"', html)
    assert said is not None
    assert said[1].startswith("a diamond: 4 runs on 3 nodes in 4.4 s. 1 of 4 dependencies violated")
