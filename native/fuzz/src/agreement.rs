//! permessage-deflate as it might have been agreed on.

use ferrosock_engine::config::DeflateConfig;
use ferrosock_engine::ws::deflate::Deflater;
use ferrosock_engine::ws::extension::{Agreed, negotiate};

use crate::source::Source;

/// One direction of a connection.
#[derive(Debug)]
pub struct Deflate {
    pub window_bits: u8,
    pub context_takeover: bool,
    level: u8,
    mem_level: u8,
}

impl Deflate {
    /// `None` for a connection without compression.
    pub fn choose(source: &mut Source) -> Option<Deflate> {
        let choice = source.u8();
        if choice == 0 {
            return None;
        }
        Some(Deflate {
            window_bits: 9 + (choice >> 1) % 7,
            context_takeover: choice & 1 != 0,
            level: 1 + (choice >> 4) % 9,
            mem_level: 1 + choice % 9,
        })
    }

    /// With both directions alike, so that either end can be made of it.
    pub fn agreed(&self) -> Agreed {
        let bits = self.window_bits;
        let mut offer = format!(
            "permessage-deflate; server_max_window_bits={bits}; client_max_window_bits={bits}"
        );
        if !self.context_takeover {
            offer += "; server_no_context_takeover; client_no_context_takeover";
        }
        let config = DeflateConfig {
            level: self.level,
            mem_level: self.mem_level,
            window_bits: 15,
            client_window_bits: 15,
            server_context_takeover: true,
            client_context_takeover: true,
            threshold: 0,
            cache: false,
        };
        negotiate([&*offer].into_iter(), &config).expect("a valid offer")
    }

    /// A client's deflater is no other than a server's.
    pub fn client(&self) -> Deflater {
        Deflater::new(&self.agreed())
    }
}
