"""Every named method, from its rules to what its rows attend to, against its paper's equation: loops over rows,
explicit softmax, float64. The oracles know pictures and texts, and nothing of rules, plans, layouts and routes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from samecast.attention.methods import MATCHED, METHODS, SUBJECT
from samecast.attention.plan import Masks, make_plan
from samecast.core.batch import Branch, Branches, Place
from samecast.core.ddim import NoiseLevel, Schedule
from samecast.core.layers import Layer
from samecast.core.masks import SubjectMask
from tests.attention.layers import attend

SIDE, CHANNELS, HEADS, STEP = 4, 12, 3, 10
TOKENS, WIDTH = SIDE * SIDE, CHANNELS // HEADS
TOLERANCE = 1e-11  # Both sides are float64; the order of summation differs.
LAYER = Layer("up.8", 15, "self", "up", SIDE, HEADS)
LAYERS = tuple(Layer(f"up.{at}", at, "self", "up", SIDE, HEADS) for at in range(16))
BEFORE = tuple(NoiseLevel(0.01 * step, 1 - 0.01 * step) for step in range(50))
SCHEDULE = Schedule(tuple(range(50, 0, -1)), BEFORE, (*[NoiseLevel(0.5, 0.5)] * 49, BEFORE[-1]), 0, "epsilon")
TARGETS = tuple(Branch("target", at, f"a dog {place}") for at, place in enumerate(("here", "there", "anywhere")))
SOURCES = (Branch("source", 0, "a photo"), Branch("source", 1, "another photo"))
BRANCHES = Branches(TARGETS, SOURCES, 7.5)


@dataclass(frozen=True)
class Seen:
    """What one row of a target has to do with: states (tokens, channels) and masks (tokens), all in its own guidance
    group."""

    own: Tensor
    references: list[Tensor]
    others: list[Tensor]
    own_mask: Tensor
    reference_masks: list[Tensor]
    other_masks: list[Tensor]


class Layer:
    """An attention layer taken apart: projections of one row, by head, and attention by explicit softmax."""

    def __init__(self, module: Attention) -> None:
        self.module = module

    def parts(self, states: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Queries, keys and values of a row (tokens, width), of each head."""
        projected = (states @ module.weight.T for module in (self.module.to_q, self.module.to_k, self.module.to_v))
        q, k, v = (list(each.split(WIDTH, dim=1)) for each in projected)
        return q, k, v

    def out(self, heads: Sequence[Tensor]) -> Tensor:
        """The layer's output, of each head's."""
        return torch.cat(list(heads), dim=1) @ self.module.to_out[0].weight.T + self.module.to_out[0].bias

    def read(self, own: Tensor, memory: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The output of a row whose queries read other states, where they may."""
        query, (_, key, value) = self.parts(own)[0], self.parts(memory)
        return self.out([softmax(*each, allowed) for each in zip(query, key, value, strict=True)])


def softmax(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    weight = (query @ key.T / math.sqrt(WIDTH)).exp()
    weight = weight if allowed is None else weight * allowed
    return weight / weight.sum(1, keepdim=True) @ value


def adain(states: Tensor, style: Tensor) -> Tensor:
    deviation, wanted = ((each.var(0) + 1e-5).sqrt() for each in (states, style))
    return (states - states.mean(0)) / deviation * wanted + style.mean(0)


def by_masks(module: Layer, seen: Seen) -> Tensor:
    """MasaCtrl, section 4.2: two attentions, blended by the target's mask."""
    memory, subject = torch.cat(seen.references), torch.cat(seen.reference_masks).bool()
    of_subject, of_background = module.read(seen.own, memory[subject]), module.read(seen.own, memory[~subject])
    return torch.where(seen.own_mask.bool()[:, None], of_subject, of_background)


def aligned(module: Layer, seen: Seen) -> Tensor:
    """StyleAligned, equation 3, with the first reference for the style and both in the softmax."""
    (query, key, value), (style_query, style_key, _) = module.parts(seen.own), module.parts(seen.references[0])
    read = [module.parts(reference) for reference in seen.references]
    heads = list[Tensor]()
    for head in range(HEADS):
        keys = torch.cat([*(each[1][head] for each in read), adain(key[head], style_key[head])])
        values = torch.cat([*(each[2][head] for each in read), value[head]])
        heads.append(softmax(adain(query[head], style_query[head]), keys, values))
    return module.out(heads)


def shared(module: Layer, seen: Seen) -> Tensor:
    """ConsiStory, equation 2, without dropout: all of its own tokens and the subject's of the other pictures."""
    subjects = [other[mask.bool()] for other, mask in zip(seen.others, seen.other_masks, strict=True)]
    return module.read(seen.own, torch.cat([seen.own, *subjects]))


def weighted(module: Layer, seen: Seen) -> Tensor:
    """FreeCustom, section 3.3: keys and values of the references times three times their mask."""
    query, key, value = module.parts(seen.own)
    read = [
        (module.parts(each), 3 * mask[:, None])
        for each, mask in zip(seen.references, seen.reference_masks, strict=True)
    ]
    heads = list[Tensor]()
    for head in range(HEADS):
        keys = torch.cat([key[head], *(mask * parts[1][head] for parts, mask in read)])
        values = torch.cat([value[head], *(mask * parts[2][head] for parts, mask in read)])
        heads.append(softmax(query[head], keys, values))
    return module.out(heads)


def matched(module: Layer, seen: Seen) -> Tensor:
    """DreamMatcher, equations 4 to 8: its own keys, and values of matching tokens where the way back leads near."""
    middle = torch.cat([seen.own, *seen.references]).mean(0)
    mine = torch.nn.functional.normalize(seen.own - middle, dim=1)
    theirs = torch.nn.functional.normalize(torch.cat(seen.references) - middle, dim=1)
    alike = (mine @ theirs.T).tolist()
    query, key, value = module.parts(seen.own)
    _, _, offered = module.parts(torch.cat(seen.references))
    limit = 0.4 * SIDE * float(seen.own_mask.mean())
    for token in range(TOKENS):
        match = max(range(len(theirs)), key=lambda at: alike[token][at])
        back = max(range(TOKENS), key=lambda at: alike[at][match])
        if seen.own_mask[token] and math.dist(divmod(token, SIDE), divmod(back, SIDE)) < limit:
            for head in range(HEADS):
                value[head] = value[head].index_copy(0, torch.tensor([token]), offered[head][match][None])
    return module.out([softmax(*each) for each in zip(query, key, value, strict=True)])


def of_one(module: Layer, seen: Seen) -> Tensor:
    """A cast of one without a name: its region reads its photos' subject, the rest itself."""
    subject = torch.cat(seen.references)[torch.cat(seen.reference_masks).bool()]
    return torch.where(seen.own_mask.bool()[:, None], module.read(seen.own, subject), module.read(seen.own, seen.own))


ORACLES: dict[str, Callable[[Layer, Seen], Tensor]] = {
    "none": lambda module, seen: module.read(seen.own, seen.own),
    "masactrl": lambda module, seen: module.read(seen.own, torch.cat(seen.references)),
    "masactrl_union": lambda module, seen: module.read(seen.own, torch.cat([*seen.references, seen.own])),
    "masactrl_masked": by_masks,
    "masactrl_auto_masked": by_masks,
    "style_aligned": aligned,
    "consistory": shared,
    "free_custom": weighted,
    "dream_matcher": matched,
    "cast": of_one,
}


def test_every_method_has_its_oracle() -> None:
    assert set(ORACLES) == set(METHODS)


@pytest.mark.parametrize("sources_kept", [False, True], ids=["sources in the batch", "sources kept"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_its_papers_equation(name: str, sources_kept: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(CHANNELS, heads=HEADS, dim_head=WIDTH).double().requires_grad_(False)
    rules = METHODS[name](dropout=0.0) if name == "consistory" else METHODS[name]()
    plan = make_plan(rules, LAYERS, SCHEDULE, len(TARGETS))
    layout = BRANCHES.layout(sources=() if sources_kept else None)
    drawn = {branch: (torch.rand(SIDE, SIDE) < 0.5).double() for branch in (*TARGETS, *SOURCES)}
    masks: Masks = {
        (tokens, who): SubjectMask(mask) for who, mask in drawn.items() for tokens in ("given", SUBJECT, MATCHED)
    }
    for _ in range(5):
        # Pictures that are somewhat alike, so that some matches lead back and some do not.
        common = torch.randn(TOKENS, CHANNELS).double()
        states = {
            Place(branch, group): 0.7 * torch.randn(TOKENS, CHANNELS).double() + common[torch.randperm(TOKENS)]
            for branch in (*TARGETS, *SOURCES)
            for group in BRANCHES.groups
        }
        kept = [Place(source, group) for source in SOURCES for group in BRANCHES.groups] if sources_kept else []
        rows = {place: at for at, place in enumerate(kept)}
        # A source's two rows hold one text, an empty one, only where its caption is empty; here all are distinct.
        hidden = torch.stack([states[place] for place in layout.rows])
        pool = torch.stack([states[place] for place in kept]) if kept else None
        route = plan.routes(STEP, BRANCHES, layout, rows, masks).get(LAYER.index)
        found = attention(hidden) if route is None else attend(attention, hidden, pool, route)
        for place, row in layout.row_of.items():
            if place.branch in SOURCES:
                expected = ORACLES["none"](Layer(attention), Seen(states[place], [], [], torch.ones(0), [], []))
            else:
                others = [other for other in TARGETS if other != place.branch]
                seen = Seen(
                    states[place],
                    [states[Place(source, place.group)] for source in SOURCES],
                    [states[Place(other, place.group)] for other in others],
                    drawn[place.branch].flatten(),
                    [drawn[source].flatten() for source in SOURCES],
                    [drawn[other].flatten() for other in others],
                )
                expected = ORACLES[name](Layer(attention), seen)
            assert (found[row] - expected).abs().max() < TOLERANCE, place
