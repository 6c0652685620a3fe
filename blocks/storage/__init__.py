"""The artifact store: bodies and manifests, in a folder or a bucket."""
