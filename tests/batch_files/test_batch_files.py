"""Questions out as files and results back, through the commands."""

import base64
import hashlib
import io
import json
import random
import resource

import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from stage_a_pipeline.cli import main
from stage_a_pipeline.jsonl import output_paths, read_records
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.engines.chat_server import answer_to, completion, photo_of, serving

NOWHERE = "http://127.0.0.1:9"


class Workplace:
    """A tree, settings for a server, and the commands."""

    def __init__(self, folder):
        self.folder = folder
        self.root = write_groups(folder / "in", MISSION, {"fail": [3, 1], "pass": [2]})
        self.configure(NOWHERE)

    def configure(self, url, **engine):
        values = {
            "engine": "openai",
            "server_urls": [url],
            "server_model": "qwen",
            "server_patience_seconds": 0.2,
            "server_attempts": 1,
            "batch_size": 4,
            **engine,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        (self.folder / "settings.toml").write_text(
            "\n".join(
                [
                    '[discovery]\ninput_root = "in"\n[output]\noutput_dir = "out"',
                    "[inference]\nworker_processes = false\nmax_failed_fraction = 1.0\n[engine]",
                    *lines,
                ]
            )
        )

    def run(self, *command, code=0):
        settings = ["--settings", str(self.folder / "settings.toml")]
        done = CliRunner().invoke(main, [*map(str, command), *settings])
        assert done.exit_code == code, done.output
        return done.output

    def export(self, *options, missions=(MISSION,), code=0):
        chosen = [part for mission in missions for part in ("--mission", mission)]
        return self.run("batch", "export", self.folder / "questions.jsonl", *chosen, *options, code=code)

    def questions(self):
        parts = sorted(self.folder.glob("questions-*.jsonl"))
        return [json.loads(line) for part in parts for line in part.read_text("utf-8").splitlines()]

    def bring(self, *results, name="results.jsonl", code=0):
        path = self.folder / name
        path.write_text("".join(json.dumps(result) + "\n" for result in results), "utf-8")
        return self.run("batch", "import", path, code=code)

    def summaries(self):
        records = read_records(output_paths(self.folder / "out", MISSION).jsonl)
        return sorted(text for record in records for text in record.summaries)


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path)


def answered(question, document=None):
    """The result of a question as a queue gives it back."""
    body = completion(answer_to(question["body"])) if document is None else document
    response = {"status_code": 200, "request_id": "x", "body": body}
    return {"id": "b", "custom_id": question["custom_id"], "response": response, "error": None}


def failed(question):
    response = {"status_code": 500, "body": {"error": "no memory"}}
    return {"id": "b", "custom_id": question["custom_id"], "response": response, "error": None}


def test_a_mission_by_files_has_the_bytes_of_one_by_a_server(workplace, tmp_path):
    with serving() as server:
        other = Workplace(tmp_path / "online")
        other.configure(server.url)
        other.run("materialize", "--mission", MISSION)
        asked = {photo_of(body): body for body in server.asked}
    assert "6 photos are asked" in workplace.export()
    questions = workplace.questions()
    assert {photo_of(question["body"]): question["body"] for question in questions} == asked
    assert {(question["method"], question["url"]) for question in questions} == {
        ("POST", "/v1/chat/completions")
    }
    random.Random(5).shuffle(questions)
    assert "6 answers were kept" in workplace.bring(*map(answered, questions))
    # No server is there: nothing is left to be asked.
    workplace.run("materialize", "--mission", MISSION)
    files = [
        [path.read_bytes() for path in (paths.jsonl, paths.rejected)]
        for paths in (output_paths(place.folder / "out", MISSION) for place in (workplace, other))
    ]
    assert files[0] == files[1]


def test_what_results_leave_out_is_asked_by_the_run(workplace):
    workplace.export()
    questions = workplace.questions()
    unusable = completion("", finish_reason="stop")
    told = workplace.bring(
        answered(questions[0]),
        failed(questions[1]),
        answered(questions[2], unusable),
        {"custom_id": questions[3]["custom_id"], "response": None, "error": {"code": "expired"}},
    )
    assert "1 answers were kept, 0 were known before; 1 were unusable, 2 failed" in told
    assert "results.jsonl, line 2: status 500" in told
    assert "results.jsonl, line 4" in told
    assert "expired" in told
    with serving() as server:
        workplace.configure(server.url)
        workplace.run("materialize", "--mission", MISSION)
    assert len(server.asked) == 5
    assert photo_of(questions[0]["body"]) not in map(photo_of, server.asked)
    assert workplace.summaries() == sorted(answer_to(question["body"]) for question in questions)


def test_results_may_come_twice_and_in_several_files(workplace):
    workplace.export("--max-requests", 2)
    assert [path.name for path in sorted(workplace.folder.glob("questions-*"))] == [
        "questions-0001.jsonl",
        "questions-0002.jsonl",
        "questions-0003.jsonl",
    ]
    questions = workplace.questions()
    folder = workplace.folder / "results"
    folder.mkdir()
    for name, part in (("a.jsonl", questions[:3]), ("b.jsonl", questions[1:])):
        (folder / name).write_text("".join(json.dumps(answered(item)) + "\n" for item in part), "utf-8")
    assert "6 answers were kept, 2 were known before" in workplace.run("batch", "import", folder)
    told = workplace.export()
    assert "0 photos are asked" in told
    assert f"{workplace.folder / 'questions-0003.jsonl'}: written by an earlier export" in told
    assert "0 answers were kept, 8 were known before" in workplace.run("batch", "import", folder)


def test_only_what_has_no_answer_is_written_and_twice_the_same_photo_once(workplace):
    twin = workplace.root / MISSION / "审核通过" / "QC-20241028-pass001"
    (twin / "IMG_9.jpg").write_bytes((twin / "IMG_1.jpg").read_bytes())
    assert "6 photos are asked" in workplace.export()
    questions = workplace.questions()
    workplace.bring(*map(answered, questions[:4]))
    told = workplace.export("--max-requests", 2)
    assert "2 photos are asked (0 for the second time)" in told
    first = (workplace.folder / "questions-0001.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["custom_id"] for line in first] == [item["custom_id"] for item in questions[4:]]


def test_an_answer_that_was_cut_is_asked_for_with_twice_the_tokens(workplace):
    workplace.export()
    (first, *_) = questions = workplace.questions()
    cut = completion("照", finish_reason="length")
    workplace.bring(answered(first, cut), *map(answered, questions[1:]))
    assert "1 photos are asked (1 for the second time)" in workplace.export()
    (again,) = workplace.questions()
    assert again["custom_id"] == f"again:{first['custom_id']}"
    assert again["body"]["max_tokens"] == 2 * first["body"]["max_tokens"]
    # The first result once more is no second attempt.
    workplace.bring(answered(first, cut), code=1)
    assert "1 photos are asked (1 for the second time)" in workplace.export()
    workplace.bring(answered(again, cut), code=1)
    assert "0 photos are asked (0 for the second time), 5 have an answer, 1 had no usable one twice" in (
        workplace.export()
    )


def test_a_second_answer_counts_as_the_second_attempt(workplace):
    workplace.export()
    (first, *_) = workplace.questions()
    workplace.bring(answered(first, completion("照", finish_reason="length")), code=1)
    workplace.export()
    (again,) = [item for item in workplace.questions() if item["custom_id"].startswith("again:")]
    assert "1 answers were kept" in workplace.bring(answered(again))
    (journal,) = (workplace.folder / "out" / "work" / "journal" / MISSION).glob("*.jsonl")
    assert json.loads(journal.read_text("utf-8").splitlines()[-1])["attempts"] == 2


@pytest.mark.parametrize(
    "response",
    [
        {"status_code": "200", "body": completion("照片")},
        {"status_code": None, "body": completion("照片")},
        {"body": json.dumps(completion("照片"))},
    ],
)
def test_queues_say_in_several_ways_that_all_went_well(workplace, response):
    workplace.export()
    (question, *_) = workplace.questions()
    assert "1 answers were kept" in workplace.bring(
        {"custom_id": question["custom_id"], "response": response}
    )


@pytest.mark.parametrize(
    "body",
    [{"usage": float("inf")}, {**completion("照片"), "choices": 7}, completion("", finish_reason=["x"])],
)
def test_an_odd_answer_is_told_and_costs_no_other(workplace, body):
    workplace.export()
    questions = workplace.questions()
    told = workplace.bring(answered(questions[0], body), answered(questions[1]))
    assert "1 answers were kept, 0 were known before; 0 were unusable, 1 failed" in told


def test_halves_of_characters_do_not_get_into_the_journal(workplace):
    workplace.export()
    questions = workplace.questions()
    halves = completion("照\ud800片")
    workplace.bring(answered(questions[0], halves), *map(answered, questions[1:]))
    workplace.run("materialize", "--mission", MISSION)
    assert "照?片" in workplace.summaries()


def test_missions_that_no_result_belongs_to_are_left_alone(workplace):
    workplace.export()
    workplace.bring(*map(answered, workplace.questions()))
    assert [path.name for path in (workplace.folder / "out" / "work" / "journal").iterdir()] == [MISSION]


def test_the_custom_id_is_the_journal_s_key(workplace):
    workplace.export()
    (question, *_) = workplace.questions()
    content, _, fingerprint = question["custom_id"].partition(":")
    photos = {hashlib.sha256(path.read_bytes()).hexdigest() for path in workplace.root.rglob("*.jpg")}
    assert content in photos
    workplace.bring(answered(question))
    (journal,) = (workplace.folder / "out" / "work" / "journal" / MISSION).glob("*.jsonl")
    line = json.loads(journal.read_text("utf-8"))
    assert (line["sha256"], line["fingerprint"]) == (content, fingerprint)


def test_photos_beside_the_questions_are_those_that_would_be_in_them(workplace):
    workplace.export()
    inline = {photo_of(item["body"]).partition(",")[2] for item in workplace.questions()}
    photos = workplace.folder / "photos"
    workplace.export("--photos", photos, "--photos-url", "https://photos.example/today/")
    urls = [photo_of(item["body"]) for item in workplace.questions()]
    assert len(set(urls)) == 6
    names = [url.removeprefix("https://photos.example/today/") for url in urls]
    assert sorted(names) == sorted(path.name for path in photos.iterdir())
    assert {base64.b64encode((photos / name).read_bytes()).decode() for name in names} == inline
    assert Pillow.open(io.BytesIO((photos / names[0]).read_bytes())).format == "PNG"


def test_a_broken_photo_is_told_and_left_out(workplace):
    photo = next(workplace.root.rglob("*.jpg"))
    photo.write_bytes(b"nothing")
    told = workplace.export()
    assert "5 photos are asked" in told
    assert "1 were left out" in told
    assert photo.name in told


def test_results_of_other_settings_are_told_and_not_kept(workplace):
    workplace.export()
    questions = workplace.questions()
    workplace.configure(NOWHERE, max_new_tokens=7)
    told = workplace.bring(*map(answered, questions), code=1)
    assert "0 answers were kept" in told
    assert "6 belong to other settings" in told
    assert "and 1 more" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: line: is no JSON"),
        ("[]", "line 2: custom_id: is missing"),
        ('{"custom_id": 5}', "line 2: custom_id: is missing"),
        ('{"custom_id": "request-1"}', "was not made by `stage-a batch export`"),
        ('{"custom_id": "\\ud800:x"}', "was not made by `stage-a batch export`"),
        ("[" * 100_000, "line 2: line: is no JSON"),
    ],
)
def test_a_line_that_is_no_result_is_named_and_what_came_before_it_is_kept(workplace, line, told):
    workplace.export()
    (question, *_) = workplace.questions()
    path = workplace.folder / "results.jsonl"
    path.write_text(f"{json.dumps(answered(question))}\n{line}\n", "utf-8")
    assert told in workplace.run("batch", "import", path, code=1)
    assert "5 photos are asked" in workplace.export()


@pytest.mark.parametrize("what", ["missing.jsonl", "empty"])
def test_results_that_are_not_there_are_named(workplace, what):
    (workplace.folder / "empty").mkdir()
    told = workplace.run("batch", "import", workplace.folder / what, code=1)
    assert str(workplace.folder / what) in told


@pytest.mark.parametrize("command", ["export", "import"])
def test_other_engines_have_no_batch_files(workplace, command):
    workplace.configure(NOWHERE, engine="fake")
    path = workplace.folder / "x.jsonl"
    arguments = [path, "--mission", MISSION] if command == "export" else [path]
    path.touch()
    assert "set it to 'openai'" in workplace.run("batch", command, *arguments, code=1)


def test_a_full_disk_leaves_no_half_file(workplace):
    workplace.export("--max-requests", 3)
    whole = (workplace.folder / "questions-0001.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        told = workplace.export("--max-requests", 3, code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "questions-0001.jsonl cannot be written" in told
    assert (workplace.folder / "questions-0001.jsonl").read_bytes() == whole


def test_answers_that_came_in_files_on_one_machine_are_found_on_another(workplace, store):
    settings = workplace.folder / "settings.toml"
    in_store = settings.read_text().replace('output_dir = "out"', f'output_dir = "{store.url}/out"')
    settings.write_text(in_store.replace("[output]", '[output]\nlocal_work_dir = "here"'))
    workplace.export()
    first, *others = workplace.questions()
    cut = completion("照", finish_reason="length")
    workplace.bring(answered(first, cut), *map(answered, others))
    settings.write_text(in_store.replace("[output]", '[output]\nlocal_work_dir = "there"'))
    assert "1 photos are asked (1 for the second time), 5 have an answer" in workplace.export()
    workplace.bring(answered(*workplace.questions()))
    assert "0 photos are asked (0 for the second time), 6 have an answer" in workplace.export()


def test_several_missions_share_files_and_each_gets_its_answers(workplace):
    write_groups(workplace.root, BRACKETS, {"pass": [2]}, first_seed=50)
    workplace.export(missions=(MISSION, BRACKETS))
    questions = workplace.questions()
    assert len(questions) == 8
    workplace.bring(*map(answered, questions))
    workplace.run("materialize", "--mission", MISSION, "--mission", BRACKETS)
    assert len(list(read_records(output_paths(workplace.folder / "out", BRACKETS).jsonl))) == 1
