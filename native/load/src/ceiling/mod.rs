//! Echo servers that have no BEAM in them: how far a server with one is from what is possible.

pub mod epoll;
pub mod tungstenite;
