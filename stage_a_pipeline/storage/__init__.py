"""Files that others read, on disk and in object stores, and the locks around them."""

from stage_a_pipeline.storage.failures import output_errors
from stage_a_pipeline.storage.files import (
    StagedFile,
    atomic_write,
    child_path,
    ensure_folder,
    exists,
    open_to_read,
    prune_folders,
    prune_leftovers,
    read_bytes,
    remove_file,
    stage_file,
    unfinished_folder,
)
from stage_a_pipeline.storage.locks import Holder, claim_output, device_lease, this_process

__all__ = [
    "Holder",
    "StagedFile",
    "atomic_write",
    "child_path",
    "claim_output",
    "device_lease",
    "ensure_folder",
    "exists",
    "open_to_read",
    "output_errors",
    "prune_folders",
    "prune_leftovers",
    "read_bytes",
    "remove_file",
    "stage_file",
    "this_process",
    "unfinished_folder",
]
