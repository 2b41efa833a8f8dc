"""Plots and interactive views."""
