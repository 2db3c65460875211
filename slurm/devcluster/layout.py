"""Files, ports and configuration of a development cluster. Pure."""

from dataclasses import dataclass
from pathlib import Path

GPUS_PER_NODE = 2
CPUS_PER_NODE = 16
MEM_PER_NODE_MB = 16_000
"""Declared to Slurm per node; the nodes really share one machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLayout:
    """Paths and ports of one cluster."""

    root: Path
    nodes: int
    accounting: bool
    user: str
    host: str
    ports: tuple[int, ...]
    """Ports of slurmctld, slurmdbd, then of each node."""

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes: n1, n2, ..."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def slurm_conf(self) -> Path:
        """Path of slurm.conf, the value of SLURM_CONF."""
        return self.root / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        """Path of munged's socket."""
        return self.root / "munge.socket"

    @property
    def mysql_socket(self) -> Path:
        """Path of the private database's socket; the database has no port."""
        return self.root / "mysql.socket"

    @property
    def log_dir(self) -> Path:
        """Directory of the daemons' logs."""
        return self.root / "log"

    def environ(self) -> dict[str, str]:
        """Return the environment variables that point Slurm's commands and daemons to this cluster."""
        return {"SLURM_CONF": str(self.slurm_conf), "MYSQL_UNIX_PORT": str(self.mysql_socket)}


def slurm_conf(layout: ClusterLayout) -> str:
    """Return slurm.conf: two partitions over the same nodes, of which `high` preempts `batch`.

    `cred_expire=5` makes a requeued job wait 10 s instead of 120 s (BeginTime is now + 2 x cred_expire).
    """
    root, (ctld_port, dbd_port, *node_ports) = layout.root, layout.ports
    accounting = (
        f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
        f"AccountingStoragePort={dbd_port}\nAccountingStoragePass={layout.munge_socket}\nJobAcctGatherType=jobacct_gather/none\n"
        if layout.accounting
        else "AccountingStorageType=accounting_storage/none\n"
    )
    nodes = "".join(
        f"NodeName={name} NodeHostname={layout.host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS_PER_NODE}"
        f" RealMemory={MEM_PER_NODE_MB} Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN\n"
        for name, port in zip(layout.node_names, node_ports, strict=True)
    )
    return f"""\
ClusterName=devcluster
SlurmctldHost={layout.host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={layout.user}
SlurmdUser={layout.user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={layout.munge_socket},cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={layout.log_dir}/slurmctld.log
SlurmdLogFile={layout.log_dir}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
MinJobAge=3600
MaxArraySize=1001
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=0
{accounting}JobCompType=jobcomp/none
{nodes}PartitionName=batch Nodes=ALL Default=YES PriorityTier=1 GraceTime=30 DefMemPerCPU=500
PartitionName=high Nodes=ALL PriorityTier=10 DefMemPerCPU=500
"""


def gres_conf(layout: ClusterLayout) -> str:
    """Return gres.conf, in which each simulated GPU of a node is a plain file."""
    return "".join(
        f"NodeName={name} Name=gpu File={layout.root}/gpu/{name}_[0-{GPUS_PER_NODE - 1}]\n"
        for name in layout.node_names
    )


def slurmdbd_conf(layout: ClusterLayout) -> str:
    """Return slurmdbd.conf: accounting in the private database through its socket."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
DbdHost=localhost
DbdPort={layout.ports[1]}
SlurmUser={layout.user}
PidFile={layout.root}/slurmdbd.pid
LogFile={layout.log_dir}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={layout.user}
StorageLoc=slurm_acct_db
"""
