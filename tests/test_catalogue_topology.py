"""The networks of the topology family: every layer by the name of its paper, cropped, and timed at full size."""

from math import prod

import pytest

from harness.catalogue import load_catalogue
from harness.spec import ConvSpec

CATALOGUE = load_catalogue()
TOPOLOGY = [c for c in CATALOGUE.cases if c.family == "topology"]


def blocks(count, *parts):
    return [f"block{i}-{p}" for i in count for p in parts]


#: The distinct layers of each network; a layer that repeats an earlier one's specification has its name.
LAYERS = {
    "lenet": ["c1", "s2", "c3", "s4", "c5"],
    "alexnet": ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"],
    "vgg16": [
        *(f"conv{n}" for n in ("1-1", "1-2", "2-1", "2-2", "3-1", "3-2", "4-1", "4-2", "5-1")),
        *(f"pool{i}" for i in range(1, 6)),
    ],
    "resnet50": [
        "conv1", "pool1", "pool5",
        *(f"res{i}a-branch{b}" for i in (2, 3, 4, 5) for b in ("1", "2a", "2b")),
        *(f"res{i}a-branch2c" for i in (3, 4, 5)),
        *(f"res{i}b-branch2a" for i in (2, 3, 4, 5)),
    ],
    "mobilenetv2": [
        "conv1", *blocks([1], "dw", "project"), *blocks([2, 3, 5, 8, 12], "expand", "dw", "project"),
        *blocks([4, 7, 14], "dw", "project"), "block11-project", "block15-expand", "block15-project",
        "block17-dw", "block17-project", "conv-last", "avgpool", "classifier",
    ],
    "googlenet": [
        "conv1", "pool1", "conv2-reduce", "conv2", "pool2", "pool3", "pool4",
        *(f"{m}-{b}" for m in ("3a", "3b", "4b", "4d", "4e", "5a", "5b")
          for b in ("1x1", "3x3-reduce", "3x3", "5x5-reduce", "5x5")
          if (m, b) not in {("3b", "3x3-reduce"), ("4d", "1x1")}),  # those of 3b-1x1 and 4b-3x3-reduce
        *(f"{m}-pool-proj" for m in ("3a", "3b", "4a", "4b", "4e", "5a")), "avgpool",
    ],
    "inceptionv3": [
        *(f"conv{i}" for i in range(1, 6)), "pool1", "pool-avg", "mixed0-5x5", "mixed3-3x3", "mixed8-3x3",
        *(f"mixed{i}-{k}" for i in (4, 5, 7) for k in ("1x7", "7x1")),
        *(f"mixed{i}-7x7dbl-{k}" for i in (4, 5) for k in ("1x7", "7x1")), "mixed7-1x3", "mixed7-3x1",
    ],
    "unet": [
        *(f"enc{i}-conv{j}" for i in range(1, 6) for j in (1, 2)), *(f"dec{i}-conv{j}" for i in range(1, 5) for j in (1, 2)),
        *(f"{n}{i}" for n in ("pool", "up") for i in range(1, 5)), "final",
    ],
    "wavenet": ["causal", *(f"dilated-{2**i}" for i in range(10)), "residual-1x1", "skip-1x1", "post-1x1"],
    "tcn": ["block-in", *(f"block-d{2**i}" for i in range(7)), "residual-1x1"],
    "c3d": ["conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", *(f"pool{i}" for i in range(1, 6))],
}  # fmt: skip


@pytest.mark.parametrize("net", LAYERS)
def test_a_network_has_every_distinct_layer(net):
    missing = [name for name in LAYERS[net] if f"topology-{net}-{name}" not in CATALOGUE.by_id]
    assert missing == []


def test_every_network_is_in_the_gate():
    nets = {c.id.split("-")[1] for c in TOPOLOGY if "gate" in c.suites}
    assert nets == set(LAYERS)


def test_few_of_the_gates_cases_have_large_weights():
    """Making and checking four megabytes of weights takes a second."""
    large = [
        c.id for c in CATALOGUE.select(["gate"])
        if c.spec and c.spec.w_shape and prod(c.spec.w_shape) * c.spec.in_type.itemsize > 4e6
    ]  # fmt: skip
    assert len(large) <= 3, large


def test_a_layer_is_timed_at_full_size_unless_it_is_whole_or_very_large():
    """Left without a twin: what is no crop (LeNet-5) and eight layers of U-Net, of 19 GFLOP and more."""
    alone = {c.id.removeprefix("topology-") for c in TOPOLOGY if c.crop_of is None}
    assert {n for n in alone if not n.startswith(("lenet-", "unet-"))} <= {"resnet50-pool5"}
    assert sum(n.startswith("unet-") for n in alone) == 8
    assert max(c.spec.flops for c in CATALOGUE.select(["perf"])) < 22e9


def test_the_layers_of_the_papers_have_the_papers_numbers():
    """A few, written again from the papers' tables."""
    for name, spec in (
        ("perf-mobilenetv2-block7-project", ConvSpec("conv", (14, 14), (1, 1), in_channels=192, out_channels=64)),
        ("perf-googlenet-4b-5x5", ConvSpec("conv", (14, 14), (5, 5), in_channels=24, out_channels=64, padding=((2, 2),) * 2)),
        ("perf-unet-up2", ConvSpec("conv_transpose", (52, 52), (2, 2), in_channels=512, out_channels=256, stride=(2, 2))),
        ("perf-c3d-conv5a", ConvSpec("conv", (2, 7, 7), (3,) * 3, in_channels=512, out_channels=512, padding=((1, 1),) * 3)),
    ):
        assert CATALOGUE.by_id[name].spec == spec, name
