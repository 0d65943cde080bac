"""The named methods: short functions that return rules. Nothing else in the code knows a method by name.

Methods are tuples and add up, also over time: `masactrl(0, 9, layers="encoder") + masactrl(10, layers="decoder")` reads
in the encoder first, then in the decoder. All of them take the same answers to where and when:

    start: first step that acts; a float is a fraction of the run.
    final: last step that acts, inclusive; None is the last of the run. The AIKU study found 20-25 of 50 best.
    skip: None or 1..9: step j acts when `j % 10 >= skip`.
    layers: selected layers, such as `10-15`, `encoder`, `@16` or `up.3-8,mid`. The default suits the 16 layers of
        Stable Diffusion 1.x and 2.x; of XL's 70, MasaCtrl's authors use those from 44, 54 or 64 on (`64-69`).
    stride: None, or of the span every Nth step acts.
"""

from collections.abc import Callable

from samecast.attention.modes import Align, Match, Separate, SubjectOnly, Weigh
from samecast.attention.modes.match import CONSISTENCY
from samecast.attention.rule import DECODER_LAYERS, Rule, Rules
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens

START = 4 / 50
"""Where MasaCtrl's authors begin, step 4 of 50, as a share of the run: of 20 steps it is step 2, of 4 step 1."""

SUBJECT = SubjectTokens()
"""The subject's class noun, at MasaCtrl's layers and Otsu's threshold; docs/masks.md compares it with the paper's
0.1."""

MATCHED = SubjectTokens(threshold=0.05)
"""The same at DreamMatcher's threshold."""


def none() -> Rules:
    """No control: every image reads itself alone, as in stock diffusers."""
    return ()


def masactrl(
    start: int | float = START,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = DECODER_LAYERS,
    stride: int | None = None,
) -> Rules:
    """MasaCtrl (Cao et al., ICCV 2023, arXiv 2304.08465, section 4.1): targets read the source's keys and values.

    The layout forms first (steps before `start`) and in the early layers; what comes after only queries the source. The
    defaults are the paper's: from step 4 of 50, at the decoder's last six layers. Of several references all are read.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride)),)


def masactrl_union(
    start: int | float = START,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = DECODER_LAYERS,
    stride: int | None = None,
) -> Rules:
    """MasaCtrl's union: targets read the source and themselves in one softmax, so that they may keep what is their own.

    Arguments as for `masactrl`.
    """
    return (Rule("targets", ("source", "self"), layers, Steps(start, final, skip, stride)),)


def masactrl_masked(
    start: int | float = START,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = DECODER_LAYERS,
    stride: int | None = None,
) -> Rules:
    """MasaCtrl with given masks (section 4.2): subject reads subject, background reads background.

    The masks come with the call: `Subject(masks=...)` for the references, `render(target_masks=...)` for the targets.
    Arguments as for `masactrl`.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride), Separate("given")),)


def masactrl_auto_masked(
    start: int | float = START,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = DECODER_LAYERS,
    stride: int | None = None,
    tokens: SubjectTokens = SUBJECT,
) -> Rules:
    """MasaCtrl with masks from cross-attention maps (section 4.2): subject reads subject, background background.

    Args:
        start, final, skip, layers, stride: as for `masactrl`.
        tokens: which words, cross-attention layers and steps the maps are taken of, and the threshold. The paper takes
            the maps of the current step; ours are averaged over all of those steps so far.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride), Separate(tokens)),)


def style_aligned(
    start: int | float = 0,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = "all",
    stride: int | None = None,
    anchor: int | None = None,
) -> Rules:
    """StyleAligned (Hertz et al., CVPR 2024, arXiv 2312.02133, section 3.2): shared attention with AdaIN.

    Each target reads the anchor and itself; its queries and keys take on the anchor's mean and deviation first, so that
    the anchor's keys are not outdone by its own. The paper's anchor is the first image of the batch; ours is the source
    unless `anchor` is the number of a picture. Arguments else as for `masactrl`; the paper acts everywhere, always.
    """
    source = "source" if anchor is None else anchor
    return (Rule("targets", (source, "self"), layers, Steps(start, final, skip, stride), Align()),)


def consistory(
    start: int | float = 0.02,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = "decoder",
    stride: int | None = None,
    dropout: float = 0.5,
) -> Rules:
    """ConsiStory (Tewel et al., SIGGRAPH 2024, arXiv 2402.03286, section 3.1): subject-driven shared self-attention.

    Each picture reads all of itself and the subject's tokens of all other pictures, of which a share is dropped at
    random in each layer and step, so that layouts stay varied. The pictures are in one batch. The paper's blending with
    vanilla query features and its feature injection are not part of it. Masks come with the call (`target_masks`).

    Args:
        start, final, skip, layers, stride: as for `masactrl`; the paper shares in the decoder.
        dropout: share of others' subject tokens left out; 0.5 in the paper and in what was built after it.
    """
    steps = Steps(start, final, skip, stride)
    return (Rule("targets", ("targets",), layers, steps, SubjectOnly("given", dropout)),)


def free_custom(
    start: int | float = 0,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = DECODER_LAYERS,
    stride: int | None = None,
    weight: float = 3.0,
) -> Rules:
    """FreeCustom (Ding et al., CVPR 2024, arXiv 2405.13870, section 3.3): several references with weighted masks.

    Each target reads itself and all references, whose keys and values are multiplied by their mask and a weight. The
    masks come with the subject (`Subject(masks=...)`). So the paper has it; the authors' code adds the weight to the
    logits within the mask and lets nothing be read outside of it.

    Args:
        start, final, skip, layers, stride: as for `masactrl`; the paper acts in the last two of seven blocks, always.
        weight: of the references; 3 in the authors' configurations, and 1 for oneself.
    """
    steps = Steps(start, final, skip, stride)
    return (Rule("targets", ("source", "self"), layers, steps, Weigh("given", weight)),)


def dream_matcher(
    start: int | float = START,
    final: int | float | None = None,
    skip: int | None = None,
    layers: str = DECODER_LAYERS,
    stride: int | None = None,
    tokens: SubjectTokens = MATCHED,
    consistency: float = CONSISTENCY,
) -> Rules:
    """DreamMatcher (Nam et al., CVPR 2024, arXiv 2402.09812, section 4): the source's values, put where they match.

    Targets keep their queries and keys, and with them the structure that the prompt asks for; where they show the
    subject, their values become those of the source's matching tokens. The paper's gradient on the latent (its matching
    guidance) is not part of it; `samecast.attention.modes.match` says what its descriptors are here. It is meant for
    models that know the subject a little already, by fine-tuning.

    Args:
        start, final, skip, layers, stride: as for `masactrl`; the defaults are the paper's.
        tokens: which words, cross-attention layers and steps show where the target's subject is; the paper's threshold
            is 0.05.
        consistency: how far from a token the way to its match and back may lead; 0.4 in the authors' code.
    """
    steps = Steps(start, final, skip, stride)
    return (Rule("targets", ("source", "self"), layers, steps, Match(tokens, consistency)),)


METHODS: dict[str, Callable[..., Rules]] = {
    "none": none,
    "masactrl": masactrl,
    "masactrl_union": masactrl_union,
    "masactrl_masked": masactrl_masked,
    "masactrl_auto_masked": masactrl_auto_masked,
    "style_aligned": style_aligned,
    "consistory": consistory,
    "free_custom": free_custom,
    "dream_matcher": dream_matcher,
}
"""The named methods, by the name that the command line takes."""
