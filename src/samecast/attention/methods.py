"""The named methods: short functions that return rules. Nothing else in the code knows a method by name.

Methods are tuples and add up, also over time: `masactrl(0, 9, layers="encoder") + masactrl(10, layers="decoder")` reads
in the encoder first, then in the decoder. All of them take the same answers to where and when, which `masactrl` tells.

A method's signature is its options too: `samecast render --method NAME` takes what its parameters say, with the help of
their docstring.
"""

from collections.abc import Callable
from typing import Annotated

from samecast.attention.modes import Align, Cast, Match, Separate, SubjectOnly, Weigh
from samecast.attention.modes.match import CONSISTENCY
from samecast.attention.rule import DECODER_LAYERS, Rule, Rules
from samecast.checked import Option
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens

Start = Annotated[int | float, Option(metavar="STEP")]
Final = Annotated[int | float | None, Option(metavar="STEP", default="the last")]
Skip = Annotated[int | None, Option(metavar="1-9", default="none")]
Layers = Annotated[str, Option(metavar="LAYERS")]
Stride = Annotated[int | None, Option(default="1")]

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
    start: Start = START,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
) -> Rules:
    """MasaCtrl (Cao et al., ICCV 2023, arXiv 2304.08465, section 4.1): targets read the source's keys and values.

    The layout forms first (steps before `start`) and in the early layers; what comes after only queries the source. The
    defaults are the paper's: from step 4 of 50, at the decoder's last six layers. Of several references all are read.

    Args:
        start: first step that reads the source. A later one keeps more of the prompt's layout. A decimal is a fraction
            of the run: 0.5 is its middle.
        final: last step that reads the source. 20 to 25 of 50 follows the prompt more closely, as the AIKU study found;
            a decimal is a fraction of the run.
        skip: of every ten steps, skip the first N.
        layers: attention layers that read the source: encoder, mid, decoder, numbers, names like up.3-8, or sizes like
            @16; commas join. `samecast layers` lists them. The default is for the 16 layers of Stable Diffusion 1.x and
            2.x; of XL's 70 MasaCtrl's authors take those from 44, 54 or 64 on (64-69).
        stride: read the source only at every Nth step from the first on.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride)),)


def masactrl_union(
    start: Start = START,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
) -> Rules:
    """MasaCtrl's union: targets read the source and themselves in one softmax, so that they may keep what is their own.

    Arguments as for `masactrl`.
    """
    return (Rule("targets", ("source", "self"), layers, Steps(start, final, skip, stride)),)


def masactrl_masked(
    start: Start = START,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
) -> Rules:
    """MasaCtrl with given masks (section 4.2): subject reads subject, background reads background.

    The masks come with the call: `Subject(masks=...)` for the references, `render(target_masks=...)` for the targets.
    Arguments as for `masactrl`.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride), Separate("given")),)


def masactrl_auto_masked(
    start: Start = START,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
    tokens: SubjectTokens = SUBJECT,
) -> Rules:
    """MasaCtrl with masks from cross-attention maps (section 4.2): subject reads subject, background background.

    Args:
        start, final, skip, layers, stride: as for `masactrl`.
        tokens: which words, cross-attention layers and steps the maps are taken of, and the threshold. The paper takes
            the maps of the current step, `SubjectTokens(average="step")`, at its threshold 0.1; by default maps are
            averaged over the steps, a source's over all of them and a target's over those so far, which costs nothing
            more. The authors' code takes maps of the current step from the layers that have run already in that very
            evaluation, under control; here they come from an evaluation without it.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride), Separate(tokens)),)


def style_aligned(
    start: Start = 0,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = "all",
    stride: Stride = None,
    anchor: Annotated[int | None, Option(default="the source")] = None,
) -> Rules:
    """StyleAligned (Hertz et al., CVPR 2024, arXiv 2312.02133, section 3.2): shared attention with AdaIN.

    Each target reads the anchor and itself; its queries and keys take on the anchor's mean and deviation first, so that
    the anchor's keys are not outdone by its own. The paper's anchor is the first image of the batch; ours is the source
    unless `anchor` is the number of a picture. The paper acts everywhere, always.

    Args:
        start, final, skip, layers, stride: as for `masactrl`.
        anchor: the picture, counted from 0, that all others follow in place of the source.
    """
    source = "source" if anchor is None else anchor
    return (Rule("targets", (source, "self"), layers, Steps(start, final, skip, stride), Align()),)


def consistory(
    start: Start = 0.02,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = "decoder",
    stride: Stride = None,
    dropout: Annotated[float, Option(metavar="0-1")] = 0.5,
) -> Rules:
    """ConsiStory (Tewel et al., SIGGRAPH 2024, arXiv 2402.03286, section 3.1): subject-driven shared self-attention.

    Each picture reads all of itself and the subject's tokens of all other pictures, of which a share is dropped at
    random in each layer and step, so that layouts stay varied. The pictures are in one batch. The paper's blending with
    vanilla query features and its feature injection are not part of it. Masks come with the call (`target_masks`).

    Args:
        start, final, skip, layers, stride: as for `masactrl`; the paper shares in the decoder.
        dropout: share of the other pictures' subject that is left out at random; 0.5 in the paper.
    """
    steps = Steps(start, final, skip, stride)
    return (Rule("targets", ("targets",), layers, steps, SubjectOnly("given", dropout)),)


def free_custom(
    start: Start = 0,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
    weight: float = 3.0,
) -> Rules:
    """FreeCustom (Ding et al., CVPR 2024, arXiv 2405.13870, section 3.3): several references with weighted masks.

    Each target reads itself and all references, whose keys and values are multiplied by their mask and a weight. The
    masks come with the subject (`Subject(masks=...)`). So the paper has it; the authors' code adds the weight to the
    logits within the mask and lets nothing be read outside of it.

    Args:
        start, final, skip, layers, stride: as for `masactrl`; the paper acts in the last two of seven blocks, always.
        weight: what multiplies the keys and values of the subject in the references; 3 in the authors' configurations.
    """
    steps = Steps(start, final, skip, stride)
    return (Rule("targets", ("source", "self"), layers, steps, Weigh("given", weight)),)


def dream_matcher(
    start: Start = START,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
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
        consistency: how far from a token the way to its match and back may lead for the match to count; 0.4 in the
            authors' code.
    """
    steps = Steps(start, final, skip, stride)
    return (Rule("targets", ("source", "self"), layers, steps, Match(tokens, consistency)),)


def cast(
    start: Start = START,
    final: Final = None,
    skip: Skip = None,
    layers: Layers = DECODER_LAYERS,
    stride: Stride = None,
    tokens: SubjectTokens = SUBJECT,
) -> Rules:
    """Several named subjects in one picture: each one's part of it reads that subject's photos, the rest itself.

    MasaCtrl's mutual self-attention (arXiv 2304.08465) with a mask for each subject: found in the cross-attention maps
    of its own words, or given with the subject (of its photos) and the call (`target_masks={"rex": ...}`), which then
    takes precedence. Where masks overlap they compete: a token belongs to one subject at most.

    Args:
        start, final, skip, layers, stride: as for `masactrl`.
        tokens: which cross-attention layers and steps the maps are taken of, and the threshold; the words are each
            subject's own.
    """
    return (Rule("targets", ("source",), layers, Steps(start, final, skip, stride), Cast(tokens)),)


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
    "cast": cast,
}
"""The named methods, by name; on the command line with hyphens."""
