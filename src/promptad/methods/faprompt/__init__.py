"""FAPrompt (ICCV 2025)."""
