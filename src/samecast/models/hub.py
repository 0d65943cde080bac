"""Models from the Hugging Face hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from samecast.errors import SamecastError
from samecast.models.directory import INDEX, check_index, pipeline_class, skipped_of, variant_of
from samecast.models.quiet import first_line, quiet_libraries


def download(hub_id: str, revision: str | None) -> Path:
    """The local snapshot of a hub repository, in a folder named by the commit. Shows the hub's own progress bars.

    Raises:
        SamecastError: the hub has no such model or cannot be reached, or the model is of another family.
    """
    try:
        with quiet_libraries(keep_bars=True):
            # Checked before gigabytes are downloaded.
            family = check_index(_fetch_index(hub_id, revision), hub_id)
            skipped = {"safety_checker": None} if family == "sd" else {} if family == "xl" else skipped_of(family)
            download: Any = pipeline_class(family).download
            variant = _variant(hub_id, revision)
            return Path(download(hub_id, revision=revision, use_safetensors=True, variant=variant, **skipped))
    except SamecastError:
        raise
    except RepositoryNotFoundError as error:
        raise SamecastError(
            f"model {hub_id} is not a local path, and the hub has no model of this name or requires a login (hf auth"
            f" login)"
        ) from error
    except Exception as error:  # the hub's client raises a dozen unrelated types
        raise SamecastError(
            f"model {hub_id} is not a local path and could not be fetched from the hub: {first_line(error)}"
        ) from error


def _variant(hub_id: str, revision: str | None) -> str | None:
    """The variant to fetch; without a connection, when nothing is fetched, None."""
    try:
        siblings = HfApi().model_info(hub_id, revision=revision).siblings
    except Exception:  # no connection: `_fetch_index` found an earlier copy, so the files are in the cache
        return None
    return variant_of(sibling.rfilename for sibling in siblings or ())


def _fetch_index(hub_id: str, revision: str | None) -> Path:
    """The index of a hub pipeline: fetched, or, without a connection, from the cache.

    Offline, the hub's client retries a download five times over half a minute; a request for the file's metadata is
    tried once.
    """
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, INDEX, revision=revision))
    except Exception as error:  # use an earlier copy; without one, report this error
        try:
            return Path(hf_hub_download(hub_id, INDEX, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from None
    return Path(hf_hub_download(hub_id, INDEX, revision=revision))
