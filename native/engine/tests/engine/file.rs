use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::{env, fs, process};

use crate::support::{Server, read_exact, read_head};

const LENGTH: usize = 1 << 20;

/// Pages that wait in a socket are the file's own where the kernel sends it, so that what is written to
/// the file shows. A copy would stay as it was.
#[test]
#[cfg(target_os = "linux")]
fn a_large_file_is_never_copied() {
    let path = env::temp_dir().join(format!("ferrosock_{}_file", process::id()));
    fs::write(&path, vec![b'a'; LENGTH]).unwrap();
    let sent = path.clone();
    let server = Server::start(move |exchange, _| {
        let range = (0, LENGTH as u64);
        exchange.send_file(200, Default::default(), sent.clone(), range, |result| {
            result.unwrap();
        });
        true
    });
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));

    let mut first = [0];
    stream.peek(&mut first).unwrap();
    assert_eq!(first, *b"a");
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&vec![b'b'; LENGTH], 0).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(read_exact(&mut stream, LENGTH) == vec![b'b'; LENGTH]);
}
