"""What people ask for: one frozen dataclass a job, with the rules that its inputs obey, for commands and Python alike."""
