"""events.jsonl of a run: one frozen type for each kind of event, one writer (`RunDir.log`), one reader."""
