"""The rewards of Stage-B for ms-swift's `--reward_funcs`: stage_b_label and its like.

`export-swift` copies this file. The rewards are those that the pipeline itself trains with, of the package
that is installed beside ms-swift.
"""

from __future__ import annotations

from typing import Any

from swift.rewards import ORM, orms

try:
    from stage_a_pipeline.stage_b.rewards import VERDICT_REWARDS, Reward
except ImportError as error:
    raise ImportError(
        f"{__file__} takes its rewards from stage-a-pipeline, which does not import in ms-swift's "
        f"environment ({error}); install it there, in the pipeline's folder: "
        "pip install --no-deps . && pip install universal-pathlib"
    ) from error


def _as_orm(name: str, reward: Reward) -> type[ORM]:
    class VerdictReward(ORM):  # type: ignore[misc, unused-ignore]
        def __call__(self, completions: list[str], **columns: Any) -> list[float]:
            return reward(completions, **columns)

    # ms-swift's log has the name of the class.
    VerdictReward.__name__ = name
    return VerdictReward


for _name, _reward in VERDICT_REWARDS.items():
    orms[f"stage_b_{_name}"] = _as_orm(f"stage_b_{_name}", _reward)
