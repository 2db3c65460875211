"""The encoder path: MiniLM from its pip package gets a head and learns to sort tickets."""

from tests.multiprocess.driven import finish


def test_triage_learns_eight_topics_from_near_chance():
    """In a third of the experiment's epochs, of rows grouped by their length."""
    run = finish(
        "experiment=triage",
        "train.epochs=2",
        "data.group_by_length=true",
        "tracking=disabled",
        "eval.every_steps=null",
    )
    base, tuned = (run.result["evaluation"][name]["task"] for name in ("base", "tuned"))
    assert base["macro_f1"] < 0.3
    assert tuned["macro_f1"] >= 0.6
    assert tuned["accuracy"] >= 0.6
