"""The flow transformer's recipe: its arithmetic is stock FLUX's, a killed run goes on, its pipeline loads."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from samecast.diorama.captions import caption
from samecast.diorama.renderer import render
from samecast.diorama.scenes import sample_spec
from training import data, flow, flow_data, loop
from training.flow_attention import prepared
from training.flow_export import exported
from training.flow_model import SCHEDULE as FLOW_SCHEDULE
from training.flow_model import make_tokenizer, make_transformer, pack, positions, unpack
from training.loop import Recipe
from training.unet import SCHEDULE

OPTIONS = Namespace(
    width=64, blocks="1+2", text_share=0.5, animals=2.0, bare=0.3, words=0.3, subject=2.0, parts=0.1, small=2,
    teacher=0.0, pairs_from=0, diptychs=0.0, readings=0.0, pictures=2, evaluate_every=100,
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Sets of four pictures each."""
    root = tmp_path_factory.mktemp("flow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_data, "ROOT", root)
        for name in ("train", "mates", "held-out"):
            flow_data.draw(name, 4, torch.device("cpu"), 1, shard=2)
    return root


@pytest.fixture(autouse=True)
def _elsewhere(shards, monkeypatch, tmp_path):
    monkeypatch.setattr(flow_data, "ROOT", shards)
    monkeypatch.setattr(loop, "ROOT", tmp_path)


def recipe_of(name="flow", steps=4):
    device = torch.device("cpu")
    return Recipe(name, steps, 1e9, 1e-3, 2, 0, device, torch.float32, None, optimiser="muon", warmup=2)


def fitting(**options):
    torch.manual_seed(0)
    return flow.Fitting(recipe_of(), Namespace(**vars(OPTIONS) | options))


def random_transformer():
    torch.manual_seed(0)
    made = make_transformer(12, 128, 128, 64, head=32, double=2, single=2)
    for weight in made.parameters():  # modulations begin at nought, where nothing would be seen
        torch.nn.init.normal_(weight, std=0.1 if weight.dim() < 2 else weight.shape[-1] ** -0.5)
    return made.eval()


def record(transformer, rows, text=8, side=4):
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        return transformer(
            hidden_states=drawn(rows, side**2, 48), encoder_hidden_states=drawn(rows, text, 128),
            pooled_projections=drawn(rows, 128), timestep=torch.rand(rows, generator=generator),
            img_ids=positions(side, 16), txt_ids=torch.zeros(text, 3), return_dict=False,
        )[0]  # fmt: skip


def test_training_attention_is_stock_attention():
    transformer = random_transformer()
    stock = record(transformer, 2)
    prepared(transformer)
    torch.testing.assert_close(record(transformer, 2), stock, rtol=1e-4, atol=1e-4)


def test_a_picture_beside_its_mate_is_a_canvas_of_both():
    """Image queries of a pair, against the stock processor on one canvas with a mask that hides the other's words."""
    transformer, text, tokens = random_transformer(), 5, 4
    block, dim = transformer.transformer_blocks[0].attn, 64
    image, words = torch.randn(2, tokens, dim), torch.randn(2, text, dim)
    ids = positions(2, 4)
    other = [slice(text, 2 * text), slice(0, text)]
    own = [slice(2 * text, 2 * text + tokens), slice(2 * text + tokens, None)]
    canvas = torch.empty(2, tokens, dim)
    for half in range(2):  # each at its own place, the mate to its right or left
        away = torch.tensor([0, 0, 4 if half == 0 else -4])
        places = [torch.zeros(2 * text, 3), ids if half == 0 else ids + away, ids + away if half == 0 else ids]
        allowed = torch.ones(2 * (text + tokens), 2 * (text + tokens), dtype=torch.bool)
        allowed[own[half], other[half]] = False
        tables = transformer.pos_embed(torch.cat(places))
        whole = block(image.flatten(0, 1)[None], words.flatten(0, 1)[None], allowed, tables)[0]
        canvas[half] = whole[0].unflatten(0, (2, tokens))[half]
    pairs = prepared(transformer)
    beside = [transformer.pos_embed(ids + torch.tensor([0, 0, 4 * sign])) for sign in (1, -1)]
    rotary = tuple(torch.stack(part) for part in zip(*beside, strict=True))
    mine = transformer.pos_embed(torch.cat([torch.zeros(text, 3), ids]))
    with pairs.reading("beside", range(4), text, rotary):
        both = block(image, words, None, mine)[0]
    torch.testing.assert_close(both, canvas, rtol=1e-4, atol=1e-5)


def test_readers_take_the_photos_keys_where_they_are_told_to():
    transformer = random_transformer()
    stock = record(transformer, 4)
    pairs = prepared(transformer)
    with pairs.reading("instead", range(2, 4), 8):
        read = record(transformer, 4)
    torch.testing.assert_close(read[:2], stock[:2], rtol=1e-4, atol=1e-4)  # photos read themselves
    assert not torch.allclose(read[2:], stock[2:], atol=1e-2)
    torch.testing.assert_close(record(transformer, 4), stock, rtol=1e-4, atol=1e-4)


def test_packing_is_flux_pipelines():
    z = torch.randn(2, 12, 8, 8)
    stock = FluxPipeline._pack_latents(z, 2, 12, 8, 8)
    assert torch.equal(pack(z), stock)
    assert torch.equal(unpack(stock, 4), z)
    ids = FluxPipeline._prepare_latent_image_ids(1, 16, 16, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(positions(16, 16), ids)


def test_shards_hold_pictures_their_mirror_images_and_parts():
    held = flow_data.Shards("train")
    assert len(held) == 4
    z, parts = held.take("latents", np.array([3, 3]), np.array([0, 1]))
    small, _ = held.take("small", np.array([3]), np.array([0]))
    assert (z.shape, small.shape, parts.shape) == ((2, 12, 32, 32), (1, 12, 16, 16), (2, 7, 16, 16))
    torch.testing.assert_close(parts[0].flip(-1), parts[1])
    torch.testing.assert_close(parts.sum(1), torch.ones(2, 16, 16), atol=0.02, rtol=0)
    vae, picture = flow_data.shipped_vae(), render(sample_spec(3), 256)
    truth = torch.from_numpy(picture.image).float() / 127.5 - 1
    for row, image in ((z[0], truth), (z[1], truth.flip(1))):
        with torch.no_grad():
            rebuilt = vae.decode(row[None].float() / vae.config.scaling_factor).sample[0].permute(1, 2, 0)
        assert (rebuilt - image).square().mean() < 0.01
    subject = torch.from_numpy(picture.mask).float().mean()
    torch.testing.assert_close(1 - parts[0, 0].mean(), subject, atol=0.01, rtol=0)


def test_drawing_goes_on_where_it_stopped(shards):
    path = shards / "flow-data" / "train"
    before = {file.name: file.stat().st_mtime_ns for file in path.glob("*.safetensors")}
    flow_data.draw("train", 4, torch.device("cpu"), 1, shard=2)
    assert before == {file.name: file.stat().st_mtime_ns for file in path.glob("*.safetensors")}
    assert len(before) == 2


def test_the_teacher_sees_the_same_picture_and_noise():
    """What the U-Net is shown has the latents and the noise in its own schedule's proportions."""
    seen = []
    teacher = flow.Teacher(torch.device("cpu"))

    def unet(noisy, timestep, clip, return_dict):
        seen.append((noisy, timestep))
        return (noise,)

    z, noise = torch.randn(3, 12, 16, 16), torch.randn(3, 12, 16, 16)
    teacher.unet = unet
    level = torch.tensor([0.1, 0.5, 0.86])
    at = level[:, None, None, None]
    velocity = teacher.velocity((1 - at) * z + at * noise, level, torch.empty(0))
    torch.testing.assert_close(velocity, noise - z, rtol=1e-3, atol=1e-3)  # told the noise itself
    (noisy, timestep) = seen[0]
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod[timestep.round().long()][:, None, None, None]
    own = alphas.sqrt() * z / flow_data.LOUDNESS + (1 - alphas).sqrt() * noise
    torch.testing.assert_close(noisy, own, rtol=0.02, atol=0.02)


def test_levels_are_shifted_towards_noise():
    torch.manual_seed(0)
    plain, shifted = flow.drawn_levels(20_000, 1.0), flow.drawn_levels(20_000, 3.0)
    assert plain.mean() == pytest.approx(0.5, abs=0.01)
    assert shifted.median() == pytest.approx(0.75, abs=0.02)
    assert 0 < shifted.min() < shifted.max() < 1


def randomised(fit):
    torch.manual_seed(0)
    for weight in fit.module.transformer.parameters():  # at nought nothing passes
        torch.nn.init.normal_(weight, std=0.05)
    return fit


def test_the_recipe_draws_what_the_stock_pipeline_draws():
    fit = randomised(fitting())
    with torch.no_grad():
        ours = fit.draw(["a dog", "a red mug"], "latents", steps=2, guidance=2.0)
    stock = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**FLOW_SCHEDULE), vae=fit.vae, text_encoder=fit.clip,
        tokenizer=fit.clip_tokenizer, text_encoder_2=fit.module.text, tokenizer_2=fit.tokenizer,
        transformer=fit.module.transformer,
    )  # fmt: skip
    for block in (*stock.transformer.transformer_blocks, *stock.transformer.single_transformer_blocks):
        block.attn.set_processor(FluxAttnProcessor())
    stock.set_progress_bar_config(disable=True)
    images = stock(
        ["a dog", "a red mug"], negative_prompt=["", ""], true_cfg_scale=2.0, height=256, width=256,
        num_inference_steps=2, max_sequence_length=32, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
    ).images  # fmt: skip
    torch.testing.assert_close(ours, images, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("how", ["beside", "instead"])
def test_pairs_teach(how):
    share = {"diptychs": 1.0} if how == "beside" else {"readings": 1.0}
    fit = randomised(fitting(small=0, **share))
    loss, numbers = fit.loss_at(0)
    loss.backward()
    assert f"latents {how}" in numbers
    assert fit.module.text.shared.weight.grad.abs().sum() > 0
    assert fit.pairs.how == "alone"


class Killed(Exception):
    """Stands for the machine going away."""


def test_a_killed_run_goes_on_and_its_pipeline_loads_in_stock_diffusers(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))  # a checkpoint after every step

    def fit(name, kill_at=None):
        made = fitting()

        def loss_at(step):
            if step == kill_at:
                raise Killed
            return made.loss_at(step)

        return loop.train(recipe_of(name), made.module, loss_at, made.evaluate)

    unbroken = fit("unbroken")
    with pytest.raises(Killed):
        fit("broken", kill_at=3)
    resumed = fit("broken")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    curve = (tmp_path / "broken" / "curve.csv").read_text().splitlines()
    assert curve[0] == "step,minutes,name,value"
    assert {"small alone", "latents alone", "held-out/v"} <= {line.split(",")[2] for line in curve}
    assert len(list((tmp_path / "broken").glob("*.part"))) == 0

    sizes = exported(tmp_path / "broken" / "last.pt", tmp_path / "pipeline", "1+2")
    assert sizes["together"] < 45
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    assert type(pipeline) is FluxPipeline
    for name, weight in pipeline.transformer.state_dict().items():
        torch.testing.assert_close(weight, resumed[f"transformer.{name}"], rtol=1e-3, atol=1e-5)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a dog", negative_prompt="", true_cfg_scale=2.0, height=256, width=256, num_inference_steps=1,
        max_sequence_length=32,
    ).images[0]  # fmt: skip
    assert image.size == (256, 256)


def test_the_tokenizer_knows_the_words_of_captions_in_any_case_and_every_letter(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    for one in (tokenizer, loaded):
        assert one.tokenize("A striped Dog, facing left") == ["▁a", "▁striped", "▁dog", ",", "▁facing", "▁left"]
        assert one("a dog").input_ids == one("A DOG").input_ids
        assert one("a dog").input_ids[-1] == one.eos_token_id
        record = " ".join(caption(sample_spec(number), np.random.default_rng(number)).text for number in range(200))
        assert all(len(piece) > 2 or piece in ("▁a", ",") for piece in one.tokenize(record))
        assert one.unk_token_id not in one("zyxwv <new1> it's (a) 50% #7").input_ids


def test_every_training_set_has_seeds_of_its_own():
    assert flow_data.FIRST["held-out"] >= 10_000_000
    assert data.spec_of("mates", 3).identity == data.spec_of("train", 3).identity
