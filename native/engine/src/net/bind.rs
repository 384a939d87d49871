//! The listening socket, and the file that a Unix socket leaves.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::address::Address;

#[cfg(target_os = "linux")]
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What a listening socket is like.
pub(crate) struct Binding<'a> {
    pub(crate) addr: &'a Address,
    pub(crate) backlog: i32,
    pub(crate) reuse_port: bool,
    /// TCP_USER_TIMEOUT of what is accepted.
    pub(crate) user_timeout: Duration,
}

/// A socket that listens and does not block. A Unix socket's file that a dead server left behind is
/// replaced.
pub(crate) fn bind(binding: &Binding<'_>) -> io::Result<(Socket, SocketFile)> {
    match binding.addr {
        Address::Inet(addr) => {
            let socket = new_socket(Domain::for_address(*addr))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(binding.reuse_port)?;
            // What is accepted inherits it. The kernel takes it as a signed number.
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(Some(binding.user_timeout.min(MAX_USER_TIMEOUT)))?;
            socket.bind(&(*addr).into())?;
            socket.listen(binding.backlog)?;
            Ok((socket, SocketFile::default()))
        }
        Address::Local(path) => {
            let socket = new_socket(Domain::UNIX)?;
            let addr = SockAddr::unix(path)?;
            match socket.bind(&addr) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_left_behind(path, &addr) => {
                    fs::remove_file(path)?;
                    socket.bind(&addr)?;
                }
                result => result?,
            }
            let file = SocketFile::new(path);
            socket.listen(binding.backlog)?;
            Ok((socket, file))
        }
    }
}

fn new_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether nobody listens on the socket any more.
fn is_left_behind(path: &Path, addr: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && new_socket(Domain::UNIX)
            .and_then(|socket| socket.connect(addr))
            .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a Unix socket, removed when this is dropped: if it is still the same, as another server
/// may have made one of that name.
#[derive(Default)]
pub(crate) struct SocketFile(Option<(PathBuf, FileId)>);

type FileId = (u64, u64);

impl SocketFile {
    /// One in the abstract namespace has no file.
    fn new(path: &Path) -> Self {
        let is_abstract = path.as_os_str().as_bytes().first() == Some(&0);
        let id = file_id(path).filter(|_| !is_abstract);
        Self(id.map(|id| (path.into(), id)))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some((path, id)) = &self.0
            && file_id(path) == Some(*id)
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
