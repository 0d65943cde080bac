"""samecast: cast a subject once, render it in any scene.

    import samecast as sc

    model = sc.load()
    subject = sc.Subject(references=("rex.png",), class_noun="dog")
    out = model.render(subject, ["a dog running on the beach"], rules=sc.masactrl())
    out.save("beach")

What needs torch is imported when it is first used, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from samecast.attention.methods import (
    cast,
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
    from samecast.concepts.apply import apply_concepts
    from samecast.concepts.concept import Concept
    from samecast.pipelines.attach import attach
    from samecast.render import FoundMask, MaskSearch, Model, Render, RenderResult, load

__all__ = [
    "Concept",
    "FoundMask",
    "MaskSearch",
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
    "apply_concepts",
    "attach",
    "cast",
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


_LATER = {
    "Concept": "concepts.concept",
    "apply_concepts": "concepts.apply",
    "attach": "pipelines.attach",
    **dict.fromkeys(("FoundMask", "MaskSearch", "Model", "Render", "RenderResult", "load"), "render"),
}
"""What brings torch, and where it is."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _LATER:
        return getattr(import_module(f"samecast.{_LATER[name]}"), name)
    raise AttributeError(f"module 'samecast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    """Of the package as it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("samecast")
    except PackageNotFoundError:
        return "unknown: not installed as a package"
