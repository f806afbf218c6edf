//! The transport between nodes and services: TLS 1.3, HTTP requests and the node's link
