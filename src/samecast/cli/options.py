"""The command line as data: one frozen dataclass for each command, read by tyro.

Nothing here imports torch, so that `samecast --help` answers at once. What an option leaves at None is decided where it
is used: by the method, by the model, by the machine.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samecast.cli.concept_options import CompressOptions, ConvertOptions, MergeOptions, ShowOptions
from samecast.cli.learn_options import SharedOptions

arg = tyro.conf.arg
On = tyro.conf.FlagCreatePairsOff[bool]


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
      samecast render --concept rex.safetensors --init noise --method none rex.png "a <new1> dog on the beach"
      samecast render --again renders/rex/render.json
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        arg(metavar="[REFERENCE ...] PROMPT [PROMPT ...]", help_behavior_hint=""),
    ] = ()
    """Photos of the subject, mostly one, then what the new pictures should show. The first photo gives the layout.
    Leave photos out with --source-prompt."""

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
    """Of every ten steps, leave out the first so many."""

    stride: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 1)")] = None
    """Read the source only at every so many-th step from --start on."""

    sites: Annotated[str | None, arg(metavar="SITES", help_behavior_hint="(default: the method's)")] = None
    """Attention layers that read the source: encoder, mid, decoder, numbers, names like up.3-8, or sizes like @16;
    commas join. `samecast sites` lists them."""

    rules: Annotated[Path | None, arg(metavar="RULES.JSON", help_behavior_hint="")] = None
    """Rules from a file that `samecast tune` wrote, in place of --method and all that goes with it."""

    map_words: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="(default: the noun)")] = None
    """For masactrl-auto-masked and dream-matcher: the words of the prompts whose attention maps show the subject."""

    map_sites: Annotated[str | None, arg(metavar="SITES", help_behavior_hint="(default: MasaCtrl's)")] = None
    """For those: the cross-attention layers whose maps are taken; written as for --sites."""

    threshold: Annotated[
        float | Literal["otsu"] | None, arg(metavar="0-1|otsu", help_behavior_hint="(default: the method's)")
    ] = None
    """For those: from which value of the map on is the subject; otsu chooses by itself."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """A diffusers directory, a .safetensors file or a hub id of the Stable Diffusion 1.x, 2.x or XL family."""

    lora: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], arg(metavar="PATH")] = ()
    """A LoRA to add to the model."""

    concept: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FILE[:STRENGTH]")] = ()
    """What was learned of a subject, to apply to the model; prompts say its word: "a <new1> dog"."""

    out: Annotated[
        Path | None,
        arg(aliases=("-o",), metavar="FOLDER", help_behavior_hint="(default: renders/ and the photo's name)"),
    ] = None
    """Folder for the pictures. Where it exists, the next free name is taken."""

    seed: Annotated[int, arg(metavar="INT")] = 0
    """Seed of the noise; picture n of a prompt takes seed + n. Without effect where a photo's layout is kept."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Denoising steps."""

    guidance: Annotated[float, arg(metavar="SCALE")] = 7.5
    """How closely to follow the prompt; 1 is the model's own taste, and twice as fast."""

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="")] = ""
    """What the subject is, in a word; replaces {noun} in the prompts."""

    negative_prompt: Annotated[str, arg(metavar="TEXT", help_behavior_hint="")] = ""
    """What the pictures should not show."""

    images_per_prompt: Annotated[int, arg(metavar="INT")] = 1
    """Pictures for each prompt; more than one needs --init noise or a blend."""

    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the model's)")] = None
    """Side of the pictures."""

    fit: Literal["crop", "pad"] = "crop"
    """How a photo becomes square: cut to its centre, or padded with white."""

    init: Annotated[Literal["inverted", "noise"] | float, arg(metavar="inverted|noise|0-1")] = "inverted"
    """Where the pictures start: from the photo's layout, from noise, or from 0 (photo) to 1 (noise) between them."""

    source_prompt: Annotated[str, arg(metavar="TEXT", help_behavior_hint="")] = ""
    """Caption of the photo; without a photo, the source is generated from it."""

    pairing: Literal["matched", "masactrl"] = "matched"
    """How inversion pairs latents and timesteps: as denoising will see them, or as MasaCtrl's code does."""

    fixed_point: Annotated[int, arg(metavar="INT")] = 0
    """Refinements of each inversion step, 1 to 3: the photo's latent is found more exactly, for as much work again."""

    check_inversion: Annotated[On, arg(help_behavior_hint="")] = False
    """Tell how well the photo survives inversion."""

    source_memory: Annotated[float | None, arg(metavar="GIB", help_behavior_hint="(default: half of what is free)")] = (
        None
    )
    """Most memory for what is kept of the photo's inversion; beyond it the photo is computed again beside the pictures.
    -v tells what is taken."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""

    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], arg(metavar="TYPE")] = "auto"
    """Precision of the model: auto, float32, float16 or bfloat16."""

    prediction_type: Annotated[Literal["auto", "epsilon", "v_prediction"], arg(metavar="TYPE")] = "auto"
    """What the model predicts: auto, epsilon (the noise) or v_prediction (the velocity). A single file of Stable
    Diffusion 2.x may not say, and is then taken for the velocity's."""

    again: Annotated[Path | None, arg(metavar="RENDER.JSON", help_behavior_hint="")] = None
    """Repeat the run of this record bit for bit, into a new folder. Goes with --out, and with --model if that moved."""

    verbose: Annotated[On, arg(aliases=("-v",), help_behavior_hint="")] = False
    """Tell what happens in detail."""


@dataclass(frozen=True)
class MasksOptions:
    """Find the subject of a photo in cross-attention maps, without rendering anything.

    The map, the mask and an overlay go into a new folder, with the photo as the model read it: mask.png fits
    reference.png. For example:

      samecast masks rex.png --noun dog
      samecast masks rex.png --noun dog --sites encoder --threshold otsu
      samecast masks rex.png --source-prompt "a red dog on a sofa" --words "red dog" --start 10 --final 30
    """

    references: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], arg(metavar="REFERENCE [REFERENCE ...]", help_behavior_hint="")
    ] = ()
    """Photos of the subject; each is looked at by itself."""

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="")] = ""
    """What the subject is, in a word."""

    words: Annotated[str, arg(metavar="TEXT", help_behavior_hint="(default: the noun)")] = ""
    """The words of the caption whose maps are taken."""

    source_prompt: Annotated[str, arg(metavar="TEXT", help_behavior_hint="(default: a photo of a NOUN)")] = ""
    """Caption of the photo."""

    sites: Annotated[str, arg(metavar="SITES", help_behavior_hint="(default: MasaCtrl's)")] = ""
    """Cross-attention layers whose maps are taken: encoder, mid, decoder, numbers, names like up.3-8, or sizes like
    @16; commas join. `samecast sites` lists them."""

    start: Annotated[int | float, arg(metavar="STEP")] = 0
    """First denoising step whose maps are taken; 0.5 is the middle of the run."""

    final: Annotated[int | float | None, arg(metavar="STEP", help_behavior_hint="(default: the last)")] = None
    """Last denoising step whose maps are taken."""

    threshold: Annotated[float | Literal["otsu"], arg(metavar="0-1|otsu")] = 0.1
    """From which value of the map on is the subject; otsu chooses by itself."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Steps of the inversion."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes."""

    out: Annotated[Path | None, arg(aliases=("-o",), metavar="FOLDER", help_behavior_hint="")] = None
    """Folder to write; masks/ and the photo's name unless given. Where it exists, the next free name is taken."""

    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the model's)")] = None
    """Side of the picture the model reads."""

    fit: Literal["crop", "pad"] = "crop"
    """How a photo becomes square: cut to its centre, or padded with white."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class SheetOptions:
    """Draw a contact sheet of Diorama, the embedded world: its subjects in its scenes.

    For example:

      samecast diorama sheet --seed 3 --out sheet.png
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FILE")] = Path("diorama.png")
    """Picture to write. Where it exists, the next free name is taken."""

    seed: Annotated[int, arg(metavar="INT")] = 0
    """Which subjects and scenes are drawn."""

    size: Annotated[int, arg(metavar="PIXELS")] = 128
    """Side of one picture."""

    columns: Annotated[int, arg(metavar="INT")] = 8
    """Pictures in a row."""

    rows: Annotated[int, arg(metavar="INT")] = 6
    """Rows of pictures."""


@dataclass(frozen=True)
class PhotosOptions:
    """Draw four photos of a held-out subject, which nothing was trained on, to learn it from.

    For example:

      samecast diorama photos --out examples/rex
      samecast learn custom-diffusion --photos examples/rex
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("rex")
    """Folder for the photos and subject.json. Where it exists, the next free name is taken."""

    subject: Annotated[int, arg(metavar="INT")] = 65
    """Which subject; 65 is the demo's dog with blue and yellow stripes."""

    size: Annotated[int, arg(metavar="PIXELS")] = 128
    """Side of a photo."""


@dataclass(frozen=True)
class CompareOptions:
    """Compare training, attention and both on held-out subjects of the embedded world.

    Textual Inversion, LoRA, DreamBooth and Custom Diffusion learn four photos of each subject; MasaCtrl reads one; and
    Custom Diffusion with MasaCtrl does both. What is finished is kept in the folder: a run that was stopped goes on
    where it was. For example:

      samecast compare --subjects 8 --prompts 10 --docs docs
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("compare")
    """Folder for scores.csv, summary.json, grid.png, all pictures and all concepts."""

    methods: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Which of prompt, textual-inversion, lora, dreambooth, custom-diffusion, masactrl, custom-diffusion-masactrl."""

    subjects: Annotated[int, arg(metavar="1-32")] = 8
    """How many of the benchmark's subjects."""

    prompts: Annotated[int, arg(metavar="1-20")] = 20
    """How many scenes for each."""

    learn_steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the method's)")] = None
    """Steps of every training."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Denoising steps."""

    guidance: Annotated[float, arg(metavar="FLOAT")] = 7.5
    """Scale of classifier-free guidance."""

    docs: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Also write compare.md there, and pictures/compare.png, in place of what there is."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes, if it knows the embedded world."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class DemoOptions:
    """One subject, six prompts, four settings, judged: what control does, in a minute and a half on two cores.

    For example:

      samecast demo --out demo
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("demo")
    """Folder for index.html and grid.png. An earlier demo there is replaced; otherwise the next free name is taken."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Denoising steps. The spans of control keep their share of the run."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class SitesOptions:
    """List the attention layers of a model, as `--sites` addresses them.

    For example:

      samecast sites
      samecast sites --model path/to/stable-diffusion-v1-4
    """

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Compare methods on held-out subjects of the embedded world: same subject, scene as asked, and both.

    What is finished is kept in the folder: a run that was stopped goes on where it was. For example:

      samecast diorama benchmark --subjects 8 --prompts 5 --methods prompt decoder encoder
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("benchmark")
    """Folder for scores.csv, summary.json, grid.png and all pictures."""

    methods: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Which of prompt, decoder, decoder-25, encoder, all, union, shuffled."""

    subjects: Annotated[int, arg(metavar="1-32")] = 32
    """How many of the benchmark's subjects."""

    prompts: Annotated[int, arg(metavar="1-20")] = 20
    """How many scenes for each."""

    hidden: Annotated[On, arg(help_behavior_hint="")] = False
    """Read photos on which 30-60% of the subject is hidden."""

    init: Annotated[Literal["inverted", "noise"] | float, arg(metavar="inverted|noise|0-1")] = "inverted"
    """Where pictures start: the photo's inverted latent, fresh noise, or between."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Denoising steps."""

    guidance: Annotated[float, arg(metavar="FLOAT")] = 7.5
    """Scale of classifier-free guidance."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes, if it knows the embedded world."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class StudyOptions:
    """Run a grid of settings on several subjects, score every picture, and write tables, figures and a page.

    Without annotations it is about eight held-out subjects of the embedded world. What is finished is kept: a study
    that was stopped goes on where it was. For example:

      samecast study --preset aiku
      samecast study annotation.json --preset aiku --model path/to/stable-diffusion-v1-4 --out aiku
      samecast study --axis final=20:51:5 --axis sites=encoder,decoder,10-12,13-15 --out sites
      samecast study --preset full --dry-run
      samecast study --resume aiku
      samecast study status aiku
    """

    annotations: Annotated[
        tyro.conf.Positional[Path | None], arg(metavar="[ANNOTATIONS]", help_behavior_hint="(default: eight bundled)")
    ] = None
    """A list of {name, description, image_path} as JSON, or a folder with a folder of photos for each subject."""

    preset: Annotated[
        Literal["aiku", "masks", "full"] | None, arg(metavar="NAME", help_behavior_hint="(default: aiku)")
    ] = None
    """aiku: 44 settings by final step, start step and skip, for decoder and encoder sites; masks: by the maps that mask
    the subject; full: start x final x skip x sites, 840 settings."""

    axis: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FIELD=VALUES")] = ()
    """In place of a preset: a field of a rule and its values, such as final=20:51:5 or maps=none,encoder. Axes
    multiply."""

    config: Annotated[Path | None, arg(metavar="FILE.YAML", help_behavior_hint="")] = None
    """Axes and fixed fields as YAML: `axes: {final: [20, 30], sites: [encoder, decoder]}` and `base: {start: 4}`."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("study")
    """Folder of the study."""

    resume: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Go on with the study in this folder."""

    dry_run: Annotated[On, arg(help_behavior_hint="")] = False
    """Only tell what it would take."""

    photos: Literal["first", "each", "together"] = "first"
    """What is read of a subject's photos: the first, each by itself as a repeat, or all at once."""

    seeds: Annotated[int, arg(metavar="INT")] = 1
    """Pictures of each prompt; more than one needs --init noise or a blend."""

    subjects: Annotated[int, arg(metavar="1-32")] = 8
    """How many of the bundled subjects."""

    prompts: Annotated[int, arg(metavar="1-20")] = 1
    """How many scenes for each bundled subject."""

    repeats: Annotated[int, arg(metavar="1-4")] = 1
    """How many photos of each bundled subject; more than one go with --photos each or together."""

    hidden: Annotated[On, arg(help_behavior_hint="")] = False
    """Add each bundled subject once more, read from photos that hide 30-60% of it."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Denoising steps. The presets' spans keep their share of the run."""

    guidance: Annotated[float, arg(metavar="FLOAT")] = 7.5
    """Scale of classifier-free guidance."""

    seed: Annotated[int, arg(metavar="INT")] = 0
    """Seed of the noise; without effect where everything starts from the photo's inverted latent."""

    init: Annotated[Literal["inverted", "noise"] | float, arg(metavar="inverted|noise|0-1")] = "inverted"
    """Where pictures start: the photo's inverted latent, fresh noise, or between."""

    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the model's)")] = None
    """Side of the pictures."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes."""

    clip: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the model's)")] = ""
    """CLIP that scores alignment, a folder or hub id: openai/clip-vit-large-patch14, the embedded one for the embedded
    model."""

    dino: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model's)")] = ""
    """Vision transformer that scores image alignment beside it, a folder or hub id such as facebook/dino-vits16."""

    executor: Literal["local", "ray"] = "local"
    """Who works: this process, or actors of a Ray cluster, one for each device."""

    workers: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: one for each GPU)")] = None
    """With --executor ray: how many actors."""

    address: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="(default: a cluster of its own)")] = None
    """With --executor ray: the cluster to join; the study's folder must be on storage that all its machines share."""

    batch_rows: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: by size)")] = None
    """Most rows in one call of the denoiser; where memory does not suffice it is halved."""

    checkpoint: Annotated[float, arg(metavar="SECONDS")] = 60.0
    """How often a subject in progress is kept."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""

    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], arg(metavar="TYPE")] = "auto"
    """Precision of the model: auto, float32, float16 or bfloat16."""


@dataclass(frozen=True)
class StudyStatusOptions:
    """Tell how far a study is.

    For example:

      samecast study status aiku
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the study."""


@dataclass(frozen=True)
class StudyReportOptions:
    """Make a study's table, figures and page anew, and write its findings as Markdown.

    For example:

      samecast study report study --write docs/study.md
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the study."""

    write: Annotated[Path | None, arg(metavar="FILE.MD", help_behavior_hint="")] = None
    """Where to write the findings; their figures go into `pictures/` beside the file."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where scores are computed that are missing."""


@dataclass(frozen=True)
class TuneOptions:
    """Search the rules that suit one subject: at which steps, at which layers?

    Candidates share their work; the better half goes on to more prompts, until the last are tried on all prompts and
    photos. The front of best trade-offs is shown, and the chosen rules go into a file. For example:

      samecast tune rex.png "a dog running on the beach" "a dog in the snow" --out tuned
      samecast render rex.png "a dog at the lake" --rules tuned/rules.json
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        arg(metavar="REFERENCE [REFERENCE ...] PROMPT [PROMPT ...]", help_behavior_hint=""),
    ] = ()
    """Photos of the subject, then prompts, as for `samecast render`."""

    axis: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FIELD=VALUES")] = ()
    """The candidates, as for `samecast study`; by default three starts, six final steps and three sets of sites."""

    favour: Annotated[float, arg(metavar="0-1")] = 0.5
    """What counts: 0 is text alignment alone, 1 image alignment alone."""

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="")] = ""
    """What the subject is, in a word; replaces {noun} in the prompts."""

    seeds: Annotated[int, arg(metavar="INT")] = 1
    """Pictures of each prompt in the last round; more than one needs --init noise or a blend."""

    init: Annotated[Literal["inverted", "noise"] | float, arg(metavar="inverted|noise|0-1")] = "inverted"
    """Where pictures start: the photo's inverted latent, fresh noise, or between."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Denoising steps."""

    guidance: Annotated[float, arg(metavar="FLOAT")] = 7.5
    """Scale of classifier-free guidance."""

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes."""

    clip: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the model's)")] = ""
    """CLIP that scores alignment, a folder or hub id."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("tuned")
    """Folder for rules.json, front.png and all pictures. A search that was stopped goes on."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class DioramaOptions:
    """Look at the embedded world."""

    command: (
        Annotated[SheetOptions, tyro.conf.subcommand("sheet")]
        | Annotated[PhotosOptions, tyro.conf.subcommand("photos")]
        | Annotated[BenchmarkOptions, tyro.conf.subcommand("benchmark")]
    )


Options = (
    RenderOptions
    | SharedOptions
    | MasksOptions
    | SitesOptions
    | SheetOptions
    | PhotosOptions
    | BenchmarkOptions
    | CompareOptions
    | DemoOptions
    | ShowOptions
    | MergeOptions
    | CompressOptions
    | ConvertOptions
    | StudyOptions
    | StudyStatusOptions
    | StudyReportOptions
    | TuneOptions
)
