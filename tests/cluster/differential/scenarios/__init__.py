"""Every scenario: a namespace of its own each, so that they may run at the same time."""

from __future__ import annotations

from tests.cluster.differential.scenarios import (
    allowing,
    applying,
    changing,
    crud,
    looking,
    validation,
    validation_of_others,
    validation_of_pods,
    watching,
)
from tests.cluster.differential.steps import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *watching.SCENARIOS,  # first: they take longest
    *crud.SCENARIOS,
    *validation.SCENARIOS,
    *validation_of_pods.SCENARIOS,
    *validation_of_others.SCENARIOS,
    *applying.SCENARIOS,
    *changing.SCENARIOS,
    *looking.SCENARIOS,
    *allowing.SCENARIOS,
)
