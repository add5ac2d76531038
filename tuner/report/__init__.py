"""Pages and plots of a Result."""
