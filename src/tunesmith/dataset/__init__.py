"""Training files: find the format, check every line, render through the chat template, mask."""
