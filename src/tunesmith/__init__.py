"""Tunesmith: a self-hosted fine-tuning service that speaks OpenAI's and OPEA's APIs."""

from importlib.metadata import version

__version__ = version("tunesmith")
