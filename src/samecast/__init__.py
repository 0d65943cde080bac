"""samecast: cast a subject once, render it in any scene.

    import samecast as sc

    model = sc.load()
    subject = sc.Subject(references=("rex.png",), class_noun="dog")
    out = model.render(subject, ["a dog running on the beach"], rules=sc.masactrl())
    out.renders[0].image.save("beach.png")

What needs torch is imported when it is first used, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from samecast.attention.methods import (
    consistory,
    dream_matcher,
    free_custom,
    masactrl,
    masactrl_auto_masked,
    masactrl_masked,
    masactrl_union,
    none,
    style_aligned,
)
from samecast.attention.rule import Rule, Rules
from samecast.core.settings import RenderSettings
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError, SamecastWarning
from samecast.subject import Subject

if TYPE_CHECKING:
    from samecast.concepts.concept import Concept
    from samecast.pipelines.attach import attach
    from samecast.render import Model, Render, RenderResult, load

__all__ = [
    "Concept",
    "Model",
    "Render",
    "RenderResult",
    "RenderSettings",
    "Rule",
    "Rules",
    "SamecastError",
    "SamecastWarning",
    "Steps",
    "Subject",
    "SubjectTokens",
    "attach",
    "consistory",
    "dream_matcher",
    "free_custom",
    "load",
    "masactrl",
    "masactrl_auto_masked",
    "masactrl_masked",
    "masactrl_union",
    "none",
    "style_aligned",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name == "attach":
        return import_module("samecast.pipelines.attach").attach
    if name == "Concept":
        return import_module("samecast.concepts.concept").Concept
    if name in ("Model", "Render", "RenderResult", "load"):
        return getattr(import_module("samecast.render"), name)
    raise AttributeError(f"module 'samecast' has no attribute {name!r}")


def _version() -> str:
    """Of the package as it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("samecast")
    except PackageNotFoundError:
        return "unknown: not installed as a package"
