"""How long a silent worker is waited for."""

from stage_a_pipeline.inference.worker_process import Patience


def test_loading_and_the_first_batch_may_take_as_long_as_the_settings_allow():
    patience = Patience(600.0)
    patience.saw(300.0)
    assert patience.seconds == 600.0


def test_a_worker_with_short_steps_is_given_up_after_half_a_minute():
    patience = Patience(600.0)
    patience.learn()
    for _ in range(10):
        patience.saw(0.5)
    assert patience.seconds == 30.0


def test_long_steps_are_waited_for_up_to_the_settings_limit():
    patience = Patience(600.0)
    patience.learn()
    patience.saw(5.0)
    assert patience.seconds == 100.0
    patience.saw(50.0)
    assert patience.seconds == 600.0


def test_one_long_step_of_long_ago_counts_less_and_less():
    patience = Patience(600.0)
    patience.learn()
    patience.saw(20.0)
    for _ in range(300):
        patience.saw(0.1)
    assert patience.seconds == 30.0


def test_the_settings_limit_may_be_shorter_than_half_a_minute():
    patience = Patience(3.0)
    patience.learn()
    patience.saw(1.0)
    assert patience.seconds == 3.0
