"""Speed, measured side by side with a peer in the same run: `make bench`. docs/performance.md says how, and what came out."""
