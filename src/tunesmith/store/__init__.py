"""The only SQL: files, uploads, jobs, events, checkpoints, tuned models and API keys."""
