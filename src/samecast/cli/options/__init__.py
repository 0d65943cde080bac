"""The command line as data: one frozen dataclass for each command, read by tyro, in a module of its command's name.

Nothing here imports torch, so that `samecast --help` answers at once. What an option leaves at None is decided where it
is used: by the method, by the model, by the machine.
"""

from samecast.cli.options.compare import CompareOptions
from samecast.cli.options.concept import CompressOptions, ConvertOptions, MergeOptions, ShowOptions
from samecast.cli.options.demo import DemoOptions
from samecast.cli.options.diorama import BenchmarkOptions, PhotosOptions, SheetOptions
from samecast.cli.options.layers import LayersOptions
from samecast.cli.options.learn import SharedOptions
from samecast.cli.options.masks import MasksOptions
from samecast.cli.options.render import RenderOptions
from samecast.cli.options.study import StudyOptions, StudyReportOptions, StudyStatusOptions
from samecast.cli.options.tune import TuneOptions

Options = (
    RenderOptions
    | SharedOptions
    | MasksOptions
    | LayersOptions
    | SheetOptions
    | PhotosOptions
    | BenchmarkOptions
    | CompareOptions
    | DemoOptions
    | ShowOptions
    | MergeOptions
    | CompressOptions
    | ConvertOptions
    | StudyOptions
    | StudyStatusOptions
    | StudyReportOptions
    | TuneOptions
)
