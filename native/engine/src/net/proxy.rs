//! The PROXY protocol, versions 1 and 2: who a connection is from, told by a proxy in front of its first
//! bytes.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;

use ppp::{HeaderResult, v1, v2};
use tokio::io::AsyncReadExt;

use crate::net::address::Address;
use crate::net::stream::ReadHalf;

const V1_PREFIX: &[u8] = b"PROXY ";
/// With its CRLF.
const V1_MAX_LENGTH: usize = 107;
const V2_PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The prefix, the command, the family, and the length of the rest.
const V2_FIXED_LENGTH: usize = 16;
/// Of the rest: addresses, and what proxies add to them.
const V2_MAX_LENGTH: usize = 4096;

/// Reads a header, and no byte of what follows. `None`: the proxy speaks for itself, or does not know.
pub(crate) async fn read_header(stream: &mut ReadHalf) -> io::Result<Option<Address>> {
    let mut header = vec![0; V2_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_PREFIX {
        header.resize(V2_FIXED_LENGTH, 0);
        stream.read_exact(&mut header[V2_PREFIX.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > V2_MAX_LENGTH {
            return Err(ErrorKind::InvalidData.into());
        }
        header.resize(V2_FIXED_LENGTH + length, 0);
        stream.read_exact(&mut header[V2_FIXED_LENGTH..]).await?;
    } else if header.starts_with(V1_PREFIX) {
        while !header.ends_with(b"\r\n") {
            if header.len() == V1_MAX_LENGTH {
                return Err(ErrorKind::InvalidData.into());
            }
            header.push(stream.read_u8().await?);
        }
    }
    parse(&header).ok_or_else(|| ErrorKind::InvalidData.into())
}

fn parse(header: &[u8]) -> Option<Option<Address>> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(header) => Some(match header.ok()?.addresses {
            v1::Addresses::Tcp4(ip) => Some(inet(ip.source_address, ip.source_port)),
            v1::Addresses::Tcp6(ip) => Some(inet(ip.source_address, ip.source_port)),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            if header.command == v2::Command::Local {
                return Some(None);
            }
            Some(match header.addresses {
                v2::Addresses::IPv4(ip) => Some(inet(ip.source_address, ip.source_port)),
                v2::Addresses::IPv6(ip) => Some(inet(ip.source_address, ip.source_port)),
                v2::Addresses::Unix(path) => Some(local(&path.source)),
                v2::Addresses::Unspecified => None,
            })
        }
    }
}

fn inet(ip: impl Into<std::net::IpAddr>, port: u16) -> Address {
    Address::Inet((ip.into(), port).into())
}

/// Filled up with NULs; in front there may be one, too.
fn local(path: &[u8]) -> Address {
    let end = path
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    Address::Local(OsString::from_vec(path[..end].to_vec()).into())
}
