//! TLS for connections.
