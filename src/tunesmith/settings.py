"""The one place that reads the environment and the settings file."""
