"""Runs on Ray: one `TrainSpec` in, one model out."""
