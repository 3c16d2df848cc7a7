//! TCP connections as both daemons want them: no Nagle, a dead peer noticed in seconds, and for bulk data the congestion
//! control and the local address that the operator chose.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Sent data that nobody acknowledges for this long ends the connection (TCP_USER_TIMEOUT).
pub const UNACKNOWLEDGED_MS_MAX: u32 = 20_000;
const KEEPALIVE_IDLE_S: u32 = 10;
const KEEPALIVE_INTERVAL_S: u32 = 5;
const KEEPALIVE_PROBES: u32 = 3;
const LISTEN_BACKLOG: u32 = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Leave by this address: that of the migration network.
    pub local: Option<IpAddr>,
    /// Ask for BBR: it keeps a lossy or long link full. Where the kernel has it not, its default stays.
    pub bbr: bool,
}

/// Connects within [`CONNECT_TIME_MAX`], options set.
pub async fn connect(address: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = options.local {
        socket.bind(SocketAddr::new(local, 0)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot leave by local address {local}: {error} (hint: is it on this host?)"),
            )
        })?;
    }
    let stream = tokio::time::timeout(CONNECT_TIME_MAX, socket.connect(address)).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_TIME_MAX.as_secs()))
    })??;
    tune(&stream, options)?;
    Ok(stream)
}

/// Sets the options on a connection made or accepted.
pub fn tune(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS_MAX)?;
    if options.bbr
        && let Err(error) = setsockopt(stream, sockopt::TcpCongestion, &OsString::from("bbr"))
    {
        tracing::debug!(%error, "the kernel has no BBR; its default congestion control stays");
    }
    Ok(())
}

/// Listens on `address`, free again at once after a restart.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    let name = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    socket.bind(address).map_err(name)?;
    socket.listen(LISTEN_BACKLOG).map_err(name)
}
