"""The arithmetic under the strategies: pure functions of numbers."""
