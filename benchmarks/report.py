"""Results as plain values for JSON, and as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.harness import Comparison, Figure

_INTRODUCTION = """\
# Results of the benchmarks

Written by `make bench`; README.md beside this file says how to read it. A ratio is ours over theirs, the
median of the paired ratios of the rounds with its 95 % bootstrap interval: **below 1 we are faster**.
"""


def plain(result: Comparison | Figure) -> dict[str, Any]:
    """Gives a result with everything that was measured."""
    if isinstance(result, Figure):
        return {
            "kind": "figure",
            "name": result.name,
            "about": result.about,
            "unit": result.unit,
            "limit": result.limit,
            "median": result.median,
            "values": list(result.values),
        }
    return {
        "kind": "comparison",
        "name": result.name,
        "about": result.about,
        "contenders": [_contender(result, number) for number in range(len(result.contenders))],
    }


def _contender(result: Comparison, number: int) -> dict[str, Any]:
    contender = result.contenders[number]
    costs = result.costs[contender.name]
    row: dict[str, Any] = {
        "name": contender.name,
        "wall": [each.wall for each in costs],
        "cpu": [each.cpu for each in costs],
    }
    if number:
        ratio, cpu = result.ratio(contender.name), result.ratio(contender.name, lambda cost: cost.cpu)
        row.update(
            ratio=[ratio.median, ratio.low, ratio.high],
            cpu_ratio=[cpu.median, cpu.low, cpu.high],
            limit=contender.limit,
            verdict=ratio.verdict(contender.limit),
        )
    return row


def page(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    """Gives the whole page of results: of each scenario, when and where it ran and what it found."""
    parts = [_INTRODUCTION]
    for name, ran in scenarios.items():
        parts.append(f"## {name}\n\n{_circumstances(ran)}\n")
        parts += [f"{table(each)}\n" for each in _tables(ran["results"])]
    return "\n".join(parts)


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """Gives one table in Markdown: of a comparison, or of figures."""
    results = list(results)
    if results[0]["kind"] == "comparison":
        return "\n".join(line for each in results for line in _comparison(each))
    lines = ["| figure | unit | median | least | most | at most | |", "|---|---|--:|--:|--:|--:|---|"]
    lines += [_figure(each) for each in results]
    return "\n".join([*lines, "", *(f"- {each['name']}: {each['about']}" for each in results)])


def _tables(results: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Gives each comparison alone and all figures together."""
    figures = [each for each in results if each["kind"] == "figure"]
    yield from ([each] for each in results if each["kind"] == "comparison")
    if figures:
        yield figures


def _comparison(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"**{result['name']}.** {result['about']}"
    yield ""
    yield "| ours / theirs | ratio | 95 % | verdict | seconds | CPU seconds | CPU ratio |"
    yield "|---|--:|---|---|--:|--:|--:|"
    for row in result["contenders"]:
        seconds = f"{statistics.median(row['wall']):.3f} | {statistics.median(row['cpu']):.3f}"
        if "ratio" not in row:
            yield f"| {row['name']} | | | | {seconds} | |"
            continue
        ratio, low, high = row["ratio"]
        verdict = row["verdict"] if row["limit"] == 1 else f"{row['verdict']} of {row['limit']:g}"
        yield (
            f"| {row['name']} | **{ratio:.2f}** | {low:.2f} to {high:.2f} | {verdict} | {seconds} "
            f"| {row['cpu_ratio'][0]:.2f} |"
        )


def _figure(result: Mapping[str, Any]) -> str:
    limit, median = result["limit"], result["median"]
    verdict = "" if limit is None else "met" if median <= limit else "**missed**"
    return (
        f"| {result['name']} | {result['unit']} | **{median:.2f}** | {min(result['values']):.2f} "
        f"| {max(result['values']):.2f} | {'' if limit is None else f'{limit:g}'} | {verdict} |"
    )


def _circumstances(ran: Mapping[str, Any]) -> str:
    machine = ran["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    settings = f"images of {ran['size'] >> 20} MiB, {ran['rounds']} rounds, seed {ran['seed']}"
    host = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}, {machine['system']}"
    return (
        f"{ran['when']}, commit {machine['commit']}; {settings}; load {ran['load']:.2f} before. "
        f"{host}, {machine['kernel']}, Python {machine['python']}.\n\n"
        f"<details><summary>versions</summary>{versions}</details>"
    )
