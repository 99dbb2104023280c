"""Every kind of call: what is read of it, what an engine is asked, and how the answer is said."""
