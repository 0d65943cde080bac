"""The model card: `python -m training.card` writes `src/samecast/weights/README.md` from the recorded facts and
figures.

Nothing in it is typed by hand that a recipe or `training.report` measured.
"""

import json

from jinja2 import Template

from training.ship import WEIGHTS

CARD = Template(
    """\
# The embedded model

A Stable Diffusion pipeline in miniature, and its judges, trained from scratch on renders of the embedded world
(`samecast.diorama`, world version {{ world }}). It exists so that every feature of samecast runs for real, on any
machine, in seconds. It knows {{ classes }} in {{ backgrounds }} backgrounds, and nothing else.

| folder | what | class |
|---|---|---|
| `diorama/` | the pipeline: 128 px pictures, latents of 16 x 16 with {{ channels }} channels, SD 1.x topology \
(16 attention layers), epsilon prediction, SD's noise schedule | `diffusers.StableDiffusionPipeline` |
| `clip/` | text and image alignment; its text tower is the pipeline's text encoder | `transformers.CLIPModel` |
| `vit/` | image alignment beside CLIP's, learnt from pictures alone; the stand-in for DINO \
| `transformers.ViTModel` |
| `probe/` | reads class, pose, view, background, pattern, accessory, colours and mask off a picture; \
trained on renders, in the end half of them through the autoencoder, never on generated pictures \
| `samecast.diorama.probe.Probe` |

All weights are safetensors in half precision; they load as float32.

## Data and training

Renders and captions of seeds below 10,000,000; everything measured below is on seeds from there on. No photograph, no
other model and no text from elsewhere went in. Recipes: `training/`, each `python -m training.<part>`.

| part | steps | batch | minutes | seed | device | precision |
|---|---|---|---|---|---|---|
{% for part, fact in facts.items() -%}
| {{ part }} | {{ "{:,}".format(fact.steps) }} | {{ fact.batch }} \
| {{ fact.minutes }}{{ " in %d runs, averaged"|format(fact.mean_of|length) if fact.mean_of }} | {{ fact.seed }} \
| {{ fact.device }} | {{ fact.dtype.replace("torch.", "") }} |
{% endfor %}
{{ history }}

## Measured quality

`python -m training.report --count {{ quality.count }}{{ " --each %d"|format(quality.text_to_image.each) \
if quality.text_to_image.each }} --steps {{ quality.text_to_image.steps }} \
--guidance {{ quality.text_to_image.guidance }}` on {{ quality.count }} held-out scenes \
({{ quality.text_to_image.count }} captions).
Autoencoder: **{{ "%.2f"|format(quality.vae_psnr) }} dB** PSNR, SSIM {{ "%.3f"|format(quality.vae_ssim) }}; on the \
subject alone {{ "%.2f"|format(quality.vae_subject_psnr) }} dB.
CLIP retrieval: **{{ "%.1f"|format(100 * quality.clip_top1_of_256) }}%** top-1 among 256 scenes described in full.
Same subject: of two pictures each of 128 held-out subjects, in two scenes, each first one finds its second in \
{{ "%.1f"|format(100 * quality.same_subject_of_128.clip) }}% (CLIP) and \
{{ "%.1f"|format(100 * quality.same_subject_of_128.vit) }}% (ViT).
Inversion of held-out renders, 50 steps: {{ "%.1f"|format(quality.inversion.plain_psnr) }} dB plain, \
{{ "%.1f"|format(quality.inversion.replayed_psnr) }} dB with the source replayed (the autoencoder's loss). Two \
pictures of one prompt differ by {{ "%.0f"|format(quality.diversity.rms) }} grey levels (root mean square); of four, \
{{ "%.2f"|format(quality.diversity.distinct_of_4) }} are distinct. All weights: \
{{ "%.1f"|format(quality.megabytes) }} MB, loaded in {{ "%.2f"|format(quality.speed.load_seconds) }} s; \
{{ "%.0f"|format(quality.speed.evaluations_per_second) }} evaluations/s in batches of 32 on two cores. Recipes and \
code: commit {{ quality.commit }}.

| the probe reads | off renders | off reconstructions | off generated pictures, as the caption states |
|---|---|---|---|
{% for name, value in quality.probe_renders.items() -%}
| {{ name }} | {{ show(name, value) }} | {{ show(name, quality.probe_reconstructions[name]) }} \
| {{ show(name, quality.text_to_image[name]) if name in quality.text_to_image else "" }} |
{% endfor %}
Errors are mean CIEDE2000 differences. Colours of generated pictures count where the stated word is away from its
neighbours (by {{ clear }} CIEDE2000 or more).

## Limits

{{ limits }}
""",
    keep_trailing_newline=True,
)

HISTORY = """\
The figures are each part's last run. Parts that were trained on from earlier weights say so in `training/NOTES.md`.
The world's pictures hold one subject each and give self-attention little to keep alike, where Stable Diffusion has
seen things repeat. So the denoiser learnt on *diptychs* too, two photos of one subject side by side on one canvas, of
which each half has a caption of its own that cross-attention reads in that half alone; and in its last run on
*readings*: one photo reads the keys and values of another of its subject, at a run of layers from a random one on or up
to one. In six of ten of both, a photo showed somewhat of another subject's looks under its noise, and was to be led
back to its own subject's. What ships is a mean of the weights before (0.58) and after (0.42) the readings. **It has
thus been taught what Stable Diffusion does untaught**, to take looks from what it reads, at no layer or step more than
at another, and in part to leave the background there: the more of the second weights, the less of it leaks. Which
layers and steps do how much is measured, not told to it; but figures must not be carried over to other models. One step
in twenty was on scenes with two different subjects. Tokens on a subject counted more than others, and each of its
parts the same."""

LIMITS = """\
Shapes are right more often than crisp: thin parts (legs, tails, collars) run, and a narrow pattern may read as another.
The autoencoder blurs subjects before any method touches them, so reconstruction bounds what consistency can be
measured, and the probe's errors bound what it may rank. Words it was not trained on do nothing. It must not be used to
judge real photographs."""


def show(name: str, value: float) -> str:
    """Write a share as a percentage, an error or overlap as a number."""
    return f"{value:.2f}" if "error" in name or "iou" in name else f"{value:.1%}"


def main() -> None:
    """Write the card."""
    from samecast.diorama.scenes import BACKGROUNDS, CLASSES, WORLD_VERSION
    from training.measures import CLEAR

    text = CARD.render(
        facts=json.loads((WEIGHTS / "training.json").read_text()),
        quality=json.loads((WEIGHTS / "quality.json").read_text()),
        channels=json.loads((WEIGHTS / "diorama" / "vae" / "config.json").read_text())["latent_channels"],
        classes=f"{', '.join(CLASSES[:-1])} and {CLASSES[-1]}",
        backgrounds=len(BACKGROUNDS),
        world=WORLD_VERSION,
        clear=CLEAR,
        show=show,
        history=HISTORY,
        limits=LIMITS,
    )
    (WEIGHTS / "README.md").write_text(text)


if __name__ == "__main__":
    main()
