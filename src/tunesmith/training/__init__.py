"""Runs on Ray: one frozen `TrainSpec` in, one adapter out; `run.py` reads from top to bottom."""
