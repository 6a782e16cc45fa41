"""What the notebooks claim of the committed rows and of the runs that they show."""

import re

from sfhelpers import results
from tests.cells import printed


def told(rows, gallery, metric, rule=""):
    """Method -> (mean, spread), method -> difference from fused and its interval, method -> verdict, of one gallery."""
    table, apart = results.table(rows, gallery, metric, rule), results.differences(rows, gallery, metric)
    return table, apart, results.verdicts(rows, gallery, metric)


def shown(notebook, pattern):
    """The numbers in the groups of a pattern, where a notebook has printed it."""
    return [float(number) for number in re.search(pattern, printed(notebook), re.MULTILINE).groups()]
