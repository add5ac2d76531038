"""The two engines behind tuner.engine.Engine."""
