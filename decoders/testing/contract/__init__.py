"""The contract of every strategy, as checks that its author runs: its events, its costs, and no work left behind.

A check is a function of a strategy that names both rewards of the toy, as in

    @pytest.mark.parametrize("check", CONTRACT)
    def test_contract(check):
        check(MyStrategy(reward=REWARDS))

It runs the strategy on the toy, and raises `AssertionError` where the strategy breaks the contract. Of the guides, the
toy has one called `kind`.
"""

from collections.abc import Callable

from decoders.base import Decoder
from decoders.testing.contract.results import (
    a_seed_fixes_the_answer_and_another_changes_it,
    phases_add_up_to_the_wall_time,
    steps_make_up_one_result,
    steps_make_up_several_results,
    streamed_steps_make_up_one_result,
    streamed_steps_make_up_several_results,
    the_order_of_finishing_changes_nothing,
)
from decoders.testing.contract.stopping import (
    a_failing_engine_fails_the_run,
    a_reward_that_fails_at_once_fails_the_run,
    a_reward_that_fails_later_fails_the_run,
    cancelling_it_while_it_draws_stops_all_work,
    cancelling_it_while_it_scores_stops_all_work,
    closing_it_midway_closes_the_policys_generators,
)
from decoders.testing.contract.values import (
    it_is_a_closed_value_that_survives_json,
    it_states_its_law_and_accepts_the_toy,
)

Check = Callable[[Decoder], None]
CONTRACT: tuple[Check, ...] = (
    steps_make_up_one_result,
    steps_make_up_several_results,
    streamed_steps_make_up_one_result,
    streamed_steps_make_up_several_results,
    a_seed_fixes_the_answer_and_another_changes_it,
    the_order_of_finishing_changes_nothing,
    closing_it_midway_closes_the_policys_generators,
    cancelling_it_while_it_draws_stops_all_work,
    cancelling_it_while_it_scores_stops_all_work,
    a_reward_that_fails_later_fails_the_run,
    a_reward_that_fails_at_once_fails_the_run,
    a_failing_engine_fails_the_run,
    phases_add_up_to_the_wall_time,
    it_is_a_closed_value_that_survives_json,
    it_states_its_law_and_accepts_the_toy,
)
