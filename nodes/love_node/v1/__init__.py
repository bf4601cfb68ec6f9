"""Generated from proto/love/node/v1/node.proto; see README.md."""
