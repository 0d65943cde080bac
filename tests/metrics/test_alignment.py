"""CLIP's and the ViT's alignment: unit vectors, pictures with their own captions, and clear refusals."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, ViTConfig, ViTImageProcessorPil, ViTModel

from samecast.diorama.captions import facts, phrase
from samecast.diorama.renderer import render_many
from samecast.diorama.scenes import HELD_OUT, sample_spec
from samecast.errors import SamecastError
from samecast.metrics.alignment import EMBEDDED, ClipScorer, load_clip, load_vit

SPECS = [sample_spec(HELD_OUT + number) for number in range(24)]
CAPTIONS = [phrase(facts(spec)) for spec in SPECS]


@pytest.fixture(scope="module")
def scorer() -> ClipScorer:
    return load_clip()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.fromarray(picture.image) for picture in render_many(SPECS, 128)]


def test_embeddings_are_unit_vectors_whatever_the_batch(scorer: ClipScorer, pictures: list[Image.Image]) -> None:
    together, apart = scorer.embed_images(pictures), scorer.embed_images(pictures, batch=5)
    assert torch.allclose(together, apart, atol=1e-5)
    assert torch.allclose(together.norm(dim=-1), torch.ones(len(pictures)), atol=1e-5)
    assert torch.allclose(scorer.embed_texts(CAPTIONS).norm(dim=-1), torch.ones(len(CAPTIONS)), atol=1e-5)


def test_a_picture_fits_its_own_caption_better_than_the_next_ones(
    scorer: ClipScorer, pictures: list[Image.Image]
) -> None:
    own = scorer.text_alignment(pictures, CAPTIONS)
    others = scorer.text_alignment(pictures, CAPTIONS[1:] + CAPTIONS[:1])
    assert sum(a > b for a, b in zip(own, others, strict=True)) >= 22
    cosines = scorer.embed_images(pictures) @ scorer.embed_texts(CAPTIONS).T
    assert torch.tensor(own) == pytest.approx(cosines.diagonal(), abs=1e-5)


def test_scores_agree_with_the_model_itself(scorer: ClipScorer, pictures: list[Image.Image]) -> None:
    model = CLIPModel.from_pretrained(EMBEDDED / "clip").eval()
    ids = scorer.tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    pixels = scorer.processor(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model(pixel_values=pixels, **ids).logits_per_image / model.logit_scale.exp()
    assert torch.tensor(scorer.text_alignment(pictures, CAPTIONS)) == pytest.approx(logits.diagonal(), abs=1e-5)


def test_image_alignment_is_the_mean_over_the_photos(scorer: ClipScorer, pictures: list[Image.Image]) -> None:
    both = scorer.image_alignment(pictures[:4], pictures[:2])
    each = [scorer.image_alignment(pictures[:4], [photo]) for photo in pictures[:2]]
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(*each, strict=True)], abs=1e-5)
    assert each[0][0] == pytest.approx(1.0, abs=1e-5)


def test_nothing_to_score_is_refused(scorer: ClipScorer, pictures: list[Image.Image]) -> None:
    with pytest.raises(ValueError, match="no pictures"):
        scorer.embed_images([])
    with pytest.raises(ValueError, match="no texts"):
        scorer.embed_texts([])
    with pytest.raises(ValueError, match="one prompt per picture"):
        scorer.text_alignment(pictures, CAPTIONS[:1])


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match="holds no CLIP model") as refusal:
        load_clip(tmp_path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(SamecastError, match="holds no vision transformer"):
        load_vit(tmp_path)


def test_a_vit_embeds_by_its_first_token(tmp_path: Path, pictures: list[Image.Image]) -> None:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    vit = ViTModel(config, add_pooling_layer=False).eval()
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    pixels = processor(images=pictures[:3], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(vit(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)
    scorer = load_vit(tmp_path)
    assert torch.allclose(scorer.embed_images(pictures[:3]), expected, atol=1e-5)
    assert scorer.image_alignment(pictures[:1], pictures[1:3]) == pytest.approx(
        [(expected[0] @ expected[1:].T).mean().item()], abs=1e-5
    )
