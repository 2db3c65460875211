"""A rank's start: data, model, process group, engine, and into the loop."""

import logging
import os
import warnings
from dataclasses import asdict
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
from train.data.packing import pack_documents
from train.data.parts import parts_by_role
from train.data.prepare import documents_of, prepare
from train.data.sampler import Order, Sampler, plan_sequences
from train.data.sequences import Sequences, report_on
from train.dist import DistEnv, Group
from train.engine.engine import Engine
from train.failures import DataError, UserError
from train.faults import VARIABLE, Faults
from train.job import TrainJob, load_job
from train.journal.events import DataPrepared, FaultsInjected, Started
from train.journal.parts import DataReport
from train.journal.phases import Phase
from train.journal.reading import of_kind, read_journal
from train.measure.phases import Announcer
from train.measure.profiling import check_profile_steps
from train.measure.tracking import Tracker
from train.model.compiling import CompilationJournal, compile_layers, keep_compiled_code, layers_of
from train.model.load import attention_heads, load_model, load_tokenizer, prepare_model, tokenizer_key
from train.model.optim import build_optimizer
from train.node.heartbeat import Heartbeat
from train.node.signals import StopRequest
from train.rank.kernel_check import checked_kernels
from train.rank.loop import Outcome, run
from train.rundir import RunDir


def run_rank(run_dir: RunDir, attempt: int, stop: StopRequest, heart: Heartbeat) -> Outcome:
    """Everything one rank does in one attempt."""
    job = load_job(run_dir.root)
    env = DistEnv.from_environ(job.plan.device)
    _set_up_process(job, env)

    announcer = Announcer(run_dir, heart, attempt=attempt, main=env.is_main)
    faults = _faults(run_dir, env, attempt)
    announcer.begin(Phase.PREPARE_MODEL)
    directory = prepare_model(job.config.model, seed=job.config.seed, labels=job.plan.labels)
    tokenizer = load_tokenizer(directory, job.plan.chat_template)
    announcer.begin(Phase.PREPARE_DATA)
    sets = _prepare_sets(job, directory, tokenizer)
    sequences = _form_sequences(job, sets["train"])
    sampler = _build_sampler(job, sequences)
    check_profile_steps(job.config.train, sampler.total_steps)
    announcer.begin(Phase.PROCESS_GROUP)
    group = Group(env)
    group.check()
    engine, keep_alive = _build_engine(job, directory, tokenizer, group, announcer)
    announcer.begin(Phase.TRACKING)
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
            sequences=sequences,
            report=_report(job, sets["train"], sequences, attempt if env.is_main else None),
            sampler=sampler,
            saver=Saver(scope, job.config.checkpoint),
            restorer=Restorer(scope),
            stop=stop,
            heart=heart,
            faults=faults,
            tracker=tracker,
            announcer=announcer,
            compilation=_compilation(job, engine, env, attempt),
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
            run_dir.log(FaultsInjected(attempt=attempt, wanted=wanted))
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
    if job.config.model.compile:
        keep_compiled_code()
    if job.plan.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def _prepare_sets(job: TrainJob, directory: Path, tokenizer: Any) -> dict[str, TokenSet]:
    key = tokenizer_key(directory, job.plan.chat_template)
    parts = parts_by_role(job)
    sets = {}
    for role, file in job.plan.data.items():
        # What is only scored keeps all its rows, as they are under any policy.
        policy = job.config.data.overlong if role == "train" else "cut"
        data = job.config.data.model_copy(update={"overlong": policy})
        dataset = prepare(file, data, tokenizer, key, job.plan.labels)
        sets[role] = TokenSet(
            dataset,
            pad_id=tokenizer.pad_token_id,
            labels_per_token=job.config.model.task == "causal",
            numbers=documents_of(dataset, parts.get(role), drop_overlong=policy == "drop"),
        )
    return sets


def _form_sequences(job: TrainJob, documents: TokenSet) -> Sequences:
    data = job.config.data
    if not len(documents):
        raise DataError(
            f"every training row has more than data.max_length={data.max_length} tokens, and"
            " data.overlong=drop leaves it out; raise data.max_length, or set data.overlong=cut or split"
        )
    if not data.packing:
        return Sequences(documents)
    lengths = documents.tokens[documents.numbers]
    packs = pack_documents(lengths, capacity=data.max_length, seed=job.config.seed)
    return Sequences(documents, packs, one_row=job.plan.kernels["attention"].name == "flash_attention_2")


def _report(job: TrainJob, documents: TokenSet, sequences: Sequences, attempt: int | None) -> DataReport:
    """What became of the rows; journaled once for all attempts, by the rank that is told the attempt."""
    report = report_on(sequences, documents, job.config.data, job.plan.data["train"].rows)
    if attempt is not None and not of_kind(read_journal(job.run_dir.events), DataPrepared):
        job.run_dir.log(DataPrepared(attempt=attempt, **asdict(report)))
    return report


def _build_sampler(job: TrainJob, sequences: Sequences) -> Sampler:
    train = job.config.train
    group_by = train.global_batch_size if job.config.data.group_by_length else None
    order = Order(sequences.tokens, job.config.seed, group_by)
    return Sampler(order, train.global_batch_size, plan_sequences(train, order))


def _build_engine(
    job: TrainJob, directory: Path, tokenizer: Any, group: Group, announcer: Announcer
) -> tuple[Engine, object]:
    kernels = checked_kernels(job, group, announcer.attempt, attention_heads(directory, job.config.model))
    announcer.begin(Phase.LOAD_MODEL)
    model, keep_alive = load_model(
        directory, job.config.model, kernels, precision=job.config.train.precision, deepspeed=job.deepspeed
    )
    settings: Any = model.config
    if len(tokenizer) > settings.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens, the model's embeddings {settings.vocab_size}; "
            "use the tokenizer that belongs to the model"
        )
    settings.pad_token_id = tokenizer.pad_token_id
    if job.config.model.compile:
        compile_layers(model, device=group.env.device.type)
    announcer.begin(Phase.ENGINE)
    engine = Engine(
        model,
        build_optimizer(model, job.config.optim, kernel=kernels["optimizer"].name),
        job.deepspeed,
        causal=job.config.model.task == "causal",
        compiled=job.config.model.compile,
        world_size=group.env.world_size,
    )
    return engine, keep_alive


def _compilation(job: TrainJob, engine: Engine, env: DistEnv, attempt: int) -> CompilationJournal | None:
    if not (job.config.model.compile and env.is_main):
        return None
    return CompilationJournal(job.run_dir, attempt=attempt, layers=len(layers_of(engine.module)))


def _start_tracking(job: TrainJob, sampler: Sampler, env: DistEnv, attempt: int) -> Tracker | None:
    if not env.is_main:
        return None
    job.run_dir.log(
        Started(
            attempt=attempt,
            world_size=env.world_size,
            total_steps=sampler.total_steps,
            restart=int(os.environ.get("SHARDLINE_RESTART", "0")),
            start_method=job.config.train.start_method,
        )
    )
    return Tracker(job, attempt)
