//! The threads that serve clients: one for each core, each with a runtime of its own.
//!
//! What a request wakes is then on the thread that it runs on, so that no other is woken for it and nothing is handed from core to
//! core. A connection stays with the thread that had the fewest when it came. That costs balance where few connections are busy;
//! so streams of HTTP/2, of which one connection may have many, are shared among the threads of the node's other runtime, and guests
//! that compute for long go to threads of their own ([`heavy`](crate::engine::heavy)).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads. They end when it is dropped, and with them what they still serve.
pub struct Crew {
    members: Vec<Member>,
}

struct Member {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
    /// Ends the thread when it is dropped, if it is one of ours.
    _stop: Option<oneshot::Sender<()>>,
}

/// A connection's place with a thread, given back when it is dropped.
pub struct Seat {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Crew {
    /// One thread for each core that the process may use.
    ///
    /// # Errors
    /// If the system gives no thread, or no file descriptors for one.
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let members = (0..cores).map(Member::start).collect::<io::Result<_>>()?;
        Ok(Self { members })
    }

    /// No thread but those of the present runtime: for who measures what happens on them.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self { members: vec![Member { runtime: Handle::current(), connections: Arc::default(), _stop: None }] }
    }

    /// A place with the thread that has the fewest connections.
    ///
    /// # Panics
    /// Never: there is at least one thread.
    #[must_use]
    pub fn seat(&self) -> Seat {
        let load = |member: &&Member| member.connections.load(Ordering::Relaxed);
        let member = self.members.iter().min_by_key(load).expect("there is at least one thread");
        member.connections.fetch_add(1, Ordering::Relaxed);
        Seat { runtime: member.runtime.clone(), connections: Arc::clone(&member.connections) }
    }
}

impl Member {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            let _ = runtime.block_on(stopped);
            // What reads a file for a request that nobody waits for may take its time.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, connections: Arc::default(), _stop: Some(stop) })
    }
}

impl Seat {
    /// Takes the stream over to the thread.
    ///
    /// # Errors
    /// If the system does not let its events be listened for there.
    pub fn adopt(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let stream = stream.into_std()?;
        let _there = self.runtime.enter();
        TcpStream::from_std(stream)
    }

    /// Runs `serving` on the thread; the place is given back when it ends.
    pub fn serve(self, serving: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            let _seat = self;
            serving.await;
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_go_to_the_thread_that_has_the_fewest() {
        let crew = Crew { members: (0..3).map(|number| Member::start(number).unwrap()).collect() };
        let load = || crew.members.iter().map(|member| member.connections.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut seats: Vec<Seat> = (0..6).map(|_| crew.seat()).collect();
        assert_eq!(load(), [2, 2, 2]);
        drop(seats.remove(1));
        assert_eq!(load(), [2, 1, 2]);
        let (tell, told) = oneshot::channel();
        crew.seat().serve(async move {
            let _ = tell.send(std::thread::current().name().map(str::to_owned));
        });
        assert_eq!(told.await.unwrap().as_deref(), Some("serve-1"));
        while load() != [2, 1, 2] {
            tokio::task::yield_now().await;
        }
    }
}
