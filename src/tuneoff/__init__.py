"""tuneoff: which way of adapting a language model is worth it for my documents, on my machine?"""

__version__ = "0.1.0"
