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

A small Stable Diffusion pipeline and its scoring models, trained from scratch on renders of the embedded world
(`samecast.diorama`, world version {{ world }}). It exists so that every feature of samecast runs on
any machine in seconds. It knows {{ classes }} in {{ backgrounds }} backgrounds, and nothing else.

| folder | contents | class |
|---|---|---|
| `diorama/` | the pipeline: 128 px pictures, latents of 16 x 16 with {{ channels }} channels, SD 1.x topology \
(16 attention layers), epsilon prediction, SD's noise schedule | `diffusers.StableDiffusionPipeline` |
| `clip/` | text and image alignment; its text tower is the pipeline's text encoder | `transformers.CLIPModel` |
| `vit/` | image alignment in addition to CLIP's, trained on pictures alone; replaces DINO \
| `transformers.ViTModel` |
| `probe/` | reads class, pose, view, background, pattern, accessory, colours and mask from a picture; \
trained on renders, in the last phase half of them passed through the autoencoder, never on generated pictures \
| `samecast.diorama.probe.Probe` |

All weights are safetensors in half precision; they load as float32.

## Data and training

Renders and captions of seeds below 10,000,000; everything below is measured on the other seeds. No photographs, other
models or other texts were used. Recipes: `training/`, each `python -m training.<part>`.

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
Same subject: with two pictures each of 128 held-out subjects, in two scenes, the nearest second picture is the right \
one in {{ "%.1f"|format(100 * quality.same_subject_of_128.clip) }}% (CLIP) and \
{{ "%.1f"|format(100 * quality.same_subject_of_128.vit) }}% (ViT).
Inversion of held-out renders, 50 steps: {{ "%.1f"|format(quality.inversion.plain_psnr) }} dB plain, \
{{ "%.1f"|format(quality.inversion.replayed_psnr) }} dB with the source replayed (the autoencoder's loss). Two \
pictures of one prompt differ by {{ "%.0f"|format(quality.diversity.rms) }} grey levels (root mean square); of four, \
{{ "%.2f"|format(quality.diversity.distinct_of_4) }} are distinct. All weights: \
{{ "%.1f"|format(quality.megabytes) }} MB, loaded in {{ "%.2f"|format(quality.speed.load_seconds) }} s; \
{{ "%.0f"|format(quality.speed.evaluations_per_second) }} evaluations/s in batches of 32 on two cores. Recipes and \
code: commit {{ quality.commit }}.

| the probe reads | from renders | from reconstructions | from generated pictures, compared with the caption |
|---|---|---|---|
{% for name, value in quality.probe_renders.items() -%}
| {{ name }} | {{ show(name, value) }} | {{ show(name, quality.probe_reconstructions[name]) }} \
| {{ show(name, quality.text_to_image[name]) if name in quality.text_to_image else "" }} |
{% endfor %}
Errors are mean CIEDE2000 differences. Colours of generated pictures count only if the stated word is away from its
neighbours (by {{ clear }} CIEDE2000 or more).

## Limits

{{ limits }}
""",
    keep_trailing_newline=True,
)

HISTORY = """\
The figures are for each part's last run. `training/NOTES.md` lists parts that started from earlier weights.
The world's pictures show one subject each, so self-attention has little to keep consistent, whereas Stable Diffusion
has seen repeated objects. So the denoiser was also trained on *diptychs*, two photos of one subject side by side on one
canvas, each half with its own caption, which cross-attention reads in that half alone; and in its last run on
*readings*: one photo reads the keys and values of another photo of its subject, at all layers from, or up to, a random
one. In six of ten samples of both, the noisy photo showed some of another subject's appearance, to be corrected to that
of its own subject. The published weights are a mean of those before (0.58) and after (0.42) the readings. **So the
model was trained for what Stable Diffusion does without such training**: to take the subject's appearance from what it
reads, at all layers and steps alike, and in part not to take the background: the larger the share of the second
weights, the less background leaks. The effect of layers and steps is measured, not trained; but figures must not be
transferred to other models. One step in twenty was on scenes with two different subjects. Tokens on the subject had
more weight than others, and each of its parts the same."""

LIMITS = """\
Shapes are more often right than sharp: thin parts (legs, tails, collars) blur, and a narrow pattern may look like
another. The autoencoder blurs subjects before any method sees them, so its reconstruction limits measurable
consistency, and the probe's errors limit which methods it can rank. Words without training have no effect. The models
must not be used to score real photographs."""


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
