"""The nouns of the project: what a chain answers, its thresholds, its goals and operating points."""
