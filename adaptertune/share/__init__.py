"""What leaves the house: submissions, bundles of many tasks, runs on the hub."""
