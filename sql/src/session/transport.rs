//! The stream below a session: socket, options, optional TLS.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream as HasChannelBinding};

use super::Keepalives;
use super::gate::Gate;
use crate::conninfo::KeepaliveSettings;
use crate::tls::TlsStream;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

/// A connected stream, ready for the driver's first message.
///
/// TLS is negotiated before the driver sees it, because only then do we know exactly what failed and may fall back; the
/// driver learns from [`Adopt`] that it is talking TLS already.
pub(super) struct Transport {
    stream: Stream,
    gate: Option<Gate>,
}

impl Transport {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Tcp(stream),
            gate: None,
        }
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self {
            stream: Stream::Unix(stream),
            gate: None,
        }
    }

    pub(super) fn tls(stream: TlsStream) -> Self {
        Self {
            stream: Stream::Tls(Box::new(stream)),
            gate: None,
        }
    }

    /// Lets no authentication request pass that `gate` forbids.
    pub(super) fn guarded(self, gate: Option<Gate>) -> Self {
        Self { gate, ..self }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        })?;
        if let Some(gate) = &mut this.gate
            && let Err(reason) = gate.check(&buffer.filled()[before..])
        {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

impl HasChannelBinding for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.stream {
            Stream::Tls(stream) => crate::tls::channel_binding(stream),
            Stream::Tcp(_) | Stream::Unix(_) => ChannelBinding::none(),
        }
    }
}

/// Hands the driver a stream that is as encrypted as it is going to be.
pub(super) struct Adopt;

impl TlsConnect<Transport> for Adopt {
    type Stream = Transport;
    type Error = Infallible;
    type Future = Ready<Result<Transport, Infallible>>;

    fn connect(self, stream: Transport) -> Self::Future {
        ready(Ok(stream))
    }
}

/// Sets the options of a TCP socket; `defaults` count where the connection string is silent.
pub(super) fn configure(stream: &TcpStream, wanted: KeepaliveSettings, defaults: Keepalives) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if wanted.enabled {
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = wanted.idle.or(defaults.idle) {
            keepalive = keepalive.with_time(idle);
        }
        if let Some(interval) = wanted.interval.or(defaults.interval) {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(count) = wanted.count.or(defaults.count) {
            keepalive = keepalive.with_retries(count);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(timeout) = wanted.tcp_user_timeout.or(defaults.tcp_user_timeout) {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}
