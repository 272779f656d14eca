"""What happened in runs and studies, on disk and in memory. Imports no torch."""
