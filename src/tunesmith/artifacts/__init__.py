"""Bytes by key: uploads, run directories, adapters; one protocol, local disk behind it."""
