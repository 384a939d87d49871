//! Many connections that each ask once and get their answer, before the load. It blocks.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::answer::Answer;
use crate::stream::Stream;
use crate::tls::SMALL_BUFFER;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// All of them ask before the first answer is read. They do not block any more afterwards.
pub fn exchange<A: Answer>(
    streams: &mut [Stream],
    request: &[u8],
    answer: impl Fn() -> A,
) -> Result<()> {
    for stream in streams.iter_mut() {
        stream.write_all(request)?;
    }
    let mut buffer = vec![0; SMALL_BUFFER];
    for stream in streams {
        stream.socket().set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut answer = answer();
        let mut complete = false;
        while !complete {
            let count = stream
                .receive(&mut buffer)
                .context("awaiting the first answer")?;
            ensure!(count > 0, "the server closed a connection");
            stream.decrypt(&mut buffer[..count], |bytes| {
                complete = answer.take(bytes)?;
                Ok(())
            })?;
        }
        stream.socket().set_nonblocking(true)?;
    }
    Ok(())
}
