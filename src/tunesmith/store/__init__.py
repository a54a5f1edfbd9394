"""The only SQL: files, jobs, events, checkpoints and tuned models."""
