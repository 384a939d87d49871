//! What all connections of a listener have in common.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{ListenerConfig, Overload, SocketConfig};
use crate::flow::Budget;
use crate::net::descriptors::Descriptors;
use crate::net::tls::config::TlsConfig;
use crate::net::traffic::Traffic;
use crate::rt::lock;

/// How long a client that has connected as the listener began to drain has to send its request.
pub(crate) const LAST_CALL: Duration = Duration::from_millis(250);

/// How far a listener is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Accepting,
    /// Requests that have arrived are the last of their connections.
    Draining,
    /// The same for requests that have no response yet; all other connections end.
    Closed,
}

pub(crate) struct Server {
    pub(crate) config: ListenerConfig,
    /// Connections on which there may be something to say.
    pub(crate) connections: AtomicUsize,
    pub(crate) descriptors: Arc<Descriptors>,
    /// What waits for the peers.
    pub(crate) budget: Arc<Budget>,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) stage: watch::Receiver<Stage>,
    tls: Option<Mutex<TlsConfig>>,
    /// Of the latest socket: mostly that of the next one.
    socket_config: Mutex<Option<Arc<SocketConfig>>>,
}

impl Server {
    pub(crate) fn new(
        config: ListenerConfig,
        tls: Option<TlsConfig>,
        stage: watch::Receiver<Stage>,
    ) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(config.max_queued_bytes),
            config,
            connections: AtomicUsize::new(0),
            descriptors: Arc::default(),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            traffic: Arc::default(),
            stage,
            tls: tls.map(Mutex::new),
            socket_config: Mutex::new(None),
        })
    }

    /// Whether a connection may wait for a further request.
    pub(crate) fn is_accepting(&self) -> bool {
        *self.stage.borrow() == Stage::Accepting
    }

    /// What is to become of a connection too many.
    pub(crate) fn overload(&self) -> Option<Overload> {
        let count = self.descriptors.served();
        (count >= self.config.max_connections).then_some(self.config.overload)
    }

    /// Connections that wait for their peer to close, and nothing else. Two counts that change one after the
    /// other may seem to contradict each other for a moment.
    pub(crate) fn lingering(&self, connections: usize) -> usize {
        let open = self.descriptors.served() + self.descriptors.refused();
        open.saturating_sub(connections)
    }

    /// `None` where it is not spoken.
    pub(crate) fn tls(&self) -> Option<TlsConfig> {
        self.tls.as_ref().map(|tls| lock(tls).clone())
    }

    /// For the connections to come. Nothing where TLS is not spoken.
    pub(crate) fn set_tls(&self, config: TlsConfig) {
        if let Some(tls) = &self.tls {
            *lock(tls) = config;
        }
    }

    /// Sockets of the same configuration share it.
    pub(crate) fn share(&self, config: SocketConfig) -> Arc<SocketConfig> {
        let mut latest = lock(&self.socket_config);
        match &*latest {
            Some(known) if **known == config => known.clone(),
            _ => latest.insert(Arc::new(config)).clone(),
        }
    }

    /// Counts a connection on which there may be something to say, until the result is dropped.
    pub(crate) fn count_connection(self: &Arc<Self>) -> InUse {
        self.connections.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }
}

pub(crate) struct InUse(Arc<Server>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
