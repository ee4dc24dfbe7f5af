"""Tensors in files: the compact format, safetensors of a bounded size, packed tensors. Never pickle."""
