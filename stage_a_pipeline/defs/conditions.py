"""When Dagster may materialise an asset by itself: when what it is made of has another version."""

from typing import Final

import dagster as dg

_changed = (
    # What its own run brings with it, it has been made of.
    dg.AutomationCondition.data_version_changed() & ~dg.AutomationCondition.executed_with_root_target()
)

WHEN_DEPS_CHANGE: Final = (
    dg.AutomationCondition.any_deps_match(_changed | dg.AutomationCondition.will_be_requested())
    .since_last_handled()
    .with_label("what it is made of has changed")
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)
"""An upstream asset that was materialised again with the same data version leads to nothing.

Nothing happens before somebody turns on the sensor `automation_conditions`.
"""

automation_conditions: Final = dg.AutomationConditionSensorDefinition(
    "automation_conditions",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Materialises what lies behind an asset whose data version has changed, and nothing else. "
    "Another way than `new_or_changed_groups`, for those who materialise `image_groups` themselves.",
)
