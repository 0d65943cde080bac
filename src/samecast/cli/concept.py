"""`samecast concept`: shows, merges, compresses and converts concepts."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.concept import CompressOptions, ConvertOptions, MergeOptions, ShowOptions
from samecast.disk import check_writable, write_new_bytes
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.concepts.concept import Concept
    from samecast.render import Model


def run_show(options: ShowOptions) -> None:
    """Print the contents of a file.

    Raises:
        SamecastError: it cannot be read.
    """
    from samecast.concepts.architectures import architecture_of
    from samecast.concepts.formats import describe_format, read_concept

    concept = read_concept(options.concept, pickles=False)
    show = _reporter()
    show("format", describe_format(options.concept, pickles=False))
    show("architecture", architecture_of(concept))
    for word, token in concept.tokens.items():
        width = " and ".join(str(vectors.shape[1]) for vectors in token.vectors.values())
        noun = f", a {token.class_noun}" if token.class_noun else ""
        show("word", f"{word}{noun} ({token.length} x {width} channels)")
    for what, count in _kinds(concept).items():
        show("changes", f"{count} x {what}")
    base = concept.base
    show("learned on", f"{base.id or 'an unnamed model'} ({base.family}) {base.revision}".strip())
    for key, value in concept.training.items():
        show("training", f"{key}: {value}")
    show("size", _size(concept.size))


def run_merge(options: MergeOptions) -> None:
    """Merge several concepts into one, and print how well each is preserved.

    Raises:
        SamecastError: they cannot be merged, or the file cannot be written.
    """
    check_writable(options.out, "new file")
    from samecast.concepts.captions import read_captions
    from samecast.concepts.concept import Concept
    from samecast.concepts.file import concept_bytes
    from samecast.concepts.merge import HELD_OUT, merge

    concepts = [Concept.load(path) for path in options.concepts]
    captions = read_captions(options.captions) if options.captions else ()
    model = _base_model(options.model, concepts, options.device)
    with stages() as report:
        merged, merging = merge(concepts, model, captions=captions, progress=report)
    place = write_new_bytes(options.out, concept_bytes(merged))
    show = _reporter()
    show("words", " ".join(merged.tokens))
    show("each subject", f"off by {merging.error:.1e} of its outputs, for its word alone and in 'photo of a ...'")
    show(
        "other prompts",
        f"off by {merging.unseen:.1%} of its change, in {len(HELD_OUT)} prompts that were not constrained",
    )
    show("other captions", f"changed by {merging.drift:.2%}")
    show("condition", f"{merging.condition:.0e} for the captions, {merging.separation:.0e} for the words")
    show("written", str(place))


def run_compress(options: CompressOptions) -> None:
    """Compress a concept, and print what is lost.

    Raises:
        SamecastError: it cannot be compressed, or the file cannot be written.
    """
    check_writable(options.out, "new file")
    from samecast.concepts.compress import compress
    from samecast.concepts.concept import Concept
    from samecast.concepts.file import concept_bytes

    concept = Concept.load(options.concept)
    model = _base_model(options.model, [concept], options.device)
    with stages() as report:
        small, lost = compress(concept, model, keep=options.keep, progress=report)
    place = write_new_bytes(options.out, concept_bytes(small))
    show = _reporter()
    ranks = [layer.rank for layer in lost.layers]
    show("ranks", f"{min(ranks)} to {max(ranks)}")
    show("error", f"{lost.error:.1%} of the change; at worst {lost.worst.error:.1%}, in {lost.worst.name}")
    show("size", f"{_size(lost.bytes_before)} to {_size(lost.bytes_after)}")
    show("written", str(place))


def run_convert(options: ConvertOptions) -> None:
    """Convert a concept between the formats of different tools.

    Raises:
        SamecastError: a file cannot be read or written, or has unexpected contents.
    """
    check_writable(options.out, "new file" if options.out.suffix else "new folder")
    from samecast.concepts.formats import describe_format, read_concept, write_concept

    concept = read_concept(options.concept, pickles=True, word=options.word, rename=_renaming(options.rename))
    show = _reporter()
    show("read", describe_format(options.concept, pickles=True))
    if options.to in ("peft", "kohya"):
        concept = _as_lora(concept, options, show)
    elif options.to == "diffusers" or (options.to in ("official", "compvis") and options.model):
        concept = _as_whole(concept, options)
    place = write_concept(concept, options.out, options.to)
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        show("written", str(file))


def _as_lora(concept: "Concept", options: ConvertOptions, show: Any) -> "Concept":
    """The concept with whole weights decomposed; prints the approximation error."""
    from samecast.concepts.compress import compress
    from samecast.concepts.concept import Value

    if not any(isinstance(change, Value) for change in concept.changes.values()):
        return concept
    model = _base_model(options.model, [concept], options.device)
    with stages() as report:
        concept, lost = compress(concept, model, keep=options.keep, progress=report)
    show("error", f"{lost.error:.1e} of the change; at worst {lost.worst.error:.1e}, in {lost.worst.name}")
    return concept


def _as_whole(concept: "Concept", options: ConvertOptions) -> "Concept":
    from samecast.concepts.compress import materialise
    from samecast.concepts.concept import LowRank

    if not any(isinstance(change, LowRank) for change in concept.changes.values()):
        return concept
    return materialise(concept, _base_model(options.model, [concept], options.device))


def _base_model(name: str, concepts: "list[Concept]", device: str) -> "Model":
    """The model given with --model, or the embedded one if the concepts record that they were learned on it."""
    from samecast.concepts.apply import fit_warnings
    from samecast.models.loading import EMBEDDED
    from samecast.render import load

    known = {concept.base.id for concept in concepts}
    if not name and known != {EMBEDDED}:
        data = " and ".join(sorted(known - {""})) or "an unnamed model"
        raise SamecastError(f"the model that the concept was learned on ({data}) is needed: give it with --model")
    with working("loading the model"):
        quiet_libraries()
        model = load(name or EMBEDDED, device=device, dtype="float32")
    for warning in fit_warnings(model, [(concept, 1.0) for concept in concepts]):
        notify(warning)
    return model


def _renaming(pairs: tuple[str, ...]) -> Mapping[str, str]:
    words: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise SamecastError(f"--rename takes OLD=NEW, such as '<new1>=<rex>'; got {pair!r}")
        words[old] = new
    return words


def _kinds(concept: "Concept") -> Counter[str]:
    """The number of changes of each kind, in words."""
    from samecast.concepts.concept import LowRank

    counted: Counter[str] = Counter()
    for name, change in concept.changes.items():
        part, layer = name.split(".")[0], ".".join(name.removesuffix(".weight").split(".")[-2:])
        how = f"rank {change.rank}" if isinstance(change, LowRank) else "whole"
        layer = layer if ".attn" in name or part != "unet" else layer.rpartition(".")[2]
        counted[f"{part} {layer}, {how}"] += 1
    return counted


def _reporter() -> Any:
    """Prints lines, with the heading beside the first."""
    last = ""

    def show(heading: str, text: str) -> None:
        nonlocal last
        # The text comes from a file and may contain control characters.
        plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
        RESULTS.print(f"{heading if heading != last else '':<16}{plain}")
        last = heading

    return show


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
