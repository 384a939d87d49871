//! What must hold whatever a peer sends. Each check takes the bytes that a fuzzer made up and panics
//! when something does not hold; `src/bin` hands them to libFuzzer, `tests/corpus.rs` replays the
//! corpus.
//!
//! - [`reader`]: cut anywhere, the same events; and no event that the protocol forbids
//! - [`peer`]: the same messages as another implementation
//! - [`extension`]: an answer to any offer that takes up no more than was offered
//! - [`deflate`], [`inflate`]: what others make of our compressed messages, and we of theirs
//! - [`http2`]: what the filter of HTTP/2 lets through is right, and nothing else is held back
//! - [`source`], [`stream`], [`agreement`]: how made-up bytes become a client's bytes
//! - [`event`]: the reader's events, kept
#![forbid(unsafe_code)]

pub mod agreement;
#[path = "../../engine/tests/http2/client.rs"]
mod client;
#[path = "../../engine/tests/ws_protocol/cut.rs"]
mod cut;
pub mod deflate;
pub mod event;
pub mod extension;
pub mod http2;
pub mod inflate;
#[path = "../../engine/tests/http2/judge.rs"]
mod judge;
pub mod peer;
#[path = "../../engine/tests/ws_protocol/puff.rs"]
mod puff;
pub mod reader;
pub mod source;
pub mod stream;
