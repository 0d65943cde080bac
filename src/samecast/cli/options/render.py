"""The options of `samecast render`. What is left at None is decided by the method, the model or the machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samecast.checked import RAW
from samecast.cli.options.common import (
    Device,
    Dtype,
    Fit,
    Guidance,
    GuidanceRescale,
    Height,
    Init,
    Lora,
    Model,
    On,
    Size,
    Steps,
    Width,
    arg,
)


@dataclass(frozen=True)
class RenderOptions:
    """Render the subject of a photo in new scenes.

    Pictures, a labelled grid and the record of the run go into a new folder. For example:

      samecast render rex.png "a dog running on the beach"
      samecast render rex.png "a {noun} in the snow" "a {noun} at night" --noun dog
      samecast render rex.png "a dog at the lake" --final 25
      samecast render rex.png "a dog at the lake" --init noise --images-per-prompt 4
      samecast render --source-prompt "a photo of a dog" "a dog running on the beach"
      samecast render rex.jpg "a dog on the beach" --model path/to/stable-diffusion-v1-4
      samecast render --concept rex.safetensors --init noise --method none "a <new1> dog on the beach"
      samecast render --again renders/rex/render.json
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[Annotated[str, RAW], ...]],
        arg(metavar="[REFERENCE ...] PROMPT [PROMPT ...]", help_behavior_hint=""),
    ] = ()
    """Photos of the subject, mostly one, then what the new pictures should show. The first photo gives the layout.
    Leave photos out with --source-prompt, or where nothing reads one: --method none --init noise."""

    reference: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], arg(metavar="FILE")] = ()
    """A photo of the subject, whatever its name looks like; then all other words are prompts. May be repeated."""

    method: Literal[
        "none",
        "masactrl",
        "masactrl-union",
        "masactrl-masked",
        "masactrl-auto-masked",
        "style-aligned",
        "consistory",
        "free-custom",
        "dream-matcher",
    ] = "masactrl"
    """How the subject is kept: not at all; by reading the source, or the source and oneself; with masks, the subject
    reading the subject and the rest the rest; or as other papers do."""

    mask: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], arg(metavar="FILE")] = ()
    """Where the subject is in the photo, white on black; once for each photo. For masactrl-masked and free-custom."""

    target_mask: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], arg(metavar="FILE")] = ()
    """Where it is to be in the pictures: one for all or one for each prompt. For masactrl-masked and consistory."""

    start: Annotated[int | float | None, arg(metavar="STEP", help_behavior_hint="(default: the method's)")] = None
    """First step that reads the source. A later one keeps more of the prompt's layout. 0.5 is the middle of the run."""

    final: Annotated[int | float | None, arg(metavar="STEP", help_behavior_hint="(default: the last)")] = None
    """Last step that reads the source. 20 to 25 of 50 follows the prompt more closely; 0.5 is the middle of the run."""

    skip: Annotated[int | None, arg(metavar="1-9", help_behavior_hint="(default: none)")] = None
    """Of every ten steps, skip the first N."""

    stride: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 1)")] = None
    """Read the source only at every Nth step from --start on."""

    layers: Annotated[str | None, arg(metavar="LAYERS", help_behavior_hint="(default: the method's)")] = None
    """Attention layers that read the source: encoder, mid, decoder, numbers, names like up.3-8, or sizes like @16;
    commas join. `samecast layers` lists them."""

    rules: Annotated[Path | None, arg(metavar="RULES.JSON", help_behavior_hint="")] = None
    """Rules from a file, which `samecast tune` wrote or you did (docs/rules.md), in place of --method and all that goes
    with it."""

    map_words: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="(default: the noun)")] = None
    """For masactrl-auto-masked and dream-matcher: the words of the prompts whose attention maps show the subject."""

    map_layers: Annotated[str | None, arg(metavar="LAYERS", help_behavior_hint="(default: MasaCtrl's)")] = None
    """For those: the cross-attention layers whose maps are taken; written as for --layers."""

    threshold: Annotated[
        float | Literal["otsu"] | None, arg(metavar="0-1|otsu", help_behavior_hint="(default: the method's)")
    ] = None
    """For those: attention threshold for the subject; otsu chooses one for each map."""

    weight: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: 3)")] = None
    """For free-custom: what multiplies the keys and values of the subject in the photos."""

    dropout: Annotated[float | None, arg(metavar="0-1", help_behavior_hint="(default: 0.5)")] = None
    """For consistory: share of the other pictures' subject that is left out at random."""

    anchor: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the photo)")] = None
    """For style-aligned: the picture, counted from 0, that all others follow in place of the photo."""

    consistency: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: 0.4)")] = None
    """For dream-matcher: how far a match there and back may lead astray and still count."""

    model: Model = "diorama"
    """A diffusers directory, a .safetensors file or a hub id of the Stable Diffusion 1.x, 2.x or XL family."""

    lora: Lora = ()

    concept: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FILE[:STRENGTH]")] = ()
    """What was learned of a subject, to apply to the model; prompts say its word: "a <new1> dog"."""

    out: Annotated[
        Path | None,
        arg(aliases=("-o",), metavar="FOLDER", help_behavior_hint="(default: renders/ and the photo's name)"),
    ] = None
    """Folder for the pictures. Where it exists, the next free name is taken."""

    seed: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 0)")] = None
    """Seed of the noise; picture n of a prompt takes seed + n. Without effect where a photo's layout is kept."""

    steps: Steps = 50

    guidance: Guidance = None

    guidance_rescale: GuidanceRescale = 0.0

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="")] = ""
    """What the subject is, in a word; replaces {noun} in the prompts."""

    negative_prompt: Annotated[str, arg(metavar="TEXT", help_behavior_hint="")] = ""
    """What the pictures should not show."""

    images_per_prompt: Annotated[int, arg(metavar="INT")] = 1
    """Pictures for each prompt; more than one needs --init noise or a blend."""

    size: Size = None

    height: Height = None

    width: Width = None

    fit: Fit = "keep"

    init: Init = "inverted"

    source_prompt: Annotated[str, arg(metavar="TEXT", help_behavior_hint="")] = ""
    """Caption of the photo; without a photo, the source is generated from it."""

    pairing: Literal["matched", "masactrl"] = "matched"
    """How inversion pairs latents and timesteps: as denoising will see them, or as MasaCtrl's code does."""

    no_replay: Annotated[On, arg(help_behavior_hint="")] = False
    """Denoise the inverted photo freely, as MasaCtrl's code does, instead of replaying it exactly."""

    fixed_point: Annotated[int, arg(metavar="INT")] = 0
    """Refinements of each inversion step, 1 to 3: the photo's latent is found more exactly, for as much work again."""

    batch_rows: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: by the size)")] = None
    """Most rows in one call of the denoiser: fewer take less memory; methods whose pictures read each other may need
    more. A picture takes two."""

    check_inversion: Annotated[On, arg(help_behavior_hint="")] = False
    """Tell how well the photo survives inversion."""

    source_memory: Annotated[float | None, arg(metavar="GIB", help_behavior_hint="(default: half of what is free)")] = (
        None
    )
    """Most memory for what is kept of the photo's inversion; beyond it the photo is computed again beside the pictures.
    -v tells what is taken."""

    device: Device = "auto"

    dtype: Dtype = "auto"

    prediction_type: Annotated[Literal["auto", "epsilon", "v_prediction"], arg(metavar="TYPE")] = "auto"
    """What the model predicts: auto, epsilon (the noise) or v_prediction (the velocity). A single file of Stable
    Diffusion 2.x may not say, and is then taken for the velocity's."""

    again: Annotated[Path | None, arg(metavar="RENDER.JSON", help_behavior_hint="")] = None
    """Repeat the run of this record bit for bit, into a new folder. Goes with --out, and with --model if that moved."""

    verbose: Annotated[On, arg(aliases=("-v",), help_behavior_hint="")] = False
    """Tell what happens in detail."""
