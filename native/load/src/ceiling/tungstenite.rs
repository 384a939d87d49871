//! tokio-tungstenite on a tokio runtime: a task per connection, a message at a time.

use std::net::TcpListener;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Result as WebSocketResult;

pub fn serve(listener: TcpListener, workers: usize) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // How a connection ends is its client's affair.
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(stream: TcpStream) -> WebSocketResult<()> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
