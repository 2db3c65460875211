"""The journal events.jsonl: a frozen type per kind of event, one writer (`RunDir.log`) and one reader."""
