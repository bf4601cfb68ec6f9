"""Stage times come out of the metric documents among other log lines."""

from lovectl.measures import Spread, spread, stage_times


def test_percentiles_are_by_nearest_rank() -> None:
    assert spread([float(n) for n in range(1, 101)]) == Spread(100, 50.0, 99.0)
    assert spread([7.0]) == Spread(1, 7.0, 7.0)
    assert spread([]) is None


def test_only_metric_documents_with_a_stage_time_count() -> None:
    lines = [
        '{"_aws": {"Timestamp": 1}, "service": "pop", "stage_ms": [3.5]}',
        '[ms] {"_aws": {}, "service": "pop", "stage_ms": 4.5}',
        '{"_aws": {}, "service": "pop", "other": [1]}',
        '{"level": "INFO", "service": "pop", "stage_ms": [9]}',
        "{broken _aws",
        "",
    ]
    assert stage_times(lines) == {"pop": [3.5, 4.5]}
