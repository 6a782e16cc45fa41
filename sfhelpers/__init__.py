"""SketchFusion in notebooks: frozen diffusion and CLIP features, fused for sketches and photos."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "load_backbone": "backbones",
    "FusedExtractor": "fusion",
    "load_dataset": "datasets",
    "Gallery": "search.gallery",
    "match": "search.searcher",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """The public names, fetched when they are first asked for: importing torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"sfhelpers has no {name!r}: it has {', '.join(__all__)} and its modules.")
    return getattr(import_module(f"sfhelpers.{_HOMES[name]}"), name)
