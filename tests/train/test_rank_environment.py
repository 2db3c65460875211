"""The number of a start travels through the environment."""

from train.rank_environment import RankStart


def test_what_the_agent_writes_is_what_the_rank_reads():
    start = RankStart(attempt=3, restart=2)
    assert start.as_environ() == {"SHARDLINE_ATTEMPT": "3", "SHARDLINE_RESTART": "2"}
    assert RankStart.from_environ({"HOME": "/", **start.as_environ()}) == start


def test_a_process_without_an_agent_is_the_first_start_of_the_first_attempt():
    assert RankStart.from_environ({}) == RankStart(attempt=1, restart=0)
