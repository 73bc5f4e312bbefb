"""What the retraining job can train anew, one file a part: from samples to a folder, and judged.

A part knows its kind of samples and its place in a release; stages, gate and publication stay out.
"""
