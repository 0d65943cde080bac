"""What the recipes do to networks and pictures before they train on them."""

import itertools
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from transformers import CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import samecast as sc
from samecast.diorama import captions
from samecast.diorama.captions import caption
from samecast.diorama.scenes import HELD_OUT, sample_spec
from training import clip, samples, ship, start, unet
from training.clip import MEAN, STD, Specs, small
from training.data import Pictures, draw, grow, mate, stray
from training.even import evening
from training.loop import Recipe
from training.mean import main as take_mean
from training.mean import mean
from training.measures import ATTRIBUTES, distinct_of, masked_psnr, pictures_of, stating
from training.probe import ABSENT, Album, roughen, zoomed
from training.routed import drawn_layers, route
from training.scale import gains, rescale
from training.vae import build, revived, weights_of, widened


def test_silent_latent_channels_start_afresh_and_the_others_stay():
    torch.manual_seed(0)
    vae = build(4, (8, 8, 8, 8)).eval()
    with torch.no_grad():
        vae.quant_conv.weight[:, 2] = 0
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = torch.tensor([-6.0, -6.0, 0.0, -6.0])
        x = torch.rand(2, 3, 32, 32) * 2 - 1
        again, spoke = revived(vae, x)
        before, after = vae.encode(x).latent_dist, again.eval().encode(x).latent_dist
    assert spoke.tolist() == [True, True, False, True]
    assert torch.allclose(before.mean[:, spoke], after.mean[:, spoke], atol=1e-6)
    assert not torch.allclose(before.mean[:, 2], after.mean[:, 2])
    assert (after.std < 0.5).all()


def test_a_rescaled_autoencoder_decodes_as_before_and_its_latents_are_as_loud_as_asked():
    torch.manual_seed(0)
    vae = build(4, (8, 8, 8, 8)).eval()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, gain = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([2.0, 0.5, 1.0, 3.0])
    with torch.no_grad():
        before = vae.encode(x).latent_dist
        picture = vae.decode(before.mean).sample
        rescale(vae, mean, gain)
        after = vae.encode(x).latent_dist
        again = vae.decode(after.mean).sample
    torch.testing.assert_close(after.mean, (before.mean - mean.view(-1, 1, 1)) * gain.view(-1, 1, 1))
    torch.testing.assert_close(after.std, before.std * gain.view(-1, 1, 1))
    torch.testing.assert_close(again, picture, rtol=1e-4, atol=1e-4)


def test_the_subject_counts_more_and_the_mean_weight_is_one():
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[:, :2, :2] = True
    weights = weights_of(masks, 3.0)
    assert weights.shape == (2, 1, 4, 4)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[0, 0, 0, 0] == pytest.approx(4 * weights[0, 0, 3, 3].item())
    assert torch.equal(weights_of(masks, 0.0), torch.ones(2, 1, 4, 4))


def test_quiet_channels_gain_more_than_loud_ones_but_stay_quieter():
    deviations = np.array([2.0, 1.0, 0.25])
    loud = deviations * gains(deviations, 2.0, 0.5)
    assert np.sqrt(np.mean(loud**2)) == pytest.approx(2.0)
    assert loud[0] / loud[2] == pytest.approx(np.sqrt(8.0))


def test_pictures_of_the_report_are_kept_and_not_made_again(tiny_pipeline_dir, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pipeline_dir, safety_checker=None)
    calls: list[int] = []
    pipeline.unet.register_forward_hook(lambda module, given, out: calls.append(len(given[0])))
    first = pictures_of(pipeline, ["a", "b"], 2, 3.0, tmp_path)
    assert calls == [4, 4]
    more = pictures_of(pipeline, ["a", "b", "a cat"], 2, 3.0, tmp_path)
    assert calls == [4, 4, 2, 2]
    assert [image.tobytes() for image in more[:2]] == [image.tobytes() for image in first]
    assert more[2].size == first[0].size


def test_a_widened_autoencoder_encodes_its_old_channels_as_before():
    torch.manual_seed(0)
    vae = build(3, (8, 8, 8, 8)).eval()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before, after = vae.encode(x).latent_dist.mean, widened(vae, 5).eval().encode(x).latent_dist.mean
    assert after.shape[1] == 5
    assert torch.allclose(before, after[:, :3], atol=1e-6)


def test_pictures_and_their_part_maps_are_zoomed_alike():
    torch.manual_seed(0)
    parts = torch.zeros(16, 128, 128, dtype=torch.long)
    parts[:, 40:90, 30:80] = 1
    x = parts.unsqueeze(1).expand(-1, 3, -1, -1).float()
    seen, where = zoomed(x, parts)
    moved = [not torch.equal(old, new) for old, new in zip(parts, where, strict=True)]
    assert 2 <= sum(moved) <= 14
    assert ((seen[:, 0] > 0.5) == (where == 1)).float().mean() > 0.995
    assert (where.sum((1, 2)) >= parts.sum((1, 2))).all()


@pytest.fixture
def text():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(**shape, vocab_size=64, max_position_embeddings=16)).eval()


def test_evening_the_context_out_changes_nothing_that_the_denoiser_says(text):
    plain = unet.build(4, (32, 32, 32, 32), 2, 32).eval()
    ids = torch.randint(64, (8, 16))
    z, timesteps = torch.randn(8, 4, 16, 16), torch.arange(0, 800, 100)
    with torch.no_grad():
        before = plain(z, timesteps, encoder_hidden_states=text(ids).last_hidden_state).sample
        both = unet.Conditioned(plain, text, ids)
        context = both.context(ids)
        during = plain(z, timesteps, encoder_hidden_states=context).sample
        after = both.folded(both.state_dict())(z, timesteps, encoder_hidden_states=text(ids).last_hidden_state).sample
    spread = torch.linalg.eigvalsh(torch.cov(context.flatten(0, 1).T))
    rows = text(ids).last_hidden_state.detach().flatten(0, 1)
    uneven = torch.linalg.eigvalsh(torch.cov(rows.T))
    assert torch.allclose(before, during, atol=1e-5)
    assert torch.allclose(before, after, atol=1e-5)
    assert spread.max() / spread.median() < uneven.max() / uneven.median()


def test_a_frozen_text_encoder_gets_no_gradient(text):
    plain, ids = unet.build(4, (32, 32, 32, 32), 2, 32), torch.randint(64, (8, 16))
    for learn in (True, False):
        both = unet.Conditioned(plain, text, ids, learn)
        assert both.context(ids).requires_grad == learn
        assert all(weight.requires_grad == learn for weight in text.parameters())


def test_classes_that_look_alike_are_drawn_more_often():
    specs = Specs(0, 400)
    odds = np.diff(samples.cumulative_odds(specs, 3.0), prepend=0)
    alike = np.array([spec.identity.kind in samples.LOOK_ALIKES for spec in specs.specs])
    assert odds.sum() == pytest.approx(1)
    assert odds[alike].mean() == pytest.approx(3 * odds[~alike].mean())


def test_a_text_encoder_that_is_not_clips_does_not_ship(text):
    class Holder:
        text_model = CLIPTextModel(text.config)

    with pytest.raises(SystemExit, match=r"training\.clip --text"):
        ship.checked(Holder(), text)
    Holder.text_model.load_state_dict(text.state_dict())
    assert ship.checked(Holder(), text) is text


def test_what_is_shipped_can_be_gone_on_from_and_shipped_again(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "ROOT", tmp_path)
    start.main()
    for part in ship.PARTS:
        assert (tmp_path / part / "model").is_dir()
        assert (tmp_path / part / "facts.json").exists()
    again = StableDiffusionPipeline.from_pretrained(ship.WEIGHTS / "diorama").unet.state_dict()
    there = UNet2DConditionModel.from_pretrained(tmp_path / "unet" / "model").state_dict()
    assert all(torch.equal(value, there[name]) for name, value in again.items())
    (tmp_path / "vae" / "facts.json").write_text("mine")
    start.main()
    assert (tmp_path / "vae" / "facts.json").read_text() == "mine"
    ship.checked(
        CLIPModel.from_pretrained(tmp_path / "clip" / "model"),
        CLIPTextModel.from_pretrained(tmp_path / "unet" / "text_encoder"),
    )


def test_the_mean_of_runs_is_a_run_that_says_what_it_is_of(tiny_pipeline_dir, tmp_path, monkeypatch):
    shares = {"one": 0.25, "two": 0.75}
    for number, run in enumerate(shares):
        torch.manual_seed(number)
        model = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(tiny_pipeline_dir / "unet"))
        model.save_pretrained(tmp_path / run / "model")
        (tmp_path / run / "facts.json").write_text(json.dumps({"steps": 10, "minutes": 2.0, "held_out": {}}))
    monkeypatch.setattr("training.mean.ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["mean", "--of", "one=0.25", "two=0.75", "--name", "both"])
    take_mean()
    models = [UNet2DConditionModel.from_pretrained(tmp_path / run / "model") for run in (*shares, "both")]
    one, two, both = (model.conv_in.weight for model in models)
    assert torch.allclose(both, 0.25 * one + 0.75 * two, atol=1e-6)
    record = json.loads((tmp_path / "both" / "facts.json").read_text())
    assert record == {"steps": 20, "minutes": 4.0, "mean_of": shares}
    with pytest.raises(ValueError, match="make up 1"):
        mean({}, {"one": 0.5})


def test_clip_is_trained_on_what_its_processor_makes():
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64, image_mean=list(MEAN), image_std=list(STD))
    images = np.random.default_rng(0).integers(256, size=(2, 128, 128, 3), dtype=np.uint8)
    made = processor(list(images), return_tensors="pt").pixel_values
    assert (small(images) - made).abs().max() < 0.03  # a level of 255 is 0.015 here


def test_a_mate_is_the_same_subject_in_another_scene():
    for number in range(20):
        spec, other = sample_spec(number), mate(number)
        assert other.identity == spec.identity
        assert other.scene != spec.scene
        assert mate(number) == other


def test_evening_makes_all_directions_as_long_and_goes_back():
    rows = torch.randn(500, 6) @ torch.diag(torch.tensor([10.0, 5.0, 1.0, 0.5, 0.1, 0.05]))
    even, back = evening(rows, 1e-9)
    assert torch.allclose((rows @ even).square().mean(0), torch.ones(6), atol=1e-3)
    assert torch.allclose(rows @ even @ back, rows, atol=1e-3)


def test_clip_takes_a_text_tower_as_it_is_and_hears_all_it_says():
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(ship.WEIGHTS / "diorama" / "tokenizer")
    text = CLIPTextModel.from_pretrained(ship.WEIGHTS / "diorama" / "text_encoder")
    model = clip.build(tokenizer, 128, 4)
    clip.lock(model, text, tokenizer)
    held = text.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in model.text_model.state_dict().items())
    assert not any(weight.requires_grad for weight in model.text_model.parameters())
    words = [f"a {view} {kind}" for kind in ("dog", "cat") for view in ("striped", "spotted")]
    ids = tokenizer(words, padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        raw, heard = text(**ids).pooler_output, model.get_text_features(**ids).pooler_output
    assert nearest(heard) < nearest(raw) - 0.05
    fitted = model.text_projection.weight.clone()
    clip.lock(model, text, tokenizer)
    assert torch.equal(model.text_projection.weight, fitted)  # a tower that is there already keeps its projection


def nearest(rows: torch.Tensor) -> float:
    """The largest cosine between two of these vectors."""
    rows = torch.nn.functional.normalize(rows, dim=-1)
    return (rows @ rows.T - 2 * torch.eye(len(rows))).max().item()


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 2)])
def test_a_file_of_rows_grows_in_place(tmp_path, shape):
    rows = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.save(tmp_path / "rows.npy", rows)
    for count in (3, 20_000, 20_000):
        grow(tmp_path / "rows.npy", count)
    grown = np.load(tmp_path / "rows.npy")
    assert grown.shape == (20_000, *shape[1:])
    assert np.array_equal(grown[: len(rows)], rows)
    assert not grown[len(rows) :].any()


def test_masked_psnr_counts_the_mask_alone():
    image, rebuilt = np.zeros((4, 4, 3), dtype=np.uint8), np.full((4, 4, 3), 200, dtype=np.uint8)
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = True
    rebuilt[0, 0] = 51
    assert masked_psnr(image, rebuilt, mask) == pytest.approx(-20 * np.log10(0.2))


def test_pictures_near_an_earlier_one_are_not_distinct():
    grey = np.full((8, 8, 3), 100.0, dtype=np.float32)
    assert distinct_of([grey, grey + 1, grey + 20, grey]) == 2
    assert distinct_of([grey, grey + 10, grey + 20]) == 3


def test_roughening_leaves_flat_pictures_flat_and_takes_detail_away():
    torch.manual_seed(0)
    flat = torch.full((8, 3, 128, 128), 0.4)
    fine = (torch.arange(128) % 2 * 2.0 - 1).expand(64, 3, 128, 128)
    rough = roughen(flat)
    assert (rough.mean((1, 2, 3)) - 0.4).abs().max() < 0.01
    assert rough.std() < 0.1
    kept = (roughen(fine) * fine).mean((1, 2, 3))
    assert (kept > 0.95).float().mean() > 0.25
    assert (kept < 0.9).float().mean() > 0.15


def test_captions_go_on_until_every_attribute_is_stated_so_often():
    rng, counts = np.random.default_rng(0), dict.fromkeys(ATTRIBUTES, 0)
    for spec in stating(HELD_OUT, 5):
        assert min(counts.values()) < 5
        for name in caption(spec, rng).states:
            counts[name] += 1
    assert min(counts.values()) == 5


@pytest.fixture
def renders(tmp_path, monkeypatch):
    """A folder with four pictures of each set, and latents that say which they are of."""
    monkeypatch.chdir(tmp_path)
    for number, (name, width) in enumerate((("train", 16), ("mates", 16), ("duos", 32), ("strays", 16))):
        draw(name, 0, 4, 2)
        latents = np.full((4, 2, 4, 16, width), 10 * number, dtype=np.float16)
        latents += np.arange(4, dtype=np.float16).reshape(4, 1, 1, 1, 1)
        np.save(tmp_path / "runs" / "data" / name / "latents.npy", latents)
    return tmp_path


def recipe_of(batch):
    return Recipe("unit", 1, 1.0, 1e-3, batch, 0, torch.device("cpu"), torch.float32, None)


def test_a_step_is_on_single_pictures_diptychs_or_duos(renders):
    drawn = samples.Samples(
        Namespace(diptychs=0.4, words=0.5, duos=0.3, animals=2.0, bare=0.3, agree=0.3, astray=0.0, readings=0.0)
    )
    counts, agreeing = dict.fromkeys(("eps", "diptychs", "duos"), 0), 0
    for step in range(60):
        kind, agrees, (z, shares, texts, *_) = drawn.at(recipe_of(4), step)
        agreeing += agrees
        assert not (agrees and (kind == "duos" or "" in texts))
        counts[kind] += 1
        assert z.shape == ((4, 4, 16, 16) if kind == "eps" else (2, 4, 16, 32))
        assert shares.shape == (len(z), 3, 16, z.shape[3])
        assert len(texts) == len(z) * (2 if kind == "diptychs" else 1)
        sets = z.div(10, rounding_mode="floor")
        if kind == "diptychs":  # one photo from each set, of one subject
            assert (sets[..., :16] + sets[..., 16:] == 1).all()
            assert torch.equal(z[..., :16] % 10, z[..., 16:] % 10)
        else:
            assert (sets == (2 if kind == "duos" else 0)).all()
            assert all((" and " in text) == (kind == "duos") or text == "" for text in texts)
    assert counts["diptychs"] > counts["duos"] / 2
    assert min(counts.values()) > 8
    assert 5 < agreeing < 25


def test_each_half_of_a_diptych_has_its_own_caption(renders):
    drawn = samples.Samples(
        Namespace(diptychs=0.4, words=0.3, duos=0.3, animals=2.0, bare=0.3, astray=0.0, readings=0.0)
    )
    rng, bare, record, empty = np.random.default_rng(0), 0, 0, 0
    for _ in range(100):
        z, _, texts, *_ = drawn.diptychs(rng, 2)
        for at, text in enumerate(texts):
            half = z[at // 2, 0, 0, 16 * (at % 2)].item()
            second, number = divmod(half, 10)
            spec = mate(int(number)) if second else sample_spec(int(number))
            if text == "":
                assert texts[at ^ 1] == ""
                empty += 1
                continue
            record += 1
            assert spec.identity.kind in text.replace(",", "").split()
            identity = spec.identity
            worn = captions.ACCESSORY_PHRASES[identity.accessory] if identity.accessory != "none" else ()
            bare += not any(word in text for word in (captions.facts(spec)["colour"], identity.pattern, *worn))
            for place, words in captions.BACKGROUND_PHRASES.items():
                assert place == spec.scene.background or not any(word in text for word in words)
    assert 20 < empty < 70
    assert 0.55 < bare / record < 0.85


def test_each_half_of_a_wide_canvas_hears_its_own_caption():
    torch.manual_seed(0)
    denoiser = unet.build(4, (16, 32, 32, 32), 4, 24)
    read, record = denoiser.down_blocks[0].attentions[0].transformer_blocks[0].attn2, torch.randn(4, 77, 24)
    for inner in (AttnProcessor(), AttnProcessor2_0()):
        route(denoiser, inner)
        canvases = torch.randn(2, 16, 32, 16)
        both = read(canvases.flatten(1, 2), encoder_hidden_states=record).view(canvases.shape)
        for canvas, half in itertools.product(range(2), range(2)):
            columns = slice(16 * half, 16 * half + 16)
            own = record[2 * canvas + half][None]
            alone = read(canvases[canvas, :, columns].reshape(1, 256, 16), encoder_hidden_states=own)
            torch.testing.assert_close(both[canvas, :, columns].reshape(1, 256, 16), alone)
        noisy, doubled = torch.randn(2, 4, 16, 32), record[::2].repeat_interleave(2, 0)
        one, two = (denoiser(noisy, 500, encoder_hidden_states=words).sample for words in (record[::2], doubled))
        torch.testing.assert_close(one, two)


def test_rows_read_others_at_the_layers_that_are_told_and_nowhere_else():
    torch.manual_seed(0)
    denoiser = unet.build(4, (16, 32, 32, 32), 4, 24).eval()
    noisy, record = torch.randn(3, 4, 16, 16), torch.randn(3, 77, 24)
    with torch.no_grad():
        plain = denoiser(noisy, 500, encoder_hidden_states=record).sample
        reading = route(denoiser, AttnProcessor())
        torch.testing.assert_close(
            denoiser(noisy, 500, encoder_hidden_states=record).sample, plain, rtol=1e-4, atol=1e-5
        )
        hidden, read = torch.randn(3, 256, 16), denoiser.down_blocks[0].attentions[0].transformer_blocks[0].attn1
        alone = read(hidden[:1], encoder_hidden_states=hidden[2:])
        with reading.reading(torch.tensor([2, 1, 2]), range(1)):
            torch.testing.assert_close(read(hidden)[:1], alone)
            seen = denoiser(noisy, 500, encoder_hidden_states=record).sample
        torch.testing.assert_close(seen[1:], plain[1:], rtol=1e-4, atol=1e-5)  # those who read themselves
        assert not torch.allclose(seen[0], plain[0], atol=1e-3)
        torch.testing.assert_close(
            denoiser(noisy, 500, encoder_hidden_states=record).sample, plain, rtol=1e-4, atol=1e-5
        )


def test_reading_counts_layers_as_rules_do():
    backbone = sc.load().backbone
    route(backbone.pipeline.unet, AttnProcessor())
    for layers in (backbone.self_attention(), backbone.cross_attention()):
        assert (
            [held.module.processor.layer for held in layers] == [held.layer.index for held in layers] == list(range(16))
        )


def test_layers_that_read_run_from_one_end_to_the_other():
    rng = np.random.default_rng(0)
    drawn = [drawn_layers(rng) for _ in range(2000)]
    counts = np.array([sum(layer in layers for layers in drawn) for layer in range(16)])
    assert all(len(layers) and (layers[0] == 0 or layers[-1] == 15) for layers in drawn)
    assert (abs(counts - 2000 * 17 / 32) < 150).all()


def test_who_reads_a_photo_is_judged_and_the_photo_is_not(renders):
    drawn = samples.Samples(
        Namespace(diptychs=0.0, readings=1.0, words=0.5, duos=0.0, animals=2.0, bare=0.3, astray=0.5)
    )
    rng, gone, empty = np.random.default_rng(0), 0, 0
    for _ in range(100):
        z, shares, texts, astray, read = held = drawn.readings(rng, 2)
        assert (len(z), len(shares), len(texts), read) == (4, 4, 4, 2)
        assert held.judged()[:, 0, 0, 0].tolist() == [False, False, True, True]
        assert texts[:2] == ["", ""]
        empty += texts[2:].count("")
        assert torch.equal(z[2:], z[:2] + 10)  # another photo of the same subject
        assert not astray[:2].any()
        gone += int((astray[2:, 0, 0, 0] == 20).sum())
    assert 70 < gone < 130
    assert 5 < empty < 40


def test_a_contradicted_caption_differs_in_the_background_alone(renders):
    drawn = samples.Samples(
        Namespace(diptychs=0.0, words=0.5, duos=0.0, animals=2.0, bare=0.3, astray=0.0, readings=0.0)
    )
    z, right, wrong = drawn.contradicted(4)
    assert len(z) == len(right) == len(wrong) == 4
    for number, (one, other) in enumerate(zip(right, wrong, strict=True)):
        places = [words[0] for words in captions.BACKGROUND_PHRASES.values()]
        record = [next(words for words in places if words in text) for text in (one, other)]
        assert record[0] == captions.BACKGROUND_PHRASES[sample_spec(number).scene.background][0]
        assert record[0] != record[1]
        assert one.replace(record[0], record[1]) == other


def test_a_subjects_parts_are_where_its_picture_has_them(renders):
    held = samples.Cached("duos")
    _, shares = held.take(np.array([1, 1]), np.array([0, 1]))
    torch.testing.assert_close(shares[1], shares[0].flip(-1))
    parts = Pictures("duos").parts[1]
    for number, part in enumerate((1, 2, 3)):
        seen = (parts == part).reshape(16, 8, 32, 8).mean((1, 3))
        torch.testing.assert_close(shares[0, number], torch.from_numpy(seen).float())


def test_each_part_of_a_subject_counts_the_same():
    shares = torch.zeros(2, 3, 4, 4)
    shares[0, 0, :2], shares[0, 1, 2, :3], shares[0, 2, 3, 0] = 1.0, 1.0, 0.5  # 8 tokens, 3, and half of one
    counts = samples.each_part_alike(shares)
    assert counts.shape == (2, 1, 4, 4)
    each = (8 + 3 + 0.5) / 3
    of = [(counts[0] * (shares[0, part] > 0)).sum().item() for part in range(3)]
    assert of == pytest.approx([each, each, each / 4])  # the last as if it had two
    assert counts[1].sum() == 0


def test_what_leads_astray_is_noise_that_leads_back():
    torch.manual_seed(0)
    alphas = torch.linspace(0.999, 0.005, 1000)
    z, astray, noise = torch.randn(3, 400, 4, 16, 32).unbind(0)
    timesteps = torch.randint(0, 1000, (400,))
    seen = unet.led_astray(noise, astray, timesteps, alphas)
    alpha = alphas[timesteps][:, None, None, None]
    noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * seen
    much = (
        (((noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt() - z) / astray).median(dim=3).values.median(dim=2).values
    )
    torch.testing.assert_close(much, much[:, :1].expand_as(much), rtol=1e-3, atol=1e-3)  # of one canvas all of it alike
    assert (much[timesteps <= 200].abs() < 1e-3).all()
    late = (timesteps > 200) & (timesteps < 400)
    assert (much[late].amax(1) <= (timesteps[late] - 200) / 300 + 1e-3).all()
    assert 0.4 < much[timesteps > 500].mean() < 0.6


def test_the_half_of_a_diptych_that_goes_astray_is_judged_alone(renders):
    drawn = samples.Samples(
        Namespace(diptychs=0.5, words=0.5, duos=0.0, animals=2.0, bare=0.3, astray=0.5, readings=0.0)
    )
    rng, gone, left = np.random.default_rng(0), 0, 0
    for _ in range(100):
        canvas = drawn.diptychs(rng, 2)
        judged = canvas.judged()
        assert judged.shape == (2, 1, 1, 32)
        for z, astray, seen in zip(canvas.z, canvas.astray, judged.view(2, 2, 16), strict=True):
            mates = z.div(10, rounding_mode="floor").view(4, 16, 2, 16) == 1
            moved = (astray != 0).view(4, 16, 2, 16)
            if not moved.any():
                assert seen.all()
                continue
            assert torch.equal(moved, mates)  # to the stray of the same number, all of it
            assert torch.equal((z + astray)[astray != 0], z[astray != 0] + 20)
            assert (seen[0].all(), seen[1].all()) == (mates[0, 0, 0, 0], mates[0, 0, 1, 0])
            gone, left = gone + 1, left + int(seen[0, 0])
    assert 70 < gone < 130
    assert 0.3 < left / gone < 0.7
    assert drawn.one(rng, 2).judged().all()


def test_a_stray_is_in_the_scene_of_the_mate_with_other_looks():
    for number in range(20):
        one, other = mate(number), stray(number)
        assert one.scene == other.scene
        assert (one.identity.kind, one.identity.legs) == (other.identity.kind, other.identity.legs)
        assert one.identity.base != other.identity.base


def test_what_reads_is_judged_on_the_subject_alone():
    shares = torch.zeros(4, 3, 16, 16)
    shares[:, 0, :4, :4] = 1.0
    z, texts = torch.zeros(4, 2, 16, 16), [""] * 4
    on = shares[:, :1] > 0
    alone, reads = samples.Drawn(z, shares, texts), samples.Drawn(z, shares, texts, torch.zeros_like(z), read=2)
    assert (alone.counts(3.0)[~on] == 1).all()
    assert (alone.counts(3.0)[on] == 4).all()
    for counts in (reads.counts(3.0), reads.counts(3.0, agrees=True), alone.counts(3.0, agrees=True)):
        assert (counts[on] == 1).all()
        assert counts[~on].sum() == 0


def test_the_probe_sees_renders_through_the_autoencoder_with_their_own_labels(renders):
    class Codec(torch.nn.Module):
        """Decodes a latent to a grey picture."""

        config = Namespace(scaling_factor=2.0)

        def decode(self, z, return_dict):
            return (z[:, :1].mean((2, 3), keepdim=True).expand(-1, 3, 128, 128) / 10,)

    plain = Album("mates", recipe_of(8), None, 0.0)
    through = Album("mates", recipe_of(8), Codec(), 1.0)
    first, second = (album.draw(np.random.default_rng(3)) for album in (plain, through))
    assert first[0].std() > 0.1
    assert torch.equal(second[0], second[0][:, :, :1, :1].expand_as(second[0]))
    for name in first[2]:
        assert torch.equal(first[2][name], second[2][name])
    kinds = {mate(index).identity.kind for index in range(4)}
    assert set(first[2]["kind"].tolist()) <= {
        ("dog", "cat", "bear", "duck", "chair", "mug").index(kind) for kind in kinds
    }
    assert ((first[2]["pose"] == ABSENT) == (first[2]["kind"] >= 4)).all()
    assert Pictures("duos").images.shape == (4, 128, 256, 3)
