"""What rules mean on one model and one run: at each step and site, who reads whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samecast.control.rules import Rules
from samecast.core.branches import Branches, Layout, Place
from samecast.core.ddim import Schedule
from samecast.core.routing import Route, make_route
from samecast.core.sites import Site, select_sites
from samecast.errors import SamecastError


@dataclass(frozen=True)
class Plan:
    """Rules resolved to the sites and steps of one model and run.

    Args:
        acting: for each controlled step, for each controlled site's index, the rules that act there.
    """

    acting: Mapping[int, Mapping[int, Rules]]

    def source_sites_at(self, step: int) -> frozenset[int]:
        """Indices of the sites at which somebody reads a source at a step."""
        at_step = self.acting.get(step, {}).items()
        return frozenset(site for site, rules in at_step if any("source" in rule.sources for rule in rules))

    def routes(self, step: int, branches: Branches, layout: Layout, kept: Mapping[Place, int]) -> dict[int, Route]:
        """The route at each controlled site of a step.

        Args:
            branches: who is in the run.
            layout: the batch of this step.
            kept: for each source place that was evaluated earlier, its row among the kept rows.
        """
        routes: dict[int, Route] = {}
        for site, rules in self.acting.get(step, {}).items():
            reads: dict[Place, Sequence[Place]] = {}
            for target in branches.targets:
                named = {source for rule in rules if rule.acts_on(target.index) for source in rule.sources}
                for group in branches.groups if named else ():
                    sources = [Place(source, group) for source in branches.sources] if "source" in named else []
                    own = [Place(target, group)] if "self" in named else []
                    reads[Place(target, group)] = [*sources, *own]
            route = make_route(layout, kept, reads)
            if not route.is_plain:
                routes[site] = route
        return routes


def make_plan(rules: Rules, sites: Sequence[Site], schedule: Schedule, targets: int) -> Plan:
    """Resolves rules, and refuses those that would do nothing.

    Raises:
        SamecastError: a rule selects no site, no step, only steps that are the identity, or a target that is not there.
    """
    acting: dict[int, dict[int, Rules]] = {}
    for rule in rules:
        absent = (
            [reader for reader in rule.readers if reader not in range(targets)] if rule.readers != "targets" else []
        )
        if absent:
            raise SamecastError(f"a rule's reader {absent[0]} is not among the {targets} images, 0..{targets - 1}")
        steps = [step for step in rule.steps.select(schedule.steps) if not schedule.is_identity(step)]
        if not steps:
            raise SamecastError(f"{rule.steps} selects only steps that change nothing under this model's schedule")
        for step in steps:
            at_step = acting.setdefault(step, {})
            for site in select_sites(rule.sites, sites):
                at_step[site.index] = (*at_step.get(site.index, ()), rule)
    return Plan(acting)
