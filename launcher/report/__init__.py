"""One HTML file that tells what a run or a sweep came to: gathered, drawn, written."""
