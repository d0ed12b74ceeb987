"""The comparison: the same loop under several arms, measured alike."""
