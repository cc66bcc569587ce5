"""PromptAD, zero-shot (WACV 2024)."""
