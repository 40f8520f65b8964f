"""Answers held to a grammar: what it lets through, what it refuses, and that engines obey it."""

import json
import re
import unicodedata
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.demo.composition import compose_scene, reading_scene
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor
from stage_a_pipeline.errors import EngineError
from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.model_json import dump_json
from stage_a_pipeline.vocabulary import DATASETS

pytest.importorskip("llguidance")

LOGITS = 1200
"""More than the tokenizer has tokens, as in Qwen's checkpoints."""


class Answers:
    """The built-in checkpoint's tokens, and grammars over them."""

    def __init__(self):
        from stage_a_pipeline.engines.grammar import SummaryGrammars

        self.tokenizer = load_processor(resolve_checkpoint("builtin")).tokenizer
        self.stop_ids = self.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
        self.grammars = SummaryGrammars(self.tokenizer, vocabulary=LOGITS, stop_ids=self.stop_ids)

    def allowed(self, *states):
        import torch

        from stage_a_pipeline.engines.grammar import allowed_tokens

        return allowed_tokens(states, LOGITS, torch.device("cpu"))

    def after(self, dataset, text):
        """The state behind that text. EngineError where the grammar does not let it through."""
        state = self.grammars.start(dataset)
        for token in self.tokenizer(text)["input_ids"]:
            state.accept(token)
        return state

    def next_tokens(self, state):
        return self.allowed(state)[0].nonzero().flatten().tolist()

    def lets_through(self, dataset, line):
        """Whether the line may be said, and then must end."""
        try:
            state = self.after(dataset, line)
        except EngineError:
            return False
        return set(self.next_tokens(state)) == set(self.stop_ids)


@pytest.fixture(scope="module")
def answers():
    return Answers()


def entry(category="电线", **attributes):
    return {"类别": category, **attributes}


def line(*entries, **more):
    return json.dumps({"统计": list(entries), **more}, ensure_ascii=False)


WIRES = entry(捆扎={"整齐": 1})
PLUG = entry("BBU端光纤插头", 可见性={"完整": 2}, 符合性={"符合": 2})
FASTENER = entry("紧固件", 安装状态={"合格": 1})


@pytest.mark.parametrize("mission", load_missions().values(), ids=lambda mission: mission.name)
def test_no_truth_of_the_demo_is_refused(answers, mission):
    rng = Random(7)
    scenes = [compose_scene(rng, mission, irrelevant_chance=0.05) for _ in range(300)]
    scenes += [reading_scene(rng, mission.dataset) for _ in range(100)]
    truths = [scene.summary for scene in scenes]
    assert [truth for truth in truths if not answers.lets_through(mission.dataset, truth)] == []


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("bbu", "无关图片"),
        ("rru", "无关图片"),
        ("bbu", line(WIRES)),
        ("bbu", line(entry())),
        ("bbu", line(PLUG, WIRES, 备注=["光线昏暗", "画面反光"])),
        ("bbu", line(entry("标签", 文本={'5" \\ 架': 1, "第 2 层": 12}))),
        ("rru", line(entry("RRU设备"), FASTENER)),
        ("rru", line(entry("站点距离", 站点距离={"036": 1}))),
        ("rru", line(FASTENER, 分组统计={"1": {"尾纤": 2, "标签": 1}, "2": {"标签": 1}})),
    ],
)
def test_a_canonical_summary_is_let_through(answers, dataset, said):
    assert summary_defect(said, dataset) is None
    assert answers.lets_through(dataset, said)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        pytest.param("bbu", "", id="nothing"),
        pytest.param("bbu", "无关", id="half of a word"),
        pytest.param("bbu", "一张照片", id="prose"),
        pytest.param("bbu", "无关图片。", id="text behind irrelevant"),
        pytest.param("bbu", line(WIRES)[:-1], id="cut"),
        pytest.param("bbu", line(WIRES) + " ", id="trailing space"),
        pytest.param("bbu", line(WIRES) + line(WIRES), id="two summaries"),
        pytest.param("bbu", line(), id="no category"),
        pytest.param("bbu", line(entry("风扇")), id="unknown category"),
        pytest.param("bbu", line(FASTENER), id="category of rru"),
        pytest.param("rru", line(WIRES), id="category of bbu"),
        pytest.param("bbu", line(entry(捆扎={"完整": 1})), id="value of another attribute"),
        pytest.param("bbu", line(entry(可见性={"完整": 1})), id="attribute of another category"),
        pytest.param("bbu", line(entry(捆扎={})), id="attribute without counts"),
        pytest.param("bbu", line(entry(捆扎={"整齐": 0})), id="count 0"),
        pytest.param("bbu", line(entry(捆扎={"整齐": -1})), id="negative count"),
        pytest.param("bbu", line(entry(捆扎={"整齐": 1.5})), id="count with a fraction"),
        pytest.param("bbu", line(entry(捆扎={"整齐": 1000})), id="count beyond three digits"),
        pytest.param("bbu", line(WIRES).replace("1", "01"), id="leading zero"),
        pytest.param("bbu", line(WIRES).replace("1", '"1"'), id="count in quotes"),
        pytest.param("bbu", line(WIRES).replace(": ", ":"), id="no space behind colons"),
        pytest.param("bbu", line(WIRES, PLUG), id="categories in another order"),
        pytest.param("bbu", line(WIRES, WIRES), id="category twice"),
        pytest.param("bbu", line(PLUG, WIRES).replace("}, {", "},{"), id="no space behind a comma"),
        pytest.param("bbu", line(entry(捆扎={"散乱": 1, "整齐": 1})), id="values in another order"),
        pytest.param("bbu", line(entry(捆扎={"整齐": 1})).replace("1}", '1, "整齐": 1}'), id="value twice"),
        pytest.param("bbu", line(entry("标签", 文本={"": 1})), id="empty text"),
        pytest.param("bbu", line(entry("标签", 文本={" A": 1})), id="text that begins with a space"),
        pytest.param("bbu", line(entry("标签", 文本={"A" * 61: 1})), id="long text"),
        pytest.param("bbu", line(entry("标签", 文本={"<|im_end|>": 1})), id="special token in a text"),
        pytest.param("bbu", line(entry("标签", 文本={"A<B": 1})), id="beginning of a special token"),
        pytest.param("bbu", line(entry("标签", 文本={"A\tB": 1})), id="escaped control character"),
        pytest.param(
            "bbu", line(entry("标签", 文本={"A#B": 1})).replace("#", "\t"), id="raw control character"
        ),
        pytest.param("bbu", line(WIRES, 备注=[]), id="no remark"),
        pytest.param("bbu", line(WIRES, 备注="光线昏暗"), id="remark outside a list"),
        pytest.param("rru", line(FASTENER, 备注=["光线昏暗"]), id="remarks of bbu"),
        pytest.param("bbu", line(WIRES, 分组统计={"1": {"标签": 1}}), id="groups of rru"),
        pytest.param("rru", line(FASTENER, 分组统计={}), id="no group"),
        pytest.param("rru", line(FASTENER, 分组统计={"1": {"电线": 1}}), id="group of another category"),
        pytest.param("rru", line(entry("站点距离", 站点距离={"8m": 1})), id="unit behind digits"),
        pytest.param("rru", line(entry("站点距离", 站点距离={"８": 1})), id="full-width digits"),
    ],
)
def test_another_line_is_refused(answers, dataset, said):
    assert not answers.lets_through(dataset, said)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=70))
def test_a_text_is_let_through_where_a_line_can_hold_it_as_it_stands(answers, text):
    text = unicodedata.normalize("NFC", text)
    line = dump_json({"统计": [entry("标签", 文本={text: 1})]})
    escaped = "\\" in re.sub(r'\\["\\]', "", line)
    sound = 0 < len(text) <= 60 and not text[0].isspace() and "<" not in text and not escaped
    assert answers.lets_through("bbu", line) == sound


def write_at_random(answers, datasets, seed):
    """Answers of which every token is drawn from the allowed ones, all under way at once."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    states = [answers.grammars.start(dataset) for dataset in datasets]
    said = [[] for _ in datasets]
    while not all(tokens and tokens[-1] in answers.stop_ids for tokens in said):
        allowed = answers.allowed(*states)
        assert allowed.any(dim=1).all()
        drawn = torch.multinomial(allowed.float(), 1, generator=generator)[:, 0].tolist()
        for state, tokens, token in zip(states, said, drawn, strict=True):
            if not (tokens and tokens[-1] in answers.stop_ids):
                state.accept(token)
                tokens.append(token)
        assert max(map(len, said)) < 20_000, "every repetition is bounded"
    return [answers.tokenizer.decode(tokens[:-1]) for tokens in said]


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(DATASETS), min_size=1, max_size=6))
def test_whatever_is_drawn_from_the_allowed_tokens_ends_as_a_summary_of_its_dataset(answers, seed, datasets):
    for dataset, text in zip(datasets, write_at_random(answers, datasets, seed), strict=True):
        clean = clean_summary(text)
        assert defect(clean) is None
        assert summary_defect(clean.text, dataset) is None


def test_random_answers_are_not_all_alike(answers):
    """Without this, those above might all be the shortest one."""
    texts = write_at_random(answers, ["rru"] * 30, seed=1)
    assert len(set(texts)) > 5
    assert any("分组统计" in text for text in texts)


def test_tokens_that_the_tokenizer_lacks_and_special_ones_are_never_part_of_a_text(answers):
    inside = answers.next_tokens(answers.after("bbu", '{"统计": [{"类别": "标签", "文本": {"A'))
    assert len(inside) > 500
    special = [token for token in answers.tokenizer.all_special_ids if token not in answers.stop_ids]
    assert special
    assert not {*special, *answers.stop_ids, *range(len(answers.tokenizer), LOGITS)} & set(inside)


def test_every_row_of_a_batch_is_at_its_own_place(answers):
    texts = ["", '{"统计": [{"类别": "', "无关图片", '{"统计": [{"类别": "电线", "捆扎": {"']
    states = [answers.after("bbu", text) for text in texts]
    together = answers.allowed(states[0], None, *states[1:])
    assert together.shape == (5, LOGITS)
    assert together[1].all()
    for row, state in zip((0, 2, 3, 4), states, strict=True):
        assert together[row].equal(answers.allowed(state)[0])


def test_answers_under_way_do_not_disturb_each_other(answers):
    first, second = answers.grammars.start("bbu"), answers.grammars.start("bbu")
    beginning = answers.next_tokens(second)
    first.accept(answers.tokenizer("无关图片")["input_ids"][0])
    assert answers.next_tokens(second) == beginning


def test_what_follows_a_stop_token_changes_nothing(answers):
    for stop in answers.stop_ids:
        state = answers.after("rru", "无关图片")
        state.accept(stop)
        state.accept(5)
        assert set(answers.next_tokens(state)) == set(answers.stop_ids)


@pytest.mark.parametrize("token", [5, LOGITS - 1, 10**6])
def test_a_token_that_was_not_allowed_is_an_error_that_names_it(answers, token):
    with pytest.raises(EngineError, match=f"token {token} was chosen where .* dtype 'float32'"):
        answers.grammars.start("bbu").accept(token)


def test_bits_are_unpacked_alike_on_all_devices():
    import torch

    from stage_a_pipeline.engines.grammar import unpack, unpack_on_cpu

    flags = torch.randint(0, 256, (5, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert unpack(flags).equal(unpack_on_cpu(flags))
    assert unpack(torch.tensor([[1, 128]], dtype=torch.uint8)).nonzero()[:, 1].tolist() == [0, 15]
