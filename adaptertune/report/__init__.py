"""Results as tables and pictures; reads only result files."""
