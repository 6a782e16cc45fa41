"""What 02_fused_extractor says of pocket, from the run that its file shows."""

from tests.claims import shown

NOTEBOOK = "02_fused_extractor"


def test_the_trained_extractor_is_close_to_late_fusion():
    apart = shown(NOTEBOOK, r"fused against late fusion: f1 ([\d.]+)%, f2 ([\d.]+)%, f3 ([\d.]+)%")
    assert 0 < max(apart) < 5, "they differ by a few hundredths at most"


def test_a_random_start_stirs_the_last_branch_most():
    first, second, third = (shown(NOTEBOOK, rf"f{n}: a random start adds (\d+)% of")[0] for n in (1, 2, 3))
    assert 8 <= second <= 13 and second < first < third, "a tenth of f2, which is the largest; f3 is the smallest"
    assert third > 50, "more than half of f3"
