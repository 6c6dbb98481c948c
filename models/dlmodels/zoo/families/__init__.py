"""Architectures that neither torchvision nor Gluon has, one family a file, each from its paper."""
