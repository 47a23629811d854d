"""What a run shows of itself: tables on the console and in Markdown, summary.json, learning curves."""
