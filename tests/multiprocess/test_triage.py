"""The encoder path: MiniLM from its pip package gets a head and learns to sort tickets."""

from tests.multiprocess.runs import finish


def test_triage_learns_eight_topics_from_near_chance():
    """In two thirds of the experiment's epochs."""
    run = finish("experiment=triage", "train.epochs=4", "tracking=disabled", "eval.every_steps=null")
    base, tuned = (run.result["evaluation"][name]["task"] for name in ("base", "tuned"))
    assert base["macro_f1"] < 0.3
    assert tuned["macro_f1"] >= 0.75
    assert tuned["accuracy"] >= 0.75
