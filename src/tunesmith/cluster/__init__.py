"""The server's only door to Ray: submissions, their state, their logs, and what is free."""
