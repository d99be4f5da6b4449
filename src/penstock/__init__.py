"""penstock: get large generative models through the narrow memory of a phone."""
