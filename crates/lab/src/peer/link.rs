//! The guest's side of the peer: takes its connection, feeds the ledger, carries orders there and reports back.

use std::{
    collections::HashMap,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::BufReader,
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    ledger::{Ledger, Now, Verdict},
    lines,
    wire::{FromGuest, Order, Outcome, Task},
};

/// Orders on their way; the guest does one at a time.
const ORDERS_MAX: usize = 8;

pub(super) struct Link {
    began: Instant,
    ledger: Mutex<Ledger>,
    orders: Mutex<Option<mpsc::Sender<Order>>>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Report>>>,
    order_id: AtomicU64,
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Report {
    Done,
    Failed(String),
    Judged(Verdict),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("no guest is connected")]
    NoGuest,
    #[error("the guest did not report within {deadline_ms} ms")]
    Deadline { deadline_ms: u64 },
    #[error("the guest's connection ended before its report")]
    Gone,
    #[error("{ORDERS_MAX} orders are under way already")]
    Busy,
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            began: Instant::now(),
            ledger: Mutex::default(),
            orders: Mutex::default(),
            waiting: Mutex::default(),
            order_id: AtomicU64::new(0),
        }
    }

    /// Serves one connection of the guest until it ends. A newer connection takes over the orders.
    pub(super) async fn serve(&self, guest: TcpStream) -> io::Result<()> {
        guest.set_nodelay(true)?;
        let (from, mut to) = guest.into_split();
        let mut from = BufReader::new(from);
        let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
        *locked(&self.orders) = Some(sender.clone());
        self.ledger().connected();
        let read = async {
            while let Some(said) = lines::read::<FromGuest>(&mut from).await? {
                self.heard(said);
            }
            Ok(())
        };
        let write = async {
            while let Some(order) = orders.recv().await {
                lines::write(&mut to, &order).await?;
            }
            Ok(())
        };
        let ended = tokio::select! { ended = read => ended, ended = write => ended };
        let mut current = locked(&self.orders);
        if current.as_ref().is_some_and(|current| current.same_channel(&sender)) {
            *current = None;
            self.ledger().disconnected();
            locked(&self.waiting).clear();
        }
        ended
    }

    fn heard(&self, said: FromGuest) {
        match said {
            FromGuest::Hello { name, boot, connection, heads } => {
                tracing::info!(name, boot, connection, "the guest is connected");
                self.ledger().hello(name, heads);
            }
            FromGuest::Beat { count, load_bytes } => self.ledger().beat(count, load_bytes, self.now()),
            FromGuest::Ack(head) => self.ledger().ack(head),
            FromGuest::Report { id, outcome } => {
                // Judged before the next acknowledgement is heard: both are of one moment.
                let report = match outcome {
                    Outcome::Done => Report::Done,
                    Outcome::Failed { why } => Report::Failed(why),
                    Outcome::Verified(findings) => Report::Judged(self.ledger().verdict(findings, self.now())),
                };
                if let Some(waiting) = locked(&self.waiting).remove(&id) {
                    // The one who asked may have given up meanwhile.
                    let _ = waiting.send(report);
                }
            }
        }
    }

    /// Gives the guest an order and waits for its report.
    pub(super) async fn order(&self, task: Task, deadline: Duration) -> Result<Report, OrderError> {
        let id = self.order_id.fetch_add(1, Ordering::Relaxed);
        let (report, waiting) = oneshot::channel();
        let orders = locked(&self.orders).clone().ok_or(OrderError::NoGuest)?;
        locked(&self.waiting).insert(id, report);
        let sent = orders.try_send(Order { id, task });
        let answer = match sent {
            Ok(()) => timeout(deadline, waiting).await,
            Err(mpsc::error::TrySendError::Full(_)) => {
                locked(&self.waiting).remove(&id);
                return Err(OrderError::Busy);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                locked(&self.waiting).remove(&id);
                return Err(OrderError::NoGuest);
            }
        };
        locked(&self.waiting).remove(&id);
        match answer {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(_)) => Err(OrderError::Gone),
            Err(_) => Err(OrderError::Deadline { deadline_ms: deadline.as_millis() as u64 }),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    pub(super) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { steady_ms: self.began.elapsed().as_millis() as u64, unix_ms: unix.as_millis() as u64 }
    }
}

/// A panic elsewhere leaves the ledger as it was between two messages, which is sound.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
