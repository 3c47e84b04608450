"""The compiler: an int8 model for one device class in; C, weights, images and a report out."""
