"""The numerics: plain functions of tensors."""
