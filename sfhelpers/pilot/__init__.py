"""The paper's pilot study (SketchFusion, Sec. 4, Fig. 1): PCA maps, Fourier spectra, and numbers beside them."""

from sfhelpers.pilot.features import BASES, band_pass, pca_maps, power, principal_components, radial_profile, spectrum
from sfhelpers.pilot.maps import INJECTIONS, SOURCES, FeatureMaps, Settings
from sfhelpers.pilot.pairs import ToyPairs, toy_pairs
