"""Which settings go on from a rung."""

from itertools import product

from launcher.node.halving import Standing, decide, shrunk


def landscape(lr: float, decay: float, step: int, seed: int) -> float:
    """A loss that falls with the steps, lowest at lr=0.3 and decay=0.1, noisy by seed."""
    return 1 + (lr - 0.3) ** 2 + (decay - 0.1) ** 2 + 5 / step + 0.003 * ((seed * 7919) % 5 - 2)


def test_the_best_setting_survives_on_a_fraction_of_the_steps():
    settings = list(product([0.1, 0.2, 0.3, 0.4, 0.5], [0.0, 0.1, 0.2]))
    seeds, rungs, total, keep = (0, 1), (10, 30), 90, 1 / 3
    alive = {f"{lr}-{decay}-{seed}": (lr, decay, seed) for lr, decay in settings for seed in seeds}
    steps, before = 0, 0
    for rung in rungs:
        steps += (rung - before) * len(alive)
        before = rung
        standings = [
            Standing(
                trial=name,
                point={"optim.lr": lr, "optim.weight_decay": decay, "seed": seed},
                loss=landscape(lr, decay, rung, seed),
            )
            for name, (lr, decay, seed) in alive.items()
        ]
        decision = decide(standings, rung, keep)
        assert len(decision.kept) + len(decision.dropped) == len(alive)
        alive = {name: alive[name] for name in decision.kept}
    steps += (total - before) * len(alive)
    assert {(lr, decay) for lr, decay, _ in alive.values()} >= {(0.3, 0.1)}
    assert steps <= 0.45 * total * len(settings) * len(seeds)


def standing(trial: str, lr: float, loss: float | None, seed: int = 0) -> Standing:
    return Standing(trial=trial, point={"optim.lr": lr, "seed": seed}, loss=loss)


def test_seeds_are_meaned_and_go_on_together():
    decision = decide(
        [
            standing("a0", 1, 1.0, 0),
            standing("a1", 1, 9.0, 1),
            standing("b0", 2, 3.0, 0),
            standing("b1", 2, 3.0, 1),
        ],
        10,
        0.5,
    )
    assert decision.kept == ["b0", "b1"]
    assert decision.dropped["a0"] == "loss 5.0000 at step 10; the best 1 of 2 settings have 3.0000 or less"


def test_a_trial_that_never_got_there_does_not_go_on():
    decision = decide([standing("a", 1, None), standing("b", 2, 4.0)], 10, 0.9)
    assert decision.kept == ["b"]
    assert decision.dropped == {"a": "no trial of this setting reached step 10 with a finite loss"}


def test_places_are_enough_for_what_is_kept():
    assert shrunk(trials=18, settings=9, keep=1 / 3) == (6, 3)
    assert shrunk(trials=6, settings=3, keep=1 / 3) == (2, 1)
    assert shrunk(trials=5, settings=5, keep=0.5) == (3, 3)
