"""Files that people keep: detectors, trained prompts."""
