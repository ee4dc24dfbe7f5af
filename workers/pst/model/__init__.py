"""A base model: its folder, vocabulary and rows, what of it fits on a device, fast dropout."""
