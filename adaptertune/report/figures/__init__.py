"""Which figures a store has material for: points from cells, put into charts with words about them.

To add one, write a function from a group and a column (or from a file of its own) to figures, and name
it in :func:`figures`.
"""

from collections.abc import Sequence
from dataclasses import replace

from adaptertune.report.comparison import Group
from adaptertune.report.comparison.columns import columns_of, first_of_task
from adaptertune.report.figures import ablations, scores, training
from adaptertune.report.figures.figure import Figure

__all__ = ["Figure", "figures"]


def figures(group: Group) -> list[Figure]:
    """All figures of a comparison, chapter by chapter."""
    columns = group.comparison.columns
    once = first_of_task(columns)
    found = [*scores.table_1(group), *scores.overview(group)]
    for make in (scores.trade_off, scores.seed_dots):
        found += [figure for column in columns for figure in make(group, column)]
    for make in (training.learning_curves, training.search):
        found += [figure for column in once for figure in make(group, column)]
    # Of all tasks: one with ablations alone has no column.
    for column in first_of_task(columns_of(group.cells)):
        found += ablations.heatmaps(group, column)
    found += [figure for column in once for figure in training.costs(group, column)]
    return _named_apart([*found, *ablations.of_settings(group)])


def _named_apart(found: Sequence[Figure]) -> list[Figure]:
    """With names that are different files everywhere: a task ``rte`` of one's own is not GLUE's RTE."""
    names: set[str] = set()
    made = []
    for figure in found:
        name, number = figure.name, 2
        while name in names:
            name, number = f"{figure.name}-{number}", number + 1
        names.add(name)
        made.append(replace(figure, name=name))
    return made
