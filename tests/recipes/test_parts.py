"""What the recipes do to networks and pictures before they train on them."""

import torch

from training.probe import zoomed
from training.vae import build, revived, widened


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
