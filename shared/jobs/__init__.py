"""Long-running jobs: their queue, their progress, and their input and output files."""
