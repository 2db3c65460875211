"""A rank's start: data, model, process group, engine, and into the loop."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from train.checkpoint.progress import Shape
from train.checkpoint.restoring import Restorer
from train.checkpoint.saving import Saver
from train.checkpoint.scope import CheckpointScope
from train.checkpoint.store import CheckpointStore
from train.context import RankContext
from train.data.collate import TokenSet
from train.data.parts import parts_by_role
from train.data.prepare import prepare
from train.data.sampler import Sampler, plan_samples
from train.dist import DistEnv, Group
from train.engine import Engine
from train.failures import UserError
from train.faults import VARIABLE, Faults
from train.heartbeat import Heartbeat
from train.job import TrainJob, load_job
from train.loop import Outcome, run
from train.model import load_model, load_tokenizer, prepare_model, tokenizer_key
from train.optim import build_optimizer
from train.profiling import check_profile_steps
from train.rundir import RunDir
from train.signals import StopRequest
from train.start import Announcer
from train.tracking import Tracker


def run_rank(run_dir: RunDir, attempt: int, stop: StopRequest, heart: Heartbeat) -> Outcome:
    """Everything one rank does in one attempt."""
    job = load_job(run_dir.root)
    env = DistEnv.from_environ(job.plan.device)
    _set_up_process(job, env)

    announcer = Announcer(run_dir, heart, attempt=attempt, main=env.is_main)
    faults = _faults(run_dir, env, attempt)
    announcer.begin("prepare model")
    directory = prepare_model(job.config.model, seed=job.config.seed, labels=job.plan.labels)
    tokenizer = load_tokenizer(directory, job.plan.chat_template)
    announcer.begin("prepare data")
    sets = _prepare_sets(job, directory, tokenizer)
    sampler = _build_sampler(job, sets["train"])
    check_profile_steps(job.config.train, sampler.total_steps)
    announcer.begin("process group")
    group = Group(env)
    group.check()
    engine, keep_alive = _build_engine(job, directory, tokenizer, env, announcer)
    announcer.begin("tracking")
    tracker = _start_tracking(job, sampler, env, attempt)
    scope = CheckpointScope(
        run_dir=run_dir,
        group=group,
        store=CheckpointStore(run_dir.checkpoints, faults),
        shape=Shape(
            world_size=env.world_size,
            zero_stage=job.config.zero.stage,
            precision=job.config.train.precision,
        ),
        attempt=attempt,
        faults=faults,
    )
    outcome = run(
        RankContext(
            job=job,
            attempt=attempt,
            group=group,
            engine=engine,
            tokenizer=tokenizer,
            sets=sets,
            sampler=sampler,
            saver=Saver(scope, job.config.checkpoint),
            restorer=Restorer(scope),
            stop=stop,
            heart=heart,
            faults=faults,
            tracker=tracker,
            announcer=announcer,
        )
    )
    faults.hit("exit")
    del keep_alive
    group.close()
    return outcome


def _faults(run_dir: RunDir, env: DistEnv, attempt: int) -> Faults:
    """What is to break on purpose; said loudly, so that nobody takes it for an accident."""
    wanted = os.environ.get(VARIABLE)
    if wanted:
        logging.getLogger(__name__).warning("FAULTS ARE INJECTED: %s=%s", VARIABLE, wanted)
        if env.is_main:
            run_dir.log_event("faults", attempt=attempt, wanted=wanted)
    return Faults.from_environ(os.environ)


def _set_up_process(job: TrainJob, env: DistEnv) -> None:
    logging.basicConfig(
        level=logging.INFO if env.is_main else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # DeepSpeed's hooks return through a deprecated torch path at every module: one line per call.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.autograd|deepspeed")
    for noisy in ("DeepSpeed", "filelock", "httpx", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(job.config.seed)
    if job.plan.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def _prepare_sets(job: TrainJob, directory: Path, tokenizer: Any) -> dict[str, TokenSet]:
    key = tokenizer_key(directory, job.plan.chat_template)
    prepared = {
        role: prepare(file, job.config.data, tokenizer, key, job.plan.labels)
        for role, file in job.plan.data.items()
    }
    parts = parts_by_role(job)
    return {
        role: TokenSet(
            dataset,
            pad_id=tokenizer.pad_token_id,
            labels_per_token=job.config.model.task == "causal",
            numbers=parts.get(role),
        )
        for role, dataset in prepared.items()
    }


def _build_sampler(job: TrainJob, rows: TokenSet) -> Sampler:
    tokens_per_row = rows.tokens[rows.numbers]
    return Sampler(
        rows=len(tokens_per_row),
        global_batch_size=job.config.train.global_batch_size,
        seed=job.config.seed,
        total_samples=plan_samples(job.config.train, tokens_per_row, job.config.seed),
    )


def _build_engine(
    job: TrainJob, directory: Path, tokenizer: Any, env: DistEnv, announcer: Announcer
) -> tuple[Engine, object]:
    announcer.begin("load model")
    model, keep_alive = load_model(
        directory, job.config.model, precision=job.config.train.precision, deepspeed=job.deepspeed
    )
    settings: Any = model.config
    if len(tokenizer) > settings.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens, the model's embeddings {settings.vocab_size}; "
            "use the tokenizer that belongs to the model"
        )
    settings.pad_token_id = tokenizer.pad_token_id
    announcer.begin("engine")
    engine = Engine(
        model,
        build_optimizer(model, job.config.optim),
        job.deepspeed,
        causal=job.config.model.task == "causal",
        world_size=env.world_size,
    )
    return engine, keep_alive


def _start_tracking(job: TrainJob, sampler: Sampler, env: DistEnv, attempt: int) -> Tracker | None:
    if not env.is_main:
        return None
    job.run_dir.log_event(
        "started",
        attempt=attempt,
        world_size=env.world_size,
        total_steps=sampler.total_steps,
        restart=int(os.environ.get("SHARDLINE_RESTART", "0")),
    )
    return Tracker(job, attempt)
