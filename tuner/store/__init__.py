"""The studies on this machine: directories, manifests, results, learning curves, images, locks."""
