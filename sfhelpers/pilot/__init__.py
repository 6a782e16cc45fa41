"""The paper's pilot study (SketchFusion, Sec. 4, Fig. 1): PCA maps, Fourier spectra, and numbers beside them."""

from sfhelpers.pilot.agreement import foreground_auc, keypoint_agreement, linear_cka, similar_positions
from sfhelpers.pilot.maps import INJECTIONS, SOURCES, FeatureMaps, Settings
from sfhelpers.pilot.pairs import ToyPairs, folder_pairs, spread_categories, toy_pairs
from sfhelpers.pilot.pca import BASES, PCA, fit_pca, pca_maps, project
from sfhelpers.pilot.spectra import band_pass, coloured_noise, low_frequency_share, power, radial_profile, spectrum
from sfhelpers.pilot.study import Score, baselines, by_part, compare, measure, pair_maps, sweep, yardsticks

__all__ = [
    "BASES",
    "INJECTIONS",
    "PCA",
    "SOURCES",
    "FeatureMaps",
    "Score",
    "Settings",
    "ToyPairs",
    "band_pass",
    "baselines",
    "by_part",
    "coloured_noise",
    "compare",
    "fit_pca",
    "folder_pairs",
    "foreground_auc",
    "keypoint_agreement",
    "linear_cka",
    "low_frequency_share",
    "measure",
    "pair_maps",
    "pca_maps",
    "power",
    "project",
    "radial_profile",
    "similar_positions",
    "spectrum",
    "spread_categories",
    "sweep",
    "toy_pairs",
    "yardsticks",
]
