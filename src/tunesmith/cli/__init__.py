"""The command line; `serve` is where the processes are wired together."""
