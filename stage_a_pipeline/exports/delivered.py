"""The delivered files of missions, held to their manifests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.jsonl import Manifest, OutputPaths, output_paths, read_manifest, read_records
from stage_a_pipeline.missions import Mission, load_missions
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import GroupRecord
from stage_a_pipeline.rejected_lines import RejectedLine, read_rejected_lines
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import exists, open_to_read

_FINGERPRINT_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivered mission: its files and the manifest that describes them."""

    mission: Mission
    paths: OutputPaths
    manifest: Manifest

    @property
    def model(self) -> str:
        """What answered: the checkpoint's name and the beginning of the fingerprint; no path of a machine."""
        engine = self.manifest.settings.get("engine")
        checkpoint = engine.get("checkpoint") if isinstance(engine, dict) else None
        name = PurePath(checkpoint).name if isinstance(checkpoint, str) else "unknown"
        return f"{name}-{self.manifest.fingerprint[:_FINGERPRINT_SHOWN]}"

    def records(self) -> Iterator[GroupRecord]:
        """The written groups. InputError for a file that is not the manifest's, or no longer at the end."""
        _require_described(self.paths.jsonl, self.manifest)
        yield from read_records(self.paths.jsonl)
        # A run may have published while the lines were read.
        _require_described(self.paths.jsonl, self.manifest)

    def rejections(self) -> Iterator[RejectedLine]:
        """The rejected photos of the run that wrote the groups. InputError where a later run failed."""
        _require_described(self.paths.rejected, self.manifest)
        yield from read_rejected_lines(self.paths.rejected)
        _require_described(self.paths.rejected, self.manifest)


def find_deliveries(settings: Settings, names: Sequence[str] = ()) -> tuple[Delivery, ...]:
    """The named missions, or all that were delivered, in the order of the mission table.

    ConfigurationError for an unknown name; InputError where nothing was delivered, where a named mission
    was not, and for a damaged manifest.
    """
    table = load_missions(settings.discovery.missions_file)
    wanted = {table.require(name).name for name in names}
    folder = settings.output.output_dir
    found = []
    for mission in table.values():
        paths = output_paths(folder, mission.name)
        if mission.name in wanted or (not names and exists(paths.manifest)):
            found.append(_delivery(mission, paths))
    if not found:
        raise InputError(
            f"no mission was delivered to {folder}; run one first (stage-a materialize), or set "
            "output.output_dir (STAGE_A_OUTPUT_DIR) to where the files are"
        )
    return tuple(found)


def _delivery(mission: Mission, paths: OutputPaths) -> Delivery:
    if not exists(paths.manifest):
        raise InputError(
            f"mission {mission.name} was not delivered: {paths.manifest} is not there; run the mission, or "
            "set output.output_dir (STAGE_A_OUTPUT_DIR) to where its files are"
        )
    return Delivery(mission, paths, read_manifest(paths.manifest))


def _require_described(path: Place, manifest: Manifest) -> None:
    """InputError unless the file is, byte for byte, the one that the manifest describes."""
    try:
        with open_to_read(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; run the mission") from error
    described = manifest.files.get(path.name)
    if described is None or described.sha256 != digest:
        raise InputError(
            f"{path} is not the file that the manifest beside it describes: a later run failed or is under "
            "way, or the file was changed; run the mission again"
        )
