"""Fixtures that several test files share."""

from tests.backbone_fixtures import tiny_backbone, tiny_folder, two_images  # noqa: F401
from tests.search_helpers import gallery, heads, searcher  # noqa: F401
