//! Whether the client is still there for a response that takes its time: told once to each who asks, and to be
//! looked up at any time. Nothing is watched for those who do not ask.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Version;

use super::{Exchange, State};
use crate::http::reply::Reply;
use crate::owner::Owner;
use crate::rt::lock;

/// Tells somebody that the client has left. It is called with the exchange locked, so that nothing is told any
/// more when the call has returned that completes the response.
pub type Notice = Box<dyn FnOnce() + Send>;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Client {
    Waits,
    /// Or will send nothing more, which looks the same: a client that goes away closes its side first.
    HasLeft,
    /// The handler has given the whole response. What becomes of that is no concern of its.
    IsServed,
}

/// Those who are told, until they are or the client is served.
#[derive(Default)]
pub(super) struct Notices {
    notices: Vec<Notice>,
    /// Wakes the task that watches.
    watch: Option<Waker>,
}

impl<O: Owner> Exchange<O> {
    /// Calls the notice when the client leaves before it is served; at once if it has left.
    pub fn notify_disconnect(self: &Arc<Self>, notice: Notice) {
        let mut state = lock(&self.state);
        match state.client {
            Client::IsServed => return,
            Client::HasLeft => return notice(),
            Client::Waits => {}
        }
        let is_watched = state.notices.is_some();
        let notices = state.notices.get_or_insert_default();
        notices.notices.push(notice);
        drop(state);
        if !is_watched {
            self.watch();
        }
    }

    /// Whether the client has left before it was served.
    pub fn is_disconnected(&self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let has_ended = pin!(self.ended_by_client()).poll(cx).is_ready();
        let mut state = lock(&self.state);
        match state.client {
            Client::IsServed => false,
            Client::HasLeft => true,
            // A stream wakes only who has polled it last: where that is the task that watches, it will tell.
            Client::Waits => {
                has_ended || (state.notices.is_none() && state.poll_reset(cx).is_ready())
            }
        }
    }

    fn watch(self: &Arc<Self>) {
        let exchange = self.clone();
        self.connection.reactor.spawn(async move {
            let mut ended = pin!(exchange.ended_by_client());
            std::future::poll_fn(|cx| exchange.poll_client(cx, ended.as_mut())).await;
        });
    }

    /// Ready when nobody is left to be told.
    fn poll_client(
        &self,
        cx: &mut Context<'_>,
        ended: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<()> {
        let has_ended = ended.poll(cx).is_ready();
        let mut state = lock(&self.state);
        if state.client == Client::Waits && (has_ended || state.poll_reset(cx).is_ready()) {
            state.has_left();
        }
        match &mut state.notices {
            Some(notices) => {
                notices.watch = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Ready when the client has closed its side of a connection, which hyper does not read meanwhile. h2 does,
    /// and ends the streams then.
    async fn ended_by_client(&self) {
        if self.version == Version::HTTP_2 {
            return pending().await;
        }
        let Some(io) = self.connection.io() else {
            return;
        };
        match self.wire().filter(|_| io.is_tls()) {
            // Some clients wait for the server's close_notify before they send a FIN.
            Some(wire) => {
                if wire.watch() {
                    self.connection.wake.notify_one();
                }
                tokio::select! {
                    biased;
                    () = io.stream().ended() => {}
                    () = wire.close_notify() => {}
                }
            }
            None => io.stream().ended().await,
        }
    }
}

impl State {
    /// Ready when the client has reset a stream on which there is no response yet, or ended its connection.
    /// When there is one, its end tells.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.reply {
            Some(Reply::Http2 { stream, .. }) => stream.poll_reset(cx).map(|_| ()),
            _ => Poll::Pending,
        }
    }

    /// The handler has done with the client.
    pub(super) fn is_served(&mut self) {
        self.tell(Client::IsServed);
    }

    pub(super) fn has_left(&mut self) {
        self.tell(Client::HasLeft);
    }

    fn tell(&mut self, client: Client) {
        if self.client != Client::Waits {
            return;
        }
        self.client = client;
        let Some(asked) = self.notices.take() else {
            return;
        };
        if client == Client::HasLeft {
            asked.notices.into_iter().for_each(|notice| notice());
        }
        if let Some(watch) = asked.watch {
            watch.wake();
        }
    }
}
