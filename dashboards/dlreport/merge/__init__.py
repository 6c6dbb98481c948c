"""Results of several machines, or of one machine set up in several ways, side by side."""
