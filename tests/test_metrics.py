"""The series: all of one prefix, and those of an object go with the object."""

from __future__ import annotations

from prometheus_client import REGISTRY

from vectorops import metrics


def condition(type_: str, name: str = "one") -> float | None:
    labels = {"kind": "Thing", "namespace": "ns", "name": name, "type": type_}
    return REGISTRY.get_sample_value("vectorops_condition", labels)


def test_every_series_bears_our_prefix_and_says_what_it_is() -> None:
    ours = [family for family in REGISTRY.collect() if not family.name.startswith(("python_", "process_"))]
    assert [family.name for family in ours if not family.name.startswith("vectorops_")] == []
    assert [family.name for family in ours if not family.documentation] == []


def test_a_condition_is_one_series_that_turns_and_is_shed_with_the_condition() -> None:
    metrics.conditions(
        "Thing", "ns", "one", [{"type": "Ready", "status": "False"}, {"type": "Stalled", "status": "True"}]
    )
    assert (condition("Ready"), condition("Stalled")) == (0.0, 1.0)
    metrics.conditions("Thing", "ns", "one", [{"type": "Ready", "status": "Unknown"}])
    assert (condition("Ready"), condition("Stalled")) == (-1.0, None)
    metrics.forget("Thing", "ns", "one")
    assert condition("Ready") is None
    metrics.forget("Thing", "ns", "one")


def test_a_pass_is_counted_by_its_result_and_timed() -> None:
    metrics.reconciled("Thing", "ok", 0.2)
    assert REGISTRY.get_sample_value("vectorops_reconcile_total", {"kind": "Thing", "result": "ok"}) == 1.0
    assert REGISTRY.get_sample_value("vectorops_reconcile_seconds_count", {"kind": "Thing"}) == 1.0
