"""The bench measures what it says it does, on tiny things; how long anything took is never asserted."""

import json
import sys

import numpy as np
import pytest
import torch

from sfhelpers.search import nearest as searching
from sfhelpers.search.nearest import nearest
from tools.bench import __main__ as bench
from tools.bench import galleries, steps, systems
from tools.bench.measuring import Time, compared, grown, on_a_line, rounds


def by_name(rows):
    return {row["what"]: row for row in rows}


def test_a_ratio_is_of_the_same_round_and_lines_and_powers_are_found():
    taken = {"one": [Time(1, 1), Time(10, 10), Time(2, 2)], "three": [Time(3, 4), Time(30, 40), Time(8, 8)]}
    one, three = compared(taken, "one", px=8)
    assert (one["ratio"], three["ratio"], three["ratios"], three["to"]) == (1, 3, [3, 4], "one")
    assert (three["seconds"], three["lowest"], three["highest"], three["wall"], three["px"]) == (8, 3, 30, 8, 8)
    assert on_a_line({1: Time(3, 4), 2: Time(5, 6), 4: Time(9, 10)}, 32) == pytest.approx((65, 66))
    assert grown("cubes", {n: 7 * n**3 for n in (2, 3, 5)})["exponent"] == pytest.approx(3)


def test_all_ways_are_gone_once_a_round_and_the_first_round_only_warms_up():
    order = []
    taken = rounds({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab" and {name: len(some) for name, some in taken.items()} == {"a": 2, "b": 2}


def test_the_ways_to_a_step_differ_in_time_alone_but_for_the_released_recipe(tiny_backbone, tmp_path):
    found = by_name(steps.steps(tiny_backbone, 1, 2, tmp_path, (1, 2)))
    kept = found.pop("kept")
    assert kept["largest difference"] < 1e-4
    assert kept["prefix and tokens, MB"] > kept["latents and tokens, MB"] > 0
    recipes = {f"released recipe, {n} copies" for n in (1, 2)} | {"released recipe, 32 copies, by a line"}
    ways = {steps.STORED, steps.HOOKS, "prefix in memory", "latents from the store"} | recipes
    assert found.keys() == {steps.PASS, "filling the store"} | ways
    assert {row["to"] for name, row in found.items() if name in ways} == {steps.STORED}


def test_the_released_recipe_sends_every_copy_through_autoencoder_and_unet_and_cuts_the_gradient(tiny_backbone):
    extractor = steps.extractor_as_released(steps.arm_of("fused", tiny_backbone, 0).extractor())
    images, sizes = steps.images_for(tiny_backbone, 2), {"vae": [], "unet": [], "text": []}
    diffusion = tiny_backbone.diffusion
    modules = {"vae": diffusion.vae.encoder, "unet": diffusion.unet, "text": diffusion.text_encoder}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: sizes[name].append(len(args[0])))
        for name, module in modules.items()
    ]
    try:
        steps.released(extractor, images, copies=3).square().mean().backward()
    finally:
        [hook.remove() for hook in hooks]
    assert sizes == {"vae": [3, 3], "unet": [3, 3], "text": [1, 1]}
    assert all(parameter.grad is None for parameter in extractor.injection.parameters())
    assert all(parameter.grad.any() for parameter in extractor.aggregator.parameters())


def test_layouts_and_attention_leave_the_backbone_as_it_was_and_growth_has_an_exponent(tiny_backbone):
    before = tiny_backbone.diffusion.unet.attn_processors
    found = by_name(steps.speed(tiny_backbone, 1, 4, compiled=False))
    assert {row["to"] for row in found.values()} == {
        "plain pass, as it is, with SDPA", "step, as it is, with SDPA", "8 draws of 4 images, one by one"
    }  # fmt: skip
    assert tiny_backbone.diffusion.unet.attn_processors == before and len(found) == 8
    grew = by_name(steps.growth(tiny_backbone, 1, most=8))
    assert [row["at"] for row in grew.values()] == [[1, 2, 4, 8], [48, 96, 144, 192], [1, 2, 4, 8]]
    assert all(np.isfinite(row["exponent"]) for row in grew.values())


def test_companions_widgets_and_reading_are_measured(tiny_backbone, vit_backbone, tmp_path):
    (tmp_path / "jpegs").mkdir()
    (read,) = systems.reading(1, tmp_path / "jpegs", number=3, size=64)
    assert read["photos a CPU second"] > 0
    told = [row["tensors with a gradient"] for row in systems.companions(vit_backbone, 4)]
    assert told == ["2 of 2", "36 of 36"]
    drawn = systems.widgets(tiny_backbone, 1, tmp_path)
    assert {row["what"].split(",")[0] for row in drawn} == {
        "PCAExplorer",
        "FrequencyExplorer",
        "SketchPad",
        "SketchSearch",
    }


def test_galleries_are_measured_and_what_is_found_is_right():
    scored = by_name(galleries.metrics(1, 5, (60, 50)))
    assert all(row["largest difference"] < 1e-6 for row in scored.values()) and len(scored) == 2
    rows = galleries.exact(1, 5000, (1, 8))
    assert max(row.get("largest difference", 0) for row in rows) < 1e-5 and "exponent" in rows[-1]


def test_the_table_keeps_what_other_parts_and_backbones_measured(tmp_path, monkeypatch, capsys, tiny_folder):
    rows = [{"what": "a way", "seconds": 2.0}]
    monkeypatch.setattr(galleries, "metrics", lambda repeats: rows)
    (path := tmp_path / "bench.json").write_text(json.dumps({"steps, pocket": {"rows": []}, "metrics": {}}))
    monkeypatch.setattr(sys, "argv", ["bench", "metrics", "--out", str(path)])
    bench.main()
    kept = json.loads(path.read_text())
    assert kept.keys() == {"metrics", "steps, pocket"} and kept["metrics"]["rows"] == rows
    assert kept["metrics"]["machine"]["threads"] == torch.get_num_threads()
    assert "a way" in capsys.readouterr().out and str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(("number", "k"), [(1, 1), (7, 7), (50, 3), (1000, 10), (1003, 100), (1600, 200)])
@pytest.mark.parametrize("block", [1, 20_000])
def test_the_nearest_are_those_of_sorting_everything(monkeypatch, number, k, block):
    monkeypatch.setattr(searching, "BLOCK", block)
    dice = torch.Generator().manual_seed(number)
    gallery, queries = torch.randn(number, 8, generator=dice), torch.randn(9, 8, generator=dice)
    scores, places = nearest(queries, gallery, k)
    expected = (queries @ gallery.T).topk(k, 1)
    torch.testing.assert_close(scores, expected.values)
    assert places.equal(expected.indices)
