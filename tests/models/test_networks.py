"""The networks that are named are the ones that their papers define."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from certdicom.errors import BundleError
from certdicom.models.networks import build_network
from certdicom.models.networks.pointwise import StridedPointwise
from certdicom.models.networks.resunet_plus_plus import ResidualUnit
from certdicom.models.networks.unet import UNet

SMALL = {
    "UNet": {"architecture": "UNet", "channels": 1, "structures": 2, "width": 8, "depth": 2, "norm": "batch", "dropout": 0.0},
    "UNet on patches": {
        "architecture": "UNet",
        "channels": 1,
        "structures": 2,
        "widths": [8, 12, 20],
        "patch": 2,
        "norm": "batch",
        "dropout": 0.0,
    },
    "ResUNet++": {"architecture": "ResUNet++", "channels": 1, "structures": 2, "width": 8},
    "DeepLabV2": {"architecture": "DeepLabV2", "channels": 1, "structures": 2, "width": 8, "blocks": [1, 1, 2, 1]},
}


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def on_meta(**description: object) -> nn.Module:
    with torch.device("meta"):
        return build_network(description)


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize("description", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_of_the_grid_gets_one_logit_per_structure(description: dict[str, object], channels: int) -> None:
    network = build_network({**description, "channels": channels, "structures": 3}).eval()
    assert network(torch.rand(2, channels, 64, 48)).shape == (2, 3, 64, 48)


@pytest.mark.parametrize("description", SMALL.values(), ids=SMALL)
def test_every_parameter_gets_a_gradient(description: dict[str, object]) -> None:
    torch.manual_seed(1)
    network = build_network(description).train()
    network(torch.rand(2, 1, 64, 64)).square().sum().backward()
    assert not [name for name, value in network.named_parameters() if value.grad is None or not torch.isfinite(value.grad).all()]
    idle = [name for name, value in network.named_parameters() if name.endswith("weight") and not value.grad.any()]
    assert not [name for name in idle if "squeeze" not in name and "excite" not in name], "one hidden unit, which may be off at first"
    assert len(idle) < 14


@pytest.mark.slow
@pytest.mark.parametrize("description", SMALL.values(), ids=SMALL)
def test_a_small_one_learns_where_bright_squares_are(description: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = build_network(description).train()
    images, masks = torch.full((8, 1, 32, 32), 0.3), torch.zeros(8, 1, 32, 32)
    for index in range(8):
        row, column = divmod(index, 3)
        masks[index, :, 4 + 6 * row : 16 + 6 * row, 4 + 6 * column : 16 + 6 * column] = 1
    images = images + 0.4 * masks + 0.05 * torch.randn(images.shape)
    targets = torch.cat([masks, 1 - masks], dim=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(images), targets).backward()
        optimizer.step()
    correct = float(((network(images) > 0) == (targets > 0)).float().mean())
    assert correct > 0.95


def test_unet_has_the_size_of_the_paper() -> None:
    """23 convolutional layers, 572 pixels in for 388 out (Ronneberger 2015, Figure 1 and section 2), 31.03 million parameters."""
    network = on_meta(architecture="UNet", channels=1, structures=2)
    assert len(convolutions(network)) == 23
    assert parameters(network) == 31_030_658
    thin = UNet(channels=1, structures=2, width=2).eval()
    with torch.no_grad():
        assert thin.contract_and_expand(torch.rand(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_unet_mirrors_the_surround_that_its_convolutions_eat() -> None:
    network = UNet(channels=1, structures=1, width=2, depth=2, dropout=0.0).eval()
    image = torch.rand(1, 1, 40, 33)
    with torch.no_grad():
        inside = network.contract_and_expand(nn.functional.pad(image, (21, 22, 20, 20), mode="reflect"))
        assert network(image).shape == image.shape
        torch.testing.assert_close(network(image), inside[..., 1:34])


def test_unet_sees_as_far_as_its_convolutions_reach() -> None:
    """Depth 2: two convolutions at 1, 2, 4, 2 and 1 times the pixel reach 20 pixels, the poolings and risings up to 3 more."""
    network = UNet(channels=1, structures=1, width=2, depth=2, dropout=0.0).eval().double()
    for value in network.parameters():
        value.data.abs_()
    image = torch.rand(1, 1, 84, 84, dtype=torch.float64, requires_grad=True)
    logits = network.contract_and_expand(image)
    lost = 84 - logits.shape[-1]
    assert lost == 44 - 4
    logits[0, 0, 20, 20].backward()
    touched = image.grad[0, 0].abs().sum(0).nonzero().flatten()
    middle = 20 + lost // 2
    assert middle - 23 <= int(touched.min()) < middle - 12
    assert middle + 12 < int(touched.max()) <= middle + 23


def test_unet_refuses_a_padding_or_norm_it_does_not_have() -> None:
    with pytest.raises(BundleError, match="padding must be mirror or zero"):
        build_network({**SMALL["UNet"], "padding": "circular"})


def test_unet_takes_the_channels_of_every_level() -> None:
    doubling = build_network({**SMALL["UNet"], "widths": [8, 16, 32]})
    assert [p.shape for p in doubling.parameters()] == [p.shape for p in build_network(SMALL["UNet"]).parameters()]
    uneven = build_network({**SMALL["UNet"], "widths": [4, 12, 14, 20]})
    with torch.no_grad():
        assert uneven(torch.rand(1, 1, 24, 40)).shape == (1, 2, 24, 40)
    for nothing in ([4], [4, 0], [4, "many"]):
        with pytest.raises(BundleError, match="widths must be the channels of two levels or more"):
            build_network({**SMALL["UNet"], "widths": nothing})


def test_unet_on_patches_tells_the_pixels_of_a_patch_apart() -> None:
    network = build_network({**SMALL["UNet"], "patch": 2}).eval()
    assert network.down[0][0].weight.shape[:2] == (8, 4)
    image = torch.rand(1, 1, 16, 24)
    with torch.no_grad():
        logits = network(image)
        assert logits.shape == (1, 2, 16, 24)
        assert not torch.equal(logits[..., ::2], logits[..., 1::2])
        network.head.weight.zero_()
        network.head.bias.copy_(torch.arange(8.0))
        assert network(image)[0, 1, :2, :2].tolist() == [[4, 5], [6, 7]]  # channels of the second structure, row by row


def test_resunet_plus_plus_has_the_size_of_the_authors_network() -> None:
    """4,070,385 values with the running statistics, as Keras counts the authors' network for colour and one structure."""
    network = on_meta(architecture="ResUNet++", channels=3, structures=1)
    statistics = sum(value.numel() for name, value in network.named_buffers() if "running" in name)
    assert parameters(network) + statistics == 4_070_385
    assert parameters(on_meta(architecture="ResUNet++", channels=3, structures=1, width=32)) == 16_228_001


def test_resunet_plus_plus_bridges_at_an_eighth_and_squeezes_every_unit() -> None:
    network = build_network(SMALL["ResUNet++"]).eval()
    seen: list[torch.Size] = []
    network.bridge.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    network(torch.rand(1, 1, 64, 64))
    assert seen == [(1, 128, 8, 8)]
    assert sum(isinstance(module, ResidualUnit) for module in network.modules()) == 7
    assert [branch[0].dilation[0] for branch in network.bridge.branches] == [6, 12, 18, 1]


def test_squeeze_and_excitation_scales_whole_channels() -> None:
    unit = ResidualUnit(4, 8).eval()
    with torch.no_grad():
        x = torch.rand(1, 4, 16, 16)
        plain = unit.residual(x) + unit.shortcut(x)
        factors = unit(x) / plain
    assert float((factors - factors.mean((-2, -1), keepdim=True)).abs().max()) < 1e-3
    assert 0 < float(factors.min()) < float(factors.max()) < 1


def test_resunet_plus_plus_attends_with_the_encoder() -> None:
    """A decoder's features are multiplied by what comes from the encoder: zero features stay zero whatever the encoder says."""
    network = build_network(SMALL["ResUNet++"]).eval()
    skip, below = torch.rand(1, 32, 16, 16), torch.rand(1, 128, 8, 8)
    assert not torch.equal(network.attention[0](skip, below), network.attention[0](2 * skip, below))
    assert not network.attention[0](skip, torch.zeros_like(below)).any()


def test_deeplab_v2_has_the_size_of_the_paper() -> None:
    """ResNet-101's 42,500,160 parameters without its classifier, and four 3 × 3 classifiers of 21 classes on 2048 channels."""
    network = on_meta(architecture="DeepLabV2", channels=3, structures=21)
    assert parameters(network.aspp) == 4 * (2048 * 9 + 1) * 21
    assert parameters(network) == 42_500_160 + parameters(network.aspp) == 44_048_532
    assert len(convolutions(network.stem)) + 3 * len(network.backbone) + 1 == 101, "100 convolutions and a classifier"


def test_a_strided_pointwise_convolution_is_that_of_torch() -> None:
    ours = StridedPointwise(3, 5, stride=2, bias=True)
    theirs = nn.Conv2d(3, 5, 1, stride=2)
    theirs.load_state_dict(ours.convolution.state_dict())
    x = torch.rand(2, 3, 7, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_deeplab_v2_keeps_an_eighth_of_the_sides_and_dilates_instead() -> None:
    network = build_network(SMALL["DeepLabV2"]).eval()
    assert network.backbone(network.stem(torch.rand(1, 1, 321, 321))).shape[-2:] == (41, 41), "the paper's crop and its score map"
    dilations = [module.dilation[0] for module in convolutions(network.backbone) if module.kernel_size == (3, 3)]
    assert dilations == [1, 1, 2, 2, 4]
    assert [classifier.dilation[0] for classifier in network.aspp] == [6, 12, 18, 24]


def test_deeplab_v2_may_enlarge_small_images_first() -> None:
    network = build_network({**SMALL["DeepLabV2"], "enlarge": 2}).eval()
    plain = build_network(SMALL["DeepLabV2"]).eval()
    plain.load_state_dict(network.state_dict())
    seen: list[torch.Size] = []
    network.stem.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    image = torch.rand(1, 1, 64, 48)
    assert network(image).shape == (1, 2, 64, 48)
    assert seen == [(1, 1, 128, 96)]
    large = plain(nn.functional.interpolate(image, scale_factor=2.0, mode="bilinear"))
    torch.testing.assert_close(
        network(image), nn.functional.interpolate(large, (64, 48), mode="bilinear", align_corners=True), atol=0.05, rtol=0
    )
    with pytest.raises(BundleError, match="enlarge must be a whole number"):
        build_network({**SMALL["DeepLabV2"], "enlarge": 0})


def test_a_mean_is_the_mean_of_its_members_logits_each_on_its_own_grid() -> None:
    members = [
        {name: value for name, value in SMALL[kind].items() if name not in ("channels", "structures")}
        for kind in ("UNet", "ResUNet++", "DeepLabV2")
    ]
    members[1]["factor"] = 2
    network = build_network({"architecture": "Mean", "channels": 1, "structures": 2, "members": members}).eval()
    image = torch.rand(2, 1, 64, 48)
    first, second, third = network.members
    coarse = nn.functional.interpolate(second(nn.functional.avg_pool2d(image, 2)), scale_factor=2.0, mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(network(image), (first(image) + coarse + third(image)) / 3)
    for nothing in ([], [{"architecture": "UNet", "depth": 0, "wings": 2}]):
        with pytest.raises(BundleError):
            build_network({"architecture": "Mean", "channels": 1, "structures": 2, "members": nothing})
