"""Runs on Ray: answers with base models and with adapters on them."""
