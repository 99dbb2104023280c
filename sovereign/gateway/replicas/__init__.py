"""Several engines that may answer: which one does, and what runs at each."""
