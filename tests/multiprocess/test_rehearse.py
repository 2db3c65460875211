"""The drill that people run before a long job, and the verbs that look at checkpoints."""

import json

from tests.multiprocess.runs import command
from train.faults import flip_one_bit
from train.rundir import RunDir


def test_a_rehearsal_gives_a_verdict_per_item(runs):
    done = command("rehearse", "experiment=smoke", "model.dropout=0.1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    items = {item["name"]: item["equal"] for item in json.loads(done.stdout)}
    assert set(items) == {
        "steps",
        "sample ids",
        "learning rates",
        "tokens",
        "random numbers",
        "W&B steps",
        "losses",
        "interruptions",
    }
    assert all(items.values())
    [broken] = runs.glob("*-broken-*")
    listed = command("checkpoints", str(broken), "--json")
    assert listed.returncode == 0
    newest = json.loads(listed.stdout)[0]
    assert (newest["manifest"]["step"], newest["usable"], newest["verified"]) == (12, True, False)
    flip_one_bit(next((RunDir(broken).checkpoints / "step_12" / "shards").glob("*optim_states.pt")))
    assert command("checkpoints", str(broken)).returncode == 0, "sizes are what they were"
    verified = command("checkpoints", str(broken), "--verify")
    assert verified.returncode == 2
    assert "was changed after the commit" in " ".join(verified.stdout.split())
    refused = command("export", str(broken), "--step", "3")
    assert refused.returncode == 2
    assert "no checkpoint of step 3" in refused.stderr
