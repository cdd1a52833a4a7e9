from models.counters import Counters, Distribution


def test_a_value_is_counted_at_the_first_bound_that_holds_it() -> None:
    values = Distribution((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 9):
        values.observe(value)
    assert values.counts == [2, 1, 1, 1]
    assert values.total == 16


def test_a_step_counts_its_rows_and_its_time() -> None:
    counters = Counters()
    counters.count_step(rows=6, seconds=0.2)
    counters.count_step(rows=2, seconds=0.3)
    assert (counters.batch_rows.total, sum(counters.batch_rows.counts)) == (8, 2)
    assert counters.step_seconds.total == 0.5
