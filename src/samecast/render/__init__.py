"""The first job: one subject, any scenes. A request is read and checked, worked on, and comes back as a result."""

from samecast.render.find import MaskSearch
from samecast.render.found import FoundMask
from samecast.render.model import Model, load
from samecast.render.result import Progress, Render, RenderResult

__all__ = ["FoundMask", "MaskSearch", "Model", "Progress", "Render", "RenderResult", "load"]
