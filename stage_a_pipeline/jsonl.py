"""The delivered files of a mission: canonical JSONL, rejected lines, manifest.

All are UTF-8 with LF and a fixed key order, and hold no time: same inputs, same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import BinaryIO, Final

from stage_a_pipeline.errors import InputError, RecordError
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import GroupRecord, Rejection, parse_group_record
from stage_a_pipeline.storage import child_path, ensure_folder, open_to_read, read_bytes, stage_file

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_WHAT: Final = "file"
_REMEDY: Final = "give the path of a canonical JSONL"
_LISTED: Final = 100
"""How many errors and warnings of one file are kept; all are counted."""


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Where the three files of one mission are."""

    jsonl: Place
    rejected: Place
    manifest: Place


def output_paths(output_dir: Place, mission: str) -> OutputPaths:
    """The files of a mission; OutputError for a mission name that leads out of the folder."""
    return OutputPaths(
        jsonl=child_path(output_dir, f"{mission}_stage_a.jsonl"),
        rejected=child_path(output_dir, f"{mission}_stage_a.rejected.jsonl"),
        manifest=child_path(output_dir, f"{mission}_stage_a.manifest.json"),
    )


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a delivered file holds: SHA-256 and size of its bytes, and its lines."""

    sha256: str
    size: int
    lines: int


def write_records(path: Place, records: Iterable[GroupRecord]) -> FileDigest:
    """Replace the canonical JSONL at `path`.

    RecordError for a record that breaks the contract, OutputError when the file cannot be written;
    both leave the old file as it was.
    """
    with stage_file(path) as staged:
        digest = _write_lines(staged.handle, _encode_records(records, path))
        staged.close()
        staged.commit()
    return digest


def write_rejections(path: Place, rejections: Iterable[Rejection]) -> FileDigest:
    """Replace the rejected lines at `path`: one per photo in the order given, none gives an empty file."""
    with stage_file(path) as staged:
        digest = _write_lines(staged.handle, _encode_rejections(rejections))
        staged.close()
        staged.commit()
    return digest


def _write_lines(file: BinaryIO, lines: Iterable[bytes]) -> FileDigest:
    sha256, size, count = hashlib.sha256(), 0, 0
    for line in lines:
        file.write(line)
        sha256.update(line)
        size += len(line)
        count += 1
    return FileDigest(sha256.hexdigest(), size, count)


def _encode_records(records: Iterable[GroupRecord], path: Place) -> Iterator[bytes]:
    for number, record in enumerate(records, start=1):
        mapping = record.to_mapping()
        try:
            parse_group_record(mapping)
        except RecordError as error:
            raise error.at_line(number, source=f"{path} (group {record.group_id})") from None
        yield _encode_line(mapping)


def _encode_rejections(rejections: Iterable[Rejection]) -> Iterator[bytes]:
    for rejection in rejections:
        ref = rejection.ref
        yield _encode_line(
            {
                "mission": ref.group.mission,
                "group_id": ref.group.group_id,
                "label": ref.group.label,
                "image": ref.image.name,
                "image_index": ref.image_index,
                "stage": rejection.stage,
                "reason": rejection.reason,
                "detail": rejection.detail,
                "raw_text": rejection.raw_text,
            }
        )


def _encode_line(mapping: Mapping[str, object]) -> bytes:
    # Half a surrogate pair, from a file name that is not UTF-8 or a raw answer, becomes its JSON escape.
    return (json.dumps(mapping, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_records(path: Place) -> Iterator[GroupRecord]:
    """The records of a canonical JSONL, one at a time.

    RecordError names file, line and field of the first line that breaks the contract; InputError
    when the file cannot be read.
    """
    for number, line in numbered_lines(path, what=_WHAT, remedy=_REMEDY):
        try:
            yield _parse_line(line)
        except RecordError as error:
            raise error.at_line(number, source=str(path)) from None


def numbered_lines(path: Place, *, what: str, remedy: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file from 1; InputError, with `what` it is and the remedy, when it cannot be read."""
    try:
        with open_to_read(path) as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}; {remedy}") from error


def _parse_line(line: bytes) -> GroupRecord:
    if line.endswith(b"\r\n"):
        raise RecordError("record", "ends with CR LF; lines must end with LF alone")
    return parse_group_record(load_json_line(line))


def load_json_line(line: bytes) -> object:
    """The JSON value of one line of UTF-8; RecordError for anything else, and for a key given twice."""
    if line.startswith(BYTE_ORDER_MARK):
        raise RecordError("record", "begins with a byte-order mark; save the file as UTF-8 without one")
    if not line.strip():
        raise RecordError("record", "is a blank line")
    try:
        value: object = json.loads(line.decode("utf-8"), object_pairs_hook=_refuse_doubled_keys)
    except RecordError:
        raise
    except UnicodeDecodeError as error:
        raise RecordError("record", f"is not UTF-8 from byte {error.start + 1} on") from None
    except json.JSONDecodeError as error:
        raise RecordError("record", f"is not valid JSON: {error.msg} at character {error.colno}") from None
    except (ValueError, RecursionError):
        raise RecordError("record", "is not valid JSON: a number too long, or nested too deeply") from None
    return value


def _refuse_doubled_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RecordError(next(key for key in keys if keys.count(key) > 1), "stands in one object twice")
    return mapping


@dataclass(frozen=True, slots=True)
class Validation:
    """What is wrong with a file: errors break the contract, warnings deserve a look.

    The first hundred of each are listed; `error_count` counts all errors.
    """

    lines: int
    errors: tuple[RecordError, ...]
    error_count: int
    warnings: tuple[str, ...]


def validate_file(path: Place) -> Validation:
    """Check every line of a canonical JSONL; InputError when the file cannot be read."""
    errors: list[RecordError] = []
    warnings: list[str] = []
    seen: dict[str, int] = {}
    missions: dict[str, int] = {}
    number = error_count = 0
    for number, line in numbered_lines(path, what=_WHAT, remedy=_REMEDY):
        try:
            record = _parse_line(line)
        except RecordError as error:
            error_count += 1
            if len(errors) < _LISTED:
                errors.append(error.at_line(number))
            continue
        warnings += islice(_line_warnings(record, line, number, seen, missions), _LISTED - len(warnings))
    if not number:
        warnings.append("the file has no lines")
    return Validation(number, tuple(errors), error_count, tuple(warnings))


def _line_warnings(
    record: GroupRecord, line: bytes, number: int, seen: dict[str, int], missions: dict[str, int]
) -> Iterator[str]:
    first = seen.setdefault(record.ticket_key, number)
    if first < number:
        yield f"line {number}: ticket {record.ticket_key} stands on line {first} already; Stage-B keeps one"
    if missions.setdefault(record.mission, number) == number > 1:
        yield f"line {number}: mission {record.mission} in a file of mission {next(iter(missions))}"
    if not line.endswith(b"\n"):
        yield f"line {number}: the last line has no line end; the file may have been cut"
    elif line != _encode_line(record.to_mapping()):
        yield f"line {number}: not in canonical form (order of keys, separators or escapes)"


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Where a mission's groups went; they must add up."""

    discovered: int
    sampled_out: int
    written: int
    rejected: int

    def __post_init__(self) -> None:
        assert self.discovered == self.sampled_out + self.written + self.rejected, f"{self} do not add up"


@dataclass(frozen=True, slots=True)
class PhotoCounts:
    """What became of the photos of the sampled groups; `written` are those of the written groups."""

    sampled: int
    summarised: int
    rejected: int
    written: int

    def __post_init__(self) -> None:
        assert self.sampled == self.summarised + self.rejected, f"{self} do not add up"
        assert self.written <= self.summarised, f"{self}: more written than summarised"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a mission's files hold and how they were made. `files` is by file name."""

    mission: str
    counts: GroupCounts
    photos: PhotoCounts
    fingerprint: str
    prompt_hash: str
    settings: Mapping[str, object]
    versions: Mapping[str, str]
    files: Mapping[str, FileDigest] = field(default_factory=dict)


def write_manifest(path: Place, manifest: Manifest) -> FileDigest:
    """Replace the manifest at `path`; `settings` must be plain JSON values."""
    with stage_file(path) as staged:
        digest = _write_lines(staged.handle, _encode_manifest(manifest))
        staged.close()
        staged.commit()
    return digest


def _encode_manifest(manifest: Manifest) -> Iterator[bytes]:
    text = json.dumps(asdict(manifest), ensure_ascii=False, allow_nan=False, indent=2, sort_keys=True)
    for line in text.split("\n"):
        yield (line + "\n").encode("utf-8", "backslashreplace")


def read_manifest(path: Place) -> Manifest:
    """The manifest at `path`; InputError when it is missing or is none."""
    try:
        fields = json.loads(read_bytes(path))
        parts = {
            "counts": GroupCounts(**fields["counts"]),
            "photos": PhotoCounts(**fields["photos"]),
            "files": {name: FileDigest(**digest) for name, digest in fields["files"].items()},
        }
        return Manifest(**(fields | parts))
    except OSError as error:
        raise InputError(
            f"manifest {path} cannot be read: {error.strerror or error}; run the mission"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise InputError(
            f"{path} is not a manifest ({error}); run the mission again to replace it"
        ) from error


@dataclass(frozen=True, slots=True)
class Publication:
    """The manifest as published, and the files whose content is new."""

    manifest: Manifest
    changed: tuple[Place, ...]


def publish(
    paths: OutputPaths,
    records: Iterable[GroupRecord],
    rejections: Iterable[Rejection],
    manifest: Manifest,
) -> Publication:
    """Deliver a mission: rejected lines, JSONL and, last, the manifest, whose `files` are filled in here.

    All three are complete beside their targets before the first is put in place, and a file that would
    not change is not touched. Between the renames, and after a crash there, the manifest is the old one: a
    reader that compares the JSONL with its digest in the manifest can tell, and publishing again
    mends it. Raises what `write_records` raises; the files of the last good run then stay.
    """
    ensure_folder(paths.jsonl.parent)
    with ExitStack() as stack:
        rejected, jsonl, described = (
            stack.enter_context(stage_file(path)) for path in (paths.rejected, paths.jsonl, paths.manifest)
        )
        files = {
            paths.jsonl.name: _write_lines(jsonl.handle, _encode_records(records, paths.jsonl)),
            paths.rejected.name: _write_lines(rejected.handle, _encode_rejections(rejections)),
        }
        counted = (files[paths.jsonl.name].lines, files[paths.rejected.name].lines)
        expected = (manifest.counts.written, manifest.photos.rejected)
        assert counted == expected, f"{counted} lines of records and rejections, {expected} expected"
        manifest = replace(manifest, files=files)
        _write_lines(described.handle, _encode_manifest(manifest))
        staged = (rejected, jsonl, described)
        for file in staged:
            file.close()
        changed = [file for file in staged if not file.is_unchanged()]
        for file in changed:
            file.commit()
    return Publication(manifest, tuple(file.path for file in changed))
