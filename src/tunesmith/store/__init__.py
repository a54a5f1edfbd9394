"""The only SQL: files, uploads, jobs, events, checkpoints and tuned models."""
