//! A stream that remembers when bytes last came and went.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Counts and times what passes through `S`.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    last_read: Instant,
    last_write: Instant,
    /// Bytes that may still come, while there is a limit.
    allowance: Option<usize>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, allowance: Option<usize>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            last_read: now,
            last_write: now,
            allowance,
        }
    }

    /// When bytes last came.
    pub(crate) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// When bytes last went.
    pub(crate) fn last_write(&self) -> Instant {
        self.last_write
    }

    /// From now on any number of bytes may come.
    pub(crate) fn lift_allowance(&mut self) {
        self.allowance = None;
    }

    fn note_read(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            self.last_read = Instant::now();
        }
        if let Some(left) = &mut self.allowance {
            *left = left.checked_sub(bytes).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "too much before the link was accepted",
                )
            })?;
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = result {
            return Poll::Ready(self.note_read(buffer.filled().len() - before));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.last_write = Instant::now();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
