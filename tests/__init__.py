"""Mirrors the packages; helpers are imported as tests.tuner.samples."""
