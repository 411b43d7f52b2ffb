"""Tests: laws by enumeration, arithmetic against closed forms, contracts over every registered part."""
