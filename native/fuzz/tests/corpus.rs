//! Every input of the corpus again, without a fuzzer: the seeds, and what once was a crash.

use std::fs;
use std::path::Path;

use ferrosock_fuzz::{deflate, extension, http2, inflate, peer, reader};

fn replay(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "nothing in {}", dir.display());
}

#[test]
fn deflate() {
    replay("deflate", deflate::check);
}

#[test]
fn extension() {
    replay("extension", extension::check);
}

#[test]
fn http2() {
    replay("http2", http2::check);
}

#[test]
fn inflate() {
    replay("inflate", inflate::check);
}

#[test]
fn peer() {
    replay("peer", peer::check);
}

#[test]
fn reader() {
    replay("reader", reader::check);
}
