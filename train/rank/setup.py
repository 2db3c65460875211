"""Setup of a rank: data, model, process group, engine; then the training loop."""

import logging
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from train.checkpoint.progress import Topology
from train.checkpoint.restoring import Restorer
from train.checkpoint.saving import Saver
from train.checkpoint.schedule import SaveSchedule
from train.checkpoint.scope import CheckpointScope
from train.checkpoint.store import CheckpointStore
from train.dist import DistEnv, Group
from train.engine.engine import Engine
from train.evaluate.assess import Assessor
from train.evaluate.validation import Validation
from train.failures import UserError
from train.faults import FAULT_VARIABLE, Faults
from train.job import TrainJob, load_job
from train.journal.events import FaultsInjected, Started
from train.journal.phases import Phase
from train.measure.phases import PhaseTimer
from train.measure.profiling import StepProfiler, check_profile_steps
from train.measure.tracking import Tracker
from train.model.compiling import CompilationJournal, compile_layers, keep_compiled_code, layers_of
from train.model.load import attention_heads, load_model, load_tokenizer, prepare_model
from train.model.optim import build_optimizer
from train.node.heartbeat import Heartbeat
from train.node.signals import StopRequest
from train.observer import StepObserver
from train.rank.checkpointing import Checkpointing
from train.rank.finish import RunEnd
from train.rank.gc_policy import CollectionSteps
from train.rank.global_batch import BatchTrainer
from train.rank.kernel_check import checked_kernels
from train.rank.loop import LoopParts, Outcome, run
from train.rank.meter import Meter
from train.rank.rank_data import RankData, prepare_data, report_data
from train.rank.stop_notice import PreemptionNotice
from train.rank.trace import BatchTrace
from train.rank_environment import RankStart
from train.rundir import RunDir


def run_rank(run_dir: RunDir, attempt: int, stop: StopRequest, heart: Heartbeat) -> Outcome:
    """Run one attempt on one rank; a signal sets `stop`. Return whether the run was completed or stopped."""
    job = load_job(run_dir.root)
    env = DistEnv.from_environ(job.plan.device)
    _set_up_process(job, env)

    start = replace(RankStart.from_environ(os.environ), attempt=attempt)
    phases = PhaseTimer(run_dir, heart, start, main=env.is_main)
    faults = _faults(run_dir, env, start, heart)
    phases.begin(Phase.PREPARE_MODEL)
    directory = prepare_model(job.config.model, seed=job.config.seed, labels=job.plan.labels)
    tokenizer = load_tokenizer(directory, job.plan.chat_template)
    phases.begin(Phase.PREPARE_DATA)
    data = prepare_data(job, directory, tokenizer)
    check_profile_steps(job.config.train, data.sampler.total_steps)
    phases.begin(Phase.PROCESS_GROUP)
    group = Group(env)
    group.check()
    engine, keep_alive = _build_engine(job, directory, tokenizer, group, phases=phases, attempt=attempt)
    phases.begin(Phase.TRACKING)
    tracker = _start_tracking(job, data.sampler.total_steps, start, env) if env.is_main else None
    meter = Meter(engine, group, tracker, attempt=attempt, speed=job.plan.speed)
    parts = LoopParts(
        config=job.config,
        run_dir=run_dir,
        attempt=attempt,
        group=group,
        trainer=_trainer(job, engine, data, env, meter=meter, heart=heart, faults=faults),
        observers=_observers(job, engine, env, attempt, phases=phases, meter=meter),
        meter=meter,
        checkpoints=_checkpointing(job, attempt, engine, group, meter=meter, heart=heart, faults=faults),
        validation=_validation(
            job, attempt, engine, data, group, tracker=tracker, heart=heart, faults=faults
        ),
        phases=phases,
        stop=stop,
        heart=heart,
        tracker=tracker,
    )
    end = RunEnd(
        run_dir=run_dir,
        attempt=attempt,
        group=group,
        engine=engine,
        tokenizer=tokenizer,
        saver=parts.checkpoints.saver,
        restorer=parts.checkpoints.restorer,
        assessor=Assessor(
            job=job, engine=engine, tokenizer=tokenizer, sets=data.sets, group=group, phases=phases
        ),
        phases=phases,
        tracker=tracker,
        report=report_data(job, data, attempt if env.is_main else None),
        total_steps=data.sampler.total_steps,
    )
    outcome = run(parts, end)
    faults.hit("exit")
    del keep_alive
    group.close()
    return outcome


def _trainer(
    job: TrainJob,
    engine: Engine,
    data: RankData,
    env: DistEnv,
    *,
    meter: Meter,
    heart: Heartbeat,
    faults: Faults,
) -> BatchTrainer:
    return BatchTrainer(
        engine=engine,
        sampler=data.sampler,
        sequences=data.sequences,
        batch=job.plan.batch,
        optim=job.config.optim,
        seed=job.config.seed,
        env=env,
        meter=meter,
        heart=heart,
        faults=faults,
    )


def _observers(
    job: TrainJob, engine: Engine, env: DistEnv, attempt: int, *, phases: PhaseTimer, meter: Meter
) -> tuple[StepObserver, ...]:
    """Return the observers of the steps, outermost first; the meter is last, so it times training alone."""
    return (
        *((BatchTrace(job.run_dir, attempt),) if job.config.train.trace and env.is_main else ()),
        CollectionSteps(),
        *_compilation(job, engine, env, attempt),
        phases,
        StepProfiler(job.config.train, job.run_dir, env, attempt),
        meter,
    )


def _checkpointing(
    job: TrainJob,
    attempt: int,
    engine: Engine,
    group: Group,
    *,
    meter: Meter,
    heart: Heartbeat,
    faults: Faults,
) -> Checkpointing:
    run_dir, config = job.run_dir, job.config
    scope = CheckpointScope(
        run_dir=run_dir,
        group=group,
        store=CheckpointStore(run_dir.checkpoints, faults),
        topology=Topology(
            world_size=group.env.world_size,
            zero_stage=config.zero.stage,
            precision=config.train.precision,
        ),
        attempt=attempt,
        faults=faults,
    )
    return Checkpointing(
        engine=engine,
        saver=Saver(scope, config.checkpoint),
        restorer=Restorer(scope),
        schedule=SaveSchedule(config.checkpoint, run_dir.save_request),
        notice=PreemptionNotice(run_dir, attempt=attempt, main=group.env.is_main, notice_s=job.plan.notice_s),
        meter=meter,
        heart=heart,
    )


def _validation(
    job: TrainJob,
    attempt: int,
    engine: Engine,
    data: RankData,
    group: Group,
    *,
    tracker: Tracker | None,
    heart: Heartbeat,
    faults: Faults,
) -> Validation:
    return Validation(
        engine=engine,
        rows=data.sets.get("validation"),
        group=group,
        batch_size=job.config.eval.batch_size,
        causal=job.config.model.task == "causal",
        run_dir=job.run_dir,
        attempt=attempt,
        tracker=tracker,
        heart=heart,
        faults=faults,
    )


def _faults(run_dir: RunDir, env: DistEnv, start: RankStart, heart: Heartbeat) -> Faults:
    """Read the faults to inject; log and journal them, so that they are not mistaken for real failures."""
    wanted = os.environ.get(FAULT_VARIABLE)
    if wanted:
        logging.getLogger(__name__).warning("injecting faults: %s=%s", FAULT_VARIABLE, wanted)
        if env.is_main:
            run_dir.log(FaultsInjected(attempt=start.attempt, wanted=wanted))
    return Faults.from_environ(os.environ, rank=env.rank, start=start, number=heart.number)


def _set_up_process(job: TrainJob, env: DistEnv) -> None:
    logging.basicConfig(
        level=logging.INFO if env.is_main else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # DeepSpeed's hooks use a deprecated torch path, which warns at every call of every module.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.autograd|deepspeed")
    for noisy in ("DeepSpeed", "filelock", "httpx", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(job.config.seed)
    if job.config.model.compile:
        keep_compiled_code()
    if job.plan.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def _build_engine(
    job: TrainJob, directory: Path, tokenizer: Any, group: Group, *, phases: PhaseTimer, attempt: int
) -> tuple[Engine, object]:
    kernels = checked_kernels(job, group, attempt, attention_heads(directory, job.config.model))
    phases.begin(Phase.LOAD_MODEL)
    model, keep_alive = load_model(
        directory, job.config.model, kernels, precision=job.config.train.precision, deepspeed=job.deepspeed
    )
    settings: Any = model.config
    if len(tokenizer) > settings.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens, but the model has {settings.vocab_size} embeddings; "
            "use the tokenizer of this model"
        )
    settings.pad_token_id = tokenizer.pad_token_id
    if job.config.model.compile:
        compile_layers(model, device=group.env.device.type)
    phases.begin(Phase.ENGINE)
    engine = Engine(
        model,
        build_optimizer(model, job.config.optim, kernel=kernels["optimizer"].name),
        job.deepspeed,
        causal=job.config.model.task == "causal",
        compiled=job.config.model.compile,
        world_size=group.env.world_size,
    )
    return engine, keep_alive


def _compilation(job: TrainJob, engine: Engine, env: DistEnv, attempt: int) -> tuple[CompilationJournal, ...]:
    if not (job.config.model.compile and env.is_main):
        return ()
    return (CompilationJournal(job.run_dir, attempt=attempt, layers=len(layers_of(engine.module))),)


def _start_tracking(job: TrainJob, total_steps: int, start: RankStart, env: DistEnv) -> Tracker:
    """Journal the start of the ranks and start tracking; called on rank 0 only."""
    job.run_dir.log(
        Started(
            attempt=start.attempt,
            world_size=env.world_size,
            total_steps=total_steps,
            restart=start.restart,
            start_method=job.plan.start_method,
        )
    )
    return Tracker(job, start.attempt)
