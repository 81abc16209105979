"""Crashes, with real processes, real databases and SIGKILL."""
