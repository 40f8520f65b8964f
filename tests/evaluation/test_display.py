"""What a terminal shows of an evaluation, whatever the answers hold."""

from rich.console import Console

from stage_a_pipeline.evaluation.display import tables
from tests.evaluation.conftest import evaluation, summary, wire


def shown(*pairs):
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        for table in tables(evaluation(*pairs)):
            console.print(table)
    return captured.get()


def test_missions_and_attributes_are_told_with_their_shares():
    lines = shown((wire(整齐=1), wire(整齐=1)), (wire(整齐=1), wire(散乱=1))).splitlines()
    (attribute,) = (line for line in lines if "电线.捆扎" in line)
    assert attribute.split() == ["电线.捆扎", "50.0%", "50.0%", "100.0%", "2", "2"]
    (total,) = (line for line in lines if line.startswith("total"))
    assert total.split() == ["total", "2", "100.0%", "50.0%", "50.0", "/", "50.0", "-", "/", "-"]


def test_a_name_from_an_answer_cannot_steer_the_terminal():
    name = "\x1b]0;owned\x07\x1b[31m怪"
    output = shown((wire(整齐=1), summary((name, {"颜色": {"红": 1}}))))
    assert "\x1b" not in output
    assert "怪.颜色" in output
