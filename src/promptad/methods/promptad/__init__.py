"""PromptAD, few-shot (CVPR 2024)."""
