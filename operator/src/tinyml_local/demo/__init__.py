"""`tinyml demo`: the whole way once, on scikit-learn's handwritten digits."""
